"""Which operators stand on crossbars, and how the others are cut into digital subgraphs.

The graph is cut by stages: a digital operator belongs to the stage that counts the crossbar layers
on the longest way to it, and the connected operators of one stage are one digital subgraph. So no
subgraph waits for its own results, and each runs as one onnxruntime session.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import onnx_ir as ir
from xdsl.ir import Attribute
from xdsl.utils.disjoint_set import DisjointSet

from xbarc.graph.query import inner_nodes
from xbarc.ir.interface import element_type
from xbarc.lowering.layer import Layer, find_layer
from xbarc.lowering.layers import Kinds, load_kinds


@dataclass(frozen=True)
class Step:
    """What runs in one go: a digital subgraph, or one layer.

    `inlets` are the values that it takes, constants not among them, `outlets` those of its own that
    other steps or the model's outputs read, `constants` the initialisers that it holds.
    """

    nodes: tuple[ir.Node, ...]
    inlets: tuple[ir.Value, ...]
    outlets: tuple[ir.Value, ...]
    constants: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Plan:
    """Which operators go where. `reasons`: why a linear operator stays digital, by node name."""

    kinds: Kinds
    layers: dict[ir.Node, Layer]
    reasons: dict[str, str]
    nodes: list[ir.Node]
    """What computes an output: digital operators and layers, sorted."""
    steps: list[Step]
    """The same in the order in which they can run."""

    @property
    def ranged(self) -> list[str]:
        """Values whose ranges calibration must find."""
        names = [la.source.name or "" for la in self.layers.values() if la.codes is None]
        return list(dict.fromkeys(names))


def plan(model: ir.Model) -> Plan:
    """Find the layers, and drop what no output needs (such as a scale that went to a layer).

    Raises `XbarcError` where a layer has no weights, or a kind of layer can't be imported.
    """
    kinds = load_kinds()
    layers: dict[ir.Node, Layer] = {}
    reasons: dict[str, str] = {}
    for node in model.graph:
        if not kinds.multiplies(node):
            continue
        kind = kinds.of(node)
        found = find_layer(node, kind) if kind else _unmapped(node, kinds)
        if isinstance(found, Layer):
            layers[node] = found
        else:
            reasons[node.name or ""] = f"{node.op_type}: {found}"
    reads = _needed(model, layers)
    return Plan(
        kinds,
        {n: la for n, la in layers.items() if n in reads},
        reasons,
        list(reads),
        _steps(model, reads, layers),
    )


def _unmapped(node: ir.Node, kinds: Kinds) -> str:
    return kinds.operators.of(node).digital or f"{node.op_type} has no mapping"


def _needed(model: ir.Model, layers: Mapping[ir.Node, Layer]) -> dict[ir.Node, list[ir.Value]]:
    """The nodes that an output needs, sorted, and what each reads."""
    reads: dict[ir.Node, list[ir.Value]] = {}
    stack = [v.producer() for v in model.graph.outputs]
    while stack:
        node = stack.pop()
        if node is None or node in reads:
            continue
        reads[node] = [layers[node].source] if node in layers else list(_reads(node))
        stack.extend(v.producer() for v in reads[node])
    return {n: reads[n] for n in model.graph if n in reads}


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values of this graph that a node reads, those of its subgraphs included."""
    graph = node.graph
    for reader in chain([node], inner_nodes(node)):
        for value in reader.inputs:
            if value is not None and value.graph is graph:
                yield value
    for a in node.attributes.values():
        if a.type == ir.AttributeType.GRAPH:
            yield from (v for v in a.as_graph().outputs if v.graph is graph)


def measured(model: ir.Model, planned: Plan) -> list[str]:
    """The tensors between layers and subgraphs, whose shapes the IR's types say."""
    values = {*model.graph.inputs, *model.graph.outputs}
    operators = planned.kinds.operators
    for node in planned.nodes:
        if node in planned.layers:
            values.update((planned.layers[node].source, node.outputs[0]))
        elif operators.of(node).counts_products:
            values.update(v for v in (*node.inputs, node.outputs[0]) if v is not None)
    for step in planned.steps:
        values.update(step.outlets)
    # A value without a type is a custom operator's: it has a shape all the same.
    return sorted(v.name or "" for v in values if v.type is None or element(v) is not None)


OPAQUE = (None, ir.DataType.STRING, ir.DataType.UNDEFINED)
"""Element types that the IR has no word for; a damaged model says UNDEFINED."""


def element(value: ir.Value) -> Attribute | None:
    """The IR's element type of a plain tensor, or None."""
    if not isinstance(value.type, ir.TensorType) or value.dtype in OPAQUE:
        return None
    return element_type(value.type.dtype.numpy())


def _steps(
    model: ir.Model, reads: Mapping[ir.Node, Sequence[ir.Value]], layers: Mapping[ir.Node, Layer]
) -> list[Step]:
    """Digital subgraphs and layers in the order in which they can run."""
    groups = _groups(reads, layers)
    group_of = {node: i for i, nodes in enumerate(groups) for node in nodes}
    outside = set(model.graph.outputs)
    for node, values in reads.items():
        for value in values:
            producer = value.producer()
            if producer is not None and group_of[producer] != group_of[node]:
                outside.add(value)
    order = {value: i for i, value in enumerate(model.graph.initializers.values())}
    steps = []
    for nodes in groups:
        own = dict.fromkeys(v for n in nodes for v in n.outputs)
        taken = dict.fromkeys(v for n in nodes for v in reads[n])
        inlets = [v for v in taken if v not in own and not v.is_initializer()]
        outlets = [v for v in own if v in outside]
        constants = sorted((v for v in taken if v.is_initializer()), key=order.__getitem__)
        steps.append(Step(tuple(nodes), tuple(inlets), tuple(outlets), tuple(constants)))
    return steps


def _groups(
    reads: Mapping[ir.Node, Sequence[ir.Value]], layers: Mapping[ir.Node, Layer]
) -> list[list[ir.Node]]:
    """The nodes of each step, in the order in which they can run."""
    ready: dict[ir.Value, int] = {}
    connected: DisjointSet[ir.Node] = DisjointSet(list(reads))
    stage_of: dict[ir.Node, int] = {}
    for node, values in reads.items():
        stage_of[node] = stage = max((ready.get(v, 0) for v in values), default=0)
        for value in node.outputs:
            ready[value] = stage + (node in layers)
        if node in layers:
            continue
        for producer in filter(None, (value.producer() for value in values)):
            if stage_of.get(producer) == stage:  # No layer: what reads one is a stage on.
                connected.union_left(producer, node)
    found: dict[ir.Node, list[ir.Node]] = {}
    for node in reads:
        found.setdefault(connected.find(node), []).append(node)
    # Within a stage the digital operators come first: its layers read them.
    # Sorting is stable: else the order of the graph stays.
    return sorted(found.values(), key=lambda nodes: (stage_of[nodes[0]], nodes[0] in layers))
