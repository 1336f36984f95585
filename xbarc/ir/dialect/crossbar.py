"""The crossbar geometry that a module is mapped for."""

from collections.abc import Sequence
from typing import Literal, cast

from xdsl.dialects.builtin import IntAttr, StringAttr
from xdsl.ir import Attribute, Operation, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect.module import module_of

CROSSBAR = "xbar.crossbar"
"""The module attribute that holds the crossbar geometry."""


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
    def of(array: CrossbarArray) -> "CrossbarAttr":
        """The attribute of a target's array."""
        return CrossbarAttr(
            IntAttr(array.rows),
            IntAttr(array.cols),
            IntAttr(array.cell_bits),
            StringAttr(array.encoding),
            StringAttr(array.slices_in),
            StringAttr(array.polarity_in),
        )

    def array(self) -> CrossbarArray:
        """The geometry as the target's schema knows it."""
        return CrossbarArray(
            rows=self.rows.data,
            cols=self.cols.data,
            cell_bits=self.cell_bits.data,
            encoding=cast(Literal["differential", "offset"], self.encoding.data),
            slices_in=cast(Literal["columns", "arrays"], self.slices_in.data),
            polarity_in=cast(Literal["columns", "arrays", "rows"], self.polarity_in.data),
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


def crossbar_of(op: Operation) -> CrossbarAttr | None:
    """The geometry that the module around `op` is mapped for, where it says one."""
    module = module_of(op)
    found = None if module is None else module.attributes.get(CROSSBAR)
    return found if isinstance(found, CrossbarAttr) else None
