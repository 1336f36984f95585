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

from xbarc.hw.sharing import share
from xbarc.hw.target import Array
from xbarc.ir.dialect import placement
from xbarc.ir.dialect.assembly import (
    crossbar_of,
    element_of,
    integer,
    need_axis,
    need_codes,
    need_vectors,
    parse_optional_int,
    parse_with_weights,
    parsed,
    print_operands,
    print_optional_int,
    print_signature,
    real_text,
    shape_of,
    tensor,
)
from xbarc.ir.dialect.attributes import (
    GridAttr,
    OffsetsAttr,
    PackedAttr,
    SelectionAttr,
    StreamType,
    TileListAttr,
    Tiles,
    TilingAttr,
    WindowAttr,
    coverage_error,
    ints,
    parse_ints,
    parse_regular,
    print_ints,
)
from xbarc.ir.dialect.unroll import UnrollAttr
from xbarc.ir.dialect.weights import WeightsOp, weights_of


@irdl_op_definition
class GatherOp(IRDLOperation):
    """A tensor to a stream of input vectors.

    `%2 = xbar.gather %1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x3x32x32xui8> ->
    !xbar.stream<1024 x 27 x ui8>`: one vector an output position, its entries in ONNX's order
    (channel, kernel row, kernel column), `fill` where the window hangs over the edge.
    `%2 = xbar.gather %1 axis 1 : ...`: the vectors lie along one axis, in the order of the others.

    `spread [2, 2] window ...`: the window slides over the input with its entries two apart, zeros
    between them. `flat window [2]`: the spatial axes count as one.
    """

    name = "xbar.gather"

    input = operand_def(TensorType)
    window = opt_prop_def(WindowAttr)
    axis = opt_prop_def(IntegerAttr[I64])
    spread = opt_prop_def(DenseArrayBase)
    flat = opt_prop_def(UnitAttr)
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
    def windows(
        cls,
        value: SSAValue,
        window: WindowAttr,
        vectors: int,
        fill: int,
        *,
        spread: Sequence[int] | None = None,
        flat: bool = False,
    ) -> "GatherOp":
        """One vector a window position; `vectors` of them for a batch of one."""
        result = StreamType.of(vectors, shape_of(value)[1] * window.size, element_of(value))
        properties: dict[str, Attribute] = {"window": window, "fill": integer(fill)}
        if spread is not None:
            properties["spread"] = ints(spread)
        if flat:
            properties["flat"] = UnitAttr()
        return cls.create(operands=[value], properties=properties, result_types=[result])

    def spreads(self) -> list[int]:
        """How far apart the input's entries stand under the window, an axis of it each."""
        if self.spread is not None:
            return [int(v) for v in self.spread.get_values()]
        return [1] * (1 if self.window is None else self.window.rank)

    def seen_size(self) -> list[int]:
        """The spatial size that the window slides over."""
        spatial = spatial_size(shape_of(self.input), flat=self.flat is not None)
        return [
            s if s < 0 else (s - 1) * apart + 1
            for s, apart in zip(spatial, self.spreads(), strict=True)
        ]

    def verify_(self) -> None:
        """The stream's length and count follow from the tensor."""
        need_codes(self.input, "the input")
        shape, stream = shape_of(self.input), self.result.type
        if stream.element != element_of(self.input):
            raise VerifyException("tensor and stream differ in element type")
        if self.window is not None and self.axis is None:
            need_spatial(shape, self.window, flat=self.flat is not None)
            apart = self.spreads()
            if len(apart) != self.window.rank or min(apart) < 1:
                raise VerifyException("spread is one distance an axis of the window, at least 1")
            length = shape[1] * self.window.size
            positions = self.window.output_size(self.seen_size())
            if 0 in positions or min(positions) < -1:
                raise VerifyException("the window is larger than the padded input")
            others = [shape[0], *positions]
        elif self.axis is not None and self.window is None:
            if self.spread is not None or self.flat is not None:
                raise VerifyException("spread and flat are about a window")
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
        print_operands(printer, self)
        if self.spread is not None:
            print_ints(printer, "spread", self.spreads())
        print_where(printer, self.window, self.axis, flat=self.flat is not None)
        print_optional_int(printer, "fill", self.fill.value.data)
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "GatherOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        properties: dict[str, Attribute] = {}
        if parser.parse_optional_keyword("spread"):
            properties["spread"] = ints(parse_ints(parser))
        properties |= parse_where(parser)
        properties["fill"] = integer(parse_optional_int(parser, "fill"))
        return parsed(cls, parser, value, properties)


