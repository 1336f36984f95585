"""What is said of an operator that can stand on crossbars: its kind."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from xbarc.ir.dialect import LayerOp, WeightsOp
from xbarc.lowering.product import Product
from xbarc.lowering.rewrites import cast, split_bias
from xbarc.support.data import Array

Shape = tuple[int, ...]
"""Of a tensor of the program; -1 is the batch."""


@dataclass(frozen=True)
class Operands:
    """What a layer operation is made of.

    `codes` is the input, `element` the type of the sums, `items` what the batch axis of the result
    holds for a batch of one, `zero_point` the code of the number 0; `source` and `result` are the
    shapes of the input and of the result.
    """

    codes: SSAValue
    weights: WeightsOp
    element: IntegerType
    items: int
    zero_point: int
    source: Shape
    result: Shape


class LayerKind(ABC):
    """How one ONNX operator becomes a weight matrix [K, N] and a layer operation.

    `name` is what `xbarc` calls the kind, `op_type` and `domain` are the node's. `sides` are the
    pairs (static, moving) of inputs that it can be, the best first. `least_rank` are the fewest
    axes that its weights have. `bias` is the input that is added to the product, None where there
    is none. `takes_zero_point` says whether each result adds up all rows of the matrix (or is
    `xbar.conv_transpose`, whose window says which): only then can an input's zero point be taken
    out again.

    What isn't overridden is a product by a matrix that is stored as [K, N].
    """

    name: ClassVar[str]
    op_type: ClassVar[str]
    domain: ClassVar[str] = ""
    sides: ClassVar[tuple[tuple[int, int], ...]] = ((1, 0),)
    least_rank: ClassVar[int] = 1
    bias: ClassVar[int | None] = None
    takes_zero_point: ClassVar[bool] = True

    def refusal(self, product: Product) -> str | None:
        """Why the product can't stand on crossbars, as `xbarc compile` shows it."""
        return None

    def transposed(self, product: Product) -> bool:
        """Whether the matrix is stored as [N, K]."""
        return False

    def matrix_shape(self, product: Product) -> tuple[int, int]:
        """Rows of one group, and columns of all."""
        rows, columns = product.shape[-2:]
        return (columns, rows) if self.transposed(product) else (rows, columns)

    def as_matrix(self, product: Product, stored: Array) -> Array:
        """The stored array as [K, N]."""
        return stored.T if self.transposed(product) else stored

    def columns_axis(self, product: Product) -> int:
        """The axis of the stored array along which the columns lie, and with them their scales."""
        return 0 if self.transposed(product) else len(product.shape) - 1

    def groups(self, product: Product) -> int:
        """Blocks of a block-diagonal matrix."""
        return 1

    def factors(self, product: Product) -> tuple[float, float]:
        """What the product and the bias are multiplied by."""
        return 1.0, 1.0

    def addend(self, product: Product, bias: ir.Value) -> ir.Value:
        """A bias that isn't one number a column, as it is added to the finished product."""
        return bias

    def legalize(self, product: Product) -> None:
        """Rewrite the graph around the node, exactly, so that a matrix and a bias [N] are left."""
        if self.bias is not None:
            split_bias(product, self.bias, self.matrix_shape(product)[1], self.addend)
        cast(product)

    @abstractmethod
    def operation(self, product: Product, given: Operands) -> tuple[LayerOp, int]:
        """The layer operation, and the axis of its result along which the columns lie.

        Raises `XbarcError` where these shapes can't be mapped.
        """

    def multiply_accumulates(
        self, product: Product, source: Sequence[int], result: Sequence[int]
    ) -> int:
        """Products of two numbers, with an input and a result of these shapes."""
        return math.prod(result) * self.matrix_shape(product)[0]
