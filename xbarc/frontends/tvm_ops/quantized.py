"""Relay's qnn.*: quantised operators, as floats between DequantizeLinear and a rounding of TVM's.

A product of quantised tensors is a sum of (x - zero point) (w - zero point). It becomes a float
operator between DequantizeLinear of scale 1, as ConvInteger does in the ONNX importer: exact while
sums stay below 2^24. What scales it, `qnn.requantize`, rounds as TVM does, which QuantizeLinear
doesn't: halves upwards (`UPWARD`, the default) or away from zero (`TONEAREST`); `qnn.quantize`
rounds halves away from zero.

Scales and zero points are constants. `qnn.softmax` is computed in float; TVM's own is an
approximation by integers and may differ by some steps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.convolution import OPERATORS as CONVOLUTIONS
from xbarc.frontends.tvm_ops.elementwise import OPERATORS as ELEMENTWISE
from xbarc.frontends.tvm_ops.elementwise import round_, trunc
from xbarc.frontends.tvm_ops.layouts import (
    data_from_onnx,
    data_to_onnx,
    kernel_to_onnx,
    transposed_kernel_to_onnx,
)
from xbarc.frontends.tvm_ops.linear import batch_matmul, dense
from xbarc.frontends.tvm_ops.normalization import softmax
from xbarc.frontends.tvm_ops.pooling import OPERATORS as POOLS
from xbarc.support.data import Array

FLOAT = ir.DataType.FLOAT


def _parameter(b: Builder, value: Any, what: str) -> Array:
    array = b.static(value)
    if array is None:
        raise Unsupported(f"needs a constant {what}")
    if not array.size:
        raise Unsupported(f"needs a {what} with a value")
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


def _along(b: Builder, parameter: Array, x: ir.Value, axis: int) -> Array:
    """A vector of parameters in the shape that broadcasts along `axis` of `x`."""
    if not parameter.ndim:
        return parameter
    axis = b.axis(x, axis)
    size = b.dims(x)[axis]
    if isinstance(size, int) and size != parameter.size:
        raise Unsupported(f"{parameter.size} parameters for {size} channels")
    return parameter.reshape([-1] + [1] * (b.rank(x) - 1 - axis))


# --- Into integers and back ----------------------------------------------------------------------


def _centred(
    b: Builder, x: ir.Value, zero_point: Any, axis: int, dtype: ir.DataType = FLOAT
) -> ir.Value:
    """x - zero point, as float."""
    zero = _parameter(b, zero_point, "zero point")
    if b.dtype(x).name in ("INT8", "UINT8") and dtype == FLOAT:
        one = b.constant(np.ones(zero.shape, np.float32), "one")
        at = b.axis(x, axis) if zero.ndim else None
        return b.op("DequantizeLinear", x, one, b.like(zero, x), part="centred", axis=at)
    y = b.cast(x, dtype)
    if not zero.any():
        return y
    return b.op("Sub", y, b.like(_along(b, zero, x, axis), y), part="centred")


def _scaled(b: Builder, y: ir.Value, factor: Array, rounding: str) -> ir.Value:
    """y factor, rounded to integers."""
    if (factor == 1).all():
        return y
    y = b.op("Mul", y, b.like(factor, y), part="scaled")
    if rounding == "TONEAREST":
        return round_(b, y)
    return b.op("Floor", b.op("Add", y, b.like(0.5, y), part="half"), part="rounded")


def _narrowed(b: Builder, y: ir.Value, zero_point: Any, dtype: str) -> ir.Value:
    """y + zero point within the limits of `dtype`."""
    kind = onnx_dtype(dtype)
    if kind.name not in ("INT8", "UINT8", "INT16", "UINT16", "INT32"):
        raise Unsupported(f"results of type {dtype!r}")
    zero = _parameter(b, zero_point, "zero point")
    if zero.ndim:
        raise Unsupported("a zero point for each channel of the result")
    if zero:
        y = b.op("Add", y, b.like(zero, y), part="shifted")
    if kind.name != "INT32":
        limits = np.iinfo(kind.numpy())
        y = b.op("Clip", y, b.like(limits.min, y), b.like(limits.max, y), part="clipped")
    return b.cast(y, kind)


def requantize(
    b: Builder,
    x: ir.Value,
    input_scale: Any,
    input_zero_point: Any,
    output_scale: Any,
    output_zero_point: Any,
    *,
    axis: int = -1,
    rounding: str = "None",
    compute_dtype: str = "None",
    out_dtype: str = "int8",
) -> ir.Value:
    """Another scale and zero point."""
    if rounding not in ("None", "UPWARD", "TONEAREST"):
        raise Unsupported(f"rounding {rounding!r}")
    y = _requantized(
        b, x, (input_scale, input_zero_point), output_scale, axis, rounding, wide=out_dtype
    )
    return _narrowed(b, y, output_zero_point, out_dtype)


def _requantized(
    b: Builder,
    x: ir.Value,
    given: tuple[Any, Any],
    output_scale: Any,
    axis: int,
    rounding: str = "UPWARD",
    wide: str = "",
) -> ir.Value:
    """(x - zero point) scale / output scale, rounded: a float without the new zero point."""
    dtype = ir.DataType.DOUBLE if wide == "int32" else FLOAT
    y = _centred(b, x, given[1], axis, dtype)
    factor = _factor(b, given[0], output_scale)
    return _scaled(b, y, _along(b, factor, x, axis), rounding)


def _factor(b: Builder, scale: Any, output_scale: Any) -> Array:
    """The quotient of two scales, in double from float32, as TVM has it."""
    over = _parameter(b, output_scale, "scale")
    if over.ndim:
        raise Unsupported("an output scale for each channel")
    if not over:
        raise Unsupported("an output scale of 0")
    factor: Array = _parameter(b, scale, "scale").astype(np.float64) / over.astype(np.float64)
    return factor


def quantize(
    b: Builder,
    x: ir.Value,
    output_scale: Any,
    output_zero_point: Any,
    *,
    axis: int = -1,
    out_dtype: str = "int8",
) -> ir.Value:
    """round(x / scale) + zero point, halves away from zero."""
    scale = _along(b, _parameter(b, output_scale, "scale"), x, axis)
    y = b.op("Div", x, b.like(scale, x), part="scaled")
    rounded = round_(b, y)
    zero = _parameter(b, output_zero_point, "zero point")
    if zero.ndim and zero.any():
        shift = b.like(_along(b, zero, x, axis), x)
        rounded = b.op("Add", rounded, shift, part="shifted")
    return _narrowed(b, rounded, 0 if zero.ndim else zero, out_dtype)


def dequantize(
    b: Builder,
    x: ir.Value,
    input_scale: Any,
    input_zero_point: Any,
    *,
    axis: int = -1,
    out_dtype: str = "float32",
) -> ir.Value:
    """(x - zero point) scale."""
    scale = _parameter(b, input_scale, "scale").astype(np.float32)
    zero = _parameter(b, input_zero_point, "zero point")
    if scale.shape != zero.shape:
        scale, zero = np.broadcast_arrays(scale, zero)
    if b.dtype(x).name not in ("INT8", "UINT8"):
        y = _centred(b, x, zero, axis)
        y = b.op("Mul", y, b.like(_along(b, scale, x, axis), y))
    else:
        at = b.axis(x, axis) if scale.ndim else None
        zeros = b.like(zero, x)
        y = b.op("DequantizeLinear", x, b.constant(scale.copy(), "scale"), zeros, axis=at)
    return b.cast(y, onnx_dtype(out_dtype or "float32"))


# --- Products ------------------------------------------------------------------------------------


def _convolution(
    name: str, layout: str, kernel_to: Callable[[Builder, ir.Value, str, int], ir.Value]
) -> Operator:
    convolve = CONVOLUTIONS[name]

    def convolution(
        b: Builder,
        x: ir.Value,
        w: ir.Value,
        input_zero_point: Any,
        kernel_zero_point: Any,
        input_scale: Any,
        kernel_scale: Any,
        *,
        strides: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] | None = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        channels: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        data_layout: str = "NCHW",
        kernel_layout: str = layout,
        out_layout: str = "",
        out_dtype: str = "int32",
    ) -> ir.Value:
        more = {} if output_padding is None else {"output_padding": output_padding}
        # Codes change their layout, not floats: so a DequantizeLinear stands before the operator.
        x, w = data_to_onnx(b, x, data_layout, 2), kernel_to(b, w, kernel_layout, 2)
        y = convolve(
            b,
            _centred(b, x, input_zero_point, 1),
            _centred(b, w, kernel_zero_point, layout.find("O")),
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
            channels=channels,
            kernel_size=kernel_size,
            **more,
        )
        result = b.integral(y, onnx_dtype(out_dtype or "int32"))
        return data_from_onnx(b, result, out_layout or data_layout, 2)

    return convolution


def qnn_dense(
    b: Builder,
    x: ir.Value,
    w: ir.Value,
    input_zero_point: Any,
    kernel_zero_point: Any,
    input_scale: Any,
    kernel_scale: Any,
    *,
    units: int | None = None,
    out_dtype: str = "int32",
) -> ir.Value:
    """`nn.dense` of quantised tensors."""
    data, weight = _centred(b, x, input_zero_point, -1), _centred(b, w, kernel_zero_point, 0)
    return b.integral(dense(b, data, weight, units=units), onnx_dtype(out_dtype or "int32"))


def qnn_batch_matmul(
    b: Builder,
    x: ir.Value,
    y: ir.Value,
    x_zero_point: Any,
    y_zero_point: Any,
    x_scale: Any,
    y_scale: Any,
    *,
    out_dtype: str = "int32",
    transpose_a: bool = False,
    transpose_b: bool = True,
) -> ir.Value:
    """[B, M, K] by the transpose of [B, N, K]."""
    left, right = _centred(b, x, x_zero_point, -1), _centred(b, y, y_zero_point, -1)
    product = batch_matmul(b, left, right, transpose_a=transpose_a, transpose_b=transpose_b)
    return b.integral(product, onnx_dtype(out_dtype or "int32"))


# --- Elementwise ---------------------------------------------------------------------------------


def _sum(op_type: str) -> Operator:
    def add(
        b: Builder,
        x: ir.Value,
        y: ir.Value,
        x_scale: Any,
        x_zero_point: Any,
        y_scale: Any,
        y_zero_point: Any,
        output_scale: Any,
        output_zero_point: Any,
        *,
        lhs_axis: int = -1,
        rhs_axis: int = -1,
    ) -> ir.Value:
        left = _requantized(b, x, (x_scale, x_zero_point), output_scale, lhs_axis)
        right = _requantized(b, y, (y_scale, y_zero_point), output_scale, rhs_axis)
        return _narrowed(b, b.op(op_type, left, right), output_zero_point, b.dtype(x).name.lower())

    return add


def mul(
    b: Builder,
    x: ir.Value,
    y: ir.Value,
    x_scale: Any,
    x_zero_point: Any,
    y_scale: Any,
    y_zero_point: Any,
    output_scale: Any,
    output_zero_point: Any,
    *,
    lhs_axis: int = -1,
    rhs_axis: int = -1,
) -> ir.Value:
    """The product of the centred integers, requantised by the product of their scales."""
    left, right = _centred(b, x, x_zero_point, lhs_axis), _centred(b, y, y_zero_point, rhs_axis)
    scales = [_parameter(b, scale, "scale") for scale in (x_scale, y_scale)]
    if any(scale.ndim for scale in scales):
        raise Unsupported("a scale for each channel")
    product = b.op("Mul", left, right)
    factor = _factor(b, scales[0].astype(np.float32) * scales[1].astype(np.float32), output_scale)
    return _narrowed(
        b, _scaled(b, product, factor, "UPWARD"), output_zero_point, b.dtype(x).name.lower()
    )


def concatenate(
    b: Builder,
    parts: tuple[ir.Value, ...],
    input_scales: tuple[Any, ...],
    input_zero_points: tuple[Any, ...],
    output_scale: Any,
    output_zero_point: Any,
    *,
    axis: int = 0,
) -> ir.Value:
    """Each part requantised to the scale and zero point of the result."""
    if not len(parts) == len(input_scales) == len(input_zero_points):
        raise Unsupported("needs a scale and a zero point for each part")
    dtype = b.dtype(parts[0]).name.lower()
    rows = []
    wanted = [_parameter(b, p, "parameter") for p in (output_scale, output_zero_point)]
    for part, scale, zero in zip(parts, input_scales, input_zero_points, strict=True):
        has = [_parameter(b, p, "parameter") for p in (scale, zero)]
        if all(np.array_equal(a, c) for a, c in zip(has, wanted, strict=True)):
            rows.append(part)
            continue
        y = _requantized(b, part, (scale, zero), output_scale, -1)
        rows.append(_narrowed(b, y, output_zero_point, dtype))
    return b.op("Concat", *rows, axis=b.axis(rows[0], axis))


def leaky_relu(
    b: Builder,
    x: ir.Value,
    input_scale: Any,
    input_zero_point: Any,
    output_scale: Any,
    output_zero_point: Any,
    *,
    alpha: float = 0.25,
) -> ir.Value:
    """Below the zero point alpha q + (1 - alpha) zero point of the requantised q, each rounded."""
    zero = float(_parameter(b, output_zero_point, "zero point"))
    y = _requantized(b, x, (input_scale, input_zero_point), output_scale, -1)
    y = b.op("Add", y, b.like(zero, y), part="shifted")
    low = _scaled(b, y, np.asarray(alpha), "UPWARD")
    low = b.op("Add", low, b.like(np.floor((1 - alpha) * zero + 0.5), low), part="low")
    below = b.op("Less", _centred(b, x, input_zero_point, -1), b.like(0, y), part="below")
    return _narrowed(b, b.op("Where", below, low, y), 0, b.dtype(x).name.lower())


def _by_float(name: str) -> Operator:
    """Dequantised, computed, quantised again: what TVM's tables hold."""
    function = ELEMENTWISE.get(name)

    def unary(
        b: Builder,
        x: ir.Value,
        input_scale: Any,
        input_zero_point: Any,
        output_scale: Any,
        output_zero_point: Any,
    ) -> ir.Value:
        y = dequantize(b, x, input_scale, input_zero_point)
        y = b.op("HardSwish", y) if function is None else function(b, y)
        dtype = b.dtype(x).name.lower()
        return quantize(b, y, output_scale, output_zero_point, out_dtype=dtype)

    return unary


