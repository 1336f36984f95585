"""QLinearConv and the like as Conv and MatMul between DequantizeLinear and QuantizeLinear.

The compiler then knows one quantised form. Scales and zero points stay the model's own.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.dynamic import AXIS_OPSET, ONNXRUNTIME
from xbarc.frontends.onnx.rewrite import Rewrite, parameter
from xbarc.graph.query import attribute, constant, input_at, is_op, value_names
from xbarc.support.data import Array


def to_qdq(model: ir.Model) -> bool:
    """Rewrite what has constant weights, scales and zero points; leave the rest alone.

        %y = QLinearConv(%x, x_scale, x_zero, %w, w_scale, w_zero, y_scale, y_zero, %b)
    ->
        %y = QuantizeLinear(Conv(DequantizeLinear(%x, x_scale, x_zero),
                                 DequantizeLinear(%w, w_scale, w_zero),
                                 DequantizeLinear(%b, x_scale * w_scale)), y_scale, y_zero)

        %y = ConvInteger(%x, %w, x_zero, w_zero)
    ->
        %y = Cast<int32>(Round(Conv(DequantizeLinear(%x, 1, x_zero),
                                    DequantizeLinear(%w, 1, w_zero))))

    QLinearMatMul, MatMulInteger and onnxruntime's QGemm alike. The float form rounds where the
    integer one doesn't: a quantised result may be one step off, an integer one beyond 2^24 by
    float32's precision.
    """
    if model.opset_imports.get("", 1) < AXIS_OPSET:
        return False
    taken = value_names(model)
    modified = False
    for node in tuple(model.graph):
        rewrite = Rewrite(model.graph, node, taken)
        if is_op(node, "QLinearConv"):
            result = _qlinear(rewrite, "Conv", bias=8)
        elif is_op(node, "QLinearMatMul"):
            result = _qlinear(rewrite, "MatMul")
        elif is_op(node, "ConvInteger"):
            result = _integer(rewrite, "Conv")
        elif is_op(node, "MatMulInteger"):
            result = _integer(rewrite, "MatMul")
        elif node.domain == ONNXRUNTIME and node.op_type == "QGemm":
            result = _qlinear(rewrite, "Gemm", bias=6, result=(7, 8))
        else:
            continue
        if result is None:
            continue
        rewrite.replace(node.outputs[0])
        modified = True
    return modified


@dataclass(frozen=True)
class _Factor:
    """A quantised operand: `scale` and `zero` are scalars, or vectors along one axis."""

    value: ir.Value
    scale: Array
    zero: Array | None

    @classmethod
    def of(cls, node: ir.Node, at: int, scale_at: int | None, zero_at: int) -> "_Factor | None":
        """The inputs of these indices, a scale of 1 without one; None where they can't be used."""
        value, zero = input_at(node, at), parameter(input_at(node, zero_at))
        one = np.ones((), np.float32)
        scale = one if scale_at is None else parameter(input_at(node, scale_at))
        if value is None or scale is None or scale.dtype != np.float32:
            return None
        if zero is None and input_at(node, zero_at) is not None:
            return None
        return cls(value, scale, zero)

    @property
    def uniform(self) -> bool:
        """Whether one scale and zero point serve the whole tensor."""
        return not self.scale.ndim and (self.zero is None or not self.zero.ndim)


def _product(
    rewrite: Rewrite,
    op_type: str,
    first: _Factor | None,
    second: _Factor | None,
    bias: ir.Value | None = None,
) -> ir.Value | None:
    """The product of two dequantised factors, one of them static; None where it can't be."""
    if first is None or second is None or (bias is not None and constant(bias) is None):
        return None
    node = rewrite.node
    left = op_type == "MatMul" and constant(second.value) is None
    static, moving = (first, second) if left else (second, first)
    array = constant(static.value)
    if array is None or not moving.uniform:
        return None
    axis = {"Conv": 0, "Gemm": 1 - attribute(node, "transB", 0)}.get(
        op_type, array.ndim - (2 if left else 1)
    )
    x = rewrite.dequantize(moving.value, moving.scale, moving.zero, 0, "x")
    w = rewrite.dequantize(static.value, static.scale, static.zero, axis, "w")
    inputs = [w, x] if left else [x, w]
    if bias is not None:
        scale = attribute(node, "alpha", 1.0) * moving.scale * static.scale
        inputs.append(rewrite.dequantize(bias, np.asarray(scale, np.float32), None, 0, "b"))
    return rewrite.add(op_type, inputs, "", list(node.attributes.values()))


def _qlinear(
    rewrite: Rewrite, op_type: str, bias: int | None = None, result: tuple[int, int] = (6, 7)
) -> ir.Value | None:
    """Factors at inputs 0 and 3, each with its scale and zero point behind it.

    `bias` and `result` are the inputs that hold the bias, and the scale and zero point of the
    result, which is real without.
    """
    node = rewrite.node
    scale, zero = (parameter(input_at(node, index)) for index in result)
    if input_at(node, result[0]) is not None and (
        scale is None or zero is None or scale.ndim or zero.ndim or scale.dtype != np.float32
    ):
        return None
    first, second = (_Factor.of(node, at, at + 1, at + 2) for at in (0, 3))
    given = None if bias is None else input_at(node, bias)
    real = _product(rewrite, op_type, first, second, given)
    if real is None or scale is None or zero is None:
        return real
    steps = [rewrite.initializer("y_scale", scale), rewrite.initializer("y_zero_point", zero)]
    return rewrite.add("QuantizeLinear", [real, *steps], "quantize")


def _integer(rewrite: Rewrite, op_type: str) -> ir.Value | None:
    """Factors at inputs 0 and 1, their zero points at 2 and 3."""
    first, second = (_Factor.of(rewrite.node, at, None, at + 2) for at in (0, 1))
    real = _product(rewrite, op_type, first, second)
    if real is None:
        return None
    to = [ir.AttrInt64("to", ir.DataType.INT32.value)]
    # Crossbars come close to a whole number; a cast alone would take the one below.
    whole = rewrite.add("Round", [real], "round")
    return rewrite.add("Cast", [whole], "cast", to)
