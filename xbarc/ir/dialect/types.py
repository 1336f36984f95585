"""Types of values: streams of vectors, codes, what the digital unit alone understands."""

from collections.abc import Sequence

from xdsl.dialects.builtin import IntAttr, IntegerType, Signedness
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


def code_type(bits: int, signed: bool) -> IntegerType:
    """The element type of a tensor of input codes: `si8`, `ui8`, ..."""
    return IntegerType(bits, Signedness.SIGNED if signed else Signedness.UNSIGNED)


def is_code_type(attribute: Attribute) -> bool:
    """Whether `attribute` is a signed or unsigned (never signless) integer type."""
    return (
        isinstance(attribute, IntegerType) and attribute.signedness.data is not Signedness.SIGNLESS
    )


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
