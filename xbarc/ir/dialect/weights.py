"""`xbar.weights`, and finding the ones that an operation names."""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    BoolAttr,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
)
from xdsl.ir import Block, Operation
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    prop_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import integer
from xbarc.ir.dialect.module import module_of


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

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # xDSL says no type
        self.index: dict[str, WeightsOp] = {}

    @property
    def symbol(self) -> str:
        """The name, which is the ONNX node's."""
        return self.sym_name.data

    @property
    def is_named(self) -> bool:
        """Whether it has a name at all: an operation that nothing has verified may have none."""
        return isinstance(self.properties.get("sym_name"), StringAttr)

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

    # By hand: `27x16xi8` is three properties in one word, which xDSL's format can't say.
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
    return weights_named(op, cast(SymbolRefAttr, op.properties["weights"]))


def weights_named(op: Operation, symbol: SymbolRefAttr) -> WeightsOp:
    """The `xbar.weights` of that name in the module around `op`.

    Raises `VerifyException` where the symbol isn't there or names something else.
    """
    module = module_of(op)
    nested = bool(symbol.nested_references.data)
    found = None
    if module is not None and not nested:
        found = _find(module.body.block, symbol.root_reference.data)
    if found is None:
        raise VerifyException(f"{symbol} doesn't name an xbar.weights of this module")
    return found


def _find(block: Block, name: str) -> WeightsOp | None:
    # A walk through the block for every layer takes n x n steps. So the first weights of the block
    # keep an index of all. It only proposes: what it finds must still stand in the block under that
    # name, else the block is read again. No rewrite needs to know of it; a clone begins anew.
    first = next((op for op in block.ops if isinstance(op, WeightsOp)), None)
    if first is None:
        return None
    found = first.index.get(name)
    if found is None or found.parent is not block or found.symbol != name:
        named = (op for op in block.ops if isinstance(op, WeightsOp) and op.is_named)
        first.index = {op.symbol: op for op in named}
        found = first.index.get(name)
    return found


def need_columns(shape: Sequence[int], axis: int, weights: WeightsOp) -> None:
    """Refuse an axis that isn't of the matrix's columns. Raises `VerifyException`."""
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} isn't one of the tensor's {len(shape)}")
    if shape[axis] != weights.matrix[1]:
        raise VerifyException(
            f"axis {axis} has {shape[axis]} entries, @{weights.symbol} {weights.matrix[1]} columns"
        )
