"""fc-to-1x1: fully connected layers as convolutions, as they are or as one 1x1 layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations
from xbarc.graph.attachments import feeds_of
from xbarc.graph.compress.least_squares import Moments, fit
from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import attribute, constant, dims, input_at, is_op, only_consumer, value_names
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass
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


@dataclass(frozen=True)
class FcTo1x1(GraphPass):
    """Turn fully connected layers into convolutions.

    `mode=exact` keeps the function: a layer on a flattened feature map becomes a convolution whose
    kernel is the whole map, any other one a 1x1 convolution.

        %f = Flatten(%map)                 # [N, 16, 5, 5] -> [N, 400]
        %h = Relu(Gemm(%f, %w1, %b1))      # 400 -> 120
        %y = Gemm(%h, %w2, %b2)            # 120 -> 10
    ->
        %h = Relu(Conv(%map, %w1, %b1))    # 5 x 5, 16 -> 120: [N, 120, 1, 1]
        %y = Flatten(Conv(%h, %w2, %b2))   # 1 x 1, 120 -> 10

    `mode=compact` doesn't: all layers from the feature map to the last one become global average
    pooling and one 1x1 convolution.

        %y = Flatten(Conv(GlobalAveragePool(%map), %w, %b))        # 1 x 1, 16 -> 10

    Its weights and bias are the ridge regression, over the calibration data, of what the chain
    computed on the mean of each channel. A model of MSCCNN's pooling (Wen et al., IEEE TNSE 7(3),
    2020), without the paper's retraining. `pool-on-crossbar` puts the mean on crossbars too.

    A layer is a Gemm, or a MatMul with its Add, with static real weights and an input of rank 2.
    The convolution has the layer's name (the last one's, in compact mode); outputs keep names and
    shapes. `layers` names layers, in compact mode any one of a chain; without it, all are taken
    that can be. A layer of a chain whose feature map is 1 x 1 already and that has no other layer
    in it stays exact in compact mode too.
    """

    name: ClassVar[str] = "fc-to-1x1"
    preserves: ClassVar[bool] = True

    mode: Literal["exact", "compact"] = "exact"
    layers: tuple[str, ...] = ()

    @property
    def keeps_function(self) -> bool:
        """Only the exact mode does."""
        return self.mode == "exact"

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether any layer was converted.

        Raises:
            UsageError: `layers` names what isn't there or can't be converted.
            XbarcError: compact mode without calibration data.
        """
        found: dict[str, FullyConnected] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            layer = find_fully_connected(node)
            if isinstance(layer, FullyConnected):
                found[node.name or ""] = layer
            elif layer is not None:
                refused[node.name or ""] = layer
        if self.mode == "compact":
            modified = self._compact(model, found, refused)
        else:
            modified = False
            taken = value_names(model)
            for layer in select(self.layers, found, refused):
                _convert(layer, taken)
                modified = True
        if modified:
            drop_unused(model)
        return modified

    def _compact(
        self,
        model: ir.Model,
        found: Mapping[str, "FullyConnected"],
        refused: dict[str, str],
    ) -> bool:
        chains: dict[str, Chain] = {}
        for name, layer in found.items():
            if name in chains:
                continue
            chain = _chain(layer)
            if chain is None:
                refused[name] = "no feature map leads to it"
                continue
            chains.update(dict.fromkeys((la.node.name or "" for la in chain.layers), chain))
        taken = value_names(model)
        chosen = list(dict.fromkeys(select(self.layers, chains, refused)))
        for first in chosen:
            chain = _chain(first.layers[0])  # anew: the one before it may have given it its map
            if chain is None:
                raise TypeError(f"{first.layers[0].node} lost its feature map")
            if len(chain.layers) == 1 and chain.map.size == 1:
                _convert(chain.layers[0], taken)
            else:
                _pool(model, chain, taken)
        return bool(chosen)


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


def _feature_map(value: ir.Value) -> FeatureMap | None:
    """The map that `value` [N, K] is the flattened form of."""
    node = value.producer()
    shape = dims(value)
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


def _is_elementwise(node: ir.Node | None, value: ir.Value) -> bool:
    if node is None or not is_op(node, *ELEMENTWISE) or node.inputs[0] is not value:
        return False
    return all(constant(other) is not None for other in node.inputs[1:] if other is not None)


# --- exact --------------------------------------------------------------------------------------


def _convert(layer: FullyConnected, taken: set[str]) -> None:
    """Replace a layer by a convolution and a Flatten of its result."""
    found = _lift(layer.source, layer.node, taken)
    if found is None:
        found = _unsqueeze(layer, taken)
    _replace(layer, found.value, found.kernel(layer.weights), layer.bias, layer.node.name, taken)


