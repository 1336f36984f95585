"""Which channels of which values and weights belong together: what shrinks when one goes.

A *dimension* is one axis of a value. Every operator ties indices of its inputs' dimensions to
indices of its outputs': channel 3 before a Relu is channel 3 behind it, channel 3 of the second
operand of a Concat is channel 19 of its result, a channel that is flattened is a run of rows of
the layer behind it. Indices that hang together form a group, and a group goes as a whole or stays:

    Conv 'c1' -> Relu -> Conv 'c2'      channel 3: c1's weights [3, :], its bias [3], c2's [:, 3]
    x + Conv 'c1'                       and all that gives x, and all that reads the sum

Groups that reach the model's inputs or outputs, a softmax over the channels, or an operator that
isn't known are fixed, and say why.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.query import (
    ONNX_DOMAINS,
    attribute,
    constant,
    describe,
    dims,
    has_subgraph,
    input_at,
    is_op,
    is_static,
)
from xbarc.graph.shapes import infer_shapes

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose static weights make channels."""

UNARY = (
    *("Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu"),
    *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not"),
    *("Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt"),
    *("Tanh", "ThresholdedRelu"),
)
ELEMENTWISE = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max"),
    *("Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"),
)
POOLS = (
    *("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"),
)
REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
NORMALISED_AXIS = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "LpNormalization": -1}


@dataclass(frozen=True)
class Dim:
    """One axis of a value."""

    value: ir.Value
    axis: int


@dataclass(frozen=True)
class Part:
    """Indices of one axis of a node's static input, which go with their group."""

    node: ir.Node
    input: int
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Producer:
    """A layer, and the dimension of its output that its weights make."""

    node: ir.Node
    output: Dim


@dataclass
class Dependencies:
    """The groups of a graph.

    `labels`: for each dimension the group of every index. `reasons`: why a group is fixed.
    `producers`: the layers in the graph's order.
    """

    labels: dict[Dim, Indices]
    reasons: dict[int, str]
    producers: list[Producer]

    @cached_property
    def removable(self) -> set[int]:
        """Groups that may go: some layer's weights make them, and nothing fixes them."""
        made: set[int] = set()
        for producer in self.producers:
            made.update(self.labels[producer.output].tolist())
        return made - set(self.reasons)

    def parts(self, group: int) -> list[Part]:
        """What shrinks when a group goes: of every static input of every node."""
        found = []
        for dim, labels in self.labels.items():
            if not is_static(dim.value):
                continue
            indices = tuple(np.flatnonzero(labels == group).tolist())
            if indices:
                found += [Part(u.node, u.idx, dim.axis, indices) for u in dim.value.uses()]
        return found

    def kept(self, groups: Iterable[int]) -> dict[Dim, Mask]:
        """What stays of each dimension that loses something when `groups` go."""
        wanted = np.array(sorted(groups), dtype=np.int64)
        masks = {}
        for dim, labels in self.labels.items():
            gone = np.isin(labels, wanted)
            if gone.any():
                masks[dim] = ~gone
        return masks


def analyse(model: ir.Model) -> Dependencies:
    """The groups of `model`, whose shapes are inferred anew.

    Raises:
        XbarcError: the graph's shapes contradict each other.
    """
    infer_shapes(model)
    analysis = _Analysis(model)
    for value in model.graph.inputs:
        analysis.fix_all(value, f"it is the input {value.name!r}")
    for node in model.graph:
        analysis.visit(node)
    for value in model.graph.outputs:
        analysis.fix_all(value, f"it is the output {value.name!r}")
    return analysis.result()


# --- Ties ---------------------------------------------------------------------------------------


