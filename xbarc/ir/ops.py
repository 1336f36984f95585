"""Operations of the `xbar` dialect: layers, the mapped triple gather / mvm / scatter, and edges.

    layer level    quantize -> conv | dense -> dequantize
    mapped level   quantize -> gather -> mvm -> scatter -> dequantize
    both           weights (module level), digital

A mapping pass turns each layer operation into the triple; nothing else changes.
"""

import math
import re
from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    I64,
    BoolAttr,
    DenseArrayBase,
    Float32Type,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f32,
    f64,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from xbarc.ir import placement
from xbarc.ir.attributes import (
    CrossbarAttr,
    GridAttr,
    PackedAttr,
    SelectionAttr,
    StreamType,
    TileListAttr,
    Tiles,
    TilingAttr,
    WindowAttr,
    coverage_error,
    is_code_type,
    parse_ints,
)

CROSSBAR = "xbar.crossbar"
"""The module attribute that holds the crossbar geometry."""


def tensor(shape: Sequence[int], element: Attribute) -> TensorType[Attribute]:
    """A tensor type; -1 is a dimension that varies with the batch."""
    return TensorType(element, [DYNAMIC_INDEX if s < 0 else s for s in shape])


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor value, -1 where it varies with the batch."""
    shape = cast(TensorType[Attribute], value.type).get_shape()
    return tuple(-1 if s == DYNAMIC_INDEX else s for s in shape)


def element_of(value: SSAValue) -> IntegerType:
    """The element type of a stream or a tensor of codes."""
    if isinstance(value.type, StreamType):
        return value.type.element
    return cast(IntegerType, cast(TensorType[Attribute], value.type).element_type)


def integer(value: int) -> IntegerAttr[IntegerType]:
    """An i64 attribute."""
    return IntegerAttr(value, i64)


def real(value: float) -> FloatAttr:
    """An f64 attribute: its text reads back to the same bits."""
    return FloatAttr(value, f64)


def _real_text(value: float) -> str:
    """The shortest decimal that reads back to the same bits, as MLIR writes it."""
    # MLIR wants a point before the exponent: 1e-05 is written 1.0e-05.
    mantissa, exp, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exp}{exponent}"


def _print_real(printer: Printer, keyword: str, value: FloatAttr) -> None:
    printer.print_string(f" {keyword} {_real_text(float(value.value.data))}")


def _parse_real(parser: Parser) -> FloatAttr:
    return real(float(parser.parse_number()))


def _print_optional_int(printer: Printer, keyword: str, value: int, default: int = 0) -> None:
    if value != default:
        printer.print_string(f" {keyword} {value}")


def _parse_optional_int(parser: Parser, keyword: str, default: int = 0) -> int:
    return parser.parse_integer() if parser.parse_optional_keyword(keyword) else default


def _print_signature(printer: Printer, op: Operation) -> None:
    printer.print_op_attributes(op.attributes)
    printer.print_string(" : ")
    printer.print_attribute(op.operands[0].type)
    printer.print_string(" -> ")
    printer.print_attribute(op.results[0].type)


def _parse_signature(parser: Parser) -> tuple[dict[str, Attribute], Attribute, Attribute]:
    """Attributes that a pass left on the operation, the operand's type, the result's."""
    attributes = parser.parse_optional_attr_dict()
    parser.parse_punctuation(":")
    operand = parser.parse_type()
    parser.parse_punctuation("->")
    return attributes, operand, parser.parse_type()


def _need_codes(value: SSAValue, what: str) -> None:
    if not isinstance(value.type, TensorType) or not is_code_type(value.type.element_type):
        raise VerifyException(f"{what} is a tensor of si<n> or ui<n>, not {value.type}")


def _need_vectors(stream: StreamType, others: Sequence[int]) -> None:
    """The vectors of a stream against the axes of its tensor that aren't vectors' own.

    An axis of unknown size varies with the batch; it holds at least one item for a batch of one,
    so the count is a multiple of what is known.
    """
    known = math.prod(s for s in others if s >= 0)
    exact = all(s >= 0 for s in others)
    if stream.vectors.data % max(known, 1) or (exact and stream.vectors.data != known):
        raise VerifyException(
            f"{stream.vectors.data} vectors don't fit the tensor, whose other axes hold {known}"
        )


@irdl_op_definition
class WeightsOp(IRDLOperation):
    """An integer weight matrix, by name: its numbers stand in the weights file.

    `xbar.weights @conv1 : 27x16xi8 groups 4 bias for "Conv"`: `K / groups` rows, N columns (the
    stored shape), the bits of a weight, the blocks of a block-diagonal matrix, and the ONNX
    operator. The weights file holds `conv1` (int), `conv1.scale` (float64 [N]) and, with `bias`,
    `conv1.bias` (float32 [N]).
    """

    name = "xbar.weights"

    sym_name = prop_def(SymbolNameConstraint())
    rows = prop_def(IntegerAttr[I64])
    cols = prop_def(IntegerAttr[I64])
    bits = prop_def(IntegerAttr[I64])
    groups = prop_def(IntegerAttr[I64])
    bias = prop_def(BoolAttr)
    onnx_op = prop_def(StringAttr)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        sym_name: str,
        rows: int,
        cols: int,
        bits: int,
        *,
        groups: int = 1,
        bias: bool = False,
        onnx_op: str = "",
    ):
        super().__init__(
            properties={
                "sym_name": StringAttr(sym_name),
                "rows": integer(rows),
                "cols": integer(cols),
                "bits": integer(bits),
                "groups": integer(groups),
                "bias": BoolAttr.from_bool(bias),
                "onnx_op": StringAttr(onnx_op),
            }
        )

    @property
    def symbol(self) -> str:
        """The name, which is the ONNX node's."""
        return self.sym_name.data

    @property
    def group_count(self) -> int:
        """Blocks on the diagonal; 1 is an ordinary matrix."""
        return self.groups.value.data

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Shape in the weights file: rows of one group, columns of all."""
        return self.rows.value.data, self.cols.value.data

    @property
    def matrix(self) -> tuple[int, int]:
        """K x N of the whole matrix, zeros between the blocks included."""
        return self.rows.value.data * self.group_count, self.cols.value.data

    @property
    def weight_bits(self) -> int:
        """Bits of a weight, with sign."""
        return self.bits.value.data

    def verify_(self) -> None:
        """A matrix that isn't empty, columns that divide among the groups, 2 to 16 bits."""
        if min(self.stored_shape) < 1 or self.group_count < 1:
            raise VerifyException("a weight matrix has at least one row, column and group")
        if self.cols.value.data % self.group_count:
            raise VerifyException(
                f"{self.cols.value.data} columns don't divide among {self.group_count} groups"
            )
        if not 2 <= self.weight_bits <= 16:
            raise VerifyException(f"weights have 2 to 16 bits, not {self.weight_bits}")

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_symbol_name(self.symbol)
        rows, cols = self.stored_shape
        printer.print_string(f" : {rows}x{cols}xi{self.weight_bits}")
        if self.group_count != 1:
            printer.print_string(f" groups {self.group_count}")
        if self.bias.value.data:
            printer.print_string(" bias")
        if self.onnx_op.data:
            printer.print_string(" for ")
            printer.print_string_literal(self.onnx_op.data)
        printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> "WeightsOp":
        """Custom assembly."""
        name = parser.parse_symbol_name().data
        parser.parse_punctuation(":")
        shape, element = parser.parse_ranked_shape()
        if len(shape) != 2 or not isinstance(element, IntegerType):
            parser.raise_error("weights are written <rows>x<cols>xi<bits>")
        groups = parser.parse_integer() if parser.parse_optional_keyword("groups") else 1
        bias = parser.parse_optional_keyword("bias") is not None
        onnx_op = parser.parse_str_literal() if parser.parse_optional_keyword("for") else ""
        weights = cls(
            name,
            shape[0],
            shape[1],
            element.width.data,
            groups=groups,
            bias=bias,
            onnx_op=onnx_op,
        )
        weights.attributes.update(parser.parse_optional_attr_dict())
        return weights


