"""Numbers and clauses in the text of operations.

Operations say their text in xDSL's declarative `assembly_format`; the directives here write what it
has no word for. Attributes print and parse themselves: xDSL's format of attributes knows keywords
alone, no parameters.
"""

from collections.abc import Sequence
from typing import Protocol, Self, cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    f64,
    i64,
)
from xdsl.ir import Attribute
from xdsl.irdl import IRDLOperation
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    UniqueBaseAttributeVariable,
    irdl_custom_directive,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer


def integer(value: int) -> IntegerAttr[IntegerType]:
    """An i64 attribute."""
    return IntegerAttr(value, i64)


def ints(values: Sequence[int]) -> DenseArrayBase[IntegerType]:
    """A list of integers as an attribute."""
    return DenseArrayBase.from_list(i64, [int(v) for v in values])


def print_list(printer: Printer, values: Sequence[int]) -> None:
    """Print ` [1, 2]`."""
    printer.print_string(f" [{', '.join(map(str, values))}]")


def print_ints(printer: Printer, keyword: str, values: Sequence[int]) -> None:
    """Print ` keyword [1, 2]`."""
    printer.print_string(f" {keyword}")
    print_list(printer, values)


def parse_ints(parser: AttrParser) -> list[int]:
    """Parse `[1, 2]`."""
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)


def parse_lists(parser: AttrParser) -> list[list[int]]:
    """Parse `[[1, 2], [3, 4]]`."""
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_ints(parser))


def real(value: float) -> FloatAttr:
    """An f64 attribute: its text reads back to the same bits."""
    return FloatAttr(value, f64)


def reals(values: Sequence[float]) -> DenseArrayBase:
    """A list of f64 as an attribute."""
    return DenseArrayBase.from_list(f64, [float(v) for v in values])


def _real_text(value: float) -> str:
    """The shortest decimal that reads back to the same bits, as MLIR writes it."""
    # MLIR wants a point before the exponent: 1e-05 is written 1.0e-05.
    mantissa, exp, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exp}{exponent}"


@irdl_custom_directive
class Real(CustomDirective):
    """`0.5`, in the shortest text that reads back to the same bits; xDSL's own has more digits."""

    value: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """An integer will do too."""
        self.value.set(state, real(float(parser.parse_number())))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """`0.5`"""
        state.print_whitespace(printer)
        printer.print_string(_real_text(float(cast(FloatAttr, self.value.get(op)).value.data)))


@irdl_custom_directive
class Reals(CustomDirective):
    """`time [0.0, 12.5]`: reals under the property's own name, where they are said."""

    values: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Nothing, where another word comes."""
        if parser.parse_optional_keyword(self.values.name):
            found = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_number)
            self.values.set(state, reals([float(v) for v in found]))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """` time [0.0, 12.5]`"""
        found = self.values.get(op)
        if isinstance(found, DenseArrayBase):
            texts = ", ".join(_real_text(float(v)) for v in found.get_values())
            printer.print_string(f" {self.values.name} [{texts}]")


class Clauses(Protocol):
    """An attribute that stands in an operation as words of their own, behind a keyword."""

    def print_clauses(self, printer: Printer) -> None:
        """What comes after the keyword, a space before it."""

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> Self:
        """The inverse of `print_clauses`."""
        ...


@irdl_custom_directive
class Clause(CustomDirective):
    """`window [3, 3] strides [2, 2]`: an attribute as `Clauses`, behind the property's own name."""

    attribute: UniqueBaseAttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Nothing, where the property is optional and another word comes."""
        if not self.attribute.is_optional:
            parser.parse_keyword(self.attribute.name)
        elif not parser.parse_optional_keyword(self.attribute.name):
            return
        clauses = cast(type[Clauses], self.attribute.unique_base)
        self.attribute.set(state, cast(Attribute, clauses.parse_clauses(parser)))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """` window [3, 3] strides [2, 2]`"""
        found = self.attribute.get(op)
        if found is not None:
            printer.print_string(f" {self.attribute.name}")
            cast(Clauses, found).print_clauses(printer)
