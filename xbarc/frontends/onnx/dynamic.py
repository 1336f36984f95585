"""Dynamically quantised products as products of real activations by the model's own weight codes.

Such a model finds the scale of its activations anew for each input. A crossbar's converters can't
follow that: here the activations are real again, and calibration finds one scale for all inputs, as
it does for a float model.
"""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.rewrite import Rewrite, parameter
from xbarc.graph.query import (
    attribute,
    constant,
    input_at,
    is_op,
    is_static,
    only_consumer,
    value_names,
)
from xbarc.support.data import Array

ONNXRUNTIME = "com.microsoft"

AXIS_OPSET = 13
"""DequantizeLinear has scales per axis from this opset."""


def to_static(model: ir.Model) -> bool:
    """Rewrite dynamically quantised products whose weights are static; leave the rest alone.

        %q, %s, %z = DynamicQuantizeLinear(%x)
        %y = Mul(Cast<float>(MatMulInteger(%q, %w, %z, w_zero)), Mul(%s, w_scale))
    ->
        %y = MatMul(%x, DequantizeLinear(%w, w_scale, w_zero))

    ConvInteger alike, which also takes the Add of a bias; and onnxruntime's DynamicQuantizeMatMul
    and MatMulIntegerToFloat, whose bias stays an Add.
    """
    if model.opset_imports.get("", 1) < AXIS_OPSET:
        return False
    taken = value_names(model)
    modified = False
    for node in tuple(model.graph):
        rule = _rule(node)
        if rule is None:
            continue
        rewrite = Rewrite(model.graph, node, taken)
        result = rule(rewrite)
        if result is not None:
            rewrite.replace(result)
            modified = True
    return modified


def _rule(node: ir.Node) -> Callable[[Rewrite], ir.Value | None] | None:
    if is_op(node, "MatMulInteger", "ConvInteger"):
        return _integer
    if node.domain != ONNXRUNTIME:
        return None
    return {"DynamicQuantizeMatMul": _fused, "MatMulIntegerToFloat": _to_float}.get(node.op_type)


def _integer(rewrite: Rewrite) -> ir.Value | None:
    """The value that the rewritten product stands for; None where it can't be rewritten."""
    node = rewrite.node
    source = dynamic_source(node, 0, 2)
    weight, w_zero = input_at(node, 1), parameter(input_at(node, 3))
    stored = constant(weight)
    if source is None or weight is None or stored is None:
        return None
    if w_zero is None and input_at(node, 3) is not None:
        return None
    convolution = node.op_type == "ConvInteger"
    axis = 0 if convolution else stored.ndim - 1
    quantize, x = source
    # Behind the columns of a result stand as many axes as behind the filters of a kernel.
    behind = stored.ndim - 2 if convolution else 0
    scaled = _scaled(node.outputs[0], quantize.outputs[1], stored.shape[axis], behind)
    if scaled is None:
        return None
    value, w_scale = scaled
    inputs = [x, rewrite.dequantize(weight, w_scale, w_zero, axis, "w")]
    add = only_consumer(value)
    if convolution and add is not None and is_op(add, "Add"):
        bias = constant(_other(add, value))
        if bias is not None and bias.dtype == np.float32:
            numbers = _by_column(bias, stored.shape[0], behind)
            if numbers is not None and numbers.ndim:
                inputs.append(rewrite.initializer("bias", numbers))
                value = add.outputs[0]
    op_type = "Conv" if convolution else "MatMul"
    rewrite.add(op_type, inputs, "", list(node.attributes.values()))
    return value


def dynamic_source(node: ir.Node, at: int, zero_at: int) -> tuple[ir.Node, ir.Value] | None:
    """The DynamicQuantizeLinear of a node's input and what it quantises.

    None where the input, and the zero point that goes with it, don't come from one.
    """
    codes, zero = input_at(node, at), input_at(node, zero_at)
    quantize = None if codes is None else codes.producer()
    if quantize is None or not is_op(quantize, "DynamicQuantizeLinear"):
        return None
    if zero is not quantize.outputs[2] or quantize.inputs[0] is None:
        return None
    return quantize, quantize.inputs[0]


