"""Which operators stand on crossbars, and how the others are cut into digital subgraphs.

The graph is cut by stages: a digital operator belongs to the stage that counts the crossbar layers
on the longest way to it, and the connected operators of one stage are one digital subgraph. So no
subgraph waits for its own results, and each runs as one onnxruntime session.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import networkx as nx
import onnx_ir as ir
from xdsl.ir import Attribute

from xbarc.graph.operators import load_operators
from xbarc.graph.query import inner_nodes
from xbarc.ir.interface import element_type
from xbarc.lowering.layers import Layer, find_layer


@dataclass(frozen=True)
class Plan:
    """Which operators go where. `reasons`: why a linear operator stays digital, by node name."""

    layers: dict[ir.Node, Layer]
    reasons: dict[str, str]
    nodes: list[ir.Node]
    """What computes an output: digital operators and layers, sorted."""

    @property
    def ranged(self) -> list[str]:
        """Values whose ranges calibration must find."""
        names = [la.source.name or "" for la in self.layers.values() if la.codes is None]
        return list(dict.fromkeys(names))


def plan(model: ir.Model) -> Plan:
    """Find the layers, and drop what no output needs (such as a scale that went to a layer)."""
    layers: dict[ir.Node, Layer] = {}
    reasons: dict[str, str] = {}
    for node in model.graph:
        found = find_layer(node)
        if isinstance(found, Layer):
            layers[node] = found
        elif found is not None:
            reasons[node.name or ""] = f"{node.op_type}: {found}"
    needed: set[ir.Node] = set()
    stack = [v.producer() for v in model.graph.outputs]
    while stack:
        producer = stack.pop()
        if producer is None or producer in needed:
            continue
        needed.add(producer)
        stack.extend(v.producer() for v in _reads(producer, layers))
    return Plan(
        {n: la for n, la in layers.items() if n in needed},
        reasons,
        [n for n in model.graph if n in needed],
    )


def _reads(node: ir.Node, layers: Mapping[ir.Node, Layer]) -> Iterator[ir.Value]:
    """The values of this graph that a node reads, those of its subgraphs included."""
    if node in layers:
        yield layers[node].source
        return
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
    operators = load_operators()
    for node in planned.nodes:
        if node in planned.layers:
            values.update((planned.layers[node].source, node.outputs[0]))
        elif operators.of(node).counts_products:
            values.update(v for v in (*node.inputs, node.outputs[0]) if v is not None)
    for part in _parts(planned):
        values.update(_outlets(part, model, planned))
    # A value without a type is a custom operator's: it has a shape all the same.
    return sorted(v.name or "" for v in values if v.type is None or _element(v) is not None)


def _element(value: ir.Value) -> Attribute | None:
    """The IR's element type of a plain tensor, or None."""
    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.STRING):
        return None
    return element_type(value.type.dtype.numpy())


@dataclass(frozen=True)
class _Part:
    """A digital subgraph, or one layer."""

    stage: int
    nodes: list[ir.Node]


def _parts(planned: Plan) -> list[_Part]:
    """Digital subgraphs and layers in the order in which they can run."""
    ready: dict[ir.Value, int] = {}
    stages: dict[int, nx.Graph[ir.Node]] = {}
    layers: list[_Part] = []
    for node in planned.nodes:
        reads = list(_reads(node, planned.layers))
        stage = max((ready.get(v, 0) for v in reads), default=0)
        is_layer = node in planned.layers
        for value in node.outputs:
            ready[value] = stage + is_layer
        if is_layer:
            layers.append(_Part(stage, [node]))
            continue
        together = stages.setdefault(stage, nx.Graph())
        together.add_node(node)
        for value in reads:
            producer = value.producer()
            if producer is not None and producer in together:
                together.add_edge(producer, node)
    order = {node: i for i, node in enumerate(planned.nodes)}
    digital = [
        _Part(stage, sorted(nodes, key=order.__getitem__))
        for stage, together in stages.items()
        for nodes in nx.connected_components(together)
    ]
    # Within a stage the digital operators come first: its layers read them.
    return sorted(
        digital + layers,
        key=lambda p: (p.stage, p.nodes[0] in planned.layers, order[p.nodes[0]]),
    )


def _outlets(part: _Part, model: ir.Model, planned: Plan) -> list[ir.Value]:
    """The values of a part that others, or the model's outputs, read."""
    inside = set(part.nodes)
    outside = {
        v for n in planned.nodes if n not in inside for v in _reads(n, planned.layers)
    } | set(model.graph.outputs)
    return [v for n in part.nodes for v in n.outputs if v in outside]


def _inlets(part: _Part, planned: Plan) -> list[ir.Value]:
    """The values that a part reads and neither computes nor holds as a constant."""
    inside = {v for n in part.nodes for v in n.outputs}
    reads = dict.fromkeys(v for n in part.nodes for v in _reads(n, planned.layers))
    return [v for v in reads if v not in inside and not v.is_initializer()]