@irdl_op_definition
class MvmOp(IRDLOperation):
    """Every vector of a stream meets a weight matrix that stands on crossbars.

    `%3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] : !xbar.stream<1024 x 27 x ui8> ->
    !xbar.stream<1024 x 16 x si32>`. `by` names the mapping that made it. The tiling is a `grid`,
    `packed` blocks of a block-diagonal matrix, or a list of `tiles`. `adc [lo, hi]` is the
    calibrated range of the converters, in units of one level step, under the target's
    `adc.mode = "calibrated"`. `copies`, `at`, `time` and `stream` say where and when
    (`xbarc.ir.dialect.placement`); they don't change what is computed.

    `rows @conv1.rows 300 columns @conv1.columns 48 sparse tiles [[0, 128, 0, 16], ...]`: tiles
    count the rows and columns that those arrays of the weights file list, in their order, so they
    may stand permuted, or not at all; what `sparse` tiles leave out is zero too. The stream and
    the result stay as they are: a row that stands nowhere is driven nowhere, a column that stands
    nowhere gives 0.

    `unroll ...` puts the kernel at many places of a larger matrix (`xbarc.ir.dialect.unroll`): the
    stream, the result and the tiles are that matrix's. `offsets` cut it by kernel offset. `gated`:
    rows of a tile in which all weights are zero aren't driven, bit lines on which all cells are at
    level 0 aren't converted, a tile of zeros isn't activated; results don't depend on it. `beside
    @first`: the tiles stand on cells that those of an earlier mvm leave free (`xbarc.hw.sharing`),
    on crossbars counted there.
    """

    name = "xbar.mvm"

    input = operand_def(StreamType)
    weights = prop_def(SymbolRefAttr)
    by = prop_def(StringAttr)
    unroll = opt_prop_def(UnrollAttr)
    gated = opt_prop_def(UnitAttr)
    tiling = prop_def(Attribute)
    rows = opt_prop_def(SelectionAttr)
    columns = opt_prop_def(SelectionAttr)
    sparse = opt_prop_def(UnitAttr)
    adc = opt_prop_def(DenseArrayBase)
    beside = opt_prop_def(SymbolRefAttr)
    copies = opt_prop_def(IntegerAttr)
    at = opt_prop_def(DenseArrayBase)
    time = opt_prop_def(DenseArrayBase)
    stream = opt_prop_def(DenseArrayBase)
    result = result_def(StreamType)

    traits = traits_def(Pure())

    def __init__(
        self,
        value: SSAValue,
        weights: WeightsOp,
        by: str,
        tiling: TilingAttr,
        element: IntegerType,
        *,
        unroll: UnrollAttr | None = None,
        gated: bool = False,
    ):
        vectors = cast(StreamType, value.type).vectors.data
        columns = weights.matrix[1] * (1 if unroll is None else unroll.patch_size)
        properties: dict[str, Attribute] = {
            "weights": SymbolRefAttr(weights.symbol),
            "by": StringAttr(by),
            "tiling": tiling,
        }
        if unroll is not None:
            properties["unroll"] = unroll
        if gated:
            properties["gated"] = UnitAttr()
        if isinstance(tiling, OffsetsAttr) and tiling.without:
            properties["sparse"] = UnitAttr()
        super().__init__(
            operands=[value],
            properties=properties,
            result_types=[StreamType.of(vectors, columns, element)],
        )

    @property
    def adc_range(self) -> tuple[float, float] | None:
        """The calibrated range, where there is one."""
        if self.adc is None:
            return None
        low, high = self.adc.get_values()
        return float(low), float(high)

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows of one group and columns of all, unrolled where it is."""
        stored = weights_of(self).stored_shape
        return stored if self.unroll is None else self.unroll.stored_shape(*stored)

    @property
    def matrix(self) -> tuple[int, int]:
        """K x N that the vectors meet, zeros between groups included, unrolled where it is."""
        rows, cols = self.stored_shape
        return rows * weights_of(self).group_count, cols

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
        return cast(TilingAttr, self.tiling).tiles(*self.standing, weights_of(self).group_count)

    def verify_(self) -> None:
        """Shapes fit; each weight on exactly one tile; each tile on one crossbar."""
        weights = weights_of(self)
        rows = weights.stored_shape[0]
        if self.unroll is not None and rows % self.unroll.kernel_size:
            raise VerifyException(
                f"{rows} rows of @{weights.symbol} aren't channels of {self.unroll.kernel_size} "
                "kernel positions"
            )
        (k, n), groups = self.matrix, weights.group_count
        source, result = cast(StreamType, self.input.type), self.result.type
        if source.length.data != k or result.length.data != n:
            raise VerifyException(
                f"vectors of {source.length.data} and {result.length.data}, "
                f"@{weights.symbol} is {k} x {n}{'' if self.unroll is None else ' unrolled'}"
            )
        if source.vectors != result.vectors:
            raise VerifyException("as many vectors come out as go in")
        tiling, sparse = self.tiling, self.sparse is not None
        selected = self.rows is not None or self.columns is not None
        if self.unroll is not None and (selected or (sparse and isinstance(tiling, TileListAttr))):
            raise VerifyException("an unrolled matrix stands whole: no selection, no sparse tiles")
        if isinstance(tiling, OffsetsAttr):
            _verify_offsets(tiling, k // groups, n // groups, selected=selected, sparse=sparse)
        elif isinstance(tiling, TileListAttr):
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
        if self.beside is not None:
            self._verify_shared()
        elif self.copies is not None or self.at is not None:
            placement.verify_placement(self, self.crossbars())
        placement.verify_times(self)

    def crossbars(self) -> int:
        """Crossbars of one copy, none of its own where it stands beside another mvm.

        Raises `VerifyException` where the module doesn't say its crossbar.
        """
        if self.beside is not None:
            return 0
        crossbar = crossbar_of(self)
        if crossbar is None:
            raise VerifyException("the module doesn't say its xbar.crossbar")
        bits = weights_of(self).weight_bits
        return len(self.tiles()) * crossbar.array().crossbars_per_tile(bits)

    @property
    def host(self) -> "MvmOp | None":
        """The earlier mvm of its block on whose crossbars it stands; None where it has its own."""
        block = self.parent_block()
        if self.beside is None or block is None:
            return None
        for op in block.ops:
            if op is self:
                break
            if isinstance(op, MvmOp) and op.weights == self.beside:
                return op
        return None

    def _verify_shared(self) -> None:
        name, host, crossbar = self.beside, self.host, crossbar_of(self)
        if host is None:
            raise VerifyException(f"{name} is no earlier mvm to stand beside")
        if host.beside is not None:
            raise VerifyException(f"{name} itself stands beside another")
        if crossbar is None:
            raise VerifyException("the module doesn't say its xbar.crossbar")
        if placement.copies_of(host) != placement.copies_of(self):
            raise VerifyException(f"it stands {placement.copies_of(self)} times, {name} doesn't")
        if placement.ranges_of(host) != placement.ranges_of(self):
            raise VerifyException(f"it stands elsewhere than {name}")
        block = self.parent_block()
        others = [] if block is None else [o for o in block.ops if isinstance(o, MvmOp)]
        if next(o for o in (*others, self) if o.host is host) is not self:
            raise VerifyException(f"another mvm stands beside {name} already")
        if not fits_beside(self, host, crossbar.array()):
            raise VerifyException(f"its tiles don't fit on what {name} leaves free")

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
        print_operands(printer, self)
        printer.print_string(" by ")
        printer.print_string_literal(self.by.data)
        if self.rows is not None:
            self.rows.print_clause(printer, "rows")
        if self.columns is not None:
            self.columns.print_clause(printer, "columns")
        if self.unroll is not None:
            self.unroll.print_clauses(printer)
        for flag in ("gated", "sparse"):
            if flag in self.properties:
                printer.print_string(f" {flag}")
        cast(TilingAttr, self.tiling).print_clauses(printer)
        if (adc := self.adc_range) is not None:
            printer.print_string(f" adc [{real_text(adc[0])}, {real_text(adc[1])}]")
        if self.beside is not None:
            printer.print_string(" beside ")
            printer.print_attribute(self.beside)
        placement.print_clauses(printer, self)
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "MvmOp":
        """Custom assembly."""
        value, properties = parse_with_weights(parser)
        parser.parse_keyword("by")
        properties["by"] = StringAttr(parser.parse_str_literal())
        for keyword in ("rows", "columns"):
            if parser.parse_optional_keyword(keyword):
                properties[keyword] = SelectionAttr.parse_clause(parser)
        if parser.parse_optional_keyword("unroll"):
            properties["unroll"] = UnrollAttr.parse_clauses(parser)
        for flag in ("gated", "sparse"):
            if parser.parse_optional_keyword(flag):
                properties[flag] = UnitAttr()
        if (regular := parse_regular(parser)) is not None:
            properties["tiling"] = regular
        elif parser.parse_optional_keyword("offsets"):
            properties["tiling"] = OffsetsAttr.parse_clauses(parser)
        else:
            parser.parse_keyword("tiles", " (or grid, packed, offsets)")
            properties["tiling"] = TileListAttr.parse_list(parser)
        if parser.parse_optional_keyword("adc"):
            values = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_number)
            properties["adc"] = DenseArrayBase.from_list(f64, [float(v) for v in values])
        if parser.parse_optional_keyword("beside"):
            properties["beside"] = SymbolRefAttr(parser.parse_symbol_name().data)
        properties |= placement.parse_clauses(parser, placed=True)
        return parsed(cls, parser, value, properties)


def fits_beside(guest: MvmOp, host: MvmOp, array: Array) -> bool:
    """Whether the tiles of `guest` fit on cells that those of `host` leave free."""
    bits = [weights_of(op).weight_bits for op in (host, guest)]
    if array.crossbars_per_tile(bits[1]) > array.crossbars_per_tile(bits[0]):
        return False
    footprints = []
    for op, width in zip((host, guest), map(array.columns_per_weight, bits), strict=True):
        tiles = op.tiles()
        rows, columns = tiles[:, 1] - tiles[:, 0], (tiles[:, 3] - tiles[:, 2]) * width
        footprints.append(list(zip(rows.tolist(), columns.tolist(), strict=True)))
    return share(footprints[0], footprints[1], (array.rows, array.cols)) is not None


def _verify_offsets(tiling: OffsetsAttr, k: int, n: int, *, selected: bool, sparse: bool) -> None:
    """Offsets of a group's `k` x `n` weights: they divide rows and columns."""
    if k % tiling.rows.data or n % tiling.columns.data:
        raise VerifyException(
            f"{tiling.rows.data} x {tiling.columns.data} offsets don't divide {k} rows and "
            f"{n} columns"
        )
    if selected:
        raise VerifyException("offsets order rows and columns: no selection beside them")
    if sparse != bool(tiling.without):
        raise VerifyException("sparse belongs to offsets without some, and to no others")


