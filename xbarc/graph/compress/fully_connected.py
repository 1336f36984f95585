"""Fully connected layers: what they are, and the feature map and the chain that they stand in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute, constant, dims, input_at, is_op, only_consumer
from xbarc.support.data import Array

ELEMENTWISE = (
    "Celu",
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
)
"""Operators of one moving operand that a change of shape passes through."""

MAX_SPATIAL = 3
"""Spatial axes of a convolution that onnxruntime takes."""


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """`x [N, K] -> x W^T + b [N, M]`: a Gemm or MatMul, and the Add of its bias as `end`."""

    node: ir.Node
    end: ir.Node
    weights: Array  # [M, K]
    bias: Array | None  # [M]

    @property
    def source(self) -> ir.Value:
        """The input; another value once the layer before it was converted."""
        value = self.node.inputs[0]
        if value is None:
            raise TypeError(f"{self.node} has no input")
        return value

    @property
    def output(self) -> ir.Value:
        """The result, bias and all."""
        return self.end.outputs[0]


@dataclass(frozen=True)
class FeatureMap:
    """A value [N, C, ...] that stands flattened before a layer.

    `perm` is the order of axes in which it was flattened, where that isn't its own.
    """

    value: ir.Value
    shape: tuple[int, ...]  # without the batch
    perm: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Positions of one channel."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def kernel(self, weights: Array) -> Array:
        """[M, K] on the flattened map as [M, C, ...] on the map itself."""
        if self.perm is None:
            return weights.reshape(len(weights), *self.shape)
        flattened = [self.shape[axis - 1] for axis in self.perm[1:]]
        return weights.reshape(len(weights), *flattened).transpose(np.argsort(self.perm))


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers, one after the other with only elementwise operators between, behind a feature map."""

    map: FeatureMap
    layers: tuple[FullyConnected, ...]


def find_fully_connected(node: ir.Node) -> FullyConnected | str | None:
    """The fully connected layer that `node` is; why it can't be taken; None for anything else."""
    if not is_op(node, "Gemm", "MatMul"):
        return None
    weights, source = constant(input_at(node, 1)), node.inputs[0]
    if weights is None or source is None:
        return "its weights aren't static real numbers on the right"
    if weights.dtype.kind != "f" or weights.ndim != 2:
        return f"its weights are {weights.dtype} of rank {weights.ndim}, not a real matrix"
    shape = dims(source)
    if shape is None or len(shape) != 2:
        return f"its input has {'an unknown rank' if shape is None else f'rank {len(shape)}'}"
    if is_op(node, "MatMul"):
        return _with_added_bias(node, weights.T)
    if attribute(node, "transA", 0):
        return "its input is transposed"
    matrix = weights if attribute(node, "transB", 0) else weights.T
    alpha = attribute(node, "alpha", 1.0)
    if alpha != 1:
        matrix = (matrix * alpha).astype(weights.dtype)
    if input_at(node, 2) is None:
        return FullyConnected(node, node, matrix, None)
    bias = _row(constant(node.inputs[2]), len(matrix))
    if bias is None:
        return "its bias isn't one static number a column"
    bias = (bias * attribute(node, "beta", 1.0)).astype(weights.dtype)
    return FullyConnected(node, node, matrix, bias)


def _with_added_bias(node: ir.Node, matrix: Array) -> FullyConnected:
    add = only_consumer(node.outputs[0])
    if add is not None and is_op(add, "Add"):
        other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        bias = _row(constant(other), len(matrix))
        if bias is not None:
            return FullyConnected(node, add, matrix, bias)
    return FullyConnected(node, node, matrix, None)


def _row(array: Array | None, columns: int) -> Array | None:
    """A constant that adds one number to each column, as [columns]."""
    if array is None or array.ndim > 2 or array.size not in (1, columns):
        return None
    if array.ndim == 2 and array.shape[0] != 1:
        return None
    return np.broadcast_to(array.reshape(-1), (columns,))


def feature_map(value: ir.Value) -> FeatureMap | None:
    """The map whose flattened form `value` [N, K] is; None where there is none."""
    node, shape = value.producer(), dims(value)
    if node is None or not is_op(node, "Flatten", "Reshape") or shape is None or len(shape) != 2:
        return None
    flattened = node.inputs[0]
    sizes = _sizes(flattened)
    # As many elements in a row as in a map: so as many rows as maps.
    if flattened is None or sizes is None or int(np.prod(sizes)) != shape[1]:
        return None
    transpose = flattened.producer()
    if is_op(transpose, "Transpose") and transpose is not None:
        perm = tuple(attribute(transpose, "perm", ()))
        origin = transpose.inputs[0]
        channels_first = _sizes(origin)
        if perm[:1] == (0,) and channels_first is not None and origin is not None:
            return FeatureMap(origin, channels_first, perm)
    return FeatureMap(flattened, sizes)


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    """The sizes of a map [N, C, ...] but for the batch, where they are known."""
    shape = dims(value)
    if shape is None or not 3 <= len(shape) <= MAX_SPATIAL + 2:
        return None
    known = [size for size in shape[1:] if size is not None]
    return tuple(known) if len(known) == len(shape) - 1 and 0 not in known else None


def is_elementwise(node: ir.Node | None, value: ir.Value) -> bool:
    """Whether `node` computes each element of its result from one of `value` and constants."""
    if node is None or not is_op(node, *ELEMENTWISE) or node.inputs[0] is not value:
        return False
    return all(constant(other) is not None for other in node.inputs[1:] if other is not None)


def find_chain(first: FullyConnected) -> Chain | None:
    """The chain whose first layer is `first`; None where no feature map leads to it."""
    value = first.source
    found = feature_map(value)
    while found is None:
        node = value.producer()
        if node is None or node.inputs[0] is None or not is_elementwise(node, node.inputs[0]):
            return None
        value = node.inputs[0]
        found = feature_map(value)
    return Chain(found, (first, *_followers(first)))


def _followers(first: FullyConnected) -> Iterator[FullyConnected]:
    value = first.output
    while True:
        node = only_consumer(value)
        if node is None:
            return
        layer = find_fully_connected(node)
        if isinstance(layer, FullyConnected) and layer.source is value:
            yield layer
            value = layer.output
        elif is_elementwise(node, value):
            value = node.outputs[0]
        else:
            return
