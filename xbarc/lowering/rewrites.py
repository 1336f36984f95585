"""Rewrites of the graph around one node, as the kinds of layers share them."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import input_at
from xbarc.graph.weights import static_array, weight_shape, weight_side
from xbarc.lowering.product import FLOATS, Product
from xbarc.support.data import Array


def split_bias(
    product: Product, at: int, columns: int, addend: Callable[[Product, ir.Value], ir.Value]
) -> None:
    """op(x, W, b)  ->  Add(op(x, W), addend(b)), where input `at` isn't one number a column."""
    node = product.node
    bias = input_at(node, at)
    if bias is None or is_bias(bias, columns):
        return
    node.replace_input_with(at, None)
    after(node, "Add", [node.outputs[0], addend(product, bias)])


def is_bias(value: ir.Value, columns: int) -> bool:
    """Whether `value` is static, and one number a column (or one for all)."""
    fixed = weight_side(value)
    if fixed is None:
        return False
    shape = weight_shape(fixed)
    size = int(np.prod(shape, dtype=np.int64))
    return size in (1, columns) and all(s == 1 for s in shape[:-1])


def by_channel(product: Product, bias: ir.Value) -> ir.Value:
    """A bias [N] as it is added to channels: [1, N, 1, ...]."""
    node, rank = product.node, len(product.shape)
    shape = np.array([1, -1] + [1] * (rank - 2))
    column = initializer(graph_of(node), f"{node.name}.bias.shape", shape)
    reshape = ir.node("Reshape", [bias, column], name=f"{node.name}.bias")
    graph_of(node).insert_before(node, reshape)
    reshape.outputs[0].name = f"{node.name}.bias.column"
    return reshape.outputs[0]


def cast(product: Product) -> None:
    """op(x: float16)  ->  Cast(op(Cast(x))): the layer itself works on float32."""
    node, dtype = product.node, product.input.dtype
    if dtype is None or dtype not in FLOATS or dtype == ir.DataType.FLOAT:
        return
    node.replace_input_with(product.moving, _single(product, f"{node.name}.float", product.input))
    for index, value in enumerate(node.inputs):
        if index == product.moving or value is None:
            continue
        if value.dtype is not None and value.dtype not in FLOATS:
            continue
        name, fixed = f"{node.name}.float.{index}", weight_side(value)
        if fixed is None:
            single = _single(product, name, value)
        else:
            single = initializer(graph_of(node), name, static_array(fixed).astype(np.float32))
        node.replace_input_with(index, single)
    out = node.outputs[0]
    after(node, "Cast", [out], to=int(dtype))
    out.type = ir.TensorType(ir.DataType.FLOAT)


def _single(product: Product, name: str, value: ir.Value) -> ir.Value:
    node = ir.node("Cast", [value], attributes={"to": int(ir.DataType.FLOAT)}, name=name)
    result = node.outputs[0]
    result.name = f"{name}.in"
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    graph_of(product.node).insert_before(product.node, node)
    return result


def after(
    node: ir.Node, op: str, inputs: Sequence[ir.Value], **attributes: int | Sequence[int]
) -> ir.Value:
    """A new node after `node` whose result stands in for the node's own."""
    old = node.outputs[0]
    new = ir.node(op, list(inputs), attributes=attributes, name=f"{node.name}.{op.lower()}")
    result = new.outputs[0]
    result.type, result.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    # The graph's output keeps its name, which moves to the new value.
    result.name, old.name = old.name, f"{old.name}.{op.lower()}.in"
    graph_of(node).insert_after(node, new)
    for i, value in enumerate(new.inputs):
        if value is result:
            new.replace_input_with(i, old)
    return result


def axes(node: ir.Node, tag: str, *places: int) -> tuple[list[ir.Value], dict[str, list[int]]]:
    """The axes of a Squeeze or Unsqueeze beside `node`: an input, before opset 13 an attribute."""
    graph = graph_of(node)
    if opset(graph) < 13:
        return [], {"axes": list(places)}
    return [initializer(graph, f"{node.name}.{tag}", np.array(places))], {}


def opset(graph: ir.Graph) -> int:
    """The version of the operators; what the importer couldn't raise is below 18."""
    return graph.opset_imports.get("", 18)


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new static value."""
    value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that the node stands in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph
