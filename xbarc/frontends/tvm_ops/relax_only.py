"""What Relax has and Relay hasn't, or spells otherwise: added to the table for Relax modules."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.elementwise import identity, matched
from xbarc.frontends.tvm_ops.fill import tile as repeated

Shape = Sequence[int | str]

# --- Elementwise ---------------------------------------------------------------------------------


def round_even(b: Builder, x: ir.Value) -> ir.Value:
    """To the nearest integer, halves to the even one (Relay's `round`: away from zero)."""
    return b.op("Round", x) if b.dtype(x).is_floating_point() else x


def log_add_exp(b: Builder, x: Any, y: Any) -> ir.Value:
    """log(exp(x) + exp(y)), without overflow."""
    x, y = matched(b, x, y)
    high = b.op("Max", x, y, part="high")
    low = b.op("Min", x, y, part="low")
    rest = b.op("Softplus", b.op("Sub", low, high, part="difference"), part="softplus")
    return b.op("Add", high, rest)


def ewise_fma(b: Builder, x: Any, y: Any, z: Any) -> ir.Value:
    """x y + z."""
    return b.op("Add", *matched(b, b.op("Mul", *matched(b, x, y), part="product"), z))


def softplus(b: Builder, x: ir.Value, *, beta: float = 1.0, threshold: float = 20.0) -> ir.Value:
    """log(1 + exp(beta x)) / beta; x itself where beta x exceeds the threshold."""
    scaled = b.op("Mul", x, b.like(beta, x), part="scaled")
    soft = b.op("Div", b.op("Softplus", scaled, part="softplus"), b.like(beta, x), part="soft")
    return b.op("Where", b.op("Greater", scaled, b.like(threshold, x), part="large"), x, soft)


def _bitwise(op_type: str) -> Operator:
    def bitwise(b: Builder, x: Any, y: Any) -> ir.Value:
        x, y = matched(b, x, y)
        return b.op(
            op_type.replace("Bitwise", "") if x.dtype == ir.DataType.BOOL else op_type, x, y
        )

    return bitwise


def bitwise_not(b: Builder, x: ir.Value) -> ir.Value:
    """Each bit inverted."""
    return b.op("Not" if x.dtype == ir.DataType.BOOL else "BitwiseNot", x)


# --- Quantised -----------------------------------------------------------------------------------


def quantize(
    b: Builder,
    x: ir.Value,
    scale: Any,
    zero_point: Any,
    *,
    axis: int = -1,
    out_dtype: str = "int8",
) -> ir.Value:
    """clip(round(x / scale) + zero point), rounded half to even."""
    dtype = onnx_dtype(out_dtype)
    scale, zero = _parameters(b, x, scale, zero_point, dtype)
    return b.op("QuantizeLinear", x, scale, zero, axis=axis if b.rank(scale) else None)


def dequantize(
    b: Builder,
    x: ir.Value,
    scale: Any,
    zero_point: Any,
    *,
    axis: int = -1,
    out_dtype: str = "float32",
) -> ir.Value:
    """(x - zero point) scale."""
    scale, zero = _parameters(b, x, scale, zero_point, b.dtype(x))
    y = b.op("DequantizeLinear", x, scale, zero, axis=axis if b.rank(scale) else None)
    return b.cast(y, onnx_dtype(out_dtype))


def _parameters(
    b: Builder, x: ir.Value, scale: Any, zero_point: Any, dtype: ir.DataType
) -> tuple[ir.Value, ir.Value]:
    """Scale and zero point as ONNX wants them: of one shape, the zero point of the codes' type."""
    scales, zeros = b.static(scale), b.static(zero_point)
    if scales is None or zeros is None:
        raise Unsupported("needs a constant scale and zero point")
    if dtype.name not in ("INT8", "UINT8", "INT32"):
        raise Unsupported(f"codes of type {dtype.name.lower()}")
    scales, zeros = np.broadcast_arrays(_narrow(scales), _narrow(zeros))
    codes = zeros.astype(dtype.numpy())
    if not np.array_equal(codes, zeros):
        raise Unsupported(f"a zero point that {dtype.name.lower()} can't hold")
    return (
        b.constant(scales.astype(np.float32), f"{x.name}.scale"),
        b.constant(codes, f"{x.name}.zero_point"),
    )


def _narrow(array: Any) -> Any:
    """One number as a scalar, several as a vector."""
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


# --- Attention and sums of products --------------------------------------------------------------


def attention(
    b: Builder,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    bias: ir.Value | None = None,
    *,
    scale: float | None = None,
    causal_mask: str | None = None,
    window_size: int | None = None,
) -> ir.Value:
    """softmax(q k' scale + bias) v for q [batch, rows, heads, width], k and v alike."""
    if window_size is not None:
        raise Unsupported("a sliding window")
    q, k, v = (b.transpose(value, [0, 2, 1, 3]) for value in (q, k, v))
    rows, columns, width = b.dims(q)[2], b.dims(k)[2], b.dims(q)[3]
    if scale is None and not isinstance(width, int):
        raise Unsupported("needs the width of a head")
    factor = scale if scale is not None else 1 / math.sqrt(int(width or 1))
    scores = b.op("MatMul", q, b.transpose(k, [0, 1, 3, 2]), part="scores")
    scores = b.op("Mul", scores, b.like(factor, scores), part="scaled")
    if bias is not None:
        scores = b.op("Add", scores, bias, part="biased")
    if causal_mask is not None:
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise Unsupported("a causal mask of open size")
        offset = {"TopLeft": 0, "BottomRight": abs(rows - columns)}.get(causal_mask)
        if offset is None:
            raise Unsupported(f"the causal mask {causal_mask!r}")
        mask = np.where(np.tril(np.ones((rows, columns)), offset) > 0, 0, -np.inf)
        scores = b.op("Add", scores, b.like(mask, scores), part="masked")
    weights = b.op("Softmax", scores, part="softmax", axis=-1)
    return b.transpose(b.op("MatMul", weights, v), [0, 2, 1, 3])


def einsum(b: Builder, values: tuple[ir.Value, ...], *, subscripts: str) -> ir.Value:
    """numpy's einsum."""
    return b.op("Einsum", *values, equation=subscripts)


def outer(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Each of `x` by each of `y`."""
    return b.op("Mul", b.reshape(x, [-1, 1]), b.reshape(y, [1, -1]))


def rms_norm(
    b: Builder, x: ir.Value, weight: ir.Value, *, axes: Sequence[int], epsilon: float = 1e-5
) -> ir.Value:
    """x / sqrt(mean of x x over `axes` + epsilon), times the weight."""
    rank = b.rank(x)
    behind = [axis % rank for axis in axes]
    squares = b.op("Mul", x, x, part="squares")
    mean = b.op("ReduceMean", squares, b.ints(behind), part="mean", keepdims=1)
    root = b.op("Sqrt", b.op("Add", mean, b.like(epsilon, x), part="raised"), part="root")
    sizes = iter(b.sizes_of(weight))
    weight = b.reshape(weight, [next(sizes) if axis in behind else 1 for axis in range(rank)])
    return b.op("Mul", b.op("Div", x, root, part="normalised"), weight)


# --- Shapes and indices --------------------------------------------------------------------------


def shape_of(b: Builder, x: ir.Value) -> tuple[Any, ...]:
    """The sizes, as Relax's shapes are given: ints, text where open."""
    return b.dims(x)


def shape_to_tensor(b: Builder, shape: Shape) -> ir.Value:
    """A known shape as int64."""
    return b.ints(_static_shape(shape))


def tensor_to_shape(b: Builder, x: ir.Value) -> tuple[Any, ...]:
    """Constant int64 as a shape."""
    array = b.static(x)
    if array is None:
        raise Unsupported("a shape that a run computes")
    return tuple(int(size) for size in array)


def size(b: Builder, x: ir.Value) -> ir.Value:
    """The number of elements."""
    return b.op("Size", x)


def _static_shape(shape: Shape) -> list[int]:
    if not all(isinstance(dim, int) for dim in shape):
        raise Unsupported(f"the open shape {list(shape)}")
    return [int(dim) for dim in shape]


def strided_slice(
    b: Builder,
    x: ir.Value,
    axes: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int] | None = None,
    *,
    assume_inbound: bool = False,
) -> ir.Value:
    """Every `strides`-th from `begin` to before `end`, along `axes`."""
    if not all(isinstance(i, int) for i in (*begin, *end, *(strides or ()))):
        raise Unsupported("bounds that stay open")
    steps = list(strides) if strides is not None else [1] * len(axes)
    return b.op("Slice", x, *map(b.ints, (list(begin), list(end), list(axes), steps)))


def slice_scatter(
    b: Builder, x: ir.Value, source: ir.Value, start: int, end: int, step: int, *, axis: int = 0
) -> ir.Value:
    """`x` with what stands from `start` to before `end` along `axis` replaced by `source`."""
    if not all(isinstance(number, int) for number in (start, end, step)) or step != 1:
        raise Unsupported("bounds that stay open, or steps other than 1")
    length = b.sizes_of(x, [axis])[0]
    start, end, _ = slice(start, end).indices(length)
    parts = [source]
    if start > 0:
        parts.insert(0, strided_slice(b, x, [axis], [0], [start]))
    if end < length:
        parts.append(strided_slice(b, x, [axis], [end], [length]))
    return b.op("Concat", *parts, axis=axis)


def tile(b: Builder, x: ir.Value, *, repeats: Sequence[int]) -> ir.Value:
    """numpy's tile."""
    return repeated(b, x, repeats)


def dynamic_strided_slice(
    b: Builder, x: ir.Value, begin: ir.Value, end: ir.Value, strides: ir.Value
) -> ir.Value:
    """`strided_slice` along all axes, with bounds as tensors."""
    axes = b.ints(list(range(b.rank(x))))
    return b.op("Slice", x, begin, end, axes, strides)


def eye(b: Builder, rows: int, columns: int, k: int, *, dtype: str) -> ir.Value:
    """Ones on the k-th diagonal."""
    return b.constant(np.eye(rows, columns, k, onnx_dtype(dtype).numpy()), "eye")


def meshgrid(
    b: Builder, values: tuple[ir.Value, ...], *, indexing: str | None = "ij"
) -> tuple[ir.Value, ...]:
    """Each vector along its own axis, repeated along the others."""
    if indexing not in (None, "ij"):
        raise Unsupported(f"indexing {indexing!r}")
    sizes = [b.sizes_of(value)[0] if b.rank(value) else 1 for value in values]
    return tuple(
        b.op("Expand", b.reshape(value, [-1 if i == axis else 1 for i in range(len(values))]),
             b.ints(sizes))
        for axis, value in enumerate(values)
    )  # fmt: skip


def gather_nd(b: Builder, x: ir.Value, indices: ir.Value, *, batch_dims: int = 0) -> ir.Value:
    """The index tuples stand along the last axis of `indices`, as in ONNX."""
    return b.op("GatherND", x, b.cast(indices, ir.DataType.INT64), batch_dims=batch_dims)


SCATTERS = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _scatter(op_type: str) -> Operator:
    def scatter(
        b: Builder,
        x: ir.Value,
        indices: ir.Value,
        updates: ir.Value,
        *,
        axis: int | None = None,
        reduction: str = "update",
    ) -> ir.Value:
        if reduction not in SCATTERS:
            raise Unsupported(f"reduction {reduction!r}")
        places = b.cast(indices, ir.DataType.INT64)
        return b.op(op_type, x, places, updates, axis=axis, reduction=SCATTERS[reduction])

    return scatter


def index_tensor(b: Builder, x: ir.Value, indices: tuple[ir.Value, ...]) -> ir.Value:
    """numpy's x[i, j, ...] for arrays that broadcast together."""
    columns = [b.cast(index, ir.DataType.INT64) for index in indices]
    if len(columns) == 1:
        return b.op("Gather", x, columns[0], axis=0)
    shape = np.broadcast_shapes(*(b.sizes_of(column) for column in columns))
    spread = [
        b.op("Expand", column, b.ints(list(shape)), part="expand")
        for column in columns
    ]  # fmt: skip
    last = [b.op("Unsqueeze", column, b.ints([-1]), part="unsqueeze") for column in spread]
    return b.op("GatherND", x, b.op("Concat", *last, part="indices", axis=-1))


# --- Images --------------------------------------------------------------------------------------


def grid_sample(
    b: Builder,
    x: ir.Value,
    grid: ir.Value,
    *,
    method: str = "bilinear",
    layout: str = "NCHW",
    padding_mode: str = "zeros",
    align_corners: bool = True,
) -> ir.Value:
    """`x` at the points of `grid` [N, 2, H, W], -1 to 1 from edge to edge."""
    if layout != "NCHW" or b.rank(x) != 4:
        raise Unsupported(f"layout {layout!r} where 'NCHW' is known")
    modes = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
    if method not in modes or padding_mode not in ("zeros", "border", "reflection"):
        raise Unsupported(f"method {method!r} with padding {padding_mode!r}")
    return b.op(
        "GridSample",
        x,
        b.transpose(grid, [0, 2, 3, 1]),
        mode=modes[method],
        padding_mode=padding_mode,
        align_corners=int(align_corners),
    )


def affine_grid(
    b: Builder, theta: ir.Value, size: Sequence[int], *, align_corners: bool = True
) -> ir.Value:
    """The grid [N, 2, H, W] of an affine map [N, 2, 3], for `grid_sample`."""
    height, width = _static_shape(size)
    shape = b.ints([b.sizes_of(theta)[0], 1, height, width])
    grid = b.op("AffineGrid", theta, shape, part="grid", align_corners=int(align_corners))
    return b.transpose(grid, [0, 3, 1, 2])


OPERATORS: dict[str, Operator] = {
    "bitwise_and": _bitwise("BitwiseAnd"),
    "bitwise_not": bitwise_not,
    "bitwise_or": _bitwise("BitwiseOr"),
    "bitwise_xor": _bitwise("BitwiseXor"),
    "builtin.stop_lift_params": identity,
    "dequantize": dequantize,
    "dynamic_strided_slice": dynamic_strided_slice,
    "einsum": einsum,
    "ewise_fma": ewise_fma,
    "eye": eye,
    "gather_nd": gather_nd,
    "hint_on_device": identity,
    "image.affine_grid": affine_grid,
    "image.grid_sample": grid_sample,
    "index_tensor": index_tensor,
    "log_add_exp": log_add_exp,
    "meshgrid": meshgrid,
    "nn.attention": attention,
    "nn.attention_bias": attention,
    "nn.rms_norm": rms_norm,
    "nn.softplus": softplus,
    "outer": outer,
    "quantize": quantize,
    "round": round_even,
    "shape_of": shape_of,
    "shape_to_tensor": shape_to_tensor,
    "size": size,
    "scatter_elements": _scatter("ScatterElements"),
    "scatter_nd": _scatter("ScatterND"),
    "slice_scatter": slice_scatter,
    "strided_slice": strided_slice,
    "tensor_to_shape": tensor_to_shape,
    "tile": tile,
    "wrap_param": identity,
}
