"""Operators that move, select, repeat and fill elements."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Dim, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.layouts import data_from_onnx, data_to_onnx

Ints = int | Sequence[int]

MOST = 1 << 24
"""Entries of an axis that is counted out."""


def _list(values: Ints | None) -> list[int]:
    return [] if values is None else [values] if isinstance(values, int) else list(values)


def numbers(b: Builder, given: Any, what: str) -> list[Dim]:
    """A shape, axes or bounds as a list: given as plain numbers, symbols or a constant."""
    if isinstance(given, ir.Value):
        array = b.static(given)
        if array is None:
            raise Unsupported(f"needs a constant {what}")
        return [int(number) for number in array.reshape(-1)]
    return [given] if isinstance(given, int | str) else list(given)


# --- Shapes --------------------------------------------------------------------------------------


def reshape(
    b: Builder, x: ir.Value, newshape: Any, *, allowzero: bool = False, reverse: bool = False
) -> ir.Value:
    """The same elements in another shape.

    Besides sizes (and symbols' names) there are TVM's codes: 0 the input's size at this place, -1
    what is left, -2 all further sizes of the input, -3 the product of two of them, -4 one of them
    split into the two that follow.
    """
    wanted = numbers(b, newshape, "shape")
    if allowzero and 0 in wanted:
        raise Unsupported("empty tensors aren't imported")
    if reverse or any(isinstance(size, int) and size < -1 for size in wanted):
        wanted = _expanded(b.dims(x), wanted, reverse=reverse)
    return b.reshape(x, _plain(b.dims(x) if x.shape is not None else (), wanted))


def _expanded(source: Sequence[Dim], wanted: Sequence[Dim], *, reverse: bool) -> list[Dim]:
    """The codes below -1 as sizes; each open one counts as -1."""
    given = list(reversed(source)) if reverse else list(source)
    codes = iter(reversed(wanted) if reverse else wanted)
    result: list[Dim] = []
    at = 0
    try:
        for code in codes:
            if code == -2:
                result += given[at:]
                at = len(given)
            elif code == -3:
                left, right = given[at], given[at + 1]
                known = isinstance(left, int) and isinstance(right, int)
                result.append(left * right if known else -1)  # type: ignore[operator]
                at += 2
            elif code == -4:
                whole, pair = given[at], [next(codes), next(codes)]
                for i in (0, 1):
                    other = pair[1 - i]
                    if pair[i] == -1 and isinstance(whole, int) and isinstance(other, int):
                        pair[i] = whole // other
                result += pair
                at += 1
            else:
                result.append(given[at] if code == 0 else code)
                at += 1
    except (IndexError, StopIteration, ZeroDivisionError):
        raise Unsupported(f"shape {tuple(wanted)} doesn't fit {tuple(source)}") from None
    return list(reversed(result)) if reverse else result


def _plain(source: Sequence[Dim], wanted: Sequence[Dim]) -> list[int]:
    """ONNX's own codes: 0 for a symbol that stands at the same place, -1 for one that doesn't."""
    sizes = []
    for index, size in enumerate(wanted):
        if isinstance(size, int):
            sizes.append(size)
        elif size is not None and index < len(source) and source[index] == size:
            sizes.append(0)
        else:
            sizes.append(-1)
    if sizes.count(-1) > 1:
        raise Unsupported(f"shape {tuple(wanted)}: more than one size is open")
    return sizes


def reshape_like(b: Builder, x: ir.Value, like: ir.Value) -> ir.Value:
    """The shape of `like`."""
    return b.reshape(x, _plain(b.dims(x), b.dims(like)))


def batch_flatten(b: Builder, x: ir.Value) -> ir.Value:
    """All but the first axis as one."""
    return b.op("Flatten", x, axis=1)


def flatten(b: Builder, x: ir.Value) -> ir.Value:
    """One axis."""
    return b.reshape(x, [-1])


def transpose(b: Builder, x: ir.Value, axes: Ints | None = None) -> ir.Value:
    """The axes in another order; reversed by default."""
    order = [b.axis(x, a) for a in _list(axes)] or list(range(b.rank(x)))[::-1]
    if sorted(order) != list(range(b.rank(x))):
        raise Unsupported(f"axes {tuple(order)} of {b.rank(x)}")
    return b.transpose(x, order)


def layout_transform(b: Builder, x: ir.Value, *, src_layout: str, dst_layout: str) -> ir.Value:
    """The axes from one layout's order to another's."""
    if sorted(src_layout) != sorted(dst_layout) or not (src_layout + dst_layout).isupper():
        raise Unsupported(f"layout {src_layout!r} to {dst_layout!r}: blocks aren't imported")
    return b.transpose(x, [src_layout.index(letter) for letter in dst_layout])


def squeeze(b: Builder, x: ir.Value, axis: Ints | None = None) -> ir.Value:
    """Without these axes of size 1; without all of them by default."""
    axes = [b.axis(x, a) for a in _list(axis)]
    if axis is None:
        axes = [i for i, size in enumerate(b.dims(x)) if size == 1]
    return b.op("Squeeze", x, b.ints(axes)) if axes else x


def expand_dims(b: Builder, x: ir.Value, axis: Ints, *, num_newaxis: int = 1) -> ir.Value:
    """With new axes of size 1: Relay's `num_newaxis` from `axis` on, Relax's list of axes."""
    rank = b.rank(x)
    if isinstance(axis, int):
        if not -rank - 1 <= axis <= rank:
            raise Unsupported(f"axis {axis} of a value of {rank} dimensions")
        first = axis if axis >= 0 else rank + 1 + axis
        axes = list(range(first, first + num_newaxis))
    else:
        axes = list(axis)
    return b.op("Unsqueeze", x, b.ints(axes)) if axes else x


def broadcast_to(b: Builder, x: ir.Value, shape: Any, **settings: Any) -> ir.Value:
    """Axes of size 1 repeated."""
    wanted = numbers(b, shape, "shape")
    given = b.dims(x)
    source = [None] * (len(wanted) - len(given)) + list(given)
    # 1 leaves a size as it is, which a symbol needs that the input has already.
    sizes = [1 if size == has else size for size, has in zip(wanted, source, strict=False)]
    return b.op("Expand", x, b.shape(sizes))


def broadcast_to_like(b: Builder, x: ir.Value, like: ir.Value) -> ir.Value:
    """The shape of `like`."""
    return b.op("Expand", x, b.op("Shape", like, part="shape"))


# --- Joining and cutting -------------------------------------------------------------------------


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
    at = [b.axis(x, a) for a in _list(axes)] or list(range(min(b.rank(x), b.rank(like))))
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


# --- Repeating and filling -----------------------------------------------------------------------


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


def shape_of(b: Builder, x: ir.Value, *, dtype: str = "int32") -> ir.Value:
    """The shape as a tensor."""
    kind = onnx_dtype(dtype or "int32")
    if all(isinstance(size, int) for size in b.dims(x)):
        return b.constant(np.array(b.sizes_of(x), kind.numpy()))
    return b.cast(b.op("Shape", x), kind)


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


# --- Blocks --------------------------------------------------------------------------------------


def space_to_depth(
    b: Builder, x: ir.Value, *, block_size: int = 1, layout: str = "NCHW", mode: str = ""
) -> ir.Value:
    """Blocks of pixels as channels."""
    y = b.op("SpaceToDepth", data_to_onnx(b, x, layout, 2), blocksize=block_size)
    return data_from_onnx(b, y, layout, 2)


def depth_to_space(
    b: Builder, x: ir.Value, *, block_size: int = 1, layout: str = "NCHW", mode: str = "DCR"
) -> ir.Value:
    """Channels as blocks of pixels."""
    y = b.op("DepthToSpace", data_to_onnx(b, x, layout, 2), blocksize=block_size, mode=mode)
    return data_from_onnx(b, y, layout, 2)


def pixel_shuffle(b: Builder, x: ir.Value, upscale_factor: int) -> ir.Value:
    """torch's order of `depth_to_space`."""
    return b.op("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


OPERATORS: dict[str, Operator] = {
    "arange": arange,
    "broadcast_to": broadcast_to,
    "broadcast_to_like": broadcast_to_like,
    "concat": concatenate,
    "concatenate": concatenate,
    "expand_dims": expand_dims,
    "flatten": flatten,
    "flip": reverse,
    "full": full,
    "full_like": full_like,
    "gather": gather,
    "gather_elements": gather,
    "gather_nd": gather_nd,
    "layout_transform": layout_transform,
    "nn.batch_flatten": batch_flatten,
    "nn.depth_to_space": depth_to_space,
    "nn.mirror_pad": mirror_pad,
    "nn.pad": pad,
    "nn.pixel_shuffle": pixel_shuffle,
    "nn.space_to_depth": space_to_depth,
    "one_hot": one_hot,
    "ones": _filled(1),
    "ones_like": _filled_like(1),
    "permute_dims": transpose,
    "repeat": repeat,
    "reshape": reshape,
    "reshape_like": reshape_like,
    "reverse": reverse,
    "shape_of": shape_of,
    "slice_like": slice_like,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "strided_slice": strided_slice,
    "take": take,
    "tile": tile,
    "transpose": transpose,
    "tril": _triangle(0),
    "trilu": trilu,
    "triu": _triangle(1),
    "zeros": _filled(0),
    "zeros_like": _filled_like(0),
}
