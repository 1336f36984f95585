"""Size-constrained iterative clustering: dense blocks of a sparse matrix, each for one tile.

After TraNNsformer (Ankit et al., ICCAD 2017, arXiv 1708.07949). Where the published procedure
depends on chance or miscounts, this one differs: connected components come first, a density is that
of the tile's whole area, and a cluster fits one tile in rows and in columns.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import threadpoolctl

from xbarc.ir.analysis.bipartite import Indices, groups

Mask = npt.NDArray[np.bool_]

SETTLED, ROUNDS = 0.05, 4
"""Rounds end when one takes less than this share of what is left, or after so many."""


@dataclass(frozen=True)
class Room:
    """A tile of at most `rows` x `columns`; a row may stand for a block of `block` rows."""

    rows: int
    columns: int
    block: int = 1

    @property
    def area(self) -> int:
        """Weights that it has room for."""
        return self.rows * self.block * self.columns

    @staticmethod
    def of(tile: tuple[int, int], matrix: tuple[int, int], block: int = 1) -> "Room":
        """A `tile` for a `matrix`: no larger than that, rows in whole blocks where one fits."""
        rows, columns = (min(sizes) for sizes in zip(tile, matrix, strict=True))
        return Room(rows // block, columns, block) if rows >= block else Room(rows, columns)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Rows and columns for one tile; `nonzeros` that no cluster before it holds."""

    rows: Indices
    columns: Indices
    nonzeros: int


class Remainder:
    """What of a matrix [K, N] no cluster holds yet.

    `left` counts nonzeros, [K / block, N]: each a weight, or a block of weights of one column.
    """

    def __init__(self, nonzero: Mask, room: Room) -> None:
        blocks = nonzero.reshape(-1, room.block, nonzero.shape[1])
        counts = blocks.sum(1, dtype=np.min_scalar_type(room.block))
        self.room, self.left = room, np.ascontiguousarray(counts)
        self._by_column = np.ascontiguousarray(self.left.T)
        self.in_row = self.left.sum(1, dtype=np.int64)

    @property
    def nonzeros(self) -> int:
        """All that are left."""
        return int(self.in_row.sum())

    def covered(self, rows: Indices, columns: Indices) -> int:
        """Nonzeros that a tile of these rows and columns would take."""
        return int(self.left[np.ix_(rows, columns)].sum(dtype=np.int64))

    def take(self, rows: Indices, columns: Indices) -> Cluster:
        """Make a cluster of these rows and columns, without those that it doesn't need."""
        here = self.left[np.ix_(rows, columns)]
        rows, columns = rows[here.any(1)], columns[here.any(0)]
        self.left[np.ix_(rows, columns)] = 0
        self._by_column[np.ix_(columns, rows)] = 0
        self.in_row[rows] -= here[here.any(1)].sum(1, dtype=np.int64)
        return Cluster(np.sort(rows), np.sort(columns), int(here.sum(dtype=np.int64)))

    def grown(self, rows: Indices) -> tuple[Indices, Indices]:
        """Rows and columns of many nonzeros, near `rows`.

        The columns are those with most nonzeros in the rows, the rows those with most in the
        columns, in turn, as long as that covers more.
        """
        best = 0
        while True:
            columns = _largest(self.left[rows].sum(0, dtype=np.int32), self.room.columns)
            inside = self._by_column[columns].sum(0, dtype=np.int32)
            new = _largest(inside, self.room.rows)
            covered = int(inside[new].sum())
            if covered <= best:
                return rows, columns
            rows, best = new, covered


def find_clusters(matrix: Remainder, density: float) -> list[Cluster]:
    """Take clusters of more than `density` out of a matrix: nonzeros over the area of a tile.

    A round finds groups that share no row or column (`xbarc.ir.analysis.bipartite`), and lets each
    grow to fill its tile. After the last round, single rows do. The same matrix gives the same
    clusters.
    """
    found: list[Cluster] = []
    # One thread: sums in one order, and parts are too small to share.
    with threadpoolctl.threadpool_limits(1, "blas"):
        for _ in range(ROUNDS):
            before = matrix.nonzeros
            found += _round(matrix, density)
            if before - matrix.nonzeros <= SETTLED * before:
                break
    return found + list(windows(matrix, density))


def _round(matrix: Remainder, density: float) -> list[Cluster]:
    room, enough = matrix.room, density * matrix.room.area
    # A part with fewer entries can't hold a dense group.
    fewest = enough / max(1, int(matrix.left.max(initial=0)))
    found = []
    for several in _packed(groups(matrix.left, (room.rows, room.columns), fewest), room):
        rows, columns = map(np.concatenate, several)
        wide = matrix.grown(rows)
        if matrix.covered(*wide) > matrix.covered(rows, columns):
            rows, columns = wide
        if matrix.covered(rows, columns) > enough:
            found.append(matrix.take(rows, columns))
    return found


def windows(matrix: Remainder, density: float = 0.0) -> Iterator[Cluster]:
    """Take tile after tile out of a matrix, the fullest first, while each has more than `density`.

    Each grows from the row with most nonzeros left. 0: until nothing is left.
    """
    while matrix.in_row.any():
        rows, columns = matrix.grown(matrix.in_row.argmax()[None])
        if matrix.covered(rows, columns) <= density * matrix.room.area:
            break
        yield matrix.take(rows, columns)


def _largest(values: Any, count: int) -> Indices:
    """The indices, in order, of the `count` largest values above 0."""
    if count < len(values):
        indices = np.sort(np.argpartition(-values, count - 1)[:count])
    else:
        indices = np.arange(len(values))
    return indices[values[indices] > 0]


def _packed(
    several: Iterable[tuple[Indices, Indices]], room: Room
) -> list[tuple[list[Indices], list[Indices]]]:
    """Groups, small ones together where one tile has room for them: first fit, largest first."""
    found = list(several)
    size = np.array([room.rows, room.columns])
    sizes = np.array([(len(r), len(c)) for r, c in found], np.int64).reshape(-1, 2)
    order = np.argsort(-(sizes / size).sum(1), kind="stable")
    used = np.zeros((len(found), 2), np.int64)
    tiles: list[tuple[list[Indices], list[Indices]]] = []
    for i in order.tolist():
        fitting = np.flatnonzero((used[: len(tiles)] + sizes[i] <= size).all(1))
        if len(fitting):
            at = int(fitting[0])
        else:
            at = len(tiles)
            tiles.append(([], []))
        used[at] += sizes[i]
        tiles[at][0].append(found[i][0])
        tiles[at][1].append(found[i][1])
    return tiles