@dataclass
class _Analysis:
    model: ir.Model
    ties: "nx.Graph[Dim]" = field(default_factory=nx.Graph)
    fixed: dict[Dim, list[tuple[Indices | None, str]]] = field(default_factory=dict)
    closed: set[Dim] = field(default_factory=set)
    """Dimensions of which every index is known to be fixed: height, width, a window."""
    producers: list[Producer] = field(default_factory=list)

    @property
    def opset(self) -> int:
        """The version of the operators."""
        return self.model.opset_imports.get("", 1)

    def visit(self, node: ir.Node) -> None:
        """Tie what `node` reads to what it gives."""
        rule = RULES.get(node.op_type) if node.domain in ONNX_DOMAINS else None
        if rule is None or has_subgraph(node) or not node.inputs or node.inputs[0] is None:
            self.fix_node(node, f"{describe(node)} reads it")
            return
        if any(self.shape(v) is None for v in (*node.inputs, *node.outputs[:1]) if v is not None):
            self.fix_node(node, f"{describe(node)} has an unknown rank")
            return
        rule(self, node)
        for value in node.outputs[1:] if not is_op(node, "Split", "BatchNormalization") else ():
            if value.uses() or value.is_graph_output():
                self.fix_node(node, f"{describe(node)} has a second output")

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Sizes, None for each unknown one; None for an unknown rank."""
        if value is not None and is_static(value) and value.const_value is not None:
            return tuple(int(s) for s in value.const_value.shape.numpy())
        return dims(value)

    def size(self, value: ir.Value, axis: int) -> int | None:
        """The size of an axis, None where unknown."""
        shape = self.shape(value)
        return None if shape is None or not 0 <= axis < len(shape) else shape[axis]

    def rank(self, value: ir.Value | None) -> int:
        """The number of axes, 0 where unknown."""
        return len(self.shape(value) or ())

    def tie(
        self,
        a: tuple[ir.Value | None, int],
        b: tuple[ir.Value | None, int],
        pairs: tuple[Any, Any] | None = None,
    ) -> None:
        """Indices of axis `a` go with indices of axis `b`: one to one, or `pairs` of them.

        Where one of the sizes isn't known, or without `pairs` they differ, both are fixed.
        """
        if a[0] is None or b[0] is None:
            return
        sizes = self.size(a[0], a[1]), self.size(b[0], b[1])
        if None in sizes or (pairs is None and sizes[0] != sizes[1]):
            for value, axis in (a, b):
                if value is not None:
                    self.fix(value, axis, "its size isn't known")
            return
        first, second = Dim(a[0], a[1]), Dim(b[0], b[1])
        if pairs is None and first == second:
            return
        if pairs is None:
            pairs = (np.arange(sizes[0] or 0), np.arange(sizes[0] or 0))
            if first in self.closed or second in self.closed:
                self.closed.update((first, second))
        if not self.ties.has_edge(first, second):
            self.ties.add_edge(first, second, pairs=[])
        self.ties.edges[first, second]["pairs"].append(
            (first, np.asarray(pairs[0]), np.asarray(pairs[1]))
        )

    def fix(
        self, value: ir.Value | None, axis: int, reason: str, indices: Indices | None = None
    ) -> None:
        """Indices of an axis (all without `indices`) stay."""
        if value is None or self.size(value, axis) is None:
            return
        dim = Dim(value, axis)
        self.ties.add_node(dim)
        self.fixed.setdefault(dim, []).append((indices, reason))
        if indices is None:
            self.closed.add(dim)

    def fix_all(
        self, value: ir.Value | None, reason: str, axes: Iterable[int] | None = None
    ) -> None:
        """All axes, or these, stay."""
        for axis in range(self.rank(value)) if axes is None else axes:
            self.fix(value, axis, reason)

    def fix_node(self, node: ir.Node, reason: str) -> None:
        """All that a node reads, in its subgraphs too, and gives stays."""
        values = [*node.inputs, *node.outputs]
        for attr in node.attributes.values():
            graphs = (
                [attr.as_graph()]
                if attr.type == ir.AttributeType.GRAPH
                else list(attr.as_graphs())
                if attr.type == ir.AttributeType.GRAPHS
                else []
            )
            for graph in graphs:
                for inner in ir.traversal.RecursiveGraphIterator(graph):
                    values += [v for v in inner.inputs if v is not None]
                values += list(graph.outputs)
        for value in values:
            self.fix_all(value, reason)

    def result(self) -> Dependencies:
        """Groups by number, over all that was tied."""
        labels: dict[Dim, Indices] = {}
        reasons: dict[int, str] = {}
        first = 0
        order = {dim: i for i, dim in enumerate(self.ties)}
        for members in nx.connected_components(self.ties):
            # A set has no order of its own, and groups' numbers repeat from run to run.
            component = sorted(members, key=order.__getitem__)
            starts: dict[Dim, int] = {}
            count = 0
            for dim in component:
                starts[dim] = count
                count += self.size(dim.value, dim.axis) or 0
            left, right = [], []
            for a, b, entry in self.ties.edges(component, data="pairs"):
                for head, i, j in entry:
                    tail = b if head == a else a
                    left.append(starts[head] + i)
                    right.append(starts[tail] + j)
            label = first + _components(
                count,
                np.concatenate([np.zeros(0, np.int64), *left]),
                np.concatenate([np.zeros(0, np.int64), *right]),
            )
            for dim in component:
                start = starts[dim]
                labels[dim] = label[start : start + (self.size(dim.value, dim.axis) or 0)]
                for indices, reason in self.fixed.get(dim, ()):
                    part = labels[dim] if indices is None else labels[dim][indices]
                    for group in np.unique(part).tolist():
                        reasons.setdefault(group, reason)
            first += count
        return Dependencies(labels, reasons, [p for p in self.producers if p.output in labels])


def _components(count: int, a: Indices, b: Indices) -> Indices:
    """The least member of each one's component, of `count` things tied by the pairs (a, b)."""
    label = np.arange(count)
    while True:
        least = np.minimum(label[a], label[b])
        new = label.copy()
        for ends in (a, b):
            np.minimum.at(new, label[ends], least)
            np.minimum.at(new, ends, least)
        new = new[new]
        if np.array_equal(new, label):
            return label
        label = new


