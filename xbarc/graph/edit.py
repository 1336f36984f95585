"""Small changes to a graph that several passes make: a new initialiser, a new node, a stand-in."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from xbarc.graph.query import unique_name
from xbarc.support.data import Array


def add_initializer(graph: ir.Graph, name: str, array: Array, taken: set[str]) -> ir.Value:
    """A new initialiser that shares `array`; its name is `name` or the next free one."""
    tensor = ir.Tensor(array)
    value = ir.Value(
        name=unique_name(name, taken),
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def insert_before(
    place: ir.Node,
    op: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    taken: set[str],
    *,
    attributes: Mapping[str, Any] | None = None,
    like: ir.Value | None = None,
    shape: Sequence[int | str | ir.SymbolicDim | None] | None = None,
) -> ir.Value:
    """The one output of a new node before `place`: of the type of `like`, of this shape.

    The node is called `name`, or the next free name of the graph's nodes; so is its output.
    """
    graph = place.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{place} stands in no graph")
    node = ir.node(op, list(inputs), attributes=attributes or {})
    node.name = unique_name(name, {known.name or "" for known in graph})
    output = node.outputs[0]
    output.name = unique_name(f"{name}.out", taken)
    output.type = like.type if like is not None else None
    output.shape = None if shape is None else ir.Shape(list(shape))
    graph.insert_before(place, node)
    return output


def stand_in(new: ir.Value, old: ir.Value) -> None:
    """Whoever reads `old` reads `new`, which takes its name, type and shape.

    The node of `old` keeps a nameless output and is the caller's to remove.
    """
    new.type, new.shape = old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name, old.name = old.name, None
