"""Rows and columns of a matrix that stand on crossbars."""

from collections.abc import Sequence

from xdsl.dialects.builtin import IntAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class SelectionAttr(ParametrizedAttribute):
    """Rows or columns of a matrix in the order in which tiles count them: `@conv1.rows 300`.

    The array of that name in the weights file lists `count` indices. Rows and columns that it
    leaves out stand on no crossbar. An index may appear twice: several tiles then read that row, or
    the sums of that column are added.
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

    def print_clauses(self, printer: Printer) -> None:
        """` @conv1.rows 300`"""
        printer.print_string(" ")
        self._print(printer)

    @classmethod
    def parse_clauses(cls, parser: AttrParser) -> "SelectionAttr":
        """The inverse of `print_clauses`."""
        return cls.of(parser.parse_symbol_name().data, parser.parse_integer())

    def print_parameters(self, printer: Printer) -> None:
        """`<@conv1.rows 300>`"""
        with printer.in_angle_brackets():
            self._print(printer)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        with parser.in_angle_brackets():
            return cls.parse_clauses(parser).parameters

    def _print(self, printer: Printer) -> None:
        printer.print_symbol_name(self.symbol.data)
        printer.print_string(f" {self.count.data}")
