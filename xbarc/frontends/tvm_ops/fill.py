"""Operators that repeat, pad and fill."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.shape import numbers

MOST = 1 << 24
"""Entries of an axis that is counted out."""


def tile(b: Builder, x: ir.Value, reps: Any) -> ir.Value:
    """numpy's tile: missing axes of either are in front."""
    counts = [int(n or 0) for n in numbers(b, reps, "reps")]
    rank = b.rank(x)
    if len(counts) > rank:
        x = b.op("Unsqueeze", x, b.ints(list(range(len(counts) - rank))), part="rank")
    return b.op("Tile", x, b.ints([1] * (b.rank(x) - len(counts)) + counts))


def repeat(b: Builder, x: ir.Value, repeats: int, axis: int | None = None) -> ir.Value:
    """Each entry of an axis several times in a row."""
    if axis is None:
        x, axis = b.reshape(x, [-1]), 0
    axis = b.axis(x, axis)
    size = b.sizes_of(x, [axis])[0]
    if not 0 < repeats * size <= MOST:
        raise Unsupported(f"{size} entries, {repeats} times each")
    return b.op("Gather", x, b.ints(np.repeat(np.arange(size), repeats).tolist()), axis=axis)


PAD_MODES = {
    "circular": "wrap",
    "constant": "constant",
    "edge": "edge",
    "reflect": "reflect",
    "replicate": "edge",
}


def pad(
    b: Builder,
    x: ir.Value,
    pad_value: Any = 0.0,
    *,
    pad_width: Sequence[Any],
    pad_mode: str = "constant",
) -> ir.Value:
    """Rows around: `pad_width` is before and after for each axis, in pairs or in one list."""
    flat = [int(n) for pair in pad_width for n in ([pair] if isinstance(pair, int) else pair)]
    if len(flat) != 2 * b.rank(x):
        raise Unsupported(f"pad_width {tuple(flat)} for {b.rank(x)} dimensions")
    if pad_mode not in PAD_MODES:
        raise Unsupported(f"pad_mode {pad_mode!r}")
    if not any(flat):
        return x
    value = None
    if pad_mode == "constant":
        number = b.static(pad_value)
        if number is None or number.size != 1:
            raise Unsupported("needs a constant pad_value")
        value = b.like(number.reshape(()), x)
    amounts = b.ints([*flat[::2], *flat[1::2]])
    return b.op("Pad", x, amounts, value, mode=PAD_MODES[pad_mode])


def mirror_pad(
    b: Builder, x: ir.Value, *, mode: str = "SYMMETRIC", pad_width: Sequence[Any]
) -> ir.Value:
    """Rows around, mirrored without the edge itself."""
    if mode != "REFLECT":
        raise Unsupported(f"mode {mode!r}: ONNX has REFLECT only")
    return pad(b, x, pad_width=pad_width, pad_mode="reflect")


def _filled(number: int) -> Operator:
    def filled(b: Builder, shape: Any, dtype: str = "float32") -> ir.Value:
        return _full(b, shape, number, dtype or "float32")

    return filled


def _full(b: Builder, shape: Any, number: Any, dtype: str) -> ir.Value:
    sizes = numbers(b, shape, "shape")
    scalar = np.asarray(number).astype(onnx_dtype(dtype).numpy())
    if not all(isinstance(size, int) for size in sizes):
        return b.op("Expand", b.constant(scalar), b.shape(sizes))
    return b.constant(np.broadcast_to(scalar, [int(size or 0) for size in sizes]))


def full(
    b: Builder, first: Any, second: Any = None, *, shape: Any = None, dtype: str = ""
) -> ir.Value:
    """A number everywhere: Relay gives the number first, Relax the shape."""
    number, sizes = (first, shape) if second is None else (second, first)
    array = b.static(number)
    if array is None or array.size != 1 or sizes is None:
        raise Unsupported("needs a constant number and shape")
    name = dtype or str(array.dtype)
    return _full(b, sizes, array.reshape(()), name)


