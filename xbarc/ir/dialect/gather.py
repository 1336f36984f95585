"""`xbar.gather`: a tensor to a stream of input vectors."""

from collections.abc import Sequence

from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr, TensorType, UnitAttr, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import integer, ints
from xbarc.ir.dialect.tensors import element_of, need_axis, need_codes, need_vectors, shape_of
from xbarc.ir.dialect.types import StreamType
from xbarc.ir.dialect.window import Where, WindowAttr, need_spatial, spatial_size


@irdl_op_definition
class GatherOp(IRDLOperation):
    """A tensor to a stream of input vectors.

    `%2 = xbar.gather %1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x3x32x32xui8> ->
    !xbar.stream<1024 x 27 x ui8>`: one vector an output position, its entries in ONNX's order
    (channel, kernel row, kernel column), `fill` where the window hangs over the edge.
    `%2 = xbar.gather %1 axis 1 : ...`: the vectors lie along one axis, in the order of the others.

    `spread [2, 2] window ...`: the window slides over the input with its entries two apart, zeros
    between them. `flat window [2]`: the spatial axes count as one.
    """

    name = "xbar.gather"

    input = operand_def(TensorType)
    window = opt_prop_def(WindowAttr)
    axis = opt_prop_def(IntegerAttr[I64])
    spread = opt_prop_def(DenseArrayBase.constr(i64))
    flat = opt_prop_def(UnitAttr)
    fill = prop_def(IntegerAttr[I64], default_value=integer(0))
    result = result_def(StreamType)

    traits = traits_def(Pure())

    custom_directives = (Where,)
    assembly_format = (
        "$input (`spread` $spread^)? custom<Where>($flat, $window, $axis) (`fill` $fill^)? "
        "attr-dict `:` type($input) `->` type($result)"
    )

    @classmethod
    def along(cls, value: SSAValue, axis: int, vectors: int) -> "GatherOp":
        """The vectors along `axis`; `vectors` of them for a batch of one."""
        result = StreamType.of(vectors, shape_of(value)[axis], element_of(value))
        return cls.create(
            operands=[value],
            properties={"axis": integer(axis), "fill": integer(0)},
            result_types=[result],
        )

    @classmethod
    def windows(
        cls,
        value: SSAValue,
        window: WindowAttr,
        vectors: int,
        fill: int,
        *,
        spread: Sequence[int] | None = None,
        flat: bool = False,
    ) -> "GatherOp":
        """One vector a window position; `vectors` of them for a batch of one."""
        result = StreamType.of(vectors, shape_of(value)[1] * window.size, element_of(value))
        properties: dict[str, Attribute] = {"window": window, "fill": integer(fill)}
        if spread is not None:
            properties["spread"] = ints(spread)
        if flat:
            properties["flat"] = UnitAttr()
        return cls.create(operands=[value], properties=properties, result_types=[result])

    def spreads(self) -> list[int]:
        """How far apart the input's entries stand under the window, an axis of it each."""
        if self.spread is not None:
            return [int(v) for v in self.spread.get_values()]
        return [1] * (1 if self.window is None else self.window.rank)

    def seen_size(self) -> list[int]:
        """The spatial size that the window slides over."""
        spatial = spatial_size(shape_of(self.input), flat=self.flat is not None)
        return [
            s if s < 0 else (s - 1) * apart + 1
            for s, apart in zip(spatial, self.spreads(), strict=True)
        ]

    def verify_(self) -> None:
        """The stream's length and count follow from the tensor."""
        need_codes(self.input, "the input")
        shape, stream = shape_of(self.input), self.result.type
        if stream.element != element_of(self.input):
            raise VerifyException("tensor and stream differ in element type")
        if self.window is not None and self.axis is None:
            need_spatial(shape, self.window, flat=self.flat is not None)
            apart = self.spreads()
            if len(apart) != self.window.rank or min(apart) < 1:
                raise VerifyException("spread is one distance an axis of the window, at least 1")
            length = shape[1] * self.window.size
            positions = self.window.output_size(self.seen_size())
            if 0 in positions or min(positions) < -1:
                raise VerifyException("the window is larger than the padded input")
            others = [shape[0], *positions]
        elif self.axis is not None and self.window is None:
            if self.spread is not None or self.flat is not None:
                raise VerifyException("spread and flat are about a window")
            axis = self.axis.value.data
            need_axis(shape, axis, stream.length.data)
            length, others = shape[axis], [s for i, s in enumerate(shape) if i != axis]
        else:
            raise VerifyException("a gather has either a window or an axis")
        if stream.length.data != length:
            raise VerifyException(f"vectors of {stream.length.data}, the tensor gives {length}")
        need_vectors(stream, others)
