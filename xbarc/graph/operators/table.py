"""xbarc's own entries: every operator that any rule knows, those of the same rules together."""

from typing import Any

from xbarc.graph.operators import channels, costs, products, rows
from xbarc.graph.operators.operator import Operator


def family(op_types: str, **rules: Any) -> tuple[Operator, ...]:
    """An entry of the same rules for each of some operators."""
    return tuple(Operator(op_type, **rules) for op_type in op_types.split())


INTEGERS = "its weights, scales or zero points change at run time, or its scales aren't float32"
RECURRENT = "each of its steps waits for the step before: recurrence has no mapping"
MOVING = "its weights change at run time"

LAYERS = (
    Operator(
        "Conv",
        products=products.convolution,
        rows=rows.window,
        channels=channels.conv,
        shrink=channels.shrink_groups,
    ),
    Operator(
        "ConvTranspose",
        products=products.transposed_convolution,
        channels=channels.conv_transpose,
        shrink=channels.shrink_groups,
    ),
    Operator("Gemm", products=products.matrix, channels=channels.gemm),
    Operator("MatMul", products=products.matrix, channels=channels.matmul),
    Operator("ConvInteger", products=products.convolution, rows=rows.window, digital=INTEGERS),
    Operator(
        "QLinearConv",
        products=products.quantized_convolution,
        rows=rows.quantized_window,
        digital=INTEGERS,
    ),
    *family("MatMulInteger QLinearMatMul", products=products.matrix, digital=INTEGERS),
    Operator("Einsum", products=products.uncounted),
    *family("GRU LSTM RNN", products=products.uncounted, digital=RECURRENT),
    Operator("Attention", products=products.attention, digital=MOVING),
)

POINTWISE = (
    *family(
        "Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Selu Sigmoid Softplus"
        " Softsign Tanh ThresholdedRelu",
        cost=costs.ACTIVATION,
        rows=rows.by_row,
        channels=channels.unary,
    ),
    Operator("PRelu", cost=costs.ACTIVATION, rows=rows.by_row, channels=channels.elementwise),
    Operator("Swish", cost=costs.ACTIVATION),
    *family(
        "Abs Ceil Exp Floor Log Neg Not Reciprocal Round Sign Sqrt",
        cost=costs.ELEMENTWISE,
        rows=rows.by_row,
        channels=channels.unary,
    ),
    *family(
        "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub"
        " Sum Xor",
        cost=costs.ELEMENTWISE,
        rows=rows.by_row,
        channels=channels.elementwise,
    ),
    Operator("Where", cost=costs.SCALING, rows=rows.by_row, channels=channels.elementwise),
    *family("Cos Sin", cost=costs.ELEMENTWISE, rows=rows.by_row),
    *family(
        "Acos Acosh Asin Asinh Atan Atanh BitShift Cosh IsInf IsNaN Sinh Tan", rows=rows.by_row
    ),
    *family(
        "DequantizeLinear QuantizeLinear",
        cost=costs.SCALING,
        rows=rows.by_row,
        channels=channels.quantisation,
    ),
)

NORMALISATIONS = (
    # Scale and shift.
    Operator(
        "BatchNormalization",
        cost=costs.other(2),
        rows=rows.by_row,
        channels=channels.batch_normalization,
    ),
    # Mean, variance, difference, scale and shift.
    Operator(
        "InstanceNormalization", cost=costs.other(5), channels=channels.instance_normalization
    ),
    Operator("GroupNormalization", cost=costs.other(5), channels=channels.group_normalization),
    Operator("LayerNormalization", cost=costs.other(5), channels=channels.layer_normalization),
    Operator("LRN", rows=rows.by_row, channels=channels.group_normalization),
    # Maximum, exponential, sum, quotient.
    *family(
        "LogSoftmax Softmax",
        cost=costs.other(4),
        rows=rows.along_channels,
        channels=channels.softmax,
    ),
    Operator("Hardmax", rows=rows.along_channels, channels=channels.softmax),
    Operator("LpNormalization", channels=channels.lp_normalization),
)

