"""What the digital units do, counted from a program's digital ONNX files.

An operation is one value through a unit: an activation one a value, pooling one a value that enters
a window, elementwise one a value and operand; everything else is `other`: products of a digital
matrix product or convolution, values of a softmax, a normalisation, a resize. What only moves or
relabels data (Reshape, Concat, Transpose, Cast, ...) costs no operation. This counting is a model.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx

from xbarc.graph.operators import multiply_accumulates

Shape = tuple[int, ...]

CLASSES = ("activation", "pooling", "elementwise", "other")

ACTIVATIONS = frozenset(
    [
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    ]
)
WINDOWS = frozenset(
    [
        "AveragePool",
        "LpPool",
        "MaxPool",
        "QLinearAveragePool",
    ]
)
REDUCTIONS = frozenset(
    [
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "QLinearGlobalAveragePool",
        "ReduceL1",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Ceil",
        "Cos",
        "Div",
        "Equal",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "QLinearAdd",
        "QLinearMul",
        "Reciprocal",
        "Round",
        "Sign",
        "Sin",
        "Sqrt",
        "Sub",
        "Sum",
        "Where",
        "Xor",
        "DequantizeLinear",
        "QuantizeLinear",
    ]
)
MOVES = frozenset(
    [
        "Cast",
        "CastLike",
        "Compress",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
PER_VALUE = {
    "BatchNormalization": 2,
    "InstanceNormalization": 5,
    "GroupNormalization": 5,
    "LayerNormalization": 5,
    "Softmax": 4,
    "LogSoftmax": 4,
}
"""Operations a value of what takes several: scale and shift; mean, variance, difference, scale and
shift; maximum, exponential, sum, quotient."""


def count_operations(
    content: bytes,
    inputs: Sequence[Shape | None],
    outputs: Sequence[Shape | None] = (),
) -> dict[str, int]:
    """The operations of one digital file by class, for the given shapes of its in- and outputs.

    None is a value without a shape. The body of an `If` or `Loop` counts as one operation a value
    of its result.
    """
    model = onnx.load_model_from_string(content)
    shapes = _shapes(model, inputs, outputs)
    counts: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
    for node in model.graph.node:
        name, count = _count(node, shapes)
        if count:
            counts[name] += count
    return dict(counts)


def _shapes(
    model: onnx.ModelProto, inputs: Sequence[Shape | None], outputs: Sequence[Shape | None]
) -> dict[str, Shape]:
    """The shape of each value that has one, by onnx's inference from the inputs."""
    graph = model.graph
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    heads = [v for v in graph.input if v.name not in known]
    for value, shape in zip(heads, inputs, strict=False):
        if shape is not None and value.type.HasField("tensor_type"):
            known[value.name] = shape
            value.type.tensor_type.ClearField("shape")
            for size in shape:
                value.type.tensor_type.shape.dim.add().dim_value = size
    ends = {v.name: s for v, s in zip(graph.output, outputs, strict=False) if s is not None}
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = model
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        if all(d.HasField("dim_value") for d in kind.shape.dim):
            known[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return {**ends, **known}


def _count(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> tuple[str, int]:
    """The class and number of one node's operations."""
    op = node.op_type
    if op in MOVES:
        return "other", 0
    inputs = [shapes.get(name) if name else None for name in node.input]
    sizes = [math.prod(s) for s in inputs if s is not None]
    given = shapes.get(node.output[0]) if node.output else None
    # Without a shape of its own a result is taken to be as large as the largest operand.
    result = math.prod(given) if given is not None else max(sizes, default=0)
    if op in ACTIVATIONS:
        return "activation", result
    if op in WINDOWS:
        kernels = [math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"]
        return "pooling", result * math.prod(kernels)
    if op in REDUCTIONS:
        return "pooling", sizes[0] if sizes else result
    if op in ELEMENTWISE:
        scales = 1 if op.startswith(("QLinear", "Quantize", "Dequantize", "Where")) else 0
        return "elementwise", result * max(1 if scales else len(node.input) - 1, 1)
    if op in PER_VALUE:
        return "other", result * PER_VALUE[op]
    products = multiply_accumulates(op, inputs, given)
    return "other", result if products is None else products