def _scaled(
    sums: ir.Value, x_scale: ir.Value, columns: int, behind: int
) -> tuple[ir.Value, Array] | None:
    """Where integer sums have become real numbers, and the scale of the weights that did it.

    They do when the inputs' scale `x_scale` has been multiplied in once; factors that are constant,
    one number or one a column, are the weights'.
    """
    cast = only_consumer(sums)
    if cast is None or not is_op(cast, "Cast") or attribute(cast, "to") != ir.DataType.FLOAT:
        return None
    value, found, scale = cast.outputs[0], False, np.ones((), np.float32)
    while (mul := only_consumer(value)) is not None and is_op(mul, "Mul"):
        other = _other(mul, value)
        factors = list(_factors(other)) if other is not None else []
        dynamic = [factor for factor in factors if factor is x_scale]
        constants = [_by_column(constant(f), columns, behind) for f in factors if f is not x_scale]
        fixed = [array for array in constants if array is not None and array.dtype == np.float32]
        if not factors or len(dynamic) + found > 1 or len(fixed) < len(constants):
            break
        for array in fixed:
            scale = np.asarray(scale * array, np.float32)
        found |= bool(dynamic)
        value = mul.outputs[0]
    if not found or not np.isfinite(scale).all() or not (scale > 0).all():
        return None
    return value, scale


def _factors(value: ir.Value) -> Iterator[ir.Value]:
    """What a product is made of; the value itself where it is none."""
    node = value.producer()
    if node is None or not is_op(node, "Mul"):
        yield value
        return
    for part in node.inputs:
        if part is not None:
            yield from _factors(part)


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The operand beside `value`."""
    left, right = node.inputs
    return right if left is value else left


def _by_column(array: Array | None, columns: int, behind: int) -> Array | None:
    """A scalar, or one number a column, as the array broadcasts; None where it does otherwise."""
    if array is None:
        return None
    if array.size == 1:
        return array.reshape(())
    axis = array.ndim - 1 - behind
    if axis < 0 or array.size != columns or array.shape[axis] != columns:
        return None
    return array.reshape(-1)


def _fused(rewrite: Rewrite) -> ir.Value | None:
    node = rewrite.node
    x, weight, scale, zero, bias = (input_at(node, index) for index in range(5))
    return None if x is None else _product(rewrite, x, weight, scale, zero, bias)


def _to_float(rewrite: Rewrite) -> ir.Value | None:
    node = rewrite.node
    codes, weight, x_scale, scale, x_zero, zero, bias = (input_at(node, i) for i in range(7))
    if codes is None:
        return None
    source = dynamic_source(node, 0, 4)
    if source is not None and x_scale is source[0].outputs[1]:
        return _product(rewrite, source[1], weight, scale, zero, bias)
    own, own_zero = parameter(x_scale), parameter(x_zero)
    if own is None or own.ndim or (own_zero is None and x_zero is not None):
        return None
    if own_zero is not None and own_zero.ndim:
        return None
    x = rewrite.dequantize(codes, own, own_zero, 0, "x")
    return _product(rewrite, x, weight, scale, zero, bias)


def _product(
    rewrite: Rewrite,
    x: ir.Value,
    weight: ir.Value | None,
    scale: ir.Value | None,
    zero: ir.Value | None,
    bias: ir.Value | None,
) -> ir.Value | None:
    """`MatMul(x, DequantizeLinear(weight, scale, zero)) + bias`, where the weights are static."""
    w_scale, w_zero = parameter(scale), parameter(zero)
    if weight is None or not is_static(weight) or weight.shape is None or w_scale is None:
        return None
    if w_scale.dtype != np.float32 or (w_zero is None and zero is not None):
        return None
    real = rewrite.dequantize(weight, w_scale, w_zero, len(weight.shape) - 1, "w")
    result = rewrite.add("MatMul", [x, real], "")
    if bias is not None:
        rewrite.add("Add", [result, bias], "bias")
    return rewrite.node.outputs[0]
