"""Graph rewrites, exact, after which every operator with static weights is one weight matrix.

They come right before lowering, so that graph passes see the operators as the model has them.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xbarc.graph.operators import LINEAR
from xbarc.graph.query import ONNX_DOMAINS, attribute, constant, is_op, is_static
from xbarc.graph.weights import static_array, weight_shape, weight_side
from xbarc.support.data import Array

_Attribute = int | Sequence[int]

MAX_SPLIT = 1024
"""Matrices of one batched product that are laid out one by one; more stay digital."""


def legalize(model: ir.Model) -> None:
    """Rewrite `model` in place.

    Conv(x, W, moving b)     ->  Add(Conv(x, W), Reshape(b)), a ConvTranspose likewise
    Gemm(x, W, matrix C)     ->  Add(Gemm(x, W), beta C)
    MatMul(x, w [K])         ->  Squeeze(MatMul(x, w [K, 1]))
    MatMul(x, W [B, K, N])   ->  Concat(MatMul(x_0, W_0), ..., MatMul(x_B, W_B))
    MatMul(x [M, K], W [B, K, N])  ->  the same of Unsqueeze(x)
    op(x: float16)           ->  Cast(op(Cast(x)))
    a constant graph output  ->  Identity of it
    """
    graph = model.graph
    for node in list(graph):
        if node.domain in ONNX_DOMAINS and node.op_type in LINEAR and _static(node) is not None:
            _split_bias(node)
            if node.op_type == "MatMul":
                node = _raise_vector(node)
            _cast(node)
            if node.op_type == "MatMul":
                _raise_moving(node)
                _split_batch(node)
    for index, value in enumerate(list(graph.outputs)):
        if is_static(value):
            _identity_output(graph, index, value)
    graph.sort()


def _static(node: ir.Node) -> int | None:
    """Which of the first two operands is static; None where both or neither are."""
    sides = [weight_side(v) is not None for v in node.inputs[:2]]
    if node.op_type != "MatMul":
        return 1 if sides[1] and not sides[0] else None
    return sides.index(True) if sides.count(True) == 1 else None


def _after(
    node: ir.Node, op: str, inputs: Sequence[ir.Value], **attributes: _Attribute
) -> ir.Value:
    """A new node after `node` whose result stands in for the node's own."""
    old = node.outputs[0]
    assert node.graph is not None
    new = ir.node(op, list(inputs), attributes=attributes, name=f"{node.name}.{op.lower()}")
    result = new.outputs[0]
    result.type, result.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    # The graph's output keeps its name, which moves to the new value.
    result.name, old.name = old.name, f"{old.name}.{op.lower()}.in"
    node.graph.insert_after(node, new)
    for i, value in enumerate(new.inputs):
        if value is result:
            new.replace_input_with(i, old)
    return result


def _axes(node: ir.Node, tag: str, *axes: int) -> tuple[list[ir.Value], dict[str, list[int]]]:
    """The axes of a Squeeze or Unsqueeze beside `node`: an input, before opset 13 an attribute."""
    graph = node.graph
    assert graph is not None
    if _opset(graph) < 13:
        return [], {"axes": list(axes)}
    return [_initializer(graph, f"{node.name}.{tag}", np.array(axes))], {}


