"""Layer operations: what a mapping pass turns into gather, mvm and scatter."""

from collections.abc import Sequence
from math import prod

from xdsl.dialects.builtin import I64, IntegerAttr, IntegerType, SymbolRefAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import Clause, integer
from xbarc.ir.dialect.tensors import need_axis, need_codes, shape_of, tensor
from xbarc.ir.dialect.weights import WeightsOp, need_columns, weights_of
from xbarc.ir.dialect.window import WindowAttr


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
    fill = prop_def(IntegerAttr[I64], default_value=integer(0))
    items = prop_def(IntegerAttr[I64], default_value=integer(1))
    result = result_def(TensorType)

    traits = traits_def(Pure())

    custom_directives = (Clause,)
    assembly_format = (
        "$input `,` $weights custom<Clause>($window) (`fill` $fill^)? (`items` $items^)? "
        "attr-dict `:` type($input) `->` type($result)"
    )

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
        need_codes(self.input, "the input")
        need_codes(self.result, "the result")
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


@irdl_op_definition
class ConvTransposeOp(IRDLOperation):
    """A transposed convolution of codes, not mapped yet.

    `%2 = xbar.conv_transpose %1, @up window [2, 2] strides [2, 2] : tensor<?x64x16x16xui8> ->
    tensor<?x32x32x32xsi32>`. The window slides over the result, with one position for each input
    entry. The product of that entry and the kernel is added there. A negative pad makes the result
    larger than the windows reach (ONNX's output padding). The rows of the weights are (input
    channel of a group, kernel position), the columns are the output channels.
    """

    name = "xbar.conv_transpose"

    input = operand_def(TensorType)
    weights = prop_def(SymbolRefAttr)
    window = prop_def(WindowAttr)
    items = prop_def(IntegerAttr[I64], default_value=integer(1))
    result = result_def(TensorType)

    traits = traits_def(Pure())

    custom_directives = (Clause,)
    assembly_format = (
        "$input `,` $weights custom<Clause>($window) (`items` $items^)? "
        "attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(
        self,
        value: SSAValue,
        weights: WeightsOp,
        window: WindowAttr,
        spatial: Sequence[int],
        element: IntegerType,
        *,
        items: int = 1,
    ):
        out = [shape_of(value)[0], weights.matrix[1], *spatial]
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights.symbol),
                "window": window,
                "items": integer(items),
            },
            result_types=[tensor(out, element)],
        )

    def verify_(self) -> None:
        """Channels x kernel = rows; the window has a position of the result an input entry."""
        need_codes(self.input, "the input")
        need_codes(self.result, "the result")
        shape, out, weights = shape_of(self.input), shape_of(self.result), weights_of(self)
        rank = self.window.rank
        if len(shape) != rank + 2 or len(out) != rank + 2:
            raise VerifyException(f"a window over {rank} axes on a rank {len(shape)} tensor")
        if shape[1] * self.window.size != weights.matrix[0]:
            raise VerifyException(
                f"{shape[1]} channels x {self.window.size} kernel positions aren't the "
                f"{weights.matrix[0]} rows of @{weights.symbol}"
            )
        need_columns(out, 1, weights)
        if out[0] != shape[0] or min(out[2:]) < 1 or min(shape[2:]) < 1:
            raise VerifyException("the batch is the input's, the spatial sizes are known")
        if self.window.output_size(out[2:]) != list(shape[2:]):
            raise VerifyException(
                f"the window has {self.window.output_size(out[2:])} positions on the result, "
                f"the input {list(shape[2:])}"
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
    items = prop_def(IntegerAttr[I64], default_value=integer(1))
    result = result_def(TensorType)

    traits = traits_def(Pure())

    assembly_format = (
        "$input `,` $weights `axis` $axis `to` $to (`items` $items^)? "
        "attr-dict `:` type($input) `->` type($result)"
    )

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
        need_codes(self.input, "the input")
        need_codes(self.result, "the result")
        weights, axis, to = weights_of(self), self.axis.value.data, self.to.value.data
        shape, out = list(shape_of(self.input)), list(shape_of(self.result))
        need_axis(shape, axis, weights.matrix[0])
        need_columns(out, to, weights)
        del shape[axis], out[to]
        if shape != out:
            raise VerifyException(f"the other axes differ: {shape} and {out}")


LayerOp = ConvOp | ConvTransposeOp | DenseOp
"""A layer that no mapping pass has taken yet."""


def vectors_of(layer: LayerOp, sizes: Sequence[int]) -> int:
    """Vectors for a batch of one, where a tensor's other axes have `sizes` (-1: the batch)."""
    return prod(layer.items.value.data if size < 0 else size for size in sizes)