def weights_of(op: Operation) -> WeightsOp:
    """The `xbar.weights` that a conv, dense, mvm or dequantize names.

    Raises `VerifyException` where the symbol isn't there or names something else.
    """
    symbol = cast(SymbolRefAttr, op.properties["weights"])
    found = SymbolTable.lookup_symbol(op, symbol)
    if not isinstance(found, WeightsOp):
        raise VerifyException(f"{symbol} doesn't name an xbar.weights of this module")
    return found


@irdl_op_definition
class QuantizeOp(IRDLOperation):
    """Real activations to integer codes: `clip(rint(x / scale))` to the range of the result type.

    `%1 = xbar.quantize %0 scale 0.0208 : tensor<?x3x32x32xf32> -> tensor<?x3x32x32xsi8>`
    Signed codes are symmetric (+-(2^(b-1) - 1)), unsigned ones 0 .. 2^b - 1 (numerics:
    Quantisation).
    """

    name = "xbar.quantize"

    input = operand_def(TensorType)
    scale = prop_def(FloatAttr[Float64Type])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, scale: float, element: IntegerType):
        super().__init__(
            operands=[value],
            properties={"scale": real(scale)},
            result_types=[tensor(shape_of(value), element)],
        )

    def verify_(self) -> None:
        """Same shape, codes out, a positive finite scale."""
        _need_codes(self.result, "the result")
        if shape_of(self.input) != shape_of(self.result):
            raise VerifyException("input and result differ in shape")
        if not 0 < self.scale.value.data < math.inf:
            raise VerifyException("scale is a positive number")

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        _print_real(printer, "scale", self.scale)
        _print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "QuantizeOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_keyword("scale")
        scale = _parse_real(parser)
        attributes, source, result = _parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={"scale": scale},
            result_types=[result],
        )