def _lift(value: ir.Value, place: ir.Node, taken: set[str]) -> FeatureMap | None:
    """The map that `value` is the flattened form of; what is elementwise moves before the Flatten.

    Relu(Flatten(x)) -> Flatten(Relu(x))
    """
    found = _feature_map(value)
    node = value.producer()
    if found is not None or node is None or node.inputs[0] is None:
        return found
    if not _is_elementwise(node, node.inputs[0]):
        return None
    before = _lift(node.inputs[0], node, taken)
    if before is None:
        return None
    moved = insert_before(
        node,
        node.op_type,
        [before.value, *node.inputs[1:]],
        node.name or node.op_type,
        taken,
        attributes={name: attr.value for name, attr in node.attributes.items()},
        like=value,
        shape=None if before.value.shape is None else before.value.shape.dims,
    )
    flattened = moved
    if before.perm is not None:
        flattened = insert_before(
            node,
            "Transpose",
            [moved],
            f"{node.name}.transpose",
            taken,
            attributes={"perm": list(before.perm)},
            like=value,
            shape=[_batch(value), *(before.shape[axis - 1] for axis in before.perm[1:])],
        )
    flat = insert_before(node, "Flatten", [flattened], f"{node.name}.flatten", taken)
    name = node.name
    stand_in(flat, value)
    _remove(node)
    producer = moved.producer()
    if producer is not None:
        producer.name = name
    return FeatureMap(moved, before.shape, before.perm)


def _unsqueeze(layer: FullyConnected, taken: set[str]) -> FeatureMap:
    """[N, K] as a map of one position, [N, K, 1, 1]."""
    graph, name = layer.node.graph, layer.node.name
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{layer.node} stands in no graph")
    axes = add_initializer(graph, f"{name}.axes", np.array([2, 3]), taken)
    columns = layer.weights.shape[1]
    value = insert_before(
        layer.node,
        "Unsqueeze",
        [layer.source, axes],
        f"{name}.unsqueeze",
        taken,
        like=layer.source,
        shape=[_batch(layer.source), columns, 1, 1],
    )
    return FeatureMap(value, (columns, 1, 1))


def _batch(value: ir.Value) -> int | ir.SymbolicDim | None:
    return None if value.shape is None else value.shape[0]


def _replace(
    layer: FullyConnected,
    source: ir.Value,
    kernel: Array,
    bias: Array | None,
    name: str | None,
    taken: set[str],
) -> None:
    """A convolution of `source` that leaves one position, flattened, in the place of `layer`."""
    graph, output = layer.end.graph, layer.output
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{layer.end} stands in no graph")
    inputs = [source, add_initializer(graph, f"{name}.weight", kernel, taken)]
    if bias is not None:
        inputs.append(add_initializer(graph, f"{name}.bias", np.ascontiguousarray(bias), taken))
    spatial = kernel.ndim - 2
    value = insert_before(
        layer.end,
        "Conv",
        inputs,
        f"{name}.conv",
        taken,
        attributes={"kernel_shape": list(kernel.shape[2:])},
        like=output,
        shape=[_batch(output), len(kernel), *[1] * spatial],
    )
    flat = insert_before(layer.end, "Flatten", [value], f"{name}.flatten", taken)
    stand_in(flat, output)
    _restore_maps(flat, value)
    _remove(layer.end)
    if layer.end is not layer.node:
        _remove(layer.node)
    producer = value.producer()
    if producer is not None:
        producer.name = name


def _restore_maps(flat: ir.Value, value: ir.Value) -> None:
    """Whoever shaped the flat result to [N, M, 1, 1] again reads the convolution itself."""
    for use in tuple(flat.uses()):
        node = use.node
        if not is_op(node, "Reshape", "Unsqueeze") or use.idx != 0:
            continue
        shape = node.outputs[0].shape
        if shape is None or value.shape is None or shape.dims[1:] != value.shape.dims[1:]:
            continue
        if not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(value)


def _remove(node: ir.Node) -> None:
    if node.graph is not None:
        node.graph.remove(node, safe=True)


# --- compact ------------------------------------------------------------------------------------


def _chain(first: FullyConnected) -> Chain | None:
    """The chain that begins with `first`; None where no feature map leads to it."""
    value = first.source
    found = _feature_map(value)
    while found is None:
        node = value.producer()
        if node is None or node.inputs[0] is None or not _is_elementwise(node, node.inputs[0]):
            return None
        value = node.inputs[0]
        found = _feature_map(value)
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
        elif _is_elementwise(node, value):
            value = node.outputs[0]
        else:
            return


def _pool(model: ir.Model, chain: Chain, taken: set[str]) -> None:
    """Replace a chain by pooling and a 1x1 convolution, fitted to what the chain computes."""
    last, source = chain.layers[-1], chain.map
    weights, bias = _fitted(model, chain)
    name = last.node.name
    value = source.value
    if source.size > 1:
        value = insert_before(
            last.end,
            "GlobalAveragePool",
            [value],
            f"{name}.pool",
            taken,
            like=value,
            shape=[_batch(value), source.shape[0], *[1] * (len(source.shape) - 1)],
        )
    kernel = weights.reshape(*weights.shape, *[1] * (len(source.shape) - 1))
    dtype: Any = last.weights.dtype
    _replace(last, value, kernel.astype(dtype), bias.astype(dtype), name, taken)


def _fitted(model: ir.Model, chain: Chain) -> tuple[Array, Array]:
    """The 1x1 weights [M, C] and the bias [M]."""
    channels, outputs = chain.map.shape[0], len(chain.layers[-1].weights)
    source, result = str(chain.map.value.name), str(chain.layers[-1].output.name)
    moments = Moments(channels, outputs)
    for _, found in activations(model, [source, result], feeds_of(model)):
        maps = found[source]
        means = maps.reshape(*maps.shape[:2], -1).mean(axis=2, dtype=np.float64)
        moments.add(means.T, found[result].T)
    features, cross, _ = moments.covariance()
    weights = fit(features, cross, np.zeros((outputs, channels)))
    mean, wanted = moments.means
    return weights, wanted - weights @ mean
