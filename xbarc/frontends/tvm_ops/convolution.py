"""Convolutions and transposed convolutions of one, two and three dimensions."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.layouts import (
    data_from_onnx,
    data_to_onnx,
    kernel_to_onnx,
    transposed_kernel_to_onnx,
)

Ints = int | Sequence[int]

EXACT = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


def spread(values: Ints, space: int, what: str) -> list[int]:
    """One number for each of `space` axes."""
    given = [values] if isinstance(values, int) else list(values)
    if len(given) == 1:
        given *= space
    if len(given) != space:
        raise Unsupported(f"{what} {tuple(given)} where {space} numbers are known")
    return given


def pads(padding: Ints, space: int) -> list[int]:
    """TVM's one, `space` or 2 x `space` numbers as ONNX's begins and ends."""
    given = [padding] if isinstance(padding, int) else list(padding)
    if len(given) == 2 * space:
        return given
    return spread(given, space, "padding") * 2


def _checked_kernel(
    b: Builder,
    x: ir.Value,
    w: ir.Value,
    channels: int | None,
    kernel_size: Ints | None,
    out_axis: int,
    groups: int,
) -> None:
    """Raises `Unsupported` where the attributes and the weights' shape contradict each other."""
    sizes, space = b.dims(w), b.rank(w) - 2
    if kernel_size is not None:
        kernel = spread(kernel_size, space, "kernel_size")
        if any(a != s for a, s in zip(kernel, sizes[2:], strict=True) if isinstance(s, int)):
            raise Unsupported(f"kernel_size {tuple(kernel)}, but the weights are {list(sizes)}")
    given, taken = b.dims(x)[1], sizes[1 - out_axis]
    expected = taken * groups if isinstance(taken, int) and not out_axis else taken
    if isinstance(given, int) and isinstance(expected, int) and given != expected:
        raise Unsupported(f"{given} channels in {groups} groups by weights {list(sizes)}")
    out = sizes[out_axis]
    wanted = channels if channels is None or not out_axis else channels // groups
    if wanted is not None and isinstance(out, int) and out != wanted:
        raise Unsupported(f"channels {channels}, but the weights are {list(sizes)}")


def _depthwise(b: Builder, x: ir.Value, w: ir.Value, groups: int) -> ir.Value:
    """TVM's kernel of several outputs for each channel, [C, M, ...], as ONNX's [C M, 1, ...]."""
    sizes = b.dims(w)
    if groups == 1 or not b.dims(x)[1] == sizes[0] == groups or sizes[1] == 1:
        return w
    rows, *rest = b.sizes_of(w, range(1, len(sizes)))
    return b.reshape(w, [groups * rows, 1, *rest])


def _in_float(
    b: Builder, x: ir.Value, w: ir.Value, op: str, out_dtype: str, **attributes: Any
) -> ir.Value:
    """A convolution in the type that TVM computes in: what `out_dtype` says, or the data's.

    onnxruntime convolves floats only, so integers pass through float32: exact while sums stay
    below 2^24. Rounding changes nothing there; on crossbars, which come close to a whole number,
    it finds the nearest, where a cast alone would take the one below.
    """
    dtype = b.dtype(x)
    result = onnx_dtype(out_dtype) if out_dtype else dtype
    if dtype.name in EXACT:
        if b.dtype(w) != dtype:
            w = b.cast(w, dtype)
    else:
        x, w = b.cast(x, ir.DataType.FLOAT), b.cast(w, ir.DataType.FLOAT)
    y = b.op(op, x, w, **attributes)
    return b.cast(b.op("Round", y, part="round") if result.is_integer() else y, result)


def _conv(space: int, data: str, kernel: str) -> Operator:
    def conv(
        b: Builder,
        x: ir.Value,
        w: ir.Value,
        *,
        strides: Ints = 1,
        padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
        channels: int | None = None,
        kernel_size: Ints | None = None,
        data_layout: str = data,
        kernel_layout: str = kernel,
        out_layout: str = "",
        out_dtype: str = "",
    ) -> ir.Value:
        x = data_to_onnx(b, x, data_layout, space)
        w = _depthwise(b, x, kernel_to_onnx(b, w, kernel_layout, space), groups)
        _checked_kernel(b, x, w, channels, kernel_size, 0, groups)
        y = _in_float(
            b,
            x,
            w,
            "Conv",
            out_dtype,
            strides=spread(strides, space, "strides"),
            pads=pads(padding, space),
            dilations=spread(dilation, space, "dilation"),
            group=groups,
        )
        return data_from_onnx(b, y, out_layout or data_layout, space)

    return conv


def _conv_transpose(space: int, data: str, kernel: str) -> Operator:
    def conv_transpose(
        b: Builder,
        x: ir.Value,
        w: ir.Value,
        *,
        strides: Ints = 1,
        padding: Ints = 0,
        output_padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
        channels: int | None = None,
        kernel_size: Ints | None = None,
        data_layout: str = data,
        kernel_layout: str = kernel,
        out_layout: str = "",
        out_dtype: str = "",
    ) -> ir.Value:
        x = data_to_onnx(b, x, data_layout, space)
        w = transposed_kernel_to_onnx(b, w, kernel_layout, space)
        _checked_kernel(b, x, w, channels, kernel_size, 1, groups)
        y = _in_float(
            b,
            x,
            w,
            "ConvTranspose",
            out_dtype,
            strides=spread(strides, space, "strides"),
            pads=pads(padding, space),
            output_padding=spread(output_padding, space, "output_padding"),
            dilations=spread(dilation, space, "dilation"),
            group=groups,
        )
        return data_from_onnx(b, y, out_layout or data_layout, space)

    return conv_transpose


OPERATORS: dict[str, Operator] = {
    "nn.conv1d": _conv(1, "NCW", "OIW"),
    "nn.conv2d": _conv(2, "NCHW", "OIHW"),
    "nn.conv3d": _conv(3, "NCDHW", "OIDHW"),
    "nn.conv1d_transpose": _conv_transpose(1, "NCW", "IOW"),
    "nn.conv2d_transpose": _conv_transpose(2, "NCHW", "IOHW"),
    "nn.conv3d_transpose": _conv_transpose(3, "NCDHW", "IODHW"),
}