POOLS = (
    *family(
        "AveragePool LpPool MaxPool",
        cost=costs.POOLING,
        rows=rows.window,
        channels=channels.pool,
    ),
    *family(
        "GlobalAveragePool GlobalLpPool GlobalMaxPool",
        cost=costs.REDUCTION,
        channels=channels.pool,
    ),
    *family(
        "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare",
        cost=costs.REDUCTION,
        channels=channels.reduce,
    ),
    *family("ReduceLogSum ReduceLogSumExp ReduceProd", channels=channels.reduce),
    *family("ArgMax ArgMin", channels=channels.arg),
    *family(
        "Resize Upsample",
        rows=rows.resampling,
        channels=channels.resize,
        shrink=channels.shrink_sizes,
    ),
)

MOVES = (
    *family("Cast Dropout Identity", cost=costs.MOVES, rows=rows.by_row, channels=channels.unary),
    Operator("CastLike", cost=costs.MOVES, rows=rows.by_row),
    Operator("Concat", cost=costs.MOVES, rows=rows.along_channels, channels=channels.concat),
    Operator(
        "Split",
        cost=costs.MOVES,
        rows=rows.along_channels,
        channels=channels.split,
        shrink=channels.shrink_split,
    ),
    Operator("Slice", cost=costs.MOVES, channels=channels.slice_, shrink=channels.shrink_slice),
    Operator("Pad", cost=costs.MOVES, channels=channels.pad, shrink=channels.shrink_pad),
    Operator("Gather", cost=costs.MOVES, channels=channels.gather),
    Operator("Reshape", cost=costs.MOVES, channels=channels.reshape, shrink=channels.shrink_shape),
    *family("Flatten Squeeze Unsqueeze", cost=costs.MOVES, channels=channels.reshape),
    Operator("Expand", cost=costs.MOVES, channels=channels.expand, shrink=channels.shrink_shape),
    Operator("Transpose", cost=costs.MOVES, channels=channels.transpose),
    *family(
        "Compress Constant ConstantOfShape DepthToSpace GatherElements GatherND NonZero OneHot"
        " Range ScatterElements ScatterND Shape Size SpaceToDepth Tile",
        cost=costs.MOVES,
    ),
)

ONNXRUNTIME = "com.microsoft"
PACKED = "it has a past, a packed mask, or weights or scales that change at run time"

CONTRIBUTED = (
    Operator("Gelu", ONNXRUNTIME, cost=costs.ACTIVATION),
    Operator("QLinearConv", ONNXRUNTIME, products=products.quantized_convolution, digital=INTEGERS),
    Operator("QGemm", ONNXRUNTIME, products=products.quantized_matrix, digital=INTEGERS),
    *family(
        "DynamicQuantizeMatMul MatMulIntegerToFloat",
        domain=ONNXRUNTIME,
        products=products.matrix,
        digital=INTEGERS,
    ),
    Operator("DynamicQuantizeLSTM", ONNXRUNTIME, products=products.uncounted, digital=RECURRENT),
    Operator("MultiHeadAttention", ONNXRUNTIME, products=products.attention, digital=MOVING),
    *family(
        "Attention QAttention", domain=ONNXRUNTIME, products=products.uncounted, digital=PACKED
    ),
    *family(
        "DequantizeLinear QLinearAdd QLinearMul QuantizeLinear",
        domain=ONNXRUNTIME,
        cost=costs.SCALING,
    ),
    Operator("QLinearAveragePool", ONNXRUNTIME, cost=costs.POOLING),
    Operator("QLinearGlobalAveragePool", ONNXRUNTIME, cost=costs.REDUCTION),
    *family("GatherND Pad Range", domain=ONNXRUNTIME, cost=costs.MOVES),
)
"""Operators of onnxruntime's own domain."""

TABLE = (*LAYERS, *POINTWISE, *NORMALISATIONS, *POOLS, *MOVES, *CONTRIBUTED)
