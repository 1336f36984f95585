"""Operators that move entries and ask for shapes. Shapes are integer tensors on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.train.operators.operator import Operator, Unsupported

Given = Tensor | Sequence[int] | None


def ints(values: Given) -> list[int]:
    """Integers of a tensor or an attribute."""
    found = values.reshape(-1).tolist() if isinstance(values, Tensor) else values or ()
    return [int(v) for v in found]


def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """x in another shape; 0 keeps an axis, -1 is what is left."""
    wanted = ints(shape)
    if not allowzero:
        wanted = [x.shape[i] if s == 0 else s for i, s in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """x as a matrix: the axes before `axis`, and those from it on."""
    cut = axis + x.ndim if axis < 0 else axis
    return x.reshape(x.shape[:cut].numel(), -1)


def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """The axes in another order, reversed without one."""
    return x.permute(list(perm) if perm is not None else list(range(x.ndim))[::-1])


def squeeze(x: Tensor, given: Tensor | None = None, *, axes: Given = None) -> Tensor:
    """x without axes of size 1."""
    wanted = axes if given is None else given
    return x.squeeze() if wanted is None else x.squeeze(tuple(ints(wanted)))


def unsqueeze(x: Tensor, given: Tensor | None = None, *, axes: Given = None) -> Tensor:
    """x with new axes of size 1."""
    wanted = ints(axes if given is None else given)
    rank = x.ndim + len(wanted)
    for axis in sorted(a % rank for a in wanted):
        x = x.unsqueeze(axis)
    return x


def concat(*values: Tensor, axis: int) -> Tensor:
    """The inputs one behind the other."""
    return torch.cat(values, dim=axis)


def split(
    x: Tensor,
    sizes: Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    split: Sequence[int] | None = None,
    outputs: int,
) -> tuple[Tensor, ...]:
    """x cut along an axis: as said, or in equal parts, the last of which may be smaller."""
    wanted = ints(split if sizes is None else sizes)
    if wanted:
        return torch.split(x, wanted, dim=axis)
    return torch.split(x, -(-x.shape[axis] // (num_outputs or outputs)), dim=axis)


def slice_(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Parts of axes; a negative step runs backwards."""
    first, last = ints(starts), ints(ends)
    along = ints(axes) if axes is not None else list(range(len(first)))
    apart = ints(steps) if steps is not None else [1] * len(first)
    for begin, end, axis, step in zip(first, last, along, apart, strict=True):
        chosen = range(x.shape[axis])[slice(begin, _end(end, x.shape[axis], step), step)]
        if step > 0:
            where: list[Any] = [slice(None)] * x.ndim
            where[axis] = slice(chosen.start, chosen.stop, step)
            x = x[tuple(where)]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.long, device=x.device))
    return x


def _end(end: int, size: int, step: int) -> int | None:
    """Where Python's slice ends: running backwards, what is before the first entry is None."""
    return None if step < 0 and end < -size else end


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """The entries of these indices along an axis."""
    along = axis % x.ndim
    where = indices.to(x.device, torch.long)
    where = torch.where(where < 0, where + x.shape[along], where)
    found = x.index_select(along, where.reshape(-1))
    return found.reshape(*x.shape[:along], *where.shape, *x.shape[along + 1 :])


def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """One entry for each index."""
    where = indices.to(x.device, torch.long)
    return x.gather(axis, torch.where(where < 0, where + x.shape[axis], where))


def expand(x: Tensor, shape: Tensor) -> Tensor:
    """x broadcast together with a shape."""
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(ints(shape))))


def tile(x: Tensor, repeats: Tensor) -> Tensor:
    """x many times along each axis."""
    return x.repeat(ints(repeats))


def pad(
    x: Tensor,
    given: Tensor | None = None,
    constant: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
    pads: Sequence[int] | None = None,
    value: float = 0.0,
) -> Tensor:
    """x with more at its ends, or less where pads are negative."""
    sides = ints(pads if given is None else given)
    along = [a % x.ndim for a in ints(axes)] if axes is not None else list(range(x.ndim))
    begins, ends = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(along):
        begins[axis], ends[axis] = sides[i], sides[i + len(along)]
    if mode == "constant":
        fill = value if constant is None else float(constant)
        flat = [p for pair in zip(begins[::-1], ends[::-1], strict=True) for p in pair]
        return F.pad(x, flat, value=fill)
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin or end:
            where = _mirrored(torch.arange(-begin, x.shape[axis] + end), x.shape[axis], mode)
            x = x.index_select(axis, where.to(x.device))
    return x


def _mirrored(places: Tensor, size: int, mode: str) -> Tensor:
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode != "reflect":
        raise Unsupported(f"mode {mode!r}")
    period = max(2 * (size - 1), 1)
    folded = places % period
    return torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(places)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Channels to blocks of pixels."""
    n, c, h, w = x.shape
    b = blocksize
    if mode == "CRD":
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of pixels to channels."""
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    y = x.reshape(n, c, h // b, b, w // b, b).permute(order)
    return y.reshape(n, c * b**2, h // b, w // b)


def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The shape of x, or a part of it."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def size_of(x: Tensor) -> Tensor:
    """The number of entries."""
    return torch.tensor(x.numel())


def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """One value everywhere."""
    fill = torch.zeros(1) if value is None else value
    return fill.reshape(()).expand(ints(shape)).clone()


def range_(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from `start` on, `delta` apart, before `limit`."""
    found = torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)
    return found.to(start.device)


def trilu(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """What is above the diagonal, or below it; the rest 0."""
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


OPERATORS: dict[str, Operator] = {
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Range": range_,
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": size_of,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
}
