"""Fully connected layers as convolutions: each as it is, or a chain of them as one 1x1 layer."""

from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations
from xbarc.graph.compress.fully_connected import (
    Chain,
    FeatureMap,
    FullyConnected,
    feature_map,
    is_elementwise,
)
from xbarc.graph.compress.least_squares import Moments, fit
from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.query import is_op
from xbarc.support.data import Array, Feeds


def convert(layer: FullyConnected, taken: set[str]) -> None:
    """Replace a layer by a convolution and a Flatten of its result.

    `taken` are the names of the graph's values; the new ones are added.
    """
    found = _lift(layer.source, taken)
    if found is None:
        found = _unsqueeze(layer, taken)
    _replace(layer, found.value, found.kernel(layer.weights), layer.bias, layer.node.name, taken)


def _lift(value: ir.Value, taken: set[str]) -> FeatureMap | None:
    """The map whose flattened form `value` is; elementwise operators move before the Flatten.

    Relu(Flatten(x)) -> Flatten(Relu(x))
    """
    found = feature_map(value)
    node = value.producer()
    if found is not None or node is None or node.inputs[0] is None:
        return found
    if not is_elementwise(node, node.inputs[0]):
        return None
    before = _lift(node.inputs[0], taken)
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


def pool(chain: Chain, weights: Array, bias: Array, taken: set[str]) -> None:
    """Replace a chain by pooling and a 1x1 convolution of `weights` [M, C] and `bias` [M].

    `taken`: as for `convert`.
    """
    last, source = chain.layers[-1], chain.map
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


def fitted(model: ir.Model, chain: Chain, feeds: Feeds) -> tuple[Array, Array]:
    """Weights [M, C] and bias [M] that give from channels' means what the chain computes.

    Raises `XbarcError` where `feeds` don't fit the model.
    """
    channels, outputs = chain.map.shape[0], len(chain.layers[-1].weights)
    source, result = str(chain.map.value.name), str(chain.layers[-1].output.name)
    moments = Moments(channels, outputs)
    for _, found in activations(model, [source, result], feeds):
        maps = found[source]
        means = maps.reshape(*maps.shape[:2], -1).mean(axis=2, dtype=np.float64)
        moments.add(means.T, found[result].T)
    features, cross, _ = moments.covariance()
    weights = fit(features, cross, np.zeros((outputs, channels)))
    mean, wanted = moments.means
    return weights, wanted - weights @ mean