@irdl_op_definition
class DequantizeOp(IRDLOperation):
    """Column sums to real values: `(acc - zero_point * colsum[n]) * scale * w_scale[n] + bias[n]`.

    `%5 = xbar.dequantize %4, @conv1 scale 0.0208 axis 1 : tensor<?x16x32x32xsi32> -> ...xf32>`
    `scale` is the input codes', `zero_point` the code that means 0 (0 unless the model came
    quantised), `axis` the one of the columns n.
    """

    name = "xbar.dequantize"

    input = operand_def(TensorType)
    weights = prop_def(SymbolRefAttr)
    scale = prop_def(FloatAttr[Float64Type])
    zero_point = prop_def(IntegerAttr[I64])
    axis = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, weights: str, scale: float, axis: int, zero_point: int = 0):
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights),
                "scale": real(scale),
                "zero_point": integer(zero_point),
                "axis": integer(axis),
            },
            result_types=[tensor(shape_of(value), f32)],
        )

    def verify_(self) -> None:
        """Same shape, N columns on the axis."""
        _need_codes(self.input, "the input")
        if shape_of(self.input) != shape_of(self.result):
            raise VerifyException("input and result differ in shape")
        if not isinstance(cast(TensorType[Attribute], self.result.type).element_type, Float32Type):
            raise VerifyException("the result is a tensor of f32")
        if not 0 < self.scale.value.data < math.inf:
            raise VerifyException("scale is a positive number")
        _need_columns(shape_of(self.input), self.axis.value.data, weights_of(self))

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(", ")
        printer.print_attribute(self.weights)
        _print_real(printer, "scale", self.scale)
        _print_optional_int(printer, "zero_point", self.zero_point.value.data)
        printer.print_string(f" axis {self.axis.value.data}")
        _print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "DequantizeOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        weights = parser.parse_symbol_name()
        parser.parse_keyword("scale")
        scale = _parse_real(parser)
        zero_point = _parse_optional_int(parser, "zero_point")
        parser.parse_keyword("axis")
        axis = parser.parse_integer()
        attributes, source, result = _parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={
                "weights": SymbolRefAttr(weights.data),
                "scale": scale,
                "zero_point": integer(zero_point),
                "axis": integer(axis),
            },
            result_types=[result],
        )


def _need_columns(shape: Sequence[int], axis: int, weights: WeightsOp) -> None:
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} isn't one of the tensor's {len(shape)}")
    if shape[axis] != weights.matrix[1]:
        raise VerifyException(
            f"axis {axis} has {shape[axis]} entries, @{weights.symbol} {weights.matrix[1]} columns"
        )


