"""What layers are together: `xbar.squeeze_excitation`."""

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr, SymbolRefAttr
from xdsl.irdl import IRDLOperation, irdl_op_definition, prop_def
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.weights import WeightsOp, weights_named

TEXTS = ("pool", "activation", "gate", "scale", "behind")


@irdl_op_definition
class SqueezeExcitationOp(IRDLOperation):
    """Marks two layers as a squeeze-and-excitation block, and names the ONNX nodes around them.

    `xbar.squeeze_excitation @se1, @se2 pool "pool" activation "Relu" gate "HardSigmoid"
    scale "mul"`: `activation` and `gate` are operators, in order. `behind "dw"`: the depthwise
    convolution that the scale was moved behind. The operation doesn't change what is computed.
    """

    name = "xbar.squeeze_excitation"

    first = prop_def(SymbolRefAttr)
    second = prop_def(SymbolRefAttr)
    pool = prop_def(StringAttr, default_value=StringAttr(""))
    activation = prop_def(StringAttr, default_value=StringAttr(""))
    gate = prop_def(StringAttr, default_value=StringAttr(""))
    scale = prop_def(StringAttr, default_value=StringAttr(""))
    behind = prop_def(StringAttr, default_value=StringAttr(""))

    assembly_format = (
        "$first `,` $second (`pool` $pool^)? (`activation` $activation^)? (`gate` $gate^)? "
        "(`scale` $scale^)? (`behind` $behind^)? attr-dict"
    )

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
        return weights_named(self, self.first)

    def verify_(self) -> None:
        """Two layers that there are, C x C/r and C/r x C."""
        shapes = [weights_named(self, symbol).matrix for symbol in (self.first, self.second)]
        if shapes[0] != shapes[1][::-1]:
            raise VerifyException(
                f"{shapes[0][0]} x {shapes[0][1]} and {shapes[1][0]} x {shapes[1][1]} don't "
                "squeeze channels and excite them again"
            )