# --- Rules, one an operator ---------------------------------------------------------------------


def _elementwise(an: _Analysis, node: ir.Node) -> None:
    """Operands broadcast from the right; an operand of size 1 says nothing of an axis."""
    out = node.outputs[0]
    for value in node.inputs:
        if value is None:
            continue
        shift = an.rank(out) - an.rank(value)
        for axis in range(an.rank(value)):
            if shift + axis < 0:
                an.fix(value, axis, f"{describe(node)} broadcasts it")
            elif an.size(value, axis) != 1 or an.size(out, shift + axis) == 1:
                an.tie((value, axis), (out, shift + axis))


def _unary(an: _Analysis, node: ir.Node) -> None:
    """Only the first input has axes: others are limits, ratios."""
    for axis in range(an.rank(node.outputs[0])):
        an.tie((node.inputs[0], axis), (node.outputs[0], axis))


def _quantisation(an: _Analysis, node: ir.Node) -> None:
    """QuantizeLinear, DequantizeLinear: scale and zero point go with their axis."""
    _unary(an, node)
    axis = attribute(node, "axis", 1) % max(an.rank(node.inputs[0]), 1)
    for index in (1, 2):
        value = input_at(node, index)
        if an.rank(value) == 1 and value is not None and an.size(value, 0) != 1:
            an.tie((value, 0), (node.inputs[0], axis))
        elif an.rank(value) > 1:
            an.fix_node(node, f"{describe(node)} scales it in blocks")