@irdl_op_definition
class ScatterOp(IRDLOperation):
    """A stream of result vectors back to a tensor.

    `%4 = xbar.scatter %3 axis 1 : !xbar.stream<1024 x 16 x si32> -> tensor<?x16x32x32xsi32>`: the
    entries of a vector along `axis`.

    `%4 = xbar.scatter %3 window [8, 8] strides [8, 8] : !xbar.stream<16 x 1024 x si32> ->
    tensor<?x16x32x32xsi32>`: the reverse of a gather. The entries of a vector, in the order
    (channel, window position), are added where the window stands; what hangs over is dropped, what
    no window reaches is 0. `flat window [2]`: the spatial axes count as one.
    """

    name = "xbar.scatter"

    input = operand_def(StreamType)
    axis = opt_prop_def(IntegerAttr[I64])
    window = opt_prop_def(WindowAttr)
    flat = opt_prop_def(UnitAttr)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, axis: int, shape: Sequence[int]):
        super().__init__(
            operands=[value],
            properties={"axis": integer(axis)},
            result_types=[tensor(shape, cast(StreamType, value.type).element)],
        )

    @classmethod
    def windows(
        cls, value: SSAValue, window: WindowAttr, shape: Sequence[int], *, flat: bool = False
    ) -> "ScatterOp":
        """Vectors of (channel, window position) added to a tensor of `shape`."""
        properties: dict[str, Attribute] = {"window": window}
        if flat:
            properties["flat"] = UnitAttr()
        result = tensor(shape, cast(StreamType, value.type).element)
        return cls.create(operands=[value], properties=properties, result_types=[result])

    def verify_(self) -> None:
        """Length and count fit the tensor."""
        need_codes(self.result, "the result")
        stream, shape = cast(StreamType, self.input.type), shape_of(self.result)
        if stream.element != element_of(self.result):
            raise VerifyException("stream and tensor differ in element type")
        if self.axis is not None and self.window is None and self.flat is None:
            axis = self.axis.value.data
            need_axis(shape, axis, stream.length.data)
            need_vectors(stream, [s for i, s in enumerate(shape) if i != axis])
        elif self.window is not None and self.axis is None:
            need_spatial(shape, self.window, flat=self.flat is not None)
            if shape[1] * self.window.size != stream.length.data:
                raise VerifyException(
                    f"vectors of {stream.length.data} aren't {shape[1]} channels x "
                    f"{self.window.size} window positions"
                )
            spatial = spatial_size(shape, flat=self.flat is not None)
            need_vectors(stream, [shape[0], *self.window.output_size(spatial)])
        else:
            raise VerifyException("a scatter has either a window or an axis")

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        print_operands(printer, self)
        print_where(printer, self.window, self.axis, flat=self.flat is not None)
        print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "ScatterOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        properties = parse_where(parser)
        return parsed(cls, parser, value, properties)


