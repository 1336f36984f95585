"""Operators that join, cut and select elements."""

import itertools
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported
from xbarc.frontends.tvm_ops.shape import Ints, listed, numbers


def concatenate(b: Builder, parts: Any, axis: int | None = 0) -> ir.Value:
    """One after the other along an axis; flattened without one."""
    values = list(parts) if isinstance(parts, tuple) else [parts]
    if axis is None:
        values, axis = [b.reshape(value, [-1]) for value in values], 0
    return b.op("Concat", *values, axis=b.axis(values[0], axis))


def stack(b: Builder, parts: Any, axis: int = 0) -> ir.Value:
    """One beside the other along a new axis."""
    values = list(parts) if isinstance(parts, tuple) else [parts]
    rank = b.rank(values[0])
    if not -rank - 1 <= axis <= rank:
        raise Unsupported(f"axis {axis} of a value of {rank + 1} dimensions")
    axis %= rank + 1
    rows = [b.op("Unsqueeze", value, b.ints([axis]), part="row") for value in values]
    return b.op("Concat", *rows, axis=axis)


def split(b: Builder, x: ir.Value, indices_or_sections: Any, axis: int = 0) -> tuple[ir.Value, ...]:
    """Cut into equal parts (a number), or at these places (a list)."""
    axis = b.axis(x, axis)
    size = b.sizes_of(x, [axis])[0]
    if isinstance(indices_or_sections, int):
        sections = indices_or_sections
        if sections < 1 or size % sections:
            raise Unsupported(f"{size} in {sections} equal parts")
        parts = [size // sections] * sections
    else:
        places = [0, *(min(int(i), size) for i in indices_or_sections), size]
        parts = [end - start for start, end in itertools.pairwise(places)]
        if any(part < 0 for part in parts):
            raise Unsupported(f"places {tuple(indices_or_sections)} aren't in order")
    return b.ops("Split", x, b.ints(parts), outputs=len(parts), axis=axis)


def strided_slice(
    b: Builder,
    x: ir.Value,
    *,
    begin: Any = None,
    end: Any = None,
    strides: Any = None,
    axes: Any = None,
    slice_mode: str = "end",
) -> ir.Value:
    """Python's slice of each axis; `end` holds lengths where `slice_mode` is `size` (-1: the rest).

    A stride may be negative. Indices beyond an axis are clamped to it.
    """
    if begin is None or end is None:
        raise Unsupported("lacks 'begin' or 'end'")
    start, stop = numbers(b, begin, "begin"), numbers(b, end, "end")
    over = list(range(len(start))) if axes is None or axes == () else numbers(b, axes, "axes")
    step = [] if strides is None else numbers(b, strides, "strides")
    if not all(isinstance(i, int) for i in (*start, *stop, *over, *step)):
        raise Unsupported("needs constant bounds")
    at = [b.axis(x, int(i or 0)) for i in over]
    stop += [np.iinfo(np.int64).max] * (len(at) - len(stop))
    step = ([1] * len(at)) if slice_mode == "size" else step + [1] * (len(at) - len(step))
    if slice_mode == "size":
        stop = [
            np.iinfo(np.int64).max
            if int(length or 0) < 0
            else _from_front(b, x, axis, int(first or 0)) + int(length or 0)
            for axis, first, length in zip(at, start, stop, strict=False)
        ]
    elif slice_mode != "end":
        raise Unsupported(f"slice_mode {slice_mode!r}")
    if not len(start) == len(stop) == len(at) == len(step):
        raise Unsupported("begin, end and strides of different lengths")
    bounds = [b.ints([int(i or 0) for i in values]) for values in (start, stop, at, step)]
    return b.op("Slice", x, *bounds)


def _from_front(b: Builder, x: ir.Value, axis: int, index: int) -> int:
    return index if index >= 0 else index + b.sizes_of(x, [axis])[0]


def slice_like(b: Builder, x: ir.Value, like: ir.Value, *, axes: Ints | None = None) -> ir.Value:
    """The beginning of each axis, as long as in `like`."""
    at = [b.axis(x, a) for a in listed(axes)] or list(range(min(b.rank(x), b.rank(like))))
    ends = b.sizes_of(like, at)
    return b.op("Slice", x, b.ints([0] * len(at)), b.ints(ends), b.ints(at))


def take(
    b: Builder,
    x: ir.Value,
    indices: Any,
    axis: int | None = None,
    *,
    batch_dims: int = 0,
    mode: str = "clip",
) -> ir.Value:
    """Entries by index, of the flat array without an axis.

    Indices beyond it are clamped by `clip` (negative ones to 0), count modulo by `wrap`.
    """
    if axis is None:
        x, axis = b.reshape(x, [-1]), 0
    axis = b.axis(x, axis)
    if batch_dims:
        raise Unsupported(f"batch_dims {batch_dims} isn't imported")
    places = indices if isinstance(indices, ir.Value) else b.constant(np.asarray(indices, np.int64))
    if mode in ("clip", "wrap"):
        size = b.sizes_of(x, [axis])[0]
        known = b.static(places)
        if known is not None:
            array = known.astype(np.int64)
            array = array % size if mode == "wrap" else array.clip(0, size - 1)
            places = b.constant(array, str(places.name))
        else:
            places = b.cast(places, ir.DataType.INT64)
            if mode == "wrap":
                places = b.op("Mod", places, b.like(size, places), part="places")
            else:
                last = b.like(size - 1, places)
                places = b.op("Clip", places, b.like(0, places), last, part="places")
    elif mode != "fast":
        raise Unsupported(f"mode {mode!r}")
    if b.dtype(places).name not in ("INT32", "INT64"):
        places = b.cast(places, ir.DataType.INT64)
    return b.op("Gather", x, places, axis=axis)


def gather(b: Builder, x: ir.Value, indices: ir.Value, *, axis: int = 0) -> ir.Value:
    """For each index the entry along `axis` at its own place on the others."""
    return b.op("GatherElements", x, indices, axis=b.axis(x, axis))


def gather_nd(
    b: Builder,
    x: ir.Value,
    indices: ir.Value,
    *,
    batch_dims: int = 0,
    index_rank: int | None = None,
) -> ir.Value:
    """Relay's: the index tuples stand along the first axis of `indices`; ONNX's along the last."""
    rank = b.rank(indices)
    places = b.transpose(indices, [*range(1, rank), 0])
    places = b.cast(places, ir.DataType.INT64)
    return b.op("GatherND", x, places, batch_dims=batch_dims)


def reverse(b: Builder, x: ir.Value, axis: int = 0) -> ir.Value:
    """An axis backwards."""
    lowest = np.iinfo(np.int64).min
    at = b.axis(x, axis)
    return b.op("Slice", x, b.ints([-1]), b.ints([lowest]), b.ints([at]), b.ints([-1]))


OPERATORS: dict[str, Operator] = {
    "concat": concatenate,
    "concatenate": concatenate,
    "flip": reverse,
    "gather": gather,
    "gather_elements": gather,
    "gather_nd": gather_nd,
    "reverse": reverse,
    "slice_like": slice_like,
    "split": split,
    "stack": stack,
    "strided_slice": strided_slice,
    "take": take,
}
