"""What layers are together: `xbar.squeeze_excitation`."""

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr, SymbolRefAttr
from xdsl.irdl import IRDLOperation, irdl_op_definition, prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SymbolTable
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.weights import WeightsOp

TEXTS = ("pool", "activation", "gate", "scale", "behind")


@irdl_op_definition
class SqueezeExcitationOp(IRDLOperation):
    """Two layers are a squeeze-and-excitation block; the ONNX nodes around them by name.

    `xbar.squeeze_excitation @se1, @se2 pool "pool" activation "Relu" gate "HardSigmoid"
    scale "mul"`: `activation` and `gate` are operators, in order. `behind "dw"`: the depthwise
    convolution that the scale was moved behind. It changes nothing that is computed.
    """

    name = "xbar.squeeze_excitation"

    first = prop_def(SymbolRefAttr)
    second = prop_def(SymbolRefAttr)
    pool = prop_def(StringAttr)
    activation = prop_def(StringAttr)
    gate = prop_def(StringAttr)
    scale = prop_def(StringAttr)
    behind = prop_def(StringAttr)

    def __init__(self, layers: Sequence[str], **texts: str):
        """`layers` are the two; `texts` the rest, by name."""
        first, second = layers
        super().__init__(
            properties={
                "first": SymbolRefAttr(first),
                "second": SymbolRefAttr(second),
                **{name: StringAttr(texts[name]) for name in TEXTS},
            }
        )

    @property
    def layers(self) -> tuple[str, str]:
        """The names of the two layers."""
        return self.first.root_reference.data, self.second.root_reference.data

    def text(self, name: str) -> str:
        """One of `TEXTS`."""
        found = self.properties[name]
        return found.data if isinstance(found, StringAttr) else ""

    @property
    def weights(self) -> WeightsOp:
        """The first layer's weights, C x C/r."""
        return self._weights(self.first)

    def _weights(self, symbol: SymbolRefAttr) -> WeightsOp:
        found = SymbolTable.lookup_symbol(self, symbol)
        if not isinstance(found, WeightsOp):
            raise VerifyException(f"{symbol} doesn't name an xbar.weights of this module")
        return found

    def verify_(self) -> None:
        """Two layers that there are, C x C/r and C/r x C."""
        shapes = [self._weights(symbol).matrix for symbol in (self.first, self.second)]
        if shapes[0] != shapes[1][::-1]:
            raise VerifyException(
                f"{shapes[0][0]} x {shapes[0][1]} and {shapes[1][0]} x {shapes[1][1]} don't "
                "squeeze channels and excite them again"
            )

    def print(self, printer: Printer) -> None:
        """Custom assembly."""
        printer.print_string(" ")
        printer.print_attribute(self.first)
        printer.print_string(", ")
        printer.print_attribute(self.second)
        for name in TEXTS:
            if text := self.text(name):
                printer.print_string(f" {name} ")
                printer.print_string_literal(text)
        printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> "SqueezeExcitationOp":
        """Custom assembly."""
        first = parser.parse_symbol_name()
        parser.parse_punctuation(",")
        second = parser.parse_symbol_name()
        texts = {
            name: parser.parse_str_literal() if parser.parse_optional_keyword(name) else ""
            for name in TEXTS
        }
        made = cls((first.data, second.data), **texts)
        made.attributes |= parser.parse_optional_attr_dict()
        return made