@irdl_op_definition
class ConvOp(IRDLOperation):
    """A convolution of codes, not mapped yet.

    `%2 = xbar.conv %1, @conv1 window [3, 3] pads [1, 1, 1, 1] fill 128 : ... -> ...`
    Input [N, C, spatial...], result [N, columns, spatial...]; groups stand on the weights; `fill`
    is the code that stands in the padding (the zero point).
    """

    name = "xbar.conv"

    input = operand_def(TensorType)
    weights = prop_def(SymbolRefAttr)
    window = prop_def(WindowAttr)
    fill = prop_def(IntegerAttr[I64])
    items = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        value: SSAValue,
        weights: WeightsOp,
        window: WindowAttr,
        element: IntegerType,
        *,
        fill: int = 0,
        items: int = 1,
    ):
        shape = shape_of(value)
        out = [shape[0], weights.matrix[1], *window.output_size(shape[2:])]
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights.symbol),
                "window": window,
                "fill": integer(fill),
                "items": integer(items),
            },
            result_types=[tensor(out, element)],
        )

    def verify_(self) -> None:
        """Channels x kernel = rows; the result's shape follows from the window."""
        _need_codes(self.input, "the input")
        _need_codes(self.result, "the result")
        shape, weights = shape_of(self.input), weights_of(self)
        if len(shape) != self.window.rank + 2:
            raise VerifyException(
                f"a window over {self.window.rank} axes on a rank {len(shape)} tensor"
            )
        if shape[1] * self.window.size != weights.matrix[0]:
            raise VerifyException(
                f"{shape[1]} channels x {self.window.size} kernel positions aren't the "
                f"{weights.matrix[0]} rows of @{weights.symbol}"
            )
        want = (shape[0], weights.matrix[1], *self.window.output_size(shape[2:]))
        if shape_of(self.result) != want:
            raise VerifyException(f"the result's shape is {shape_of(self.result)}, not {want}")
        if 0 in want or min(want) < -1:
            raise VerifyException("the window is larger than the padded input")

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(", ")
        printer.print_attribute(self.weights)
        self.window.print_clauses(printer)
        _print_optional_int(printer, "fill", self.fill.value.data)
        _print_optional_int(printer, "items", self.items.value.data, default=1)
        _print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "ConvOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        weights = parser.parse_symbol_name()
        parser.parse_keyword("window")
        window = WindowAttr.parse_clauses(parser)
        fill = _parse_optional_int(parser, "fill")
        items = _parse_optional_int(parser, "items", default=1)
        attributes, source, result = _parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={
                "weights": SymbolRefAttr(weights.data),
                "window": window,
                "fill": integer(fill),
                "items": integer(items),
            },
            result_types=[result],
        )


@irdl_op_definition
class DenseOp(IRDLOperation):
    """A matrix product of codes along one axis, not mapped yet.

    `%2 = xbar.dense %1, @fc axis 1 to 1 : tensor<?x84xui8> -> tensor<?x10xsi32>`
    The vectors lie along `axis` of the input, the result's columns along its axis `to`; `items` is
    what an axis of unknown size holds for a batch of one, where that isn't 1.
    """

    name = "xbar.dense"

    input = operand_def(TensorType)
    weights = prop_def(SymbolRefAttr)
    axis = prop_def(IntegerAttr[I64])
    to = prop_def(IntegerAttr[I64])
    items = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    def __init__(
        self,
        value: SSAValue,
        weights: WeightsOp,
        axis: int,
        to: int,
        element: IntegerType,
        *,
        items: int = 1,
    ):
        rest = list(shape_of(value))
        del rest[axis]
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights.symbol),
                "axis": integer(axis),
                "to": integer(to),
                "items": integer(items),
            },
            result_types=[tensor([*rest[:to], weights.matrix[1], *rest[to:]], element)],
        )

    def verify_(self) -> None:
        """K entries on the axis, N on the result's, the other axes alike."""
        _need_codes(self.input, "the input")
        _need_codes(self.result, "the result")
        weights, axis, to = weights_of(self), self.axis.value.data, self.to.value.data
        shape, out = list(shape_of(self.input)), list(shape_of(self.result))
        _need_axis(shape, axis, weights.matrix[0])
        _need_columns(out, to, weights)
        del shape[axis], out[to]
        if shape != out:
            raise VerifyException(f"the other axes differ: {shape} and {out}")

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(", ")
        printer.print_attribute(self.weights)
        printer.print_string(f" axis {self.axis.value.data} to {self.to.value.data}")
        _print_optional_int(printer, "items", self.items.value.data, default=1)
        _print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "DenseOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        weights = parser.parse_symbol_name()
        parser.parse_keyword("axis")
        axis = parser.parse_integer()
        parser.parse_keyword("to")
        to = parser.parse_integer()
        items = _parse_optional_int(parser, "items", default=1)
        attributes, source, result = _parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={
                "weights": SymbolRefAttr(weights.data),
                "axis": integer(axis),
                "to": integer(to),
                "items": integer(items),
            },
            result_types=[result],
        )