def _opset(graph: ir.Graph) -> int:
    """The version of the operators; what the importer couldn't raise is below 18."""
    return graph.opset_imports.get("", 18)


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def _split_bias(node: ir.Node) -> None:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    graph = node.graph
    if given is None or graph is None or node.op_type == "MatMul":
        return
    weights = weight_side(node.inputs[1])
    assert weights is not None
    shape = weight_shape(weights)
    transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
    columns = shape[0] if node.op_type == "Conv" or transposed else shape[-1]
    if node.op_type == "ConvTranspose":
        columns = shape[1] * attribute(node, "group", 1)
    fixed = weight_side(given)
    if fixed is not None:
        bias = weight_shape(fixed)
        size = int(np.prod(bias, dtype=np.int64))
        if size in (1, columns) and all(s == 1 for s in bias[:-1]):
            return
    needed = node.op_type == "Gemm" and _opset(graph) < 11
    dtype = (given.dtype or ir.DataType.FLOAT).numpy()
    zero = _initializer(graph, f"{node.name}.zero", np.zeros(1, dtype)) if needed else None
    node.replace_input_with(2, zero)
    factor = attribute(node, "beta", 1.0)
    addend = given
    if node.op_type in ("Conv", "ConvTranspose"):
        column = _initializer(
            graph, f"{node.name}.bias.shape", np.array([1, -1] + [1] * (len(shape) - 2))
        )
        reshape = ir.node("Reshape", [given, column], name=f"{node.name}.bias")
        graph.insert_before(node, reshape)
        addend = reshape.outputs[0]
        addend.name = f"{node.name}.bias.column"
    elif factor != 1.0:
        scale = _initializer(graph, f"{node.name}.beta", np.array(factor, dtype=dtype))
        scaled = ir.node("Mul", [given, scale], name=f"{node.name}.scaled")
        graph.insert_before(node, scaled)
        addend = scaled.outputs[0]
        addend.name = f"{node.name}.scaled.bias"
    _after(node, "Add", [node.outputs[0], addend])


def _raise_vector(node: ir.Node) -> ir.Node:
    """A static vector as a matrix of one column (or row)."""
    side = _static(node)
    graph = node.graph
    assert side is not None and graph is not None
    value = weight_side(node.inputs[side])
    assert value is not None
    if len(weight_shape(value)) != 1:
        return node
    array = static_array(value).astype((value.dtype or ir.DataType.FLOAT).numpy())
    matrix = array[:, None] if side == 1 else array[None, :]
    node.replace_input_with(side, _initializer(graph, f"{node.name}.matrix", matrix))
    moving = node.inputs[1 - side]
    vector = moving is not None and moving.shape is not None and len(moving.shape) == 1
    axes, attributes = _axes(node, "axis", -1 if side == 1 or vector else -2)
    out = node.outputs[0]
    _after(node, "Squeeze", [out, *axes], **attributes)
    out.shape = None
    return node


def _cast(node: ir.Node) -> None:
    """Real types other than float32: the layer itself works on float32."""
    side = _static(node)
    graph = node.graph
    if side is None or graph is None:
        return
    moving = node.inputs[1 - side]
    assert moving is not None
    dtype = moving.dtype
    if dtype not in (ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16):
        return
    single = int(ir.DataType.FLOAT)
    cast = ir.node("Cast", [moving], attributes={"to": single}, name=f"{node.name}.float")
    cast.outputs[0].name = f"{node.name}.float.in"
    cast.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    cast.outputs[0].shape = moving.shape
    graph.insert_before(node, cast)
    node.replace_input_with(1 - side, cast.outputs[0])
    for index, value in enumerate(node.inputs):
        if index != 1 - side and value is not None:
            fixed = weight_side(value)
            assert fixed is not None
            array = static_array(fixed).astype(np.float32)
            node.replace_input_with(index, _initializer(graph, f"{node.name}.float.{index}", array))
    out = node.outputs[0]
    _after(node, "Cast", [out], to=int(dtype))
    out.type = ir.TensorType(ir.DataType.FLOAT)


def _raise_moving(node: ir.Node) -> None:
    """A moving side of fewer axes than a stack of matrices: axes of 1 in front, as numpy has it."""
    side = _static(node)
    graph = node.graph
    if side is None or graph is None:
        return
    value = weight_side(node.inputs[side])
    moving = node.inputs[1 - side]
    assert value is not None and moving is not None
    if moving.shape is None:
        return
    shape, rank = list(moving.shape.dims), len(weight_shape(value))
    missing = rank - len(shape)
    if rank < 3 or missing < 1:
        return
    axes = list(range(missing))
    if len(shape) == 1:
        # A vector: a row, or with the weights on the left a column, of which the result has none.
        column = side == 0
        axes[-1] = rank - 1 if column else rank - 2
        shape = [*shape, 1] if column else [1, *shape]
        out = node.outputs[0]
        gone, how = _axes(node, "vector", -1 if column else -2)
        _after(node, "Squeeze", [out, *gone], **how)
        out.shape = None
    new, attributes = _axes(node, "axes", *axes)
    raised = ir.node("Unsqueeze", [moving, *new], attributes=attributes, name=f"{node.name}.raised")
    raised.outputs[0].name = f"{node.name}.raised.out"
    raised.outputs[0].type = moving.type
    raised.outputs[0].shape = ir.Shape([*[1] * (rank - len(shape)), *shape])
    graph.insert_before(node, raised)
    node.replace_input_with(1 - side, raised.outputs[0])


