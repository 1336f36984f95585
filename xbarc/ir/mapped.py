"""The mapped triple: gather, mvm, scatter."""

import math
from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.ir import placement
from xbarc.ir.assembly import (
    crossbar_of,
    element_of,
    integer,
    need_axis,
    need_codes,
    need_vectors,
    parse_optional_int,
    parse_signature,
    print_optional_int,
    print_signature,
    real_text,
    shape_of,
    tensor,
)
from xbarc.ir.attributes import (
    GridAttr,
    PackedAttr,
    SelectionAttr,
    StreamType,
    TileListAttr,
    Tiles,
    TilingAttr,
    WindowAttr,
    coverage_error,
    parse_ints,
)
from xbarc.ir.weights import WeightsOp, weights_of


@irdl_op_definition
class GatherOp(IRDLOperation):
    """A tensor to a stream of input vectors.

    `%2 = xbar.gather %1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x3x32x32xui8> ->
    !xbar.stream<1024 x 27 x ui8>`: one vector an output position, its entries in ONNX's order
    (channel, kernel row, kernel column), `fill` where the window hangs over the edge.
    `%2 = xbar.gather %1 axis 1 : ...`: the vectors lie along one axis, in the order of the others.
    """

    name = "xbar.gather"

    input = operand_def(TensorType)
    window = opt_prop_def(WindowAttr)
    axis = opt_prop_def(IntegerAttr[I64])
    fill = prop_def(IntegerAttr[I64])
    result = result_def(StreamType)

    traits = traits_def(Pure())

    @classmethod
    def along(cls, value: SSAValue, axis: int, vectors: int) -> "GatherOp":
        """The vectors along `axis`; `vectors` of them for a batch of one."""
        result = StreamType.of(vectors, shape_of(value)[axis], element_of(value))
        return cls.create(
            operands=[value],
            properties={"axis": integer(axis), "fill": integer(0)},
            result_types=[result],
        )

    @classmethod
    def windows(cls, value: SSAValue, window: WindowAttr, vectors: int, fill: int) -> "GatherOp":
        """One vector a window position; `vectors` of them for a batch of one."""
        result = StreamType.of(vectors, shape_of(value)[1] * window.size, element_of(value))
        return cls.create(
            operands=[value],
            properties={"window": window, "fill": integer(fill)},
            result_types=[result],
        )

    def verify_(self) -> None:
        """The stream's length and count follow from the tensor."""
        need_codes(self.input, "the input")
        shape, stream = shape_of(self.input), self.result.type
        if stream.element != element_of(self.input):
            raise VerifyException("tensor and stream differ in element type")
        if self.window is not None and self.axis is None:
            if len(shape) != self.window.rank + 2:
                raise VerifyException(
                    f"a window over {self.window.rank} axes on a rank {len(shape)} tensor"
                )
            length = shape[1] * self.window.size
            others = [shape[0], *self.window.output_size(shape[2:])]
        elif self.axis is not None and self.window is None:
            axis = self.axis.value.data
            need_axis(shape, axis, stream.length.data)
            length, others = shape[axis], [s for i, s in enumerate(shape) if i != axis]
        else:
            raise VerifyException("a gather has either a window or an axis")
        if stream.length.data != length:
            raise VerifyException(f"vectors of {stream.length.data}, the tensor gives {length}")
        need_vectors(stream, others)

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        if self.window is not None:
            self.window.print_clauses(printer)
        if self.axis is not None:
            printer.print_string(f" axis {self.axis.value.data}")
        print_optional_int(printer, "fill", self.fill.value.data)
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "GatherOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        properties: dict[str, Attribute] = {}
        if parser.parse_optional_keyword("axis"):
            properties["axis"] = integer(parser.parse_integer())
        else:
            parser.parse_keyword("window")
            properties["window"] = WindowAttr.parse_clauses(parser)
        properties["fill"] = integer(parse_optional_int(parser, "fill"))
        attributes, source, result = parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties=properties,
            result_types=[result],
        )


