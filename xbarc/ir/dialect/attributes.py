"""Attributes and types of the `xbar` dialect; `docs/ir.md` has their grammar on one screen."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntAttr,
    IntegerType,
    Signedness,
    StringAttr,
    i64,
)
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.target import Array

Tiles = npt.NDArray[np.int64]
"""Tiles of a weight matrix: [T, 4], each row `row_begin, row_end, col_begin, col_end`."""

Order = npt.NDArray[np.int64]
"""Indices of rows or columns in the order in which tiles count them."""


def code_type(bits: int, signed: bool) -> IntegerType:
    """The element type of a tensor of input codes: `si8`, `ui8`, ..."""
    return IntegerType(bits, Signedness.SIGNED if signed else Signedness.UNSIGNED)


def is_code_type(attribute: Attribute) -> bool:
    """Whether `attribute` is a signed or unsigned (never signless) integer type."""
    return (
        isinstance(attribute, IntegerType) and attribute.signedness.data is not Signedness.SIGNLESS
    )


def ints(values: Sequence[int]) -> DenseArrayBase[IntegerType]:
    """A list of integers as an attribute."""
    return DenseArrayBase.from_list(i64, [int(v) for v in values])


def print_ints(printer: Printer, keyword: str, values: Sequence[int]) -> None:
    """Print ` keyword [1, 2]`."""
    printer.print_string(f" {keyword} [{', '.join(map(str, values))}]")


def parse_ints(parser: AttrParser) -> list[int]:
    """Parse `[1, 2]`."""
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)


@irdl_attr_definition
class CrossbarAttr(ParametrizedAttribute):
    """The crossbar geometry that a module is mapped for: a copy of the target's `[array]`.

    It stands on the module, so that a tile IR file can be verified and mapped by itself.
    """

    name = "xbar.crossbar"

    rows: IntAttr
    cols: IntAttr
    cell_bits: IntAttr
    encoding: StringAttr
    slices_in: StringAttr
    polarity_in: StringAttr

    @staticmethod
    def of(array: Array) -> "CrossbarAttr":
        """The attribute of a target's array."""
        return CrossbarAttr(
            IntAttr(array.rows),
            IntAttr(array.cols),
            IntAttr(array.cell_bits),
            StringAttr(array.encoding),
            StringAttr(array.slices_in),
            StringAttr(array.polarity_in),
        )

    def array(self) -> Array:
        """The geometry as the target's schema knows it."""
        return Array(
            rows=self.rows.data,
            cols=self.cols.data,
            cell_bits=self.cell_bits.data,
            encoding=cast(Literal["differential", "offset"], self.encoding.data),
            slices_in=cast(Literal["columns", "arrays"], self.slices_in.data),
            polarity_in=cast(Literal["columns", "arrays"], self.polarity_in.data),
        )

    def verify(self) -> None:
        """Refuse what the target's schema refuses."""
        try:
            self.array()
        except ValueError as error:
            raise VerifyException(f"not a crossbar: {error}") from None

    def print_parameters(self, printer: Printer) -> None:
        """`<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>`"""
        printer.print_string(
            f"<{self.rows.data} x {self.cols.data} cells of {self.cell_bits.data} bits, "
            f"{self.encoding.data}, slices in {self.slices_in.data}, "
            f"polarity in {self.polarity_in.data}>"
        )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            rows = parser.parse_integer()
            parser.parse_keyword("x")
            cols = parser.parse_integer()
            parser.parse_keyword("cells")
            parser.parse_keyword("of")
            cell_bits = parser.parse_integer()
            parser.parse_keyword("bits")
            parser.parse_punctuation(",")
            encoding = parser.parse_identifier()
            parser.parse_punctuation(",")
            parser.parse_keyword("slices")
            parser.parse_keyword("in")
            slices_in = parser.parse_identifier()
            parser.parse_punctuation(",")
            parser.parse_keyword("polarity")
            parser.parse_keyword("in")
            polarity_in = parser.parse_identifier()
        return [
            IntAttr(rows),
            IntAttr(cols),
            IntAttr(cell_bits),
            StringAttr(encoding),
            StringAttr(slices_in),
            StringAttr(polarity_in),
        ]


