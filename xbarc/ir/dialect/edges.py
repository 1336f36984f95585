"""The edges of a program: real numbers to codes and back, and what the digital unit computes."""

import math
import re
from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    Float32Type,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    f32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect import schedule
from xbarc.ir.dialect.assembly import Clause, Real, Reals, integer, real
from xbarc.ir.dialect.tensors import element_of, need_codes, shape_of, tensor
from xbarc.ir.dialect.types import is_code_type
from xbarc.ir.dialect.weights import WeightsOp, need_columns, weights_of
from xbarc.ir.dialect.window import WindowAttr


@irdl_op_definition
class QuantizeOp(IRDLOperation):
    """Activations to integer codes: `clip(rint(x / scale) + zero_point)` to the result's range.

    `%1 = xbar.quantize %0 scale 0.0208 zero_point 114 : tensor<?x3x32x32xf32> ->
    tensor<?x3x32x32xui8>`. Signed codes are symmetric (+-(2^(b-1) - 1)), unsigned ones 0 .. 2^b - 1
    (numerics: Quantisation). A quantised model's own signed codes lose their sign here: `scale 1.0
    zero_point 128 : tensor<...xsi8> -> tensor<...xui8>`.
    """

    name = "xbar.quantize"

    input = operand_def(TensorType)
    scale = prop_def(FloatAttr[Float64Type])
    zero_point = prop_def(IntegerAttr[I64], default_value=integer(0))
    result = result_def(TensorType)

    traits = traits_def(Pure())

    custom_directives = (Real,)
    assembly_format = (
        "$input `scale` custom<Real>($scale) (`zero_point` $zero_point^)? "
        "attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(self, value: SSAValue, scale: float, element: IntegerType, zero_point: int = 0):
        super().__init__(
            operands=[value],
            properties={"scale": real(scale), "zero_point": integer(zero_point)},
            result_types=[tensor(shape_of(value), element)],
        )

    @property
    def recodes(self) -> bool:
        """Whether codes come in, not real numbers."""
        return is_code_type(cast(TensorType[Attribute], self.input.type).element_type)

    def verify_(self) -> None:
        """Same shape, codes out, a positive finite scale, a zero point that is a code."""
        need_codes(self.result, "the result")
        element, zero = element_of(self.result), self.zero_point.value.data
        top = (1 << element.width.data) - 1 if element.signedness.data.name == "UNSIGNED" else 0
        if not 0 <= zero <= top:
            raise VerifyException(f"zero_point {zero} isn't an unsigned code of the result")
        if shape_of(self.input) != shape_of(self.result):
            raise VerifyException("input and result differ in shape")
        if not 0 < self.scale.value.data < math.inf:
            raise VerifyException("scale is a positive number")


@irdl_op_definition
class DequantizeOp(IRDLOperation):
    """Column sums to real values: `(acc - zero_point * colsum[n]) * scale * w_scale[n] + bias[n]`.

    `%5 = xbar.dequantize %4, @conv1 scale 0.0208 axis 1 : tensor<?x16x32x32xsi32> -> ...xf32>`
    `scale` is the input codes', `zero_point` the code that means 0, `axis` that of the columns n,
    `colsum` the sum of a column's weights. An output of a transposed convolution has only the
    kernel positions that an input entry brings there: with `zero_point 3 window [2, 2] strides [2,
    2]`, the layer's window, `colsum` counts only those (`xbarc.ir.analysis.zero_point`).
    """

    name = "xbar.dequantize"

    input = operand_def(TensorType)
    weights = prop_def(SymbolRefAttr)
    scale = prop_def(FloatAttr[Float64Type])
    zero_point = prop_def(IntegerAttr[I64], default_value=integer(0))
    window = opt_prop_def(WindowAttr)
    axis = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)

    traits = traits_def(Pure())

    custom_directives = (Real, Clause)
    assembly_format = (
        "$input `,` $weights `scale` custom<Real>($scale) (`zero_point` $zero_point^)? "
        "custom<Clause>($window) `axis` $axis attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(
        self,
        value: SSAValue,
        weights: str,
        scale: float,
        axis: int,
        zero_point: int = 0,
        window: WindowAttr | None = None,
    ):
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights),
                "scale": real(scale),
                "zero_point": integer(zero_point),
                "window": window,
                "axis": integer(axis),
            },
            result_types=[tensor(shape_of(value), f32)],
        )

    def verify_(self) -> None:
        """Same shape, N columns on the axis."""
        need_codes(self.input, "the input")
        if shape_of(self.input) != shape_of(self.result):
            raise VerifyException("input and result differ in shape")
        if not isinstance(cast(TensorType[Attribute], self.result.type).element_type, Float32Type):
            raise VerifyException("the result is a tensor of f32")
        if not 0 < self.scale.value.data < math.inf:
            raise VerifyException("scale is a positive number")
        weights = weights_of(self)
        need_columns(shape_of(self.input), self.axis.value.data, weights)
        if self.window is not None:
            self._verify_window(self.window, weights)

    def _verify_window(self, window: WindowAttr, weights: WeightsOp) -> None:
        shape = shape_of(self.input)
        if self.axis.value.data != 1 or len(shape) != window.rank + 2 or min(shape[2:]) < 1:
            raise VerifyException("a window is over all axes behind the columns, of known sizes")
        if weights.stored_shape[0] % window.size:
            raise VerifyException(
                f"{weights.stored_shape[0]} rows of @{weights.symbol} aren't channels of "
                f"{window.size} kernel positions"
            )


@irdl_op_definition
class DigitalOp(IRDLOperation):
    """What the digital unit computes: an ONNX file of the program, run by onnxruntime.

    `%5, %6 = xbar.digital "digital/0.onnx" (%4, %0) : (tensor<...>, tensor<...>) ->
    (tensor<...>, tensor<...>)`: operands and results in the order of the file's inputs and outputs.
    """

    name = "xbar.digital"

    inputs = var_operand_def()
    file = prop_def(StringAttr)
    time = opt_prop_def(DenseArrayBase)
    stream = opt_prop_def(DenseArrayBase)
    outputs = var_result_def()

    traits = traits_def(Pure())

    custom_directives = (Reals,)
    assembly_format = (
        "$file ` ` `(` $inputs `)` custom<Reals>($time) custom<Reals>($stream) "
        "attr-dict `:` `(` type($inputs) `)` `->` `(` type($outputs) `)`"
    )

    def __init__(self, file: str, inputs: Sequence[SSAValue], outputs: Sequence[Attribute]):
        super().__init__(
            operands=[list(inputs)],
            properties={"file": StringAttr(file)},
            result_types=[list(outputs)],
        )

    def verify_(self) -> None:
        """A file of the program's own folder."""
        if not re.fullmatch(r"digital/[\w.-]+\.onnx", self.file.data):
            raise VerifyException(f'{self.file.data!r} isn\'t of the form "digital/<name>.onnx"')
        schedule.verify_times(self)
