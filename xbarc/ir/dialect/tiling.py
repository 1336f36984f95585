"""How a matrix is cut into tiles: a grid, packed blocks, tiles by kernel offset, or a list."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import DenseArrayBase, IntAttr, IntegerType
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import IRDLOperation, irdl_attr_definition
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    irdl_custom_directive,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import ints, parse_ints, parse_lists, print_ints

Tiles = npt.NDArray[np.int64]
"""Tiles of a weight matrix: [T, 4], each row `row_begin, row_end, col_begin, col_end`."""

Order = npt.NDArray[np.int64]
"""Indices of rows or columns in the order in which tiles count them."""


def grid_tiles(rows: tuple[int, int], cols: tuple[int, int], step: tuple[int, int]) -> Tiles:
    """The tiles of a regular cut of rows x cols by step: whole tiles first, the last what is left.

    `rows` and `cols` are half-open ranges, `step` the rows and weight columns of a whole tile.
    """
    r = np.arange(rows[0], rows[1], step[0])
    c = np.arange(cols[0], cols[1], step[1])
    row, col = (m.ravel() for m in np.meshgrid(r, c, indexing="ij"))
    return np.stack(
        [row, np.minimum(row + step[0], rows[1]), col, np.minimum(col + step[1], cols[1])], axis=1
    ).astype(np.int64)


@irdl_attr_definition
class GridAttr(ParametrizedAttribute):
    """A regular cut of one matrix: `grid [128, 16]`, rows and weight columns of a whole tile."""

    name = "xbar.grid"

    rows: IntAttr
    cols: IntAttr

    @staticmethod
    def of(rows: int, cols: int) -> "GridAttr":
        """A grid of `rows` x `cols` tiles."""
        return GridAttr(IntAttr(rows), IntAttr(cols))

    def verify(self) -> None:
        """At least one row and one column a tile."""
        if self.rows.data < 1 or self.cols.data < 1:
            raise VerifyException("a tile has at least one row and one column")

    def largest(self) -> tuple[int, int]:
        """Rows and weight columns of the largest tile."""
        return self.rows.data, self.cols.data

    def tiles(self, k: int, n: int, groups: int) -> Tiles:
        """The tiles of a `k` x `n` matrix; every group of a block-diagonal one is cut by itself."""
        step = (self.rows.data, self.cols.data)
        if groups == 1:
            return grid_tiles((0, k), (0, n), step)
        block = grid_tiles((0, k // groups), (0, n // groups), step)
        shift = np.array([k // groups, k // groups, n // groups, n // groups])
        return (block[None] + np.arange(groups)[:, None, None] * shift).reshape(-1, 4)

    def print_clauses(self, printer: Printer) -> None:
        """` grid [128, 16]`"""
        print_ints(printer, "grid", self.largest())

    def print_parameters(self, printer: Printer) -> None:
        """`<128, 16>`"""
        printer.print_string(f"<{self.rows.data}, {self.cols.data}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            rows = parser.parse_integer()
            parser.parse_punctuation(",")
            cols = parser.parse_integer()
        return [IntAttr(rows), IntAttr(cols)]


@irdl_attr_definition
class PackedAttr(ParametrizedAttribute):
    """Whole blocks of a block-diagonal matrix, `count` of them a crossbar: `packed 14`."""

    name = "xbar.packed"

    count: IntAttr

    @staticmethod
    def of(count: int) -> "PackedAttr":
        """`count` consecutive groups share a tile."""
        return PackedAttr(IntAttr(count))

    def verify(self) -> None:
        """At least one block a tile."""
        if self.count.data < 1:
            raise VerifyException("a tile holds at least one block")

    def tiles(self, k: int, n: int, groups: int) -> Tiles:
        """The tiles of a block-diagonal matrix of `groups` blocks."""
        first = np.arange(0, groups, self.count.data)
        last = np.minimum(first + self.count.data, groups)
        kg, ng = k // groups, n // groups
        return np.stack([first * kg, last * kg, first * ng, last * ng], axis=1).astype(np.int64)

    def print_clauses(self, printer: Printer) -> None:
        """` packed 14`"""
        printer.print_string(f" packed {self.count.data}")

    def print_parameters(self, printer: Printer) -> None:
        """`<14>`"""
        printer.print_string(f"<{self.count.data}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            return [IntAttr(parser.parse_integer())]


@irdl_attr_definition
class TileListAttr(ParametrizedAttribute):
    """Tiles one by one: `tiles [[0, 128, 0, 16], ...]`, each row range and weight column range."""

    name = "xbar.tiles"

    flat: DenseArrayBase[IntegerType]

    @staticmethod
    def of(tiles: Tiles | Sequence[Sequence[int]]) -> "TileListAttr":
        """A list of `row_begin, row_end, col_begin, col_end`."""
        return TileListAttr(ints(np.asarray(tiles, dtype=np.int64).ravel().tolist()))

    def verify(self) -> None:
        """Fours, each a range that isn't empty."""
        flat = self.flat.get_values()
        if not flat or len(flat) % 4:
            raise VerifyException("a tile is [row_begin, row_end, col_begin, col_end]")
        tiles = np.array(flat).reshape(-1, 4)
        bad = (tiles[:, 0] < 0) | (tiles[:, 2] < 0)
        bad |= (tiles[:, 1] <= tiles[:, 0]) | (tiles[:, 3] <= tiles[:, 2])
        if bad.any():
            raise VerifyException(f"tile {tiles[bad][0].tolist()} is empty or negative")

    def tiles(self, k: int, n: int, groups: int) -> Tiles:
        """The tiles as they are written."""
        return np.array(self.flat.get_values(), dtype=np.int64).reshape(-1, 4)

    def print_clauses(self, printer: Printer) -> None:
        """` tiles [[0, 128, 0, 16], [128, 144, 0, 16]]`"""
        rows = ", ".join(str(t) for t in self.tiles(0, 0, 1).tolist())
        printer.print_string(f" tiles [{rows}]")

    @classmethod
    def parse_list(cls, parser: AttrParser) -> "TileListAttr":
        """The inverse of `print_clauses`, after the keyword `tiles`."""
        rows = parse_lists(parser)
        if any(len(row) != 4 for row in rows):
            parser.raise_error("a tile is [row_begin, row_end, col_begin, col_end]")
        return cls(ints([v for row in rows for v in row]))

    def print_parameters(self, printer: Printer) -> None:
        """`<[[0, 128, 0, 16]]>`"""
        printer.print_string(f"<{self.tiles(0, 0, 1).tolist()}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            return [cls.parse_list(parser).flat]


@irdl_attr_definition
class OffsetsAttr(ParametrizedAttribute):
    """A sub-array for each kernel offset: `offsets [9, 1] grid [128, 64]`.

    The matrix has a row for each (channel, offset) and a column for each (filter, offset). `rows`
    and `columns` are the numbers of offsets: [k^2, 1] for a convolution, [1, k^2] for a transposed
    convolution that scatters. `inner` cuts the weights of one offset, channels x filters, as a
    matrix of their own. `without [4]`: no crossbar holds offset 4, because its weights are zero.
    """

    name = "xbar.offsets"

    rows: IntAttr
    columns: IntAttr
    dropped: DenseArrayBase[IntegerType]
    inner: GridAttr | PackedAttr

    @staticmethod
    def of(
        rows: int, columns: int, inner: GridAttr | PackedAttr, dropped: Sequence[int] = ()
    ) -> "OffsetsAttr":
        """`rows` x `columns` sub-arrays but for those `dropped`, each cut by `inner`."""
        return OffsetsAttr(IntAttr(rows), IntAttr(columns), ints(dropped), inner)

    @property
    def without(self) -> list[int]:
        """The offsets that stand nowhere: row offset x columns + column offset."""
        return [int(v) for v in self.dropped.get_values()]

    @property
    def count(self) -> int:
        """Sub-arrays, those dropped among them."""
        return self.rows.data * self.columns.data

    def verify(self) -> None:
        """At least one offset, and one that stands; those dropped are there, in order."""
        if self.rows.data < 1 or self.columns.data < 1 or self.count > 1 << 20:
            raise VerifyException("offsets are at least 1, and a million at most")
        if not isinstance(self.inner, GridAttr | PackedAttr):
            raise VerifyException("the sub-array of an offset is cut by a grid or packed")
        without = self.without
        if without != sorted(set(without)) or any(not 0 <= i < self.count for i in without):
            raise VerifyException("without lists offsets, each once, in order")
        if len(without) == self.count:
            raise VerifyException("one offset stands at least")

    def order(self, k: int, n: int) -> tuple[Order | None, Order | None]:
        """The rows and columns of a `k` x `n` matrix in the order in which tiles count them."""
        return _by_offset(k, self.rows.data), _by_offset(n, self.columns.data)

    def tiles(self, k: int, n: int, groups: int) -> Tiles:
        """The tiles, offset by offset, in the order that `order` gives."""
        kept = np.setdiff1d(np.arange(self.count), self.without)
        row, col = kept // self.columns.data, kept % self.columns.data
        height, width = k // self.rows.data, n // self.columns.data
        shift = np.stack([row * height, row * height, col * width, col * width], axis=1)
        return (self.inner.tiles(height, width, groups)[None] + shift[:, None]).reshape(-1, 4)

    def print_clauses(self, printer: Printer) -> None:
        """` offsets [9, 1] without [4] grid [128, 64]`"""
        print_ints(printer, "offsets", [self.rows.data, self.columns.data])
        if self.without:
            print_ints(printer, "without", self.without)
        self.inner.print_clauses(printer)

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> "OffsetsAttr":
        """The inverse of `print_clauses`, after the keyword `offsets`."""
        counts = parse_ints(parser)
        if len(counts) != 2:
            parser.raise_error("offsets are [of the rows, of the columns]")
        without = parse_ints(parser) if parser.parse_optional_keyword("without") else []
        inner = parse_regular(parser)
        if inner is None:
            parser.raise_error("the sub-array of an offset is cut by a grid or packed")
        return cls.of(counts[0], counts[1], inner, without)

    def print_parameters(self, printer: Printer) -> None:
        """`<offsets [9, 1] grid [128, 64]>`"""
        printer.print_string("<")
        self.print_clauses(printer)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            parser.parse_keyword("offsets")
            return cls.parse_clauses(parser).parameters


def _by_offset(size: int, offsets: int) -> Order | None:
    """Indices of (channel, offset) in the order (offset, channel); None where nothing moves."""
    return None if offsets == 1 else np.arange(size).reshape(-1, offsets).T.ravel()


def parse_regular(parser: AttrParser) -> GridAttr | PackedAttr | None:
    """A `grid` or `packed` clause, where one stands there."""
    if parser.parse_optional_keyword("grid"):
        sizes = parse_ints(parser)
        if len(sizes) != 2:
            parser.raise_error("a grid is [rows, columns] of a whole tile")
        return GridAttr.of(*sizes)
    if parser.parse_optional_keyword("packed"):
        return PackedAttr.of(parser.parse_integer())
    return None


TilingAttr = GridAttr | PackedAttr | OffsetsAttr | TileListAttr
"""How a matrix is cut into tiles."""


@irdl_custom_directive
class Tiling(CustomDirective):
    """One of `TilingAttr`, each by its own keyword: a choice, which the format can't say."""

    tiling: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Raises `ParseError` where none stands there."""
        found: TilingAttr | None = parse_regular(parser)
        if found is None and parser.parse_optional_keyword("offsets"):
            found = OffsetsAttr.parse_clauses(parser)
        if found is None:
            parser.parse_keyword("tiles", " (or grid, packed, offsets)")
            found = TileListAttr.parse_list(parser)
        self.tiling.set(state, found)

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """` grid [128, 16]`"""
        cast(TilingAttr, self.tiling.get(op)).print_clauses(printer)


def coverage_error(
    tiles: Tiles, k: int, n: int, groups: int, *, sparse: bool = False
) -> str | None:
    """Why `tiles` don't hold each weight of a `k` x `n` matrix exactly once, or None.

    A block-diagonal matrix has weights only in its `groups` blocks. A `sparse` list may leave
    weights out: they are zero (`xbarc.ir.analysis.coverage` holds the numbers to that).
    """
    if (tiles[:, 1] > k).any() or (tiles[:, 3] > n).any():
        return f"a tile reaches beyond the {k} x {n} matrix"
    kg, ng = k // groups, n // groups
    edge_r = np.unique(np.concatenate([tiles[:, :2].ravel(), np.arange(0, k + 1, kg)]))
    edge_c = np.unique(np.concatenate([tiles[:, 2:].ravel(), np.arange(0, n + 1, ng)]))
    # Two-dimensional difference array over the compressed coordinates: its running sums count the
    # tiles over each elementary rectangle.
    count = np.zeros((len(edge_r), len(edge_c)), dtype=np.int64)
    r0, r1 = np.searchsorted(edge_r, tiles[:, 0]), np.searchsorted(edge_r, tiles[:, 1])
    c0, c1 = np.searchsorted(edge_c, tiles[:, 2]), np.searchsorted(edge_c, tiles[:, 3])
    for r, c, sign in ((r0, c0, 1), (r1, c0, -1), (r0, c1, -1), (r1, c1, 1)):
        np.add.at(count, (r, c), sign)
    count = count.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    inside = (edge_r[:-1, None] // kg) == (edge_c[None, :-1] // ng)
    missing = inside & (count == 0) & (not sparse)
    for wrong, what in ((missing, "no tile"), (inside & (count > 1), "two tiles")):
        if wrong.any():
            r, c = np.argwhere(wrong)[0]
            rows, cols = list(pairwise(edge_r))[r], list(pairwise(edge_c))[c]
            return f"weights [{rows[0]}:{rows[1]}, {cols[0]}:{cols[1]}] stand on {what}"
    return None
