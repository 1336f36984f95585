"""Which weight stands where: an mvm's tiles together with the arrays that they are about."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from xbarc.data import Array
from xbarc.errors import XbarcError
from xbarc.ir.attributes import SelectionAttr, TileListAttr, Tiles
from xbarc.ir.ops import MvmOp, weights_of

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """Tiles [T, 4] of a matrix, and the rows and columns that they count (None: all, in order).

    `shape` is that of the stored weights [Kg, N], `groups` the blocks of a block-diagonal matrix.
    """

    shape: tuple[int, int]
    groups: int
    tiles: Tiles
    rows: Indices | None = None
    columns: Indices | None = None

    def inside(self, tile: Any) -> tuple[Any, Any]:
        """Index pairs of a tile's weights: in its own dense block, and in the weights [Kg, N]."""
        return inside(self.shape, tile, self.groups, self.rows, self.columns)

    def held(self) -> npt.NDArray[np.uint8]:
        """On how many tiles each weight stands, [Kg, N]; 2 for all above."""
        count = np.zeros(self.shape, np.uint8)
        for tile in self.tiles.tolist():
            _, weights = self.inside(tile)
            count[weights] = np.minimum(count[weights], 1) + 1
        return count

    def fault(self, q: Array) -> str | None:
        """Why these weights don't stand on exactly one tile each, zeros on one at most; or None."""
        held = self.held()
        wrong = (held > 1) | ((held == 0) & (q != 0))
        if not wrong.any():
            return None
        k, n = np.argwhere(wrong)[0].tolist()
        return f"weight ({k}, {n}) stands on {'no tile' if held[k, n] == 0 else 'two tiles'}"


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


def coverage_of(op: MvmOp, arrays: Mapping[str, Array]) -> Coverage:
    """Where the weights of an mvm stand.

    Raises:
        XbarcError: an array of selected rows or columns is missing, or names what isn't there.
    """
    weights = weights_of(op)
    k, n = weights.matrix
    return Coverage(
        weights.stored_shape,
        weights.group_count,
        op.tiles(),
        _selected(op.rows, k, arrays),
        _selected(op.columns, n, arrays),
    )


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
    """Weights that stand on crossbars, zeros among them counted, those between groups not."""
    weights = weights_of(op)
    if op.rows is None and op.columns is None and not isinstance(op.tiling, TileListAttr):
        rows, cols = weights.stored_shape
        return rows * cols
    return int(np.count_nonzero(coverage_of(op, arrays).held()))


def check_numbers(module: ModuleOp, arrays: Mapping[str, Array]) -> None:
    """Hold tiles that may leave weights out to the weights themselves: those left out are zero.

    Mvms whose weights aren't among `arrays` are passed over.

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