def qnn_softmax(
    b: Builder,
    x: ir.Value,
    scale: Any,
    zero_point: Any,
    output_scale: Any,
    output_zero_point: Any,
    *,
    axis: int = -1,
) -> ir.Value:
    """`nn.softmax` in float, quantised."""
    y = softmax(b, dequantize(b, x, scale, zero_point), axis=axis)
    dtype = b.dtype(x).name.lower()
    return quantize(b, y, output_scale, output_zero_point, out_dtype=dtype)


def avg_pool2d(
    b: Builder,
    x: ir.Value,
    input_scale: Any,
    input_zero_point: Any,
    output_scale: Any,
    output_zero_point: Any,
    **settings: Any,
) -> ir.Value:
    """The mean of the integers, towards zero, requantised."""
    mean = POOLS["nn.avg_pool2d"](b, b.cast(x, FLOAT), **settings)
    whole = trunc(b, mean)
    given = (input_scale, input_zero_point)
    y = _requantized(b, whole, given, output_scale, -1)
    return _narrowed(b, y, output_zero_point, b.dtype(x).name.lower())


UNARY = ("abs", "erf", "exp", "hardswish", "log", "rsqrt", "sigmoid", "sqrt", "tanh")

OPERATORS: dict[str, Operator] = {
    **{f"qnn.{name}": _by_float(name) for name in UNARY},
    "qnn.add": _sum("Add"),
    "qnn.avg_pool2d": avg_pool2d,
    "qnn.batch_matmul": qnn_batch_matmul,
    "qnn.concatenate": concatenate,
    "qnn.conv2d": _convolution("nn.conv2d", "OIHW", kernel_to_onnx),
    "qnn.conv2d_transpose": _convolution("nn.conv2d_transpose", "IOHW", transposed_kernel_to_onnx),
    "qnn.dense": qnn_dense,
    "qnn.dequantize": dequantize,
    "qnn.leaky_relu": leaky_relu,
    "qnn.mul": mul,
    "qnn.quantize": quantize,
    "qnn.requantize": requantize,
    "qnn.softmax": qnn_softmax,
    "qnn.subtract": _sum("Sub"),
}
