"""fold-batchnorm: normalisation and per-channel constants into the layer before them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.fold import drop_unused
from xbarc.graph.query import (
    attribute,
    constant,
    input_at,
    is_op,
    only_consumer,
    unique_name,
    value_names,
)
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass
from xbarc.support.data import Array

LAYERS = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FoldBatchNorm(GraphPass):
    """Fold scales and shifts of a layer's output channels into its weights and bias.

        %a = Conv(%x, %w, %b)
        %y = BatchNormalization(%a, %scale, %shift, %mean, %var)
    ->
        %y = Conv(%x, %w * f, (%b - %mean) * f + %shift)        # f = scale / sqrt(var + epsilon)

    The layer is a Conv, ConvTranspose or Gemm with static weights. No other node may read its
    output. The pass also folds Mul, Div, Add and Sub with one constant for each channel, and
    accounts for a Gemm's alpha and beta. It computes in float64 and stores the weights' own type.
    If another node reads the weight too, the pass makes a copy.
    """

    name: ClassVar[str] = "fold-batchnorm"
    preserves: ClassVar[bool] = True

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether anything was folded."""
        taken = value_names(model)
        modified = False
        for node in tuple(model.graph):
            source = _scaled_value(node)
            layer = None if source is None else source.producer()
            if source is None or layer is None or not is_op(layer, *LAYERS):
                continue
            if only_consumer(source) is node and _fold(layer, node, source, taken):
                modified = True
        if modified:
            drop_unused(model)
        return modified


def _scaled_value(node: ir.Node) -> ir.Value | None:
    """The input that `node` scales and shifts."""
    if is_op(node, "BatchNormalization", "Sub", "Div"):
        return input_at(node, 0)
    if is_op(node, "Mul", "Add") and len(node.inputs) == 2:
        return node.inputs[1] if constant(node.inputs[0]) is not None else node.inputs[0]
    return None


def _fold(layer: ir.Node, node: ir.Node, source: ir.Value, taken: set[str]) -> bool:
    weight_value, bias_value = input_at(layer, 1), input_at(layer, 2)
    weight, bias = constant(weight_value), constant(bias_value)
    if weight is None or weight.dtype.kind != "f" or weight_value is None:
        return False
    if bias_value is not None and bias is None:
        return False
    channels = _channels(layer, weight)
    flat_bias = _flat_bias(layer, bias, channels)
    affine = _affine(node, source, channels, rank=weight.ndim)
    if affine is None or flat_bias is None:
        return False
    scale, shift = affine
    new_weight = weight
    with np.errstate(over="ignore"):  # what overflows isn't folded
        new_bias = (flat_bias * scale + shift).astype(weight.dtype)
        if not np.all(scale == 1):
            new_weight = (weight * _along_output(layer, weight, scale)).astype(weight.dtype)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        return False
    if new_weight is not weight:
        _replace(layer, 1, new_weight, taken)
    _replace(layer, 2, new_bias, taken)
    if is_op(layer, "Gemm"):
        layer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    _take_output(layer, node)
    return True


def _channels(layer: ir.Node, weight: Array) -> int:
    if is_op(layer, "Conv"):
        return int(weight.shape[0])
    if is_op(layer, "ConvTranspose"):
        return int(weight.shape[1]) * int(attribute(layer, "group", 1))
    return int(weight.shape[0 if attribute(layer, "transB", 0) else 1])


def _flat_bias(layer: ir.Node, bias: Array | None, channels: int) -> Array | None:
    """The bias as one float64 a channel; None where it isn't one number a channel."""
    if bias is None:
        return np.zeros(channels)
    if bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1):
        return None
    if bias.size not in (1, channels):
        return None
    beta = attribute(layer, "beta", 1.0) if is_op(layer, "Gemm") else 1.0
    return np.broadcast_to(bias.reshape(-1).astype(np.float64) * beta, (channels,))


def _affine(
    node: ir.Node, source: ir.Value, channels: int, rank: int
) -> tuple[Array, Array] | None:
    """What `node` computes as `scale * x + shift`, each one float64 a channel."""
    one, zero = np.ones(channels), np.zeros(channels)
    if is_op(node, "BatchNormalization"):
        return _batch_norm(node, channels)
    other = next((v for v in node.inputs if v is not source), None)
    operand = _per_channel(constant(other), channels, rank)
    if operand is None:
        return None
    if is_op(node, "Add"):
        return one, operand
    if is_op(node, "Sub"):
        return one, -operand
    if is_op(node, "Mul"):
        return operand, zero
    return None if not operand.all() else (1 / operand, zero)


def _batch_norm(node: ir.Node, channels: int) -> tuple[Array, Array] | None:
    if attribute(node, "training_mode", 0) or not attribute(node, "spatial", 1):
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    parameters = [constant(input_at(node, index)) for index in range(1, 5)]
    wide = [p.astype(np.float64) for p in parameters if p is not None and p.shape == (channels,)]
    if len(wide) != 4:
        return None
    gamma, beta, mean, variance = wide
    deviation = variance + attribute(node, "epsilon", 1e-5)
    if (deviation <= 0).any():
        return None
    scale = gamma / np.sqrt(deviation)
    return scale, beta - mean * scale


def _per_channel(operand: Array | None, channels: int, rank: int) -> Array | None:
    """A constant that broadcasts along axis 1 alone, as one float64 a channel."""
    if operand is None or operand.dtype.kind != "f" or operand.ndim > rank:
        return None
    shape = (1,) * (rank - operand.ndim) + operand.shape
    if shape[1] not in (1, channels) or any(n != 1 for i, n in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(operand.reshape(-1).astype(np.float64), (channels,))


def _along_output(layer: ir.Node, weight: Array, scale: Array) -> Array:
    """`scale` in a shape that broadcasts along the weight's output channels."""
    if is_op(layer, "Conv"):
        return scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if is_op(layer, "Gemm"):
        return scale.reshape(-1, 1) if attribute(layer, "transB", 0) else scale.reshape(1, -1)
    # ConvTranspose: input channels come group by group, each with its group's output channels
    groups = int(attribute(layer, "group", 1))
    rows = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return rows.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))


def _replace(layer: ir.Node, index: int, array: Array, taken: set[str]) -> None:
    """Give the layer this array as an input; the initialiser's own name if it alone reads it."""
    tensor = ir.Tensor(array)
    old = input_at(layer, index)
    if old is not None and only_consumer(old) is layer:
        old.const_value, old.shape = tensor, ir.Shape(array.shape)
        return
    value = ir.Value(
        name=unique_name(f"{layer.name}_{'weight' if index == 1 else 'bias'}", taken),
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph = layer.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{layer} stands in no graph")
    graph.register_initializer(value)
    if len(layer.inputs) <= index:
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, value)


def _take_output(layer: ir.Node, node: ir.Node) -> None:
    """The layer gives what `node` gave, under its name where that is an output of the model."""
    kept, gone = layer.outputs[0], node.outputs[0]
    name, is_output = gone.name, gone.is_graph_output()
    graph = node.graph
    gone.replace_all_uses_with(kept, replace_graph_outputs=True)
    gone.name = None
    if is_output:
        kept.name = name
    if graph is not None:
        graph.remove(node, safe=True)
