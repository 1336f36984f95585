"""Unrolled matrices (`xbarc.ir.dialect.unroll`) with ideal devices: one output position at a time.

An unrolled matrix holds a kernel many times. All other cells are off and add nothing to a column.
So the columns of one output position are a small matrix of the kernel's own weights. Positions
whose weights are cut into tiles alike share that matrix. The results are the same to the last bit,
without the zeros. With offset encoding a cell of weight 0 isn't off. Then the whole matrix is
simulated, unless no converter loses anything.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import Coverage
from xbarc.simulator.engine import Conversions, PerOutput
from xbarc.simulator.exact.matrix import Matrix
from xbarc.simulator.exact.segments import Segment
from xbarc.support.data import Array

Indices = npt.NDArray[np.int64]

BLOCK_BYTES = 1 << 21
"""What the gathered inputs of several positions may take together."""


@dataclass(frozen=True)
class _Position:
    """One output position: the rows that it reads, its weights' rows, and how tiles cut them.

    `reads` [K'] rows of the unrolled matrix; `weights` [Kg'] rows of the stored ones; `rows`,
    `columns`: the order in which segments count them.
    """

    index: int
    reads: Indices
    weights: Indices
    rows: Indices | None
    columns: Indices | None
    segments: tuple[Segment, ...]

    @property
    def key(self) -> Any:
        """Positions that share it share a matrix."""
        orders = (None if o is None else o.tobytes() for o in (self.rows, self.columns))
        return self.weights.tobytes(), *orders, self.segments


@dataclass(frozen=True)
class _SharedMatrix:
    """Output positions that share a matrix; `plain`: its rows are the stored weights', in order."""

    matrix: Matrix
    indices: list[int]
    reads: list[Indices]
    plain: bool