@irdl_op_definition
class MvmOp(IRDLOperation):
    """Every vector of a stream meets a weight matrix that stands on crossbars.

    `%3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] : !xbar.stream<1024 x 27 x ui8> ->
    !xbar.stream<1024 x 16 x si32>`. `by` names the mapping that made it. The tiling is a `grid`,
    `packed` blocks of a block-diagonal matrix, or a list of `tiles`. `adc [lo, hi]` is the
    calibrated range of the converters, in units of one level step, under the target's
    `adc.mode = "calibrated"`. `copies`, `at`, `time` and `stream` say where and when
    (`xbarc.ir.placement`); they don't change what is computed.

    `rows @conv1.rows 300 columns @conv1.columns 48 sparse tiles [[0, 128, 0, 16], ...]`: tiles
    count the rows and columns that those arrays of the weights file list, in their order, so they
    may stand permuted, or not at all; what `sparse` tiles leave out is zero too. The stream and
    the result stay as they are: a row that stands nowhere is driven nowhere, a column that stands
    nowhere gives 0.
    """

    name = "xbar.mvm"

    input = operand_def(StreamType)
    weights = prop_def(SymbolRefAttr)
    by = prop_def(StringAttr)
    tiling = prop_def(Attribute)
    rows = opt_prop_def(SelectionAttr)
    columns = opt_prop_def(SelectionAttr)
    sparse = opt_prop_def(UnitAttr)
    adc = opt_prop_def(DenseArrayBase)
    copies = opt_prop_def(IntegerAttr)
    at = opt_prop_def(DenseArrayBase)
    time = opt_prop_def(DenseArrayBase)
    stream = opt_prop_def(DenseArrayBase)
    result = result_def(StreamType)

    traits = traits_def(Pure())

    def __init__(
        self, value: SSAValue, weights: WeightsOp, by: str, tiling: TilingAttr, element: IntegerType
    ):
        vectors = cast(StreamType, value.type).vectors.data
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights.symbol),
                "by": StringAttr(by),
                "tiling": tiling,
            },
            result_types=[StreamType.of(vectors, weights.matrix[1], element)],
        )

    @property
    def adc_range(self) -> tuple[float, float] | None:
        """The calibrated range, where there is one."""
        if self.adc is None:
            return None
        low, high = self.adc.get_values()
        return float(low), float(high)

    @property
    def standing(self) -> tuple[int, int]:
        """Rows and columns that tiles count: the matrix's, or as many as are selected."""
        k, n = weights_of(self).matrix
        return (
            k if self.rows is None else self.rows.count.data,
            n if self.columns is None else self.columns.count.data,
        )

    def tiles(self) -> Tiles:
        """The tiles on the crossbars, [T, 4], in the rows and columns that are selected."""
        return cast(TilingAttr, self.tiling).tiles(*self.standing, weights_of(self).group_count)

    def verify_(self) -> None:
        """Shapes fit; each weight on exactly one tile; each tile on one crossbar."""
        weights = weights_of(self)
        (k, n), groups = weights.matrix, weights.group_count
        source, result = cast(StreamType, self.input.type), self.result.type
        if source.length.data != k or result.length.data != n:
            raise VerifyException(
                f"vectors of {source.length.data} and {result.length.data}, "
                f"@{weights.symbol} is {k} x {n}"
            )
        if source.vectors != result.vectors:
            raise VerifyException("as many vectors come out as go in")
        tiling, sparse = self.tiling, self.sparse is not None
        selected = self.rows is not None or self.columns is not None
        if isinstance(tiling, TileListAttr):
            if selected and groups > 1 and not sparse:
                raise VerifyException("selected rows of a block-diagonal matrix want sparse tiles")
            blocks = 1 if selected else groups
            if reason := coverage_error(self.tiles(), *self.standing, blocks, sparse=sparse):
                raise VerifyException(reason)
        elif not isinstance(tiling, GridAttr | PackedAttr):
            raise VerifyException(f"{tiling} isn't a tiling")
        elif sparse or (selected and groups > 1):
            raise VerifyException("only a list of tiles can leave weights of a group out")
        if self.adc is not None:
            values = self.adc.get_values()
            if len(values) != 2 or not -math.inf < values[0] < values[1] < math.inf:
                raise VerifyException("adc is [lo, hi] with lo < hi")
        self._verify_capacity(weights)
        if self.copies is not None or self.at is not None:
            placement.verify_placement(self, self.crossbars())
        placement.verify_times(self)

    def crossbars(self) -> int:
        """Crossbars of one copy. Raises `VerifyException` where the module doesn't say which."""
        crossbar = crossbar_of(self)
        if crossbar is None:
            raise VerifyException("the module doesn't say its xbar.crossbar")
        bits = weights_of(self).weight_bits
        return len(self.tiles()) * crossbar.array().crossbars_per_tile(bits)

    def _verify_capacity(self, weights: WeightsOp) -> None:
        crossbar = crossbar_of(self)
        if crossbar is None:
            return
        array = crossbar.array()
        columns = array.columns_per_weight(weights.weight_bits)
        tiles = self.tiles()
        rows, cols = tiles[:, 1] - tiles[:, 0], tiles[:, 3] - tiles[:, 2]
        too_large = (rows > array.rows) | (cols * columns > array.cols)
        if too_large.any():
            i = int(too_large.argmax())
            raise VerifyException(
                f"tile {tiles[i].tolist()} takes {rows[i]} rows and {cols[i] * columns} columns "
                f"({cols[i]} weights of {columns} cells) of a {array.rows} x {array.cols} crossbar"
            )

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(", ")
        printer.print_attribute(self.weights)
        printer.print_string(" by ")
        printer.print_string_literal(self.by.data)
        if self.rows is not None:
            self.rows.print_clause(printer, "rows")
        if self.columns is not None:
            self.columns.print_clause(printer, "columns")
        if self.sparse is not None:
            printer.print_string(" sparse")
        cast(TilingAttr, self.tiling).print_clauses(printer)
        if (adc := self.adc_range) is not None:
            printer.print_string(f" adc [{real_text(adc[0])}, {real_text(adc[1])}]")
        placement.print_clauses(printer, self)
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "MvmOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        weights = parser.parse_symbol_name()
        properties: dict[str, Attribute] = {"weights": SymbolRefAttr(weights.data)}
        parser.parse_keyword("by")
        properties["by"] = StringAttr(parser.parse_str_literal())
        for keyword in ("rows", "columns"):
            if parser.parse_optional_keyword(keyword):
                properties[keyword] = SelectionAttr.parse_clause(parser)
        if parser.parse_optional_keyword("sparse"):
            properties["sparse"] = UnitAttr()
        if parser.parse_optional_keyword("grid"):
            sizes = parse_ints(parser)
            if len(sizes) != 2:
                parser.raise_error("a grid is [rows, columns] of a whole tile")
            properties["tiling"] = GridAttr.of(*sizes)
        elif parser.parse_optional_keyword("packed"):
            properties["tiling"] = PackedAttr.of(parser.parse_integer())
        else:
            parser.parse_keyword("tiles", " (or grid, packed)")
            properties["tiling"] = TileListAttr.parse_list(parser)
        if parser.parse_optional_keyword("adc"):
            values = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_number)
            properties["adc"] = DenseArrayBase.from_list(f64, [float(v) for v in values])
        properties |= placement.parse_clauses(parser, placed=True)
        attributes, source, result = parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties=properties,
            result_types=[result],
        )


@irdl_op_definition
class ScatterOp(IRDLOperation):
    """A stream of result vectors back to a tensor: the entries of a vector along `axis`.

    `%4 = xbar.scatter %3 axis 1 : !xbar.stream<1024 x 16 x si32> -> tensor<?x16x32x32xsi32>`
    """

    name = "xbar.scatter"

    input = operand_def(StreamType)
    axis = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, axis: int, shape: Sequence[int]):
        super().__init__(
            operands=[value],
            properties={"axis": integer(axis)},
            result_types=[tensor(shape, cast(StreamType, value.type).element)],
        )

    def verify_(self) -> None:
        """Length and count fit the tensor."""
        need_codes(self.result, "the result")
        stream, shape, axis = (
            cast(StreamType, self.input.type),
            shape_of(self.result),
            self.axis.value.data,
        )
        if stream.element != element_of(self.result):
            raise VerifyException("stream and tensor differ in element type")
        need_axis(shape, axis, stream.length.data)
        need_vectors(stream, [s for i, s in enumerate(shape) if i != axis])

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(f" axis {self.axis.value.data}")
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "ScatterOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_keyword("axis")
        axis = parser.parse_integer()
        attributes, source, result = parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={"axis": integer(axis)},
            result_types=[result],
        )
