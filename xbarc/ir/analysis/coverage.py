"""Which weight stands where: an mvm's tiles together with the arrays that they are about."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from xbarc.ir.dialect import MvmOp, OffsetsAttr, SelectionAttr, TileListAttr, Tiles, weights_of
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """Tiles [T, 4] of a matrix, and the rows and columns that they count (None: all, in order).

    `shape` has the rows of one group and all columns of the matrix that the tiles cut. `groups` is
    the number of blocks of a block-diagonal matrix. `stored` is the shape of the weights [Kg, N].
    It differs from `shape` if the matrix is unrolled; `taps` then says which kernel position stands
    where (`UnrollAttr.taps`). `off` [C, 2]: cells, by the rows and columns that tiles count, whose
    weight stands on an earlier tile (`cells_off`); None where no weight is on two.
    """

    shape: tuple[int, int]
    groups: int
    tiles: Tiles
    stored: tuple[int, int]
    rows: Indices | None = None
    columns: Indices | None = None
    taps: Indices | None = None
    off: Indices | None = None

    def inside(self, tile: Any) -> tuple[Any, Any]:
        """Index pairs of a tile's weights: in its own dense block, and in the weights [Kg, N]."""
        dense, found = inside(self.shape, tile, self.groups, self.rows, self.columns)
        if self.taps is None:
            return dense, found
        r, c = _listed(dense, (tile[1] - tile[0], tile[3] - tile[2]))
        k, n = _listed(found, self.shape)
        window, patch = self.taps.shape
        tap = self.taps[k % window, n % patch]
        there = tap >= 0
        kernel = window * self.stored[0] // self.shape[0]
        k, n = (k // window * kernel + tap)[there], (n // patch)[there]
        return (r[there], c[there]), (k, n)

    def dense(self, q: Array, tile: Any) -> Array:
        """The weights [rows, columns] that a tile holds, 0 where none stands."""
        r0, r1, c0, c1 = tile
        block = np.zeros((r1 - r0, c1 - c0), q.dtype)
        dense, weights = self.inside(tile)
        block[dense] = q[weights]
        switch_off(block, tile, self.off)
        return block

    def held(self) -> npt.NDArray[np.int64]:
        """On how many tiles each weight stands, [Kg, N]; each copy of an unrolled one counts."""
        count = np.zeros(self.stored, np.int64)
        if self.off is not None:
            return count + self._on_any()
        for tile in self.tiles.tolist():
            _, weights = self.inside(tile)
            if self.taps is None:
                count[weights] += 1
            else:
                np.add.at(count, weights, 1)
        return count

    def _on_any(self) -> npt.NDArray[np.bool_]:
        """Whether each weight stands on a tile, [Kg, N]."""
        some = np.zeros(self.stored, bool)
        for tile in self.tiles.tolist():
            some[self.inside(tile)[1]] = True
        return some

    def copies(self) -> npt.NDArray[np.int64]:
        """How often each weight should stand, [Kg, 1]."""
        if self.taps is None:
            return np.ones((self.stored[0], 1), np.int64)
        kernel = len(self.taps) * self.stored[0] // self.shape[0]
        often = np.bincount(self.taps[self.taps >= 0], minlength=kernel)
        return np.tile(often, self.stored[0] // kernel)[:, None]

    def fault(self, q: Array) -> str | None:
        """Why these weights don't stand on exactly one tile each, zeros on one at most; or None."""
        held, wanted = self.held(), self.copies()
        wrong = (held > wanted) | ((held < wanted) & (q != 0))
        if not wrong.any():
            return None
        k, n = np.argwhere(wrong)[0].tolist()
        how = "no tile" if held[k, n] < wanted[k, 0] else "two tiles"
        return f"weight ({k}, {n}) stands on {how}"


def _listed(pair: Any, shape: tuple[int, int]) -> tuple[Indices, Indices]:
    """Index pairs as `inside` gives them, one by one."""
    if isinstance(pair[0], slice):
        pair = np.ix_(*(np.arange(size)[s] for s, size in zip(pair, shape, strict=True)))
    rows, cols = np.broadcast_arrays(*pair)
    return rows.ravel(), cols.ravel()


def inside(
    shape: tuple[int, ...],
    tile: tuple[int, int, int, int],
    groups: int,
    rows: Indices | None,
    columns: Indices | None,
) -> tuple[Any, Any]:
    """Where a tile of weights [Kg, N] has weights at all: in its dense block, in the weights."""
    r0, r1, c0, c1 = tile
    if groups == 1 and rows is None and columns is None:
        return (slice(None), slice(None)), (slice(r0, r1), slice(c0, c1))
    k = np.arange(r0, r1) if rows is None else rows[r0:r1]
    n = np.arange(c0, c1) if columns is None else columns[c0:c1]
    if groups == 1:
        return (slice(None), slice(None)), np.ix_(k, n)
    group_rows, group_cols = shape[0], shape[1] // groups
    r, c = np.nonzero((k // group_rows)[:, None] == n // group_cols)
    return (r, c), (k[r] % group_rows, n[c])


def cells_off(
    shape: tuple[int, int],
    tiles: Tiles,
    groups: int,
    rows: Indices | None,
    columns: Indices | None,
) -> Indices | None:
    """The cells of tiles of [Kg, N] whose weight stands on an earlier tile: [C, 2], by rows.

    Row and column as tiles count them. None where there are none.
    """
    held, off = np.zeros(shape, bool), []
    for tile in tiles.tolist():
        dense, weights = inside(shape, tile, groups, rows, columns)
        before = held[weights]
        if before.any():
            at = np.zeros((tile[1] - tile[0], tile[3] - tile[2]), bool)
            at[dense] = before
            off.append(np.argwhere(at) + np.array([tile[0], tile[2]]))
        held[weights] = True
    if not off:
        return None
    cells = np.concatenate(off)
    return cells[np.lexsort(cells.T[::-1])]


def switch_off(block: Array, tile: Any, off: Indices | None) -> None:
    """Set those weights of a tile's block to 0 that stand on an earlier tile."""
    if off is None:
        return
    r0, r1, c0, c1 = tile
    begin, end = np.searchsorted(off[:, 0], [r0, r1])
    r, c = off[begin:end].T
    there = (c0 <= c) & (c < c1)
    block[r[there] - r0, c[there] - c0] = 0


def coverage_of(op: MvmOp, arrays: Mapping[str, Array]) -> Coverage:
    """Where the weights of an mvm stand.

    Raises:
        XbarcError: an array of selected rows or columns is missing, or names what isn't there.
    """
    numerics = op.numerics
    weights, (k, n) = numerics.weights, numerics.matrix
    if isinstance(op.tiling, OffsetsAttr):
        rows, columns = op.tiling.order(k, n)
    else:
        rows, columns = _selected(op.rows, k, arrays), _selected(op.columns, n, arrays)
    shape, groups, tiles = numerics.stored_shape, weights.group_count, numerics.tiles()
    off = None
    listed = isinstance(op.tiling, TileListAttr) and numerics.sparse and numerics.selected
    if listed and op.gated is None:
        off = cells_off(shape, tiles, groups, rows, columns)
    taps = None if op.unroll is None else op.unroll.taps()
    return Coverage(shape, groups, tiles, weights.stored_shape, rows, columns, taps, off)


def _selected(
    selection: SelectionAttr | None, size: int, arrays: Mapping[str, Array]
) -> Indices | None:
    if selection is None:
        return None
    name = selection.symbol.data
    if name not in arrays:
        raise XbarcError(f"the weights have no array {name!r}")
    indices = arrays[name]
    if indices.shape != (selection.count.data,) or indices.dtype.kind not in "iu":
        raise XbarcError(
            f"array {name!r} is {indices.dtype}{list(indices.shape)}, the IR says "
            f"{selection.count.data} indices"
        )
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise XbarcError(f"array {name!r} selects beyond the matrix's {size}")
    return indices.astype(np.int64)


def weights_on_tiles(op: MvmOp, arrays: Mapping[str, Array]) -> int:
    """Places of weights on crossbars, with zero weights but without the zeros between groups.

    A weight that several tiles share counts once. An unrolled weight counts at every place.
    """
    if op.rows is None and op.columns is None and op.sparse is None:
        rows, cols = weights_of(op).stored_shape
        if op.unroll is None:
            return rows * cols
        taps = op.unroll.taps()
        return rows // op.unroll.kernel_size * cols * int(np.count_nonzero(taps >= 0))
    placed = coverage_of(op, arrays)
    return int(np.minimum(placed.held(), placed.copies()).sum())


def check_numbers(module: ModuleOp, arrays: Mapping[str, Array]) -> None:
    """Check that weights left out by the tiles are zero.

    Skips each mvm whose weights aren't among `arrays`.

    Raises:
        XbarcError: a weight other than zero stands on no tile, or one on two; one line.
    """
    for op in _irregular(module):
        symbol = weights_of(op).symbol
        if symbol in arrays and (reason := coverage_of(op, arrays).fault(arrays[symbol])):
            raise XbarcError(f"@{symbol}: {reason}")


def _irregular(module: ModuleOp) -> Iterator[MvmOp]:
    for op in module.walk():
        if isinstance(op, MvmOp) and (
            op.sparse is not None or op.rows is not None or op.columns is not None
        ):
            yield op
