"""Fewer tiles for a matrix with zeros: which rows and columns stand on crossbars, and where."""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import UnitAttr

from xbarc.ir.dialect import (
    MvmOp,
    SelectionAttr,
    TileListAttr,
    Tiles,
    grid_tiles,
    weights_of,
)
from xbarc.support.data import Array

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """Tiles [T, 4] that count the `rows` and `columns` selected (None: all, in order).

    `whole`: the tiles are a plain grid of what is selected; else a list that leaves zeros out.
    """

    tiles: Tiles
    rows: Indices | None = None
    columns: Indices | None = None
    whole: bool = True

    @property
    def cost(self) -> tuple[int, int]:
        """Tiles, then weights on them: what a better layout has less of."""
        height = self.tiles[:, 1] - self.tiles[:, 0]
        width = self.tiles[:, 3] - self.tiles[:, 2]
        return len(self.tiles), int((height * width).sum())


def write_layout(mvm: MvmOp, layout: Layout, arrays: MutableMapping[str, Array]) -> None:
    """Write a layout into an mvm, its indices into the weights; what stood there goes."""
    symbol = weights_of(mvm).symbol
    for what, indices in (("rows", layout.rows), ("columns", layout.columns)):
        old = mvm.properties.pop(what, None)
        if isinstance(old, SelectionAttr):
            arrays.pop(old.symbol.data)
        if indices is None:
            continue
        name = f"{symbol}.{what}"
        while name in arrays:
            name += "_"
        arrays[name] = indices.astype(np.int32)
        mvm.properties[what] = SelectionAttr.of(name, len(indices))
    if not layout.whole:
        mvm.properties["sparse"] = UnitAttr()
        mvm.tiling = TileListAttr.of(layout.tiles)


def best_layout(nonzero: Mask, rows: int, width: int) -> Layout:
    """The layout with the fewest tiles of at most `rows` x `width` weights; of these the smallest.

    `nonzero` is [K, N]. These are tried, the plainest first:

    - a grid of all rows and columns;
    - that grid without its tiles of zeros;
    - a grid of the rows and columns that aren't zero;
    - blocks of columns, each with only the rows that aren't zero in it. The blocks are cut from all
      columns, from the columns that aren't zero, and from these sorted so that columns with the
      same rows stand together.

    A matrix of zeros keeps one weight.
    """
    if not nonzero.any():
        one = np.zeros(1, np.int64)
        return Layout(grid_tiles((0, 1), (0, 1), (rows, width)), one, one)
    plain, *others = _layouts(nonzero, rows, width)
    # A list of tiles is worth its length only where it saves one.
    others = [la for la in others if la.whole or len(la.tiles) < len(plain.tiles)]
    return min([plain, *others], key=lambda layout: layout.cost)


def fewest_tiles(nonzero: Mask, groups: int, rows: int, width: int) -> int:
    """Tiles of at most `rows` x `width` weights that a matrix takes once its zeros are left out.

    `nonzero` [K, N]: with `groups` above 1 rows of one group, columns of all; groups stand together
    in one tile where they fit, and a group of zeros takes none. 0 where no weight fits.
    """
    k, n = nonzero.shape
    if not width:
        return 0
    if groups == 1:
        return len(best_layout(nonzero, rows, width).tiles)
    some = int(nonzero.reshape(k, groups, -1).any((0, 2)).sum()) or groups
    together = min(rows // k, width // (n // groups), some)
    if together:
        return -(-some // together)
    return some * -(-k // rows) * -(-(n // groups) // width)


def _layouts(nonzero: Mask, rows: int, width: int) -> Iterator[Layout]:
    k, n = nonzero.shape
    grid = grid_tiles((0, k), (0, n), (rows, width))
    yield Layout(grid)
    used = np.array([nonzero[r0:r1, c0:c1].any() for r0, r1, c0, c1 in grid.tolist()])
    if not used.all():
        yield Layout(grid[used], whole=False)
    some_rows, some_cols = np.flatnonzero(nonzero.any(1)), np.flatnonzero(nonzero.any(0))
    if len(some_rows) < k or len(some_cols) < n:
        yield Layout(
            grid_tiles((0, len(some_rows)), (0, len(some_cols)), (rows, width)),
            some_rows if len(some_rows) < k else None,
            some_cols if len(some_cols) < n else None,
        )
    yield _by_columns(nonzero, np.arange(n), rows, width)
    if len(some_cols) < n:
        yield _by_columns(nonzero, some_cols, rows, width)
    order = np.lexsort(np.packbits(nonzero[:, some_cols], axis=0))
    yield _by_columns(nonzero, some_cols[order], rows, width)


def _by_columns(nonzero: Mask, columns: Indices, rows: int, width: int) -> Layout:
    """Blocks of `width` columns in this order, each with the rows that it needs."""
    row_parts: list[Any] = []
    column_parts: list[Any] = []
    tiles: list[Tiles] = []
    r = c = 0
    for start in range(0, len(columns), width):
        block = columns[start : start + width]
        block = block[nonzero[:, block].any(0)]
        own = np.flatnonzero(nonzero[:, block].any(1))
        if not len(block):
            continue
        tiles.append(grid_tiles((r, r + len(own)), (c, c + len(block)), (rows, width)))
        row_parts.append(own)
        column_parts.append(block)
        r, c = r + len(own), c + len(block)
    return Layout(
        np.concatenate(tiles), np.concatenate(row_parts), np.concatenate(column_parts), whole=False
    )
