"""Operators that give the same elements another shape or order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Dim, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.layouts import data_from_onnx, data_to_onnx

Ints = int | Sequence[int]


def listed(values: Ints | None) -> list[int]:
    """One number, several or none as a list."""
    return [] if values is None else [values] if isinstance(values, int) else list(values)


def numbers(b: Builder, given: Any, what: str) -> list[Dim]:
    """A shape, axes or bounds as a list: given as plain numbers, symbols or a constant."""
    if isinstance(given, ir.Value):
        array = b.static(given)
        if array is None:
            raise Unsupported(f"needs a constant {what}")
        return [int(number) for number in array.reshape(-1)]
    return [given] if isinstance(given, int | str) else list(given)


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
    order = [b.axis(x, a) for a in listed(axes)] or list(range(b.rank(x)))[::-1]
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
    axes = [b.axis(x, a) for a in listed(axis)]
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


def shape_of(b: Builder, x: ir.Value, *, dtype: str = "int32") -> ir.Value:
    """The shape as a tensor."""
    kind = onnx_dtype(dtype or "int32")
    if all(isinstance(size, int) for size in b.dims(x)):
        return b.constant(np.array(b.sizes_of(x), kind.numpy()))
    return b.cast(b.op("Shape", x), kind)


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
    "broadcast_to": broadcast_to,
    "broadcast_to_like": broadcast_to_like,
    "expand_dims": expand_dims,
    "flatten": flatten,
    "layout_transform": layout_transform,
    "nn.batch_flatten": batch_flatten,
    "nn.depth_to_space": depth_to_space,
    "nn.pixel_shuffle": pixel_shuffle,
    "nn.space_to_depth": space_to_depth,
    "permute_dims": transpose,
    "reshape": reshape,
    "reshape_like": reshape_like,
    "shape_of": shape_of,
    "squeeze": squeeze,
    "transpose": transpose,
}
