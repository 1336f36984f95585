"""What the operations of the `xbar` dialect share: clauses of their text, shapes, checks."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    f64,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.attributes import CrossbarAttr, StreamType, is_code_type

Op = TypeVar("Op", bound=Operation)

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


def real_text(value: float) -> str:
    """The shortest decimal that reads back to the same bits, as MLIR writes it."""
    # MLIR wants a point before the exponent: 1e-05 is written 1.0e-05.
    mantissa, exp, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exp}{exponent}"


def print_real(printer: Printer, keyword: str, value: FloatAttr) -> None:
    """Print ` keyword 0.5`: text that reads back to the same bits."""
    printer.print_string(f" {keyword} {real_text(float(value.value.data))}")


def parse_real(parser: Parser) -> FloatAttr:
    """The inverse of `print_real`, after the keyword."""
    return real(float(parser.parse_number()))


def print_optional_int(printer: Printer, keyword: str, value: int, default: int = 0) -> None:
    """Print ` keyword 3`, or nothing for the default."""
    if value != default:
        printer.print_string(f" {keyword} {value}")


def parse_optional_int(parser: Parser, keyword: str, default: int = 0) -> int:
    """The inverse of `print_optional_int`."""
    return parser.parse_integer() if parser.parse_optional_keyword(keyword) else default


def print_signature(printer: Printer, op: Operation) -> None:
    """Print the other attributes, and ` : operand -> result`."""
    printer.print_op_attributes(op.attributes)
    printer.print_string(" : ")
    printer.print_attribute(op.operands[0].type)
    printer.print_string(" -> ")
    printer.print_attribute(op.results[0].type)


def parsed(
    cls: type[Op], parser: Parser, value: UnresolvedOperand, properties: Mapping[str, Attribute]
) -> Op:
    """The operation on `value`, once its signature is read: the inverse of `print_signature`."""
    attributes = parser.parse_optional_attr_dict()
    parser.parse_punctuation(":")
    operand = parser.parse_type()
    parser.parse_punctuation("->")
    result = parser.parse_type()
    return cls.create(
        operands=[parser.resolve_operand(value, operand)],
        attributes=attributes,
        properties=properties,
        result_types=[result],
    )


def print_operands(printer: Printer, op: Operation) -> None:
    """Print ` %1`, or ` %1, @conv1` of an operation that has weights."""
    printer.print_string(" ")
    printer.print_operand(op.operands[0])
    if (weights := op.properties.get("weights")) is not None:
        printer.print_string(", ")
        printer.print_attribute(weights)


def parse_with_weights(parser: Parser) -> tuple[UnresolvedOperand, dict[str, Attribute]]:
    """`%1, @conv1`: the operand, and the weights as a property."""
    value = parser.parse_unresolved_operand()
    parser.parse_punctuation(",")
    return value, {"weights": SymbolRefAttr(parser.parse_symbol_name().data)}


def need_codes(value: SSAValue, what: str) -> None:
    """Refuse a value that is no tensor of codes. Raises `VerifyException`."""
    if not isinstance(value.type, TensorType) or not is_code_type(value.type.element_type):
        raise VerifyException(f"{what} is a tensor of si<n> or ui<n>, not {value.type}")


def need_vectors(stream: StreamType, others: Sequence[int]) -> None:
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


def need_axis(shape: Sequence[int], axis: int, length: int) -> None:
    """Refuse an axis that isn't there or of another length. Raises `VerifyException`."""
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} isn't one of the tensor's {len(shape)}")
    if shape[axis] != length:
        raise VerifyException(f"axis {axis} has {shape[axis]} entries, not {length}")


def crossbar_of(op: Operation) -> CrossbarAttr | None:
    """The geometry that the module around `op` is mapped for, where it says one."""
    root: Operation | None = op
    while root is not None and not isinstance(root, ModuleOp):
        root = root.parent_op()
    found = root.attributes.get(CROSSBAR) if root is not None else None
    return found if isinstance(found, CrossbarAttr) else None