def _conv(an: _Analysis, node: ir.Node) -> None:
    x, w, b, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    assert x is not None and w is not None
    groups = attribute(node, "group", 1)
    channels, outputs, inside = an.size(x, 1), an.size(w, 0), an.size(w, 1)
    if channels is None or outputs is None or inside is None:
        an.fix_node(node, f"{describe(node)} has unknown channels")
        return
    an.tie((x, 0), (y, 0))
    an.fix_all(x, f"{describe(node)} has a window there", range(2, an.rank(x)))
    an.fix_all(y, f"{describe(node)} has a window there", range(2, an.rank(y)))
    an.fix_all(w, f"{describe(node)} has its window there", range(2, an.rank(w)))
    an.tie((w, 0), (y, 1))
    an.tie((b, 0), (y, 1))
    per_group = outputs // groups
    if inside == 1 and groups > 1:
        # A depthwise channel: all its outputs go with it.
        an.fix(w, 1, f"{describe(node)} has one channel a group")
        an.tie((w, 0), (x, 1), (np.arange(outputs), np.arange(outputs) // per_group))
    else:
        # Every group keeps as many channels as the others.
        an.tie((x, 1), (w, 1), (np.arange(channels), np.arange(channels) % inside))
        if groups > 1:
            _tie_within(an, w, 0, np.arange(outputs) % per_group)
    _producer(an, node, w, 1)


def _conv_transpose(an: _Analysis, node: ir.Node) -> None:
    x, w, b, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    assert x is not None and w is not None
    groups = attribute(node, "group", 1)
    channels, inside = an.size(w, 0), an.size(w, 1)
    if channels is None or inside is None:
        an.fix_node(node, f"{describe(node)} has unknown channels")
        return
    an.tie((x, 0), (y, 0))
    for value, what in ((x, "a window"), (y, "a window"), (w, "its window")):
        an.fix_all(value, f"{describe(node)} has {what} there", range(2, an.rank(value)))
    an.tie((w, 0), (x, 1))
    an.tie((b, 0), (y, 1))
    outputs = np.arange(groups * inside)
    if groups > 1 and groups == channels:
        an.fix(w, 1, f"{describe(node)} has one channel a group")
        an.tie((x, 1), (y, 1), (outputs // inside, outputs))
    else:
        an.tie((w, 1), (y, 1), (outputs % inside, outputs))
        if groups > 1:
            _tie_within(an, w, 0, np.arange(channels) % (channels // groups))
    _producer(an, node, w, 1)


def _tie_within(an: _Analysis, value: ir.Value, axis: int, classes: Indices) -> None:
    """Indices of one axis that are of the same class go together: tied to the first of them."""
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    an.tie((value, axis), (value, axis), (first[inverse], np.arange(len(classes))))


def _gemm(an: _Analysis, node: ir.Node) -> None:
    a, b, c, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    row, inner = (1, 0) if attribute(node, "transA", 0) else (0, 1)
    inner_b, column = (1, 0) if attribute(node, "transB", 0) else (0, 1)
    an.tie((a, row), (y, 0))
    an.tie((a, inner), (b, inner_b))
    an.tie((b, column), (y, 1))
    if c is not None:
        shift = 2 - an.rank(c)
        for axis in range(an.rank(c)):
            if an.size(c, axis) != 1 or an.size(y, shift + axis) == 1:
                an.tie((c, axis), (y, shift + axis))
    _producer(an, node, b, 1)


def _matmul(an: _Analysis, node: ir.Node) -> None:
    a, b, y = *node.inputs[:2], node.outputs[0]
    ranks = an.rank(a), an.rank(b)
    if min(ranks) < 1 or b is None or a is None:
        an.fix_node(node, f"{describe(node)} has an unknown rank")
        return
    an.tie((a, ranks[0] - 1), (b, max(ranks[1] - 2, 0)))
    rank = an.rank(y)
    if ranks[1] > 1:
        an.tie((b, ranks[1] - 1), (y, rank - 1))
    if ranks[0] > 1:
        an.tie((a, ranks[0] - 2), (y, rank - (2 if ranks[1] > 1 else 1)))
    batch = max(*ranks) - 2
    for value, own in ((a, ranks[0]), (b, ranks[1])):
        for axis in range(own - 2):
            to = batch - (own - 2) + axis
            if an.size(value, axis) != 1 or an.size(y, to) == 1:
                an.tie((value, axis), (y, to))
    if ranks[1] > 1 and is_static(b):
        _producer(an, node, b, rank - 1)
    elif ranks[0] > 1 and is_static(a):
        _producer(an, node, a, rank - (2 if ranks[1] > 1 else 1))


def _producer(an: _Analysis, node: ir.Node, weights: ir.Value | None, axis: int) -> None:
    if weights is not None and (
        is_static(weights) or is_op(weights.producer(), "DequantizeLinear")
    ):
        an.producers.append(Producer(node, Dim(node.outputs[0], axis)))


def _channel_parameters(an: _Analysis, node: ir.Node) -> None:
    """BatchNormalization, InstanceNormalization: one number a channel in every other input."""
    _unary(an, node)
    for value in node.inputs[1:]:
        an.tie((value, 0), (node.inputs[0], 1))
    if is_op(node, "InstanceNormalization"):
        reason = f"{describe(node)} normalises over it"
        an.fix_all(node.inputs[0], reason, range(2, an.rank(node.inputs[0])))
    elif any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        an.fix_node(node, f"{describe(node)} trains")


def _concat(an: _Analysis, node: ir.Node) -> None:
    out = node.outputs[0]
    rank = an.rank(out)
    axis = attribute(node, "axis", 1) % rank
    offset: int | None = 0
    for value in node.inputs:
        assert value is not None
        for other in range(rank):
            if other != axis:
                an.tie((value, other), (out, other))
        size = an.size(value, axis)
        if size is None or offset is None or an.size(out, axis) is None:
            an.fix(value, axis, f"{describe(node)} has unknown sizes")
            an.fix(out, axis, f"{describe(node)} has unknown sizes")
            offset = None
            continue
        an.tie((value, axis), (out, axis), (np.arange(size), offset + np.arange(size)))
        offset += size


def _split(an: _Analysis, node: ir.Node) -> None:
    value = node.inputs[0]
    assert value is not None
    rank = an.rank(value)
    axis = attribute(node, "axis", 0) % rank
    sizes = [an.size(out, axis) for out in node.outputs]
    if None in sizes or sum(s or 0 for s in sizes) != an.size(value, axis):
        an.fix_node(node, f"{describe(node)} has unknown sizes")
        return
    offset = 0
    for out, size in zip(node.outputs, sizes, strict=True):
        for other in range(rank):
            if other != axis:
                an.tie((value, other), (out, other))
        an.tie((value, axis), (out, axis), (offset + np.arange(size or 0), np.arange(size or 0)))
        offset += size or 0


def _slice(an: _Analysis, node: ir.Node) -> None:
    value, out = node.inputs[0], node.outputs[0]
    assert value is not None
    cuts = cuts_of(node, an.shape(value) or ())
    if cuts is None:
        an.fix_node(node, f"{describe(node)} has limits that aren't constant")
        return
    for axis in range(an.rank(value)):
        if axis not in cuts:
            an.tie((value, axis), (out, axis))
            continue
        start, stop, step = cuts[axis]
        if step != 1:
            an.fix(value, axis, f"{describe(node)} takes every {step}th")
            an.fix(out, axis, f"{describe(node)} takes every {step}th")
        else:
            taken = np.arange(start, stop)
            an.tie((value, axis), (out, axis), (taken, np.arange(len(taken))))


def cuts_of(node: ir.Node, shape: Sequence[int | None]) -> dict[int, tuple[int, int, int]] | None:
    """Start, stop and step of each axis that a Slice cuts; None where that isn't constant."""
    given = [constant(input_at(node, i)) for i in range(1, 5)]
    starts, ends = given[0], given[1]
    if starts is None or ends is None:
        return None
    if any(input_at(node, i) is not None and given[i - 1] is None for i in (3, 4)):
        return None
    axes = range(len(starts)) if given[2] is None else given[2].tolist()
    steps = np.ones(len(starts), int) if given[3] is None else given[3]
    cuts = {}
    for axis, start, end, step in zip(
        axes, starts.tolist(), ends.tolist(), steps.tolist(), strict=True
    ):
        size = shape[axis % len(shape)]
        if size is None:
            if start == 0 and end >= np.iinfo(np.int32).max and step == 1:
                continue  # the whole of an open axis
            return None
        begin, stop, stride = slice(start, end if end > -size - 1 else None, step).indices(size)
        cuts[axis % len(shape)] = (begin, max(begin, stop), stride)
    return cuts


def _transpose(an: _Analysis, node: ir.Node) -> None:
    rank = an.rank(node.inputs[0])
    perm = attribute(node, "perm") or tuple(reversed(range(rank)))
    for to, axis in enumerate(perm):
        an.tie((node.inputs[0], axis), (node.outputs[0], to))


def _pool(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    for axis in (0, 1):
        an.tie((x, axis), (y, axis))
    for value in (x, y):
        an.fix_all(value, f"{describe(node)} pools over it", range(2, an.rank(value)))


def _pad(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    rank = an.rank(x)
    pads = pads_of(node, rank)
    if pads is None:
        an.fix_node(node, f"{describe(node)} has pads that aren't constant")
        return
    for axis in range(rank):
        begin, end = pads[axis]
        size = an.size(y, axis)
        if not begin and not end:
            an.tie((x, axis), (y, axis))
        elif (
            attribute(node, "mode", "constant") != "constant"
            or min(begin, end) < 0
            or an.size(x, axis) is None
            or size is None
        ):
            an.fix(x, axis, f"{describe(node)} pads it")
            an.fix(y, axis, f"{describe(node)} pads it")
        else:
            inner = np.arange(size - begin - end)
            an.tie((x, axis), (y, axis), (inner, begin + inner))


def pads_of(node: ir.Node, rank: int) -> list[tuple[int, int]] | None:
    """What a Pad adds before and behind each axis; None where that isn't constant."""
    given = constant(input_at(node, 1))
    if given is None and len(node.inputs) > 1:
        return None
    pads = list(attribute(node, "pads", ())) if given is None else given.reshape(-1).tolist()
    axes = list(range(rank))
    if input_at(node, 3) is not None:
        named = constant(input_at(node, 3))
        if named is None:
            return None
        axes = [int(a) % rank for a in named.reshape(-1)]
    if len(pads) != 2 * len(axes):
        return None
    result = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        result[axis] = (int(pads[i]), int(pads[i + len(axes)]))
    return result


def _resize(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    sizes = input_at(node, 3)
    if sizes is not None and constant(sizes) is None:
        an.fix_node(node, f"{describe(node)} has sizes that aren't constant")
        return
    for axis in range(an.rank(x)):
        if axis < 2 and an.size(x, axis) == an.size(y, axis):
            an.tie((x, axis), (y, axis))
        else:
            an.fix(x, axis, f"{describe(node)} resamples it")
            an.fix(y, axis, f"{describe(node)} resamples it")


def _reduce(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank = an.rank(x)
    axes = attribute(node, "axes")
    if input_at(node, 1) is not None:
        named = constant(input_at(node, 1))
        if named is None:
            an.fix_node(node, f"{describe(node)} has axes that aren't constant")
            return
        axes = named.reshape(-1).tolist()
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        _unary(an, node)
        return
    _without(an, node, x, y, {int(a) % rank for a in axes or range(rank)})


def _arg(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    _without(an, node, x, y, {attribute(node, "axis", 0) % an.rank(x)})


def _without(an: _Analysis, node: ir.Node, x: ir.Value | None, y: ir.Value, axes: set[int]) -> None:
    """`axes` are reduced, and fixed; the others stay what they are."""
    keeps = attribute(node, "keepdims", 1)
    to = 0
    for axis in range(an.rank(x)):
        if axis in axes:
            an.fix(x, axis, f"{describe(node)} reduces over it")
            to += bool(keeps)
        else:
            an.tie((x, axis), (y, to))
            to += 1


def _normalised(an: _Analysis, node: ir.Node) -> None:
    _unary(an, node)
    x = node.inputs[0]
    rank, default = an.rank(x), NORMALISED_AXIS[node.op_type]
    if an.opset < 13 and not is_op(node, "LpNormalization"):
        axes = range(attribute(node, "axis", 1) % rank, rank)  # flattened from there on
    else:
        axis = attribute(node, "axis", default) % rank
        axes = range(axis, axis + 1)
    an.fix_all(x, f"{describe(node)} is taken over it", axes)


def _layer_norm(an: _Analysis, node: ir.Node) -> None:
    _unary(an, node)
    x = node.inputs[0]
    rank = an.rank(x)
    first = attribute(node, "axis", -1) % rank if is_op(node, "LayerNormalization") else 1
    for value in node.inputs:
        an.fix_all(value, f"{describe(node)} is taken over it", range(first, an.rank(value)))
    for value in node.inputs[1:]:
        an.fix_all(value, f"{describe(node)} is taken over it")


def _expand(an: _Analysis, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if constant(input_at(node, 1)) is None:
        an.fix_node(node, f"{describe(node)} has a shape that isn't constant")
        return
    shift = an.rank(y) - an.rank(x)
    an.fix_all(y, f"{describe(node)} repeats it", range(shift))
    for axis in range(an.rank(x)):
        assert x is not None
        if an.size(x, axis) == 1 and an.size(y, shift + axis) != 1:
            an.fix(y, shift + axis, f"{describe(node)} repeats it")
        else:
            an.tie((x, axis), (y, shift + axis))


def _gather(an: _Analysis, node: ir.Node) -> None:
    data, index, y = node.inputs[0], node.inputs[1], node.outputs[0]
    axis = attribute(node, "axis", 0) % an.rank(data)
    an.fix(data, axis, f"{describe(node)} picks from it")
    added = an.rank(index)
    for other in range(an.rank(data)):
        if other != axis:
            an.tie((data, other), (y, other + (added - 1 if other > axis else 0)))
    an.fix_all(y, f"{describe(node)} picks it", range(axis, axis + added))
    an.fix_all(index, f"{describe(node)} reads it")


def _reshape(an: _Analysis, node: ir.Node) -> None:
    """Axes that are merged or split: a channel of one is a run, or every nth, of the other."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if is_op(node, "Reshape") and constant(input_at(node, 1)) is None:
        an.fix_node(node, f"{describe(node)} has a shape that isn't constant")
        return
    a, b = an.shape(x) or (), an.shape(y) or ()
    for left, right in segments(a, b):
        one, many = ((x, left), (y, right)) if len(left) == 1 else ((y, right), (x, left))
        sizes = [an.size(many[0], axis) for axis in many[1]]
        if len(left) == len(right) == 1:
            an.tie((x, left[0]), (y, right[0]))
        elif len(one[1]) != 1 or None in sizes or an.size(one[0], one[1][0]) is None:
            an.fix_all(x, f"{describe(node)} mixes it with others", left)
            an.fix_all(y, f"{describe(node)} mixes it with others", right)
        else:
            _merge(an, node, one, many, [s or 0 for s in sizes])


def _merge(
    an: _Analysis,
    node: ir.Node,
    one: tuple[ir.Value, list[int]],
    many: tuple[ir.Value, list[int]],
    sizes: list[int],
) -> None:
    """One axis is the product of many: it goes with the largest that isn't fixed.

    That is the inner one of two as large; the others stay.
    """
    free = [
        i for i, axis in enumerate(many[1]) if sizes[i] > 1 and Dim(many[0], axis) not in an.closed
    ]
    if not free:
        an.fix(one[0], one[1][0], f"{describe(node)} makes it of others that stay")
        return
    chosen = max(free, key=lambda i: (sizes[i], i))
    for i, axis in enumerate(many[1]):
        if i != chosen:
            an.fix(many[0], axis, f"{describe(node)} merges or splits it")
    flat = np.arange(math.prod(sizes))
    index = flat // math.prod(sizes[chosen + 1 :]) % sizes[chosen]
    an.tie((one[0], one[1][0]), (many[0], many[1][chosen]), (flat, index))


def segments(
    a: Sequence[int | None], b: Sequence[int | None]
) -> Iterator[tuple[list[int], list[int]]]:
    """Axes of `a` and of `b` that hold the same elements when one is reshaped to the other.

    `[N, 16, 7, 7]` to `[N, 784]`: axis 0 to axis 0, axes 1, 2, 3 to axis 1.
    """
    ends = len(a), len(b)
    tail = 0
    while tail < min(ends) and a[-1 - tail] is not None and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    stop_a, stop_b = len(a) - tail, len(b) - tail
    i = j = 0
    while i < stop_a or j < stop_b:
        if i < stop_a and j < stop_b and a[i] == b[j] == 1:
            yield [i], [j]
            i, j = i + 1, j + 1
            continue
        if i < stop_a and a[i] == 1 and (j == stop_b or b[j] != 1):
            yield [i], []
            i += 1
            continue
        if j < stop_b and b[j] == 1 and (i == stop_a or a[i] != 1):
            yield [], [j]
            j += 1
            continue
        first_i, first_j = i, j
        i, j = _same_product(a[:stop_a], b[:stop_b], i, j)
        yield list(range(first_i, i)), list(range(first_j, j))
    for k in range(tail):
        yield [stop_a + k], [stop_b + k]


def _same_product(
    a: Sequence[int | None], b: Sequence[int | None], i: int, j: int
) -> tuple[int, int]:
    """The least ends of runs from i and j with the same number of elements; all where unknown."""
    rest_a, rest_b = a[i + 1 :], b[j + 1 :]
    if i < len(a) and j < len(b) and a[i] is None and b[j] is None:
        known = None not in rest_a and None not in rest_b
        if known and math.prod(s or 1 for s in rest_a) == math.prod(s or 1 for s in rest_b):
            return i + 1, j + 1
        return len(a), len(b)
    p = q = 1
    while p == 1 or p != q:
        if p <= q and i < len(a):
            size, i = a[i], i + 1
            p *= size or 0
        elif j < len(b):
            size, j = b[j], j + 1
            q *= size or 0
        else:
            return len(a), len(b)
        if not size:
            return len(a), len(b)
    return i, j


Rule = Callable[[_Analysis, ir.Node], None]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(NORMALISED_AXIS, _normalised),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _channel_parameters),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _quantisation),
    **dict.fromkeys(("GroupNormalization", "LRN", "LayerNormalization"), _layer_norm),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
"""What each operator ties; one that isn't here fixes all that it reads and gives."""
