"""Streams of input vectors, gathered block by block when they are asked for.

A stream isn't materialised: a scatter draws blocks of vectors through its mvm and gather, so that
memory is bounded by the batch, never by the whole im2col matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.ir.dialect import WindowAttr
from xbarc.simulator import windows
from xbarc.simulator.engine import Programmed
from xbarc.support.data import Array


@dataclass(frozen=True)
class Stream:
    """Vectors not gathered yet: `block(start, stop)` gives [K, stop - start].

    `windows`: a stream of other windows over the same tensor, where there is one.
    """

    count: int
    block: Callable[[int, int], Array]
    windows: "Callable[[WindowAttr], Stream] | None" = None


@dataclass(frozen=True)
class Product:
    """A stream that meets programmed arrays; `first`: the number of its first vector in the run.

    `per_output`: the same product with one vector per output, where patches of outputs can be
    split so.
    """

    stream: Stream
    matrix: Programmed
    first: int = 0
    per_output: "Product | None" = None

    @property
    def count(self) -> int:
        """Vectors."""
        return self.stream.count

    def sums(self, start: int, stop: int, dtype: npt.DTypeLike) -> Array:
        """The results [N, stop - start] of vectors `start` to `stop`."""
        out = np.empty((self.matrix.shape[1], stop - start), dtype=dtype)
        self.matrix.multiply(self.stream.block(start, stop), out, self.first + start)
        return out

    def sum_dtype(self, together: int = 1) -> npt.DTypeLike:
        """What holds `together` results added up."""
        if not self.matrix.integer:
            return np.float64
        return np.int32 if self.matrix.bound * together < 1 << 31 else np.int64


def along_axis(x: Array, axis: int) -> Stream:
    """The vectors along one axis of `x`, in the order of the others."""
    rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    return Stream(rows.shape[1], lambda i, j: np.ascontiguousarray(rows[:, i:j]))


def over_windows(x: Array, window: WindowAttr, fill: int) -> Stream:
    """A vector a window position on `x` [N, C, spatial...], contiguous."""
    place = geometry(window, x.shape[2:])
    missing = 3 - window.rank
    tensor = x.reshape(*x.shape[:2], *[1] * missing, *x.shape[2:])

    def block(start: int, stop: int) -> Array:
        out = np.empty((x.shape[1] * window.size, stop - start), dtype=x.dtype)
        windows.gather_windows(tensor, *place, x.dtype.type(fill), start, out)
        return out

    count = len(x) * int(place[-1].prod())
    return Stream(count, block, lambda other: over_windows(x, other, fill))


def geometry(window: WindowAttr, spatial: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Kernel, strides, pads (begins), dilations and positions of a window, over three axes."""
    missing = 3 - window.rank
    kernel, strides, pads, dilations = window.lists()
    return [
        np.array([1] * missing + kernel),
        np.array([1] * missing + strides),
        np.array([0] * missing + pads[: window.rank]),
        np.array([1] * missing + dilations),
        np.array([1] * missing + window.output_size(spatial)),
    ]


def spread(x: Array, apart: Sequence[int]) -> Array:
    """`x` [N, C, spatial...], contiguous, its entries `apart` by that many with zeros between."""
    if all(step == 1 for step in apart):
        return np.ascontiguousarray(x)
    sizes = [(s - 1) * step + 1 for s, step in zip(x.shape[2:], apart, strict=True)]
    wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
    places: list[Any] = [slice(None, None, step) for step in apart]
    wide[(..., *places)] = x
    return wide


def product(stream: Stream, matrix: Programmed, first: int) -> Product:
    """What a stream gives at programmed arrays; patches as single outputs where they can be."""
    whole = Product(stream, matrix, first)
    wanted = matrix.per_output
    if wanted is None or stream.windows is None:
        return whole
    return replace(whole, per_output=Product(stream.windows(wanted.window), wanted.matrix, first))
