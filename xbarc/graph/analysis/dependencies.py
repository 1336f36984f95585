"""Which channels of which values and weights belong together: what shrinks if one is removed.

A *dimension* is one axis of a value. Every operator ties indices of its inputs' dimensions to
indices of its outputs' dimensions. Channel 3 before a Relu is channel 3 behind it. Channel 3 of the
second operand of a Concat is channel 19 of its result, say. A channel that is flattened is a run of
rows of the layer behind. Indices that are tied form a group. A group is removed as a whole or
stays:

    Conv 'c1' -> Relu -> Conv 'c2'      channel 3: c1's weights [3, :], its bias [3], c2's [:, 3]
    x + Conv 'c1'                       and all that gives x, and all that reads the sum

A group is fixed if it reaches the model's inputs or outputs, a softmax over the channels, or an
unknown operator. Its reason is kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from xdsl.utils.disjoint_set import DisjointSet

from xbarc.graph.operators import Operator, load_operators
from xbarc.graph.operators.shrinking import Mask
from xbarc.graph.operators.ties import Dim, Indices, Producer, Tie, Ties
from xbarc.graph.query import describe, has_subgraph, is_static
from xbarc.graph.shapes import infer_shapes


@dataclass(frozen=True)
class ShrinkingInput:
    """Indices of one axis of a node's static input, which go with their group."""

    node: ir.Node
    input: int
    axis: int
    indices: tuple[int, ...]


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

    def shrinking(self, group: int) -> list[ShrinkingInput]:
        """What shrinks when a group goes: of every static input of every node."""
        found = []
        for dim, labels in self.labels.items():
            if not is_static(dim.value):
                continue
            indices = tuple(np.flatnonzero(labels == group).tolist())
            if indices:
                found += [
                    ShrinkingInput(use.node, use.idx, dim.axis, indices) for use in dim.value.uses()
                ]
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
    operators = load_operators()
    ties = Ties(model.opset_imports.get("", 1))
    for value in model.graph.inputs:
        ties.fix_all(value, f"it is the input {value.name!r}")
    for node in model.graph:
        _visit(ties, node, operators.of(node))
    for value in model.graph.outputs:
        ties.fix_all(value, f"it is the output {value.name!r}")
    return _grouped(ties)


def _visit(ties: Ties, node: ir.Node, operator: Operator) -> None:
    """Tie what `node` reads to what it gives."""
    rule = operator.channels
    if rule is None or has_subgraph(node) or not node.inputs or node.inputs[0] is None:
        ties.fix_node(node, f"{describe(node)} reads it")
        return
    if any(ties.shape(v) is None for v in (*node.inputs, *node.outputs[:1]) if v is not None):
        ties.fix_node(node, f"{describe(node)} has an unknown rank")
        return
    rule(ties, node)
    for value in node.outputs[1:]:
        if (value.uses() or value.is_graph_output()) and not ties.mentions(value):
            ties.fix_node(node, f"{describe(node)} has a second output")


def _grouped(ties: Ties) -> Dependencies:
    """Groups by number, over all that was tied."""
    labels: dict[Dim, Indices] = {}
    reasons: dict[int, str] = {}
    first = 0
    for dims, within in _connected(ties):
        starts = np.cumsum([0, *(ties.size(dim.value, dim.axis) or 0 for dim in dims)])
        start = dict(zip(dims, starts.tolist(), strict=False))
        label = first + _components(
            int(starts[-1]),
            np.concatenate([np.zeros(0, np.int64), *(start[t.first] + t.left for t in within)]),
            np.concatenate([np.zeros(0, np.int64), *(start[t.second] + t.right for t in within)]),
        )
        for dim, own in zip(dims, np.split(label, starts[1:-1]), strict=True):
            labels[dim] = own
            for indices, reason in ties.fixed.get(dim, ()):
                part = own if indices is None else own[indices]
                for group in np.unique(part).tolist():
                    reasons.setdefault(group, reason)
        first += int(starts[-1])
    return Dependencies(labels, reasons, [p for p in ties.producers if p.output in labels])


def _connected(ties: Ties) -> Iterator[tuple[list[Dim], list[Tie]]]:
    """Dimensions that hang together, in the order in which they were named, and what ties them."""
    connected: DisjointSet[Dim] = DisjointSet(list(ties.dims))
    within: dict[Dim, list[Tie]] = {}
    for tie in ties.ties:
        connected.union_left(tie.first, tie.second)
        within.setdefault(tie.first, []).append(tie)
    found: dict[Dim, list[Dim]] = {}
    for dim in ties.dims:
        found.setdefault(connected.find(dim), []).append(dim)
    for dims in found.values():
        yield dims, [tie for dim in dims for tie in within.get(dim, ())]


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


__all__ = ["Dependencies", "Dim", "Mask", "Producer", "ShrinkingInput", "analyse"]
