"""Questions asked of a graph: what is constant, who uses a value, what does an attribute say."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

ONNX_DOMAINS = ("", "ai.onnx")


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the default domain."""
    return node is not None and node.domain in ONNX_DOMAINS and node.op_type in op_types


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute (int, float, str, tuple, tensor, graph), or `default`."""
    attr = node.attributes.get(name)
    return default if attr is None or attr.value is None else attr.value


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """The input of that index; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def is_static(value: ir.Value | None) -> bool:
    """Whether the value is an initialiser that no run can override."""
    return (
        value is not None
        and value.is_initializer()
        and not value.is_graph_input()
        and value.const_value is not None
    )


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """A static value's array (shared, not copied: never write to it), or None."""
    if value is None or not is_static(value) or value.const_value is None:
        return None
    return value.const_value.numpy()


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """The value's dimensions, None for each unknown or symbolic one; None for an unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape.dims)


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value` and reads it once; None where anything else does too."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def has_subgraph(node: ir.Node) -> bool:
    """Whether the node carries a graph of its own (If, Loop, Scan)."""
    return any(
        attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for attr in node.attributes.values()
    )


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The node's own graphs (If, Loop, Scan)."""
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        elif attr.type == ir.AttributeType.GRAPHS:
            yield from attr.as_graphs()


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of the node's own graphs (If, Loop, Scan), those of the graphs in them included."""
    for graph in inner_graphs(node):
        yield from ir.traversal.RecursiveGraphIterator(graph)


def value_names(model: ir.Model) -> set[str]:
    """Every name that a value has, in the graph or in any subgraph of it."""
    names: set[str] = set()
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            names.add(value.name or "")
        for node in graph:
            names.update(output.name or "" for output in node.outputs)
    return names


def unique_name(wanted: str, taken: set[str], last: dict[str, int] | None = None) -> str:
    """`wanted`, or `wanted_1`, `wanted_2` ... where that is taken; added to `taken`.

    `last` keeps each wanted name's last number from call to call: without it a name that thousands
    want is counted up from 1 each time.
    """
    name, count = wanted, 0 if last is None else last.get(wanted, 0)
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    if last is not None:
        last[wanted] = count
    return name


def describe(node: ir.Node) -> str:
    """The node as an error line names it: `Conv 'conv1'`."""
    domain = "" if node.domain in ONNX_DOMAINS else f"{node.domain}."
    name = node.name or (node.outputs[0].name if node.outputs else None)
    return f"{domain}{node.op_type} {name!r}"


def describe_dims(shape: ir.Shape | Sequence[int | None] | None) -> str:
    """A shape as an error line writes it: `[N, 3, ?, 192]`."""
    if shape is None:
        return "[unknown rank]"
    names = []
    for dim in shape:
        text = dim.value if isinstance(dim, ir.SymbolicDim) else dim
        names.append("?" if text is None else str(text))
    return "[" + ", ".join(names) + "]"