def _need_axis(shape: Sequence[int], axis: int, length: int) -> None:
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} isn't one of the tensor's {len(shape)}")
    if shape[axis] != length:
        raise VerifyException(f"axis {axis} has {shape[axis]} entries, not {length}")


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
        _need_codes(self.input, "the input")
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
            _need_axis(shape, axis, stream.length.data)
            length, others = shape[axis], [s for i, s in enumerate(shape) if i != axis]
        else:
            raise VerifyException("a gather has either a window or an axis")
        if stream.length.data != length:
            raise VerifyException(f"vectors of {stream.length.data}, the tensor gives {length}")
        _need_vectors(stream, others)

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        if self.window is not None:
            self.window.print_clauses(printer)
        if self.axis is not None:
            printer.print_string(f" axis {self.axis.value.data}")
        _print_optional_int(printer, "fill", self.fill.value.data)
        _print_signature(printer, self)

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
        properties["fill"] = integer(_parse_optional_int(parser, "fill"))
        attributes, source, result = _parse_signature(parser)
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
            printer.print_string(f" adc [{_real_text(adc[0])}, {_real_text(adc[1])}]")
        placement.print_clauses(printer, self)
        _print_signature(printer, self)

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
        attributes, source, result = _parse_signature(parser)
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
        _need_codes(self.result, "the result")
        stream, shape, axis = (
            cast(StreamType, self.input.type),
            shape_of(self.result),
            self.axis.value.data,
        )
        if stream.element != element_of(self.result):
            raise VerifyException("stream and tensor differ in element type")
        _need_axis(shape, axis, stream.length.data)
        _need_vectors(stream, [s for i, s in enumerate(shape) if i != axis])

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_operand(self.input)
        printer.print_string(f" axis {self.axis.value.data}")
        _print_signature(printer, self)

    @classmethod
    def parse(cls, parser: Parser) -> "ScatterOp":
        """Custom assembly."""
        value = parser.parse_unresolved_operand()
        parser.parse_keyword("axis")
        axis = parser.parse_integer()
        attributes, source, result = _parse_signature(parser)
        return cls.create(
            operands=[parser.resolve_operand(value, source)],
            attributes=attributes,
            properties={"axis": integer(axis)},
            result_types=[result],
        )


@irdl_op_definition
class DigitalOp(IRDLOperation):
    """What the digital unit computes: an ONNX file of the program, run by onnxruntime.

    `%5, %6 = xbar.digital "digital/0.onnx" (%4, %0) : (tensor<...>, tensor<...>) ->
    (tensor<...>, tensor<...>)`: operands and results in the order of the file's inputs and outputs.
    """

    name = "xbar.digital"

    inputs = var_operand_def()
    file = prop_def(StringAttr)
    time = opt_prop_def(DenseArrayBase)
    stream = opt_prop_def(DenseArrayBase)
    outputs = var_result_def()

    traits = traits_def(Pure())

    def __init__(self, file: str, inputs: Sequence[SSAValue], outputs: Sequence[Attribute]):
        super().__init__(
            operands=[list(inputs)],
            properties={"file": StringAttr(file)},
            result_types=[list(outputs)],
        )

    def verify_(self) -> None:
        """A file of the program's own folder."""
        if not re.fullmatch(r"digital/[\w.-]+\.onnx", self.file.data):
            raise VerifyException(f'{self.file.data!r} isn\'t of the form "digital/<name>.onnx"')
        placement.verify_times(self)

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_string_literal(self.file.data)
        printer.print_string(" (")
        printer.print_list(self.inputs, printer.print_operand)
        printer.print_string(")")
        placement.print_clauses(printer, self)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : (")
        printer.print_list(self.inputs.types, printer.print_attribute)
        printer.print_string(") -> (")
        printer.print_list(self.outputs.types, printer.print_attribute)
        printer.print_string(")")

    @classmethod
    def parse(cls, parser: Parser) -> "DigitalOp":
        """Custom assembly."""
        file = parser.parse_str_literal()
        operands = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, parser.parse_unresolved_operand
        )
        position = parser.pos
        times = placement.parse_clauses(parser, placed=False)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        sources = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        parser.parse_punctuation("->")
        results = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        op = cls(file, parser.resolve_operands(operands, sources, position), results)
        op.properties.update(times)
        op.attributes.update(attributes)
        return op


def crossbar_of(op: Operation) -> CrossbarAttr | None:
    """The geometry that the module around `op` is mapped for, where it says one."""
    root: Operation | None = op
    while root is not None and not isinstance(root, ModuleOp):
        root = root.parent_op()
    found = root.attributes.get(CROSSBAR) if root is not None else None
    return found if isinstance(found, CrossbarAttr) else None