class Unrolled:
    """An unrolled matrix, ready to be multiplied; as `Matrix`, of which it has the attributes.

    Raises `ValueError` as `Matrix` does.
    """

    def __init__(self, q: Array, placed: Coverage, target: Target, **settings: Any):
        assert placed.taps is not None
        self.per_output: PerOutput | None = None
        self._patch = placed.taps.shape[1]
        self.shape = (placed.shape[0] * placed.groups, placed.shape[1])
        shared: dict[Any, list[_Position]] = {}
        for index in range(self._patch):
            position = _position(placed, index)
            if len(position.reads):
                shared.setdefault(position.key, []).append(position)
        self._matrices = [
            _SharedMatrix(
                Matrix(
                    q[positions[0].weights],
                    positions[0].segments,
                    target,
                    groups=placed.groups,
                    rows=positions[0].rows,
                    columns=positions[0].columns,
                    **settings,
                ),
                [p.index for p in positions],
                [p.reads for p in positions],
                np.array_equal(positions[0].weights, np.arange(len(q))),
            )
            for positions in shared.values()
        ]
        self.integer = self._matrices[0].matrix.integer
        self.bound = max(part.matrix.bound for part in self._matrices)
        shares = [part.matrix.collapsed for part in self._matrices]
        self.collapsed = float(np.average(shares, weights=[len(p.indices) for p in self._matrices]))

    @property
    def shared(self) -> Matrix | None:
        """The matrix of the kernel as it is stored, where all output positions share it."""
        (first, *others) = self._matrices
        plain = first.plain and len(first.indices) == self._patch
        return first.matrix if plain and not others else None

    @property
    def lossless(self) -> bool:
        """Every physical column is provably exact."""
        return all(part.matrix.lossless for part in self._matrices)

    @property
    def conversions(self) -> Conversions:
        """What the converters did so far."""
        found = [part.matrix.conversions for part in self._matrices]
        return Conversions(
            sum(c.count for c in found), sum(c.saturated for c in found), self.lossless
        )

    def multiply(self, x: Array, out: Array, first: int = 0) -> None:
        """Fill out [N, v] for the vectors x [K, v]; as `Matrix.multiply`."""
        vectors = x.shape[1]
        if sum(len(part.indices) for part in self._matrices) < self._patch:
            out.fill(0)  # positions that no weight reaches
        for part in self._matrices:
            rows, columns = part.matrix.shape
            together = max(1, BLOCK_BYTES // max(1, rows * vectors * x.itemsize))
            for begin in range(0, len(part.indices), together):
                indices = part.indices[begin : begin + together]
                lines = np.empty((rows, len(indices), vectors), x.dtype)
                for i, reads in enumerate(part.reads[begin : begin + together]):
                    np.take(x, reads, axis=0, out=lines[:, i], mode="clip")
                sums = np.empty((columns, len(indices) * vectors), out.dtype)
                part.matrix.multiply(lines.reshape(rows, -1), sums)
                found = sums.reshape(columns, len(indices), vectors)
                out.reshape(columns, self._patch, vectors)[:, indices] = found


def _position(placed: Coverage, index: int) -> _Position:
    """The weights of one output position, and how the tiles cut them."""
    assert placed.taps is not None
    window, patch = placed.taps.shape
    (kg, n), groups = placed.shape, placed.groups
    channels = kg // window
    kernel = placed.stored[0] // channels
    seen = np.flatnonzero(placed.taps[:, index] >= 0)
    channel = np.arange(channels)[:, None]
    weights = (channel * kernel + placed.taps[seen, index]).ravel()
    reads = (np.arange(groups)[:, None] * kg + (channel * window + seen).ravel()).ravel()
    where_row, where_column = _inverse(placed.rows, kg * groups), _inverse(placed.columns, n)
    row_place = where_row[reads]
    column_place = where_column[np.arange(n // patch) * patch + index]
    rows, columns = np.argsort(row_place), np.argsort(column_place)
    row_place, column_place = row_place[rows], column_place[columns]
    segments = _segments(placed.tiles, row_place, column_place)
    return _Position(index, reads, weights, _moved(rows), _moved(columns), segments)


def _moved(order: Indices) -> Indices | None:
    """`order`, or None where nothing moves."""
    return None if np.array_equal(order, np.arange(len(order))) else order


def _segments(tiles: Indices, rows: Indices, columns: Indices) -> tuple[Segment, ...]:
    """The part of each tile [T, 4] that holds some of the sorted places of rows and columns.

    Parts of the same rows whose columns follow each other are one: columns don't influence each
    other.
    """
    r0, r1 = np.searchsorted(rows, tiles[:, 0]), np.searchsorted(rows, tiles[:, 1])
    c0, c1 = np.searchsorted(columns, tiles[:, 2]), np.searchsorted(columns, tiles[:, 3])
    height = tiles[:, 1] - tiles[:, 0]
    parts = np.stack([r0, r1, height, c0, c1], axis=1)[(r0 < r1) & (c0 < c1)]
    if not len(parts):
        return ()  # all its weights are zero and stand on no tile
    parts = parts[np.lexsort(parts.T[::-1])]
    begins = np.ones(len(parts), bool)
    begins[1:] = (parts[1:, :3] != parts[:-1, :3]).any(axis=1) | (parts[1:, 3] != parts[:-1, 4])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(parts)) - 1
    bounds = np.column_stack([parts[first][:, [0, 1, 3]], parts[last, 4], parts[first, 2]])
    return tuple(Segment(*values) for values in bounds.tolist())


def _inverse(order: Indices | None, size: int) -> Indices:
    """Where each of `size` rows or columns stands in `order`; those that don't, nowhere (-1)."""
    if order is None:
        return np.arange(size)
    places = np.full(size, -1, np.int64)
    places[order] = np.arange(len(order))
    return places


def materialised(q: Array, placed: Coverage) -> Array:
    """The unrolled weights themselves, [Kg, N] of the unrolled matrix."""
    assert placed.taps is not None
    (kg, n), (window, patch) = placed.shape, placed.taps.shape
    kernel = placed.stored[0] * window // kg
    by_kernel = q.reshape(kg // window, kernel, n // patch)
    u, p = np.nonzero(placed.taps >= 0)
    result = np.zeros((kg // window, window, n // patch, patch), q.dtype)
    result[:, u, :, p] = by_kernel[:, placed.taps[u, p]].swapaxes(0, 1)
    return result.reshape(kg, n)
