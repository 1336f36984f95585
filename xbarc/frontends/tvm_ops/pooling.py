"""Pooling, global and adaptive pooling.

TVM differs from ONNX in `ceil_mode`: it never drops a last window that begins in the padding. So
the rounding becomes explicit padding at the end, and ONNX's flag isn't used.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported
from xbarc.frontends.tvm_ops.convolution import Ints, pads, spread
from xbarc.frontends.tvm_ops.layouts import data_from_onnx, data_to_onnx

DATA = {1: "NCW", 2: "NCHW", 3: "NCDHW"}

MOST = 1024
"""Windows of an axis, where they differ and are listed one by one."""

POOLED = ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8")
"""What onnxruntime's MaxPool takes; other integers pass through double, which is exact."""


def _pool(space: int, kind: str) -> Operator:
    def pool(
        b: Builder,
        x: ir.Value,
        *,
        pool_size: Ints = 1,
        strides: Ints = 1,
        padding: Ints = 0,
        dilation: Ints = 1,
        layout: str = DATA[space],
        out_layout: str = "",
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> ir.Value:
        x = data_to_onnx(b, x, layout, space)
        settings: dict[str, Any] = {
            "kernel_shape": spread(pool_size, space, "pool_size"),
            "strides": spread(strides, space, "strides"),
            "dilations": spread(dilation, space, "dilation"),
        }
        edges = pads(padding, space)
        ends = _ends(b, x, edges, **settings) if ceil_mode else [0] * space
        if kind == "max":
            y = _max_pool(b, x, [*edges[:space], *_sum(edges[space:], ends)], settings)
        else:
            y = _avg_pool(b, x, edges, ends, settings, include=count_include_pad)
        return data_from_onnx(b, y, out_layout or layout, space)

    return pool


def _sum(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [a + c for a, c in zip(left, right, strict=True)]


def _ends(
    b: Builder,
    x: ir.Value,
    edges: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """What each spatial axis needs behind its padding so that the last window is whole."""
    extra = []
    for axis, size in enumerate(b.dims(x)[2:]):
        if not isinstance(size, int):
            raise Unsupported("ceil_mode needs sizes that are known")
        padded = size + edges[axis] + edges[axis + len(strides)]
        window = (kernel_shape[axis] - 1) * dilations[axis] + 1
        steps = -((window - padded) // strides[axis])
        extra.append(max(0, steps * strides[axis] + window - padded))
    return extra


def _max_pool(b: Builder, x: ir.Value, edges: Sequence[int], settings: dict[str, Any]) -> ir.Value:
    dtype = b.dtype(x)
    if dtype.name not in POOLED:
        x = b.cast(x, ir.DataType.DOUBLE)
    if _too_wide(edges, settings["kernel_shape"]):
        kind = b.dtype(x).numpy()
        lowest = np.finfo(kind).min if kind.kind == "f" else np.iinfo(kind).min
        x, edges = _padded(b, x, edges, lowest), [0] * len(edges)
    return b.cast(b.op("MaxPool", x, pads=list(edges), **settings), dtype)


def _avg_pool(
    b: Builder,
    x: ir.Value,
    edges: Sequence[int],
    ends: Sequence[int],
    settings: dict[str, Any],
    *,
    include: bool,
) -> ir.Value:
    """The mean of a window's elements: with the padding where `include`, never with `ends`."""
    if b.dtype(x).is_integer():
        return _integer_avg_pool(b, x, edges, ends, settings, include=include)
    space = len(ends)
    if include and any(ends):
        x, edges = _padded(b, x, edges, 0), [0] * (2 * space)
        include = False
    edges = [*edges[:space], *_sum(edges[space:], ends)]
    if _too_wide(edges, settings["kernel_shape"]):
        # onnxruntime folds a Pad in front into the operator, which then refuses it.
        raise Unsupported(f"padding {tuple(edges)} as wide as the window")
    # Dilations of 1 are left out: onnxruntime's quantised form of this operator knows none.
    if set(settings["dilations"]) == {1}:
        settings = {key: value for key, value in settings.items() if key != "dilations"}
    return b.op(
        "AveragePool",
        x,
        pads=list(edges),
        count_include_pad=int(include and any(edges)),
        **settings,
    )


def _integer_avg_pool(
    b: Builder,
    x: ir.Value,
    edges: Sequence[int],
    ends: Sequence[int],
    settings: dict[str, Any],
    *,
    include: bool,
) -> ir.Value:
    """The means of integers, whole parts of them: exact while a window's sum stays below 2^24."""
    dtype, counted = b.dtype(x), [*edges[: len(ends)], *_sum(edges[len(ends) :], ends)]
    size = math.prod(settings["kernel_shape"])

    def sums(values: ir.Value, around: Sequence[int]) -> ir.Value:
        padded = _padded(b, values, around, 0) if any(around) else values
        mean = _avg_pool(b, padded, [0] * len(around), [0] * len(ends), settings, include=False)
        total = b.op("Mul", mean, b.like(size, mean), part="sum")
        return b.cast(b.op("Round", total, part="round"), dtype)

    spatial = b.sizes_of(x, range(2, 2 + len(ends)))
    around = b.constant(np.ones((1, 1, *spatial), np.float32))
    if include:
        # The padding counts, what a last window needs beyond it doesn't.
        around = _padded(b, around, edges, 1)
        parts = sums(around, [0] * len(ends) + list(ends))
    else:
        parts = sums(around, counted)
    # A window that lies in the padding alone counts nothing: its sum of 0 stays 0.
    parts = b.op("Max", parts, b.like(1, parts), part="count")
    return b.op("Div", sums(b.cast(x, ir.DataType.FLOAT), counted), parts)


def _too_wide(edges: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether there is as much padding as window, which onnxruntime refuses."""
    return any(edge >= size for edge, size in zip(edges, [*kernel, *kernel], strict=True))


def _padded(b: Builder, x: ir.Value, edges: Sequence[int], value: Any) -> ir.Value:
    space = len(edges) // 2
    amounts = [0, 0, *edges[:space], 0, 0, *edges[space:]]
    return b.op("Pad", x, b.ints(amounts), b.like(value, x), part="pad")


def _global_pool(space: int, op_type: str) -> Operator:
    def global_pool(
        b: Builder, x: ir.Value, *, layout: str = DATA[space], out_layout: str = ""
    ) -> ir.Value:
        y = _global(b, op_type, data_to_onnx(b, x, layout, space), space)
        return data_from_onnx(b, y, out_layout or layout, space)

    return global_pool


def _global(b: Builder, op_type: str, x: ir.Value, space: int) -> ir.Value:
    """The largest element or the mean of a channel; of integers the mean's whole part."""
    if not b.dtype(x).is_integer():
        return b.op(op_type, x)
    axes = range(2, 2 + space)
    if op_type == "GlobalMaxPool":
        return b.op("ReduceMax", x, b.ints(axes), keepdims=1)
    total = b.op("ReduceSum", x, b.ints(axes), part="sum", keepdims=1)
    return b.op("Div", total, b.like(math.prod(b.sizes_of(x, axes)), x))


def _adaptive_pool(space: int, kind: str) -> Operator:
    def adaptive_pool(
        b: Builder,
        x: ir.Value,
        *,
        output_size: Ints | None = None,
        layout: str = DATA[space],
        out_layout: str = "",
    ) -> ir.Value:
        x = data_to_onnx(b, x, layout, space)
        wanted = () if output_size is None else output_size
        if wanted == () or wanted == []:
            sizes = list(b.sizes_of(x, range(2, 2 + space)))
        else:
            sizes = spread(wanted, space, "output_size")
        y = _adapted(b, x, sizes, kind)
        return data_from_onnx(b, y, out_layout or layout, space)

    return adaptive_pool


def _adapted(b: Builder, x: ir.Value, sizes: Sequence[int], kind: str) -> ir.Value:
    """Windows [floor(i n / m), ceil((i + 1) n / m)) of each axis, n sizes in and m out."""
    space = len(sizes)
    if all(size == 1 for size in sizes):
        return _global(b, "GlobalMaxPool" if kind == "max" else "GlobalAveragePool", x, space)
    given = b.sizes_of(x, range(2, 2 + space))
    if not all(1 <= m <= MOST for m in sizes):
        raise Unsupported(f"output_size {tuple(sizes)}")
    if all(n % m == 0 for n, m in zip(given, sizes, strict=True)):
        kernel = [n // m for n, m in zip(given, sizes, strict=True)]
        op_type = "MaxPool" if kind == "max" else "AveragePool"
        return b.op(op_type, x, kernel_shape=kernel, strides=kernel)
    # A window is a product of ranges, so one axis after the other gives the same.
    op_type = "ReduceMax" if kind == "max" else "ReduceMean"
    for axis, (n, m) in enumerate(zip(given, sizes, strict=True), start=2):
        if n == m:
            continue
        rows = []
        for i in range(m):
            start, end = i * n // m, -(-(i + 1) * n // m)
            window = b.op("Slice", x, b.ints([start]), b.ints([end]), b.ints([axis]), part="window")
            rows.append(b.op(op_type, window, b.ints([axis]), part="reduce", keepdims=1))
        x = b.op("Concat", *rows, axis=axis)
    return x


OPERATORS: dict[str, Operator] = {
    **{f"nn.max_pool{n}d": _pool(n, "max") for n in DATA},
    **{f"nn.avg_pool{n}d": _pool(n, "avg") for n in DATA},
    **{f"nn.global_max_pool{n}d": _global_pool(n, "GlobalMaxPool") for n in DATA},
    **{f"nn.global_avg_pool{n}d": _global_pool(n, "GlobalAveragePool") for n in DATA},
    **{f"nn.adaptive_max_pool{n}d": _adaptive_pool(n, "max") for n in DATA},
    **{f"nn.adaptive_avg_pool{n}d": _adaptive_pool(n, "avg") for n in DATA},
}