def spatial_size(shape: Sequence[int], *, flat: bool) -> list[int]:
    """The spatial axes of a tensor [N, C, spatial...], as one where they count as `flat`."""
    spatial = list(shape[2:])
    if not flat:
        return spatial
    return [-1 if min(spatial, default=1) < 0 else math.prod(spatial)]


def need_spatial(shape: Sequence[int], window: WindowAttr, *, flat: bool) -> None:
    """Refuse a window over other axes than the tensor's. Raises `VerifyException`."""
    if len(shape) < 3 or (window.rank != 1 if flat else window.rank != len(shape) - 2):
        raise VerifyException(
            f"a {'flat ' * flat}window over {window.rank} axes on a rank {len(shape)} tensor"
        )


def print_where(
    printer: Printer,
    window: WindowAttr | None,
    axis: IntegerAttr[I64] | None,
    *,
    flat: bool,
) -> None:
    """` flat window [2]`, ` window [3, 3]` or ` axis 1`."""
    if flat:
        printer.print_string(" flat")
    if window is not None:
        window.print_clauses(printer)
    if axis is not None:
        printer.print_string(f" axis {axis.value.data}")


def parse_where(parser: Parser) -> dict[str, Attribute]:
    """The inverse of `print_where`, as properties."""
    if parser.parse_optional_keyword("axis"):
        return {"axis": integer(parser.parse_integer())}
    properties: dict[str, Attribute] = {}
    if parser.parse_optional_keyword("flat"):
        properties["flat"] = UnitAttr()
    parser.parse_keyword("window", " (or axis)")
    properties["window"] = WindowAttr.parse_clauses(parser)
    return properties
