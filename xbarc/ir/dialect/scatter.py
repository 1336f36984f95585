"""`xbar.scatter`: a stream of result vectors back to a tensor."""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import I64, IntegerAttr, TensorType, UnitAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import integer
from xbarc.ir.dialect.tensors import (
    element_of,
    need_axis,
    need_codes,
    need_vectors,
    shape_of,
    tensor,
)
from xbarc.ir.dialect.types import StreamType
from xbarc.ir.dialect.window import Where, WindowAttr, need_spatial, spatial_size


@irdl_op_definition
class ScatterOp(IRDLOperation):
    """A stream of result vectors back to a tensor.

    `%4 = xbar.scatter %3 axis 1 : !xbar.stream<1024 x 16 x si32> -> tensor<?x16x32x32xsi32>`: the
    entries of a vector along `axis`.

    `%4 = xbar.scatter %3 window [8, 8] strides [8, 8] : !xbar.stream<16 x 1024 x si32> ->
    tensor<?x16x32x32xsi32>`: the reverse of a gather. The entries of a vector, in the order
    (channel, window position), are added where the window stands; what hangs over is dropped, what
    no window reaches is 0. `flat window [2]`: the spatial axes count as one.
    """

    name = "xbar.scatter"

    input = operand_def(StreamType)
    axis = opt_prop_def(IntegerAttr[I64])
    window = opt_prop_def(WindowAttr)
    flat = opt_prop_def(UnitAttr)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    custom_directives = (Where,)
    assembly_format = (
        "$input custom<Where>($flat, $window, $axis) attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(self, value: SSAValue, axis: int, shape: Sequence[int]):
        super().__init__(
            operands=[value],
            properties={"axis": integer(axis)},
            result_types=[tensor(shape, cast(StreamType, value.type).element)],
        )

    @classmethod
    def windows(
        cls, value: SSAValue, window: WindowAttr, shape: Sequence[int], *, flat: bool = False
    ) -> "ScatterOp":
        """Vectors of (channel, window position) added to a tensor of `shape`."""
        properties: dict[str, Attribute] = {"window": window}
        if flat:
            properties["flat"] = UnitAttr()
        result = tensor(shape, cast(StreamType, value.type).element)
        return cls.create(operands=[value], properties=properties, result_types=[result])

    def verify_(self) -> None:
        """Length and count fit the tensor."""
        need_codes(self.result, "the result")
        stream, shape = cast(StreamType, self.input.type), shape_of(self.result)
        if stream.element != element_of(self.result):
            raise VerifyException("stream and tensor differ in element type")
        if self.axis is not None and self.window is None and self.flat is None:
            axis = self.axis.value.data
            need_axis(shape, axis, stream.length.data)
            need_vectors(stream, [s for i, s in enumerate(shape) if i != axis])
        elif self.window is not None and self.axis is None:
            need_spatial(shape, self.window, flat=self.flat is not None)
            if shape[1] * self.window.size != stream.length.data:
                raise VerifyException(
                    f"vectors of {stream.length.data} aren't {shape[1]} channels x "
                    f"{self.window.size} window positions"
                )
            spatial = spatial_size(shape, flat=self.flat is not None)
            need_vectors(stream, [shape[0], *self.window.output_size(spatial)])
        else:
            raise VerifyException("a scatter has either a window or an axis")