@irdl_attr_definition
class StreamType(ParametrizedAttribute, TypeAttribute):
    """A sequence of equally long vectors: `!xbar.stream<1024 x 27 x ui8>`.

    `vectors` is the count for one batch item; a batch of n has n times as many.
    """

    name = "xbar.stream"

    vectors: IntAttr
    length: IntAttr
    element: IntegerType

    @staticmethod
    def of(vectors: int, length: int, element: IntegerType) -> "StreamType":
        """A stream of `vectors` vectors of `length` elements."""
        return StreamType(IntAttr(vectors), IntAttr(length), element)

    def verify(self) -> None:
        """At least one vector, at least one element, a type with a sign."""
        if self.vectors.data < 1 or self.length.data < 1:
            raise VerifyException("a stream has at least one vector of at least one element")
        if not is_code_type(self.element):
            raise VerifyException(f"a stream's elements are si<n> or ui<n>, not {self.element}")

    def print_parameters(self, printer: Printer) -> None:
        """`<1024 x 27 x ui8>`"""
        printer.print_string(f"<{self.vectors.data} x {self.length.data} x {self.element}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            vectors = parser.parse_integer()
            parser.parse_keyword("x")
            length = parser.parse_integer()
            parser.parse_keyword("x")
            element = parser.parse_type()
        return [IntAttr(vectors), IntAttr(length), element]


@irdl_attr_definition
class DigitalType(ParametrizedAttribute, TypeAttribute):
    """What only the digital unit understands: a sequence, a string, a rank that isn't fixed."""

    name = "xbar.digital_value"


@irdl_attr_definition
class WindowAttr(ParametrizedAttribute):
    """A sliding window over the spatial axes of a tensor, as ONNX's Conv has it.

    `kernel`, `strides`, `dilations`: one a spatial axis; `pads`: all begins, then all ends, where a
    negative one cuts off.
    """

    name = "xbar.window"

    kernel: DenseArrayBase[IntegerType]
    strides: DenseArrayBase[IntegerType]
    pads: DenseArrayBase[IntegerType]
    dilations: DenseArrayBase[IntegerType]

    @staticmethod
    def of(
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
    ) -> "WindowAttr":
        """A window; strides and dilations default to 1, pads to 0."""
        rank = len(kernel)
        return WindowAttr(
            ints(kernel),
            ints(strides or [1] * rank),
            ints(pads or [0] * (2 * rank)),
            ints(dilations or [1] * rank),
        )

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def size(self) -> int:
        """The number of kernel positions."""
        return math.prod(self.lists()[0])

    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """kernel, strides, pads, dilations as lists."""
        return (
            list(map(int, self.kernel.get_values())),
            list(map(int, self.strides.get_values())),
            list(map(int, self.pads.get_values())),
            list(map(int, self.dilations.get_values())),
        )

    def output_size(self, spatial: Sequence[int]) -> list[int]:
        """The spatial output size for a spatial input size (-1 where that is unknown)."""
        kernel, strides, pads, dilations = self.lists()
        return [
            -1
            if size < 0
            else (size + pads[i] + pads[i + self.rank] - dilations[i] * (kernel[i] - 1) - 1)
            // strides[i]
            + 1
            for i, size in enumerate(spatial)
        ]

    def verify(self) -> None:
        """The four lists fit each other; no zero stride. A negative pad cuts off."""
        kernel, strides, pads, dilations = self.lists()
        if not kernel:
            raise VerifyException("a window has at least one spatial axis")
        if len(strides) != self.rank or len(dilations) != self.rank or len(pads) != 2 * self.rank:
            raise VerifyException(
                f"a window over {self.rank} axes has {self.rank} strides and dilations "
                f"and {2 * self.rank} pads"
            )
        if min(kernel + strides + dilations) < 1:
            raise VerifyException("kernel, strides and dilations are at least 1")

    def print_clauses(self, printer: Printer) -> None:
        """` window [3, 3] strides [2, 2] pads [1, 1, 1, 1]`, defaults left out."""
        kernel, strides, pads, dilations = self.lists()
        print_ints(printer, "window", kernel)
        if any(s != 1 for s in strides):
            print_ints(printer, "strides", strides)
        if any(pads):
            print_ints(printer, "pads", pads)
        if any(d != 1 for d in dilations):
            print_ints(printer, "dilations", dilations)

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> "WindowAttr":
        """The inverse of `print_clauses`, after the keyword `window`."""
        kernel = parse_ints(parser)
        strides = parse_ints(parser) if parser.parse_optional_keyword("strides") else None
        pads = parse_ints(parser) if parser.parse_optional_keyword("pads") else None
        dilations = parse_ints(parser) if parser.parse_optional_keyword("dilations") else None
        return cls.of(kernel, strides, pads, dilations)

    def print_parameters(self, printer: Printer) -> None:
        """`<window [3, 3] ...>`"""
        printer.print_string("<")
        self.print_clauses(printer)
        printer.print_string(">")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            parser.parse_keyword("window")
            window = cls.parse_clauses(parser)
        return [window.kernel, window.strides, window.pads, window.dilations]


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
        rows = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parse_ints(parser)
        )
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

    The matrix has a row for each (channel, offset) and a column for each (filter, offset); `rows`
    and `columns` say how many offsets each has (a convolution [k^2, 1], a transposed one that
    scatters [1, k^2]). The weights of one offset, channels x filters, are cut by `inner` as a
    matrix of their own. `without [4]`: offsets that stand nowhere, for their weights are zero.
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


@irdl_attr_definition
class SelectionAttr(ParametrizedAttribute):
    """Rows or columns of a matrix in the order in which tiles count them: `@conv1.rows 300`.

    The array of that name in the weights file lists `count` indices. What it leaves out stands on
    no crossbar; an index may come twice, for a row that several tiles read, or a column whose sums
    are added up.
    """

    name = "xbar.selection"

    symbol: StringAttr
    count: IntAttr

    @staticmethod
    def of(symbol: str, count: int) -> "SelectionAttr":
        """`count` indices in the array `symbol`."""
        return SelectionAttr(StringAttr(symbol), IntAttr(count))

    def verify(self) -> None:
        """At least one index."""
        if self.count.data < 1:
            raise VerifyException("a selection has at least one row or column")

    def print_clause(self, printer: Printer, keyword: str) -> None:
        """` rows @conv1.rows 300`"""
        printer.print_string(f" {keyword} ")
        printer.print_symbol_name(self.symbol.data)
        printer.print_string(f" {self.count.data}")

    @classmethod
    def parse_clause(cls, parser: AttrParser) -> "SelectionAttr":
        """The inverse of `print_clause`, after the keyword."""
        return cls.of(parser.parse_symbol_name().data, parser.parse_integer())

    def print_parameters(self, printer: Printer) -> None:
        """`<@conv1.rows 300>`"""
        printer.print_string("<")
        printer.print_symbol_name(self.symbol.data)
        printer.print_string(f" {self.count.data}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            parsed = cls.parse_clause(parser)
        return [parsed.symbol, parsed.count]


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