def _filled_like(number: int) -> Operator:
    def filled_like(b: Builder, x: ir.Value, dtype: str = "") -> ir.Value:
        return full_like(b, x, number, dtype)

    return filled_like


def full_like(b: Builder, x: ir.Value, number: Any, dtype: str = "") -> ir.Value:
    """A number everywhere, in the shape of `x`."""
    array = b.static(number)
    if array is None or array.size != 1:
        raise Unsupported("needs a constant number")
    kind = onnx_dtype(dtype) if dtype else b.dtype(x)
    scalar = array.reshape(()).astype(kind.numpy())
    if all(isinstance(size, int) for size in b.dims(x)):
        return b.constant(np.broadcast_to(scalar, b.sizes_of(x)))
    return b.op("Expand", b.constant(scalar), b.op("Shape", x, part="shape"))


def arange(
    b: Builder,
    first: Any,
    second: Any = None,
    third: Any = None,
    *,
    start: Any = None,
    stop: Any = None,
    step: Any = None,
    dtype: str = "float32",
) -> ir.Value:
    """Numbers at equal distance: start, stop (excluded) and step, or stop alone.

    Relay prints them a second time, as the attributes `start`, `stop` and `step`.
    """
    bounds = [b.static(number) for number in (first, second, third) if number is not None]
    if any(bound is None or bound.size != 1 for bound in bounds):
        raise Unsupported("needs constant bounds")
    plain = [bound.reshape(()).item() for bound in bounds if bound is not None]
    if len(plain) == 3 and not plain[2]:
        raise Unsupported("needs a step other than 0")
    low, high, stride = (0, plain[0], 1) if len(plain) == 1 else (*plain, 1)[:3]
    if not (high - low) / stride <= MOST:
        raise Unsupported(f"{low} to {high} by {stride} is absurdly long")
    return b.constant(np.arange(low, high, stride).astype(onnx_dtype(dtype).numpy()))


def one_hot(
    b: Builder,
    indices: ir.Value,
    on_value: Any = 1.0,
    off_value: Any = 0.0,
    *,
    depth: int,
    axis: int = -1,
    dtype: str = "float32",
) -> ir.Value:
    """A new axis of `depth` with one entry on."""
    numbers_ = [b.static(off_value), b.static(on_value)]
    if any(number is None or number.size != 1 for number in numbers_):
        raise Unsupported("needs constant values")
    plain = [number.reshape(()).item() for number in numbers_ if number is not None]
    kind = np.int64 if all(isinstance(number, int) for number in plain) else np.float32
    places, values = b.cast(indices, ir.DataType.INT64), b.constant(np.array(plain, kind))
    # onnxruntime has it for few types.
    found = b.op("OneHot", places, b.ints([depth]), values, axis=axis)
    return b.cast(found, onnx_dtype(dtype or "float32"))


def _triangle(upper: int) -> Operator:
    def triangle(b: Builder, x: ir.Value, k: Any = 0) -> ir.Value:
        diagonal = b.static(0 if k is None else k)
        if diagonal is None or diagonal.size != 1:
            raise Unsupported("needs a constant diagonal")
        return b.op("Trilu", x, b.ints(int(diagonal.reshape(()))), upper=upper)

    return triangle


def trilu(b: Builder, x: ir.Value, k: Any = 0, *, upper: bool = True) -> ir.Value:
    """One triangle of each matrix, from diagonal `k` on."""
    return _triangle(int(upper))(b, x, k)


OPERATORS: dict[str, Operator] = {
    "arange": arange,
    "full": full,
    "full_like": full_like,
    "nn.mirror_pad": mirror_pad,
    "nn.pad": pad,
    "one_hot": one_hot,
    "ones": _filled(1),
    "ones_like": _filled_like(1),
    "repeat": repeat,
    "tile": tile,
    "tril": _triangle(0),
    "trilu": trilu,
    "triu": _triangle(1),
    "zeros": _filled(0),
    "zeros_like": _filled_like(0),
}