def _split_batch(node: ir.Node) -> None:
    """One MatMul a matrix, where the static side is a stack of matrices."""
    side = _static(node)
    graph = node.graph
    if side is None or graph is None:
        return
    value = weight_side(node.inputs[side])
    moving = node.inputs[1 - side]
    assert value is not None and moving is not None
    shape = weight_shape(value)
    stack = shape[:-2]
    if not stack:
        return
    rank = None if moving.shape is None else len(moving.shape)
    if rank is None or rank < len(shape) or int(np.prod(stack)) > MAX_SPLIT or 0 in shape:
        return
    sizes = [moving.shape[rank - len(shape) + i] for i in range(len(stack))]  # type: ignore[index]
    if any(size not in (1, want) and want != 1 for size, want in zip(sizes, stack, strict=True)):
        return
    array = static_array(value).astype((value.dtype or ir.DataType.FLOAT).numpy())
    new: list[ir.Node] = []

    def make(
        op: str, inputs: Sequence[ir.Value | None], tag: str, **attributes: _Attribute
    ) -> ir.Value:
        made = ir.node(op, list(inputs), attributes=attributes, name=f"{node.name}.{tag}")
        made.outputs[0].name = f"{node.name}.{tag}.out"
        made.outputs[0].type = source.type if op == "Slice" else moving.type
        new.append(made)
        return made.outputs[0]

    # Codes that the model made are cut as codes, so that each layer takes them as they are.
    codes = moving.producer()
    source = moving
    scale: Sequence[ir.Value | None] = ()
    if is_op(codes, "DequantizeLinear") and codes is not None and codes.inputs[0] is not None:
        factor = constant(codes.inputs[1])
        if factor is not None and factor.size == 1:
            source, scale = codes.inputs[0], codes.inputs[1:]

    def product(x: ir.Value, w: Array, tag: str) -> ir.Value:
        if w.ndim == 2:
            if scale:
                x = make("DequantizeLinear", [x, *scale], f"real{tag}")
            matrix = _initializer(graph, f"{node.name}.weights{tag}", np.ascontiguousarray(w))
            return make("MatMul", [x, matrix] if side == 1 else [matrix, x], f"matmul{tag}")
        axis = rank - w.ndim
        if len(w) == 1:
            return product(x, w[0], f"{tag}.0")
        parts = []
        for i, matrix in enumerate(w):
            item = x
            if moving.shape is not None and moving.shape[axis] != 1:
                where = {"starts": [i], "ends": [i + 1], "axes": [axis]}
                if _opset(graph) < 10:
                    item = make("Slice", [x], f"item{tag}.{i}", **where)
                else:
                    bounds = [
                        _initializer(graph, f"{node.name}.{what}{tag}.{i}", np.array(at))
                        for what, at in where.items()
                    ]
                    item = make("Slice", [x, *bounds], f"item{tag}.{i}")
            parts.append(product(item, matrix, f"{tag}.{i}"))
        return make("Concat", parts, f"stack{tag}", axis=axis)

    result = product(source, array, "")
    old = node.outputs[0]
    result.type, result.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    result.name, old.name = old.name, f"{old.name}.stacked"
    graph.insert_before(node, new)
    graph.remove(node, safe=True)


def _identity_output(graph: ir.Graph, index: int, value: ir.Value) -> None:
    """A graph output that nothing computes: the digital unit hands it out."""
    name = value.name
    assert name is not None
    graph.initializers.pop(name)
    value.name = f"{name}.constant"
    graph.register_initializer(value)
    node = ir.node("Identity", [value], name=f"{name}.identity")
    node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    graph.append(node)
    graph.outputs[index] = node.outputs[0]
