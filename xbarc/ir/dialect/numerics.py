"""What an mvm computes: the matrix that its vectors meet, and how crossbars hold it."""

from dataclasses import dataclass
from typing import cast

from xdsl.ir import Attribute
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.sharing import share
from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect.selection import SelectionAttr
from xbarc.ir.dialect.tiling import (
    GridAttr,
    OffsetsAttr,
    PackedAttr,
    TileListAttr,
    Tiles,
    TilingAttr,
    coverage_error,
)
from xbarc.ir.dialect.unroll import UnrollAttr
from xbarc.ir.dialect.weights import WeightsOp


@dataclass(frozen=True)
class Numerics:
    """The weights of an mvm, unrolled where it says so, and the tiles that they are cut into."""

    weights: WeightsOp
    unroll: UnrollAttr | None
    tiling: Attribute
    rows: SelectionAttr | None
    columns: SelectionAttr | None
    sparse: bool

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows of one group and columns of all groups; of the unrolled matrix, if there is one."""
        stored = self.weights.stored_shape
        return stored if self.unroll is None else self.unroll.stored_shape(*stored)

    @property
    def matrix(self) -> tuple[int, int]:
        """K x N that the vectors meet, zeros between groups included, unrolled where it is."""
        rows, cols = self.stored_shape
        return rows * self.weights.group_count, cols

    @property
    def selected(self) -> bool:
        """Whether tiles count the rows or columns of a list."""
        return self.rows is not None or self.columns is not None

    @property
    def standing(self) -> tuple[int, int]:
        """Rows and columns that tiles count: the matrix's, or as many as are selected."""
        k, n = self.matrix
        return (
            k if self.rows is None else self.rows.count.data,
            n if self.columns is None else self.columns.count.data,
        )

    def tiles(self) -> Tiles:
        """The tiles on the crossbars, [T, 4], in the rows and columns that are selected."""
        return cast(TilingAttr, self.tiling).tiles(*self.standing, self.weights.group_count)

    def crossbars(self, array: CrossbarArray) -> int:
        """Crossbars that the tiles stand on."""
        return len(self.tiles()) * array.crossbars_per_tile(self.weights.weight_bits)

    def footprints(self, array: CrossbarArray) -> list[tuple[int, int]]:
        """Word lines and bit lines of each tile, all its slices and polarities counted."""
        tiles, width = self.tiles(), array.columns_per_weight(self.weights.weight_bits)
        rows = (tiles[:, 1] - tiles[:, 0]) * array.rows_per_weight
        columns = (tiles[:, 3] - tiles[:, 2]) * width
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    def fits_beside(self, host: "Numerics", array: CrossbarArray) -> bool:
        """Whether its tiles fit on cells that those of `host` leave free."""
        own, others = (array.crossbars_per_tile(n.weights.weight_bits) for n in (self, host))
        if own > others:
            return False
        size = (array.rows, array.cols)
        return share(host.footprints(array), self.footprints(array), size) is not None

    def verify_matrix(self, length: int, columns: int) -> None:
        """Vectors of `length` and `columns` are those of the matrix. Raises `VerifyException`."""
        weights, unrolled = self.weights, self.unroll is not None
        rows = weights.stored_shape[0]
        if self.unroll is not None and rows % self.unroll.kernel_size:
            raise VerifyException(
                f"{rows} rows of @{weights.symbol} aren't channels of {self.unroll.kernel_size} "
                "kernel positions"
            )
        k, n = self.matrix
        if (length, columns) != (k, n):
            raise VerifyException(
                f"vectors of {length} and {columns}, @{weights.symbol} is {k} x {n}"
                f"{' unrolled' * unrolled}"
            )

    def verify_tiling(self) -> None:
        """Each weight stands on exactly one tile. Raises `VerifyException`."""
        tiling, groups = self.tiling, self.weights.group_count
        listed = isinstance(tiling, TileListAttr)
        if self.unroll is not None and (self.selected or (self.sparse and listed)):
            raise VerifyException("an unrolled matrix stands whole: no selection, no sparse tiles")
        if isinstance(tiling, OffsetsAttr):
            self._verify_offsets(tiling)
        elif isinstance(tiling, TileListAttr):
            if self.selected and groups > 1 and not self.sparse:
                raise VerifyException("selected rows of a block-diagonal matrix want sparse tiles")
            blocks = 1 if self.selected else groups
            if reason := coverage_error(self.tiles(), *self.standing, blocks, sparse=self.sparse):
                raise VerifyException(reason)
        elif not isinstance(tiling, GridAttr | PackedAttr):
            raise VerifyException(f"{tiling} isn't a tiling")
        elif self.sparse or (self.selected and groups > 1):
            raise VerifyException("only a list of tiles can leave weights of a group out")

    def _verify_offsets(self, tiling: OffsetsAttr) -> None:
        """They divide the rows and columns of a group."""
        groups = self.weights.group_count
        k, n = (size // groups for size in self.matrix)
        if k % tiling.rows.data or n % tiling.columns.data:
            raise VerifyException(
                f"{tiling.rows.data} x {tiling.columns.data} offsets don't divide {k} rows and "
                f"{n} columns"
            )
        if self.selected:
            raise VerifyException("offsets order rows and columns: no selection beside them")
        if self.sparse != bool(tiling.without):
            raise VerifyException("sparse belongs to offsets without some, and to no others")

    def verify_capacity(self, array: CrossbarArray) -> None:
        """Each tile fits on a crossbar of `array`. Raises `VerifyException`."""
        width = array.columns_per_weight(self.weights.weight_bits)
        tiles = self.tiles()
        rows = (tiles[:, 1] - tiles[:, 0]) * array.rows_per_weight
        cols = tiles[:, 3] - tiles[:, 2]
        too_large = (rows > array.rows) | (cols * width > array.cols)
        if too_large.any():
            i = int(too_large.argmax())
            raise VerifyException(
                f"tile {tiles[i].tolist()} takes {rows[i]} rows and {cols[i] * width} columns "
                f"({cols[i]} weights of {width} cells) of a {array.rows} x {array.cols} crossbar"
            )
