"""Batch, layer, group, instance and local response normalisation, softmax, dropout."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported


def _channels_first(b: Builder, x: ir.Value, axis: int) -> tuple[ir.Value, list[int]]:
    """`x` with `axis` second, and the axes that bring the result back."""
    rank, axis = b.rank(x), b.axis(x, axis)
    if rank == 1 or axis == 0:
        raise Unsupported(f"axis {axis} of {rank} dimensions: the channels stand behind the batch")
    order = [0, axis, *(i for i in range(1, rank) if i != axis)]
    back = sorted(range(rank), key=lambda i: order[i])
    return b.transpose(x, order), back


def _constant_like(b: Builder, number: float, value: ir.Value) -> ir.Value:
    return b.like(np.full(b.sizes_of(value), number), value)


def batch_norm(
    b: Builder,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    moving_mean: ir.Value,
    moving_var: ir.Value,
    *,
    axis: int = 1,
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
    momentum: float = 0.1,
    training: bool = False,
) -> tuple[ir.Value, ...]:
    """Inference: the result, and the mean and variance as they came in."""
    if not scale:
        gamma = _constant_like(b, 1, gamma)
    if not center:
        beta = _constant_like(b, 0, beta)
    x, back = _channels_first(b, x, axis)
    y = b.op("BatchNormalization", x, gamma, beta, moving_mean, moving_var, epsilon=epsilon)
    return b.transpose(y, back), moving_mean, moving_var


def layer_norm(
    b: Builder,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    *,
    axis: int | Sequence[int] | None = None,
    axes: int | Sequence[int] | None = None,
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
) -> ir.Value:
    """Over one axis (Relay's `axis`) or several (Relax's `axes`), moved to the end if need be."""
    given = next((a for a in (axes, axis) if a is not None), -1)
    over = [b.axis(x, a) for a in ([given] if isinstance(given, int) else given)]
    rest = [i for i in range(b.rank(x)) if i not in over]
    order = [*rest, *over]
    back = sorted(range(len(order)), key=lambda i: order[i])
    if not scale:
        gamma = _constant_like(b, 1, gamma)
    if not center:
        beta = _constant_like(b, 0, beta)
    y = b.op(
        "LayerNormalization",
        b.transpose(x, order),
        gamma,
        beta,
        axis=-len(over),
        epsilon=epsilon,
    )
    return b.transpose(y, back)


def instance_norm(
    b: Builder,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    *,
    axis: int | None = None,
    channel_axis: int = 1,
    axes: Sequence[int] | None = None,
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
) -> ir.Value:
    """Over all but the batch and the channels: `axis` in Relay, `channel_axis` in Relax."""
    if not scale:
        gamma = _constant_like(b, 1, gamma)
    if not center:
        beta = _constant_like(b, 0, beta)
    single = [a for a, size in enumerate(b.dims(x)) if size == 1]
    x, back = _channels_first(b, x, channel_axis if axis is None else axis)
    # torch's batches come as one sample of many channels, normalised over that axis of 1 as well.
    if axes is not None and ({b.axis(x, a) for a in axes} ^ {*back[2:]}) - {*single}:
        raise Unsupported(f"axes {tuple(axes)} where all but batch and channels are known")
    return b.transpose(b.op("InstanceNormalization", x, gamma, beta, epsilon=epsilon), back)


def group_norm(
    b: Builder,
    x: ir.Value,
    gamma: ir.Value,
    beta: ir.Value,
    *,
    num_groups: int,
    axis: int | None = None,
    channel_axis: int = 1,
    axes: Sequence[int] | None = None,
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
) -> ir.Value:
    """As `instance_norm`, the channels in `num_groups` groups; `gamma` and `beta` by channel."""
    if not scale:
        gamma = _constant_like(b, 1, gamma)
    if not center:
        beta = _constant_like(b, 0, beta)
    channels = channel_axis if axis is None else axis
    rest = [i for i in range(1, b.rank(x)) if i != b.axis(x, channels)]
    if axes is not None and sorted(b.axis(x, a) for a in axes) != rest:
        raise Unsupported(f"axes {tuple(axes)} where all but batch and channels are known")
    x, back = _channels_first(b, x, channels)
    channels = b.sizes_of(x, [1])[0]
    if num_groups < 1 or channels % num_groups:
        raise Unsupported(f"{channels} channels in {num_groups} groups")
    # ONNX's own has a scale for each group before opset 21: so the groups are channels here.
    ones = b.like(np.ones(num_groups), x)
    grouped = b.reshape(x, [0, num_groups, -1])
    normal = b.op(
        "InstanceNormalization",
        grouped,
        ones,
        b.like(np.zeros(num_groups), x),
        part="groups",
        epsilon=epsilon,
    )
    sizes = [0, *b.sizes_of(x, range(1, b.rank(x)))]
    along = [-1] + [1] * (b.rank(x) - 2)
    scaled = b.op("Mul", b.reshape(normal, sizes), b.reshape(gamma, along), part="scaled")
    return b.transpose(b.op("Add", scaled, b.reshape(beta, along)), back)


def softmax(b: Builder, x: ir.Value, *, axis: int = -1) -> ir.Value:
    """exp(x) by its sum along `axis`."""
    return b.op("Softmax", x, axis=b.axis(x, axis))


def log_softmax(b: Builder, x: ir.Value, *, axis: int = -1) -> ir.Value:
    """The logarithm of `softmax`."""
    return b.op("LogSoftmax", x, axis=b.axis(x, axis))


def lrn(
    b: Builder,
    x: ir.Value,
    *,
    size: int = 5,
    axis: int = 1,
    bias: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> ir.Value:
    """x / (bias + alpha / size * sum of squares of `size` channels) ^ beta."""
    x, back = _channels_first(b, x, axis)
    return b.transpose(b.op("LRN", x, size=size, bias=bias, alpha=alpha, beta=beta), back)


def l2_normalize(
    b: Builder, x: ir.Value, *, eps: float, axis: int | Sequence[int] | None = None
) -> ir.Value:
    """x / sqrt(max(sum of squares, eps)) along the axes."""
    given = range(b.rank(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = b.ints([b.axis(x, a) for a in given])
    squares = b.op("ReduceSumSquare", x, axes, part="squares", keepdims=1)
    norm = b.op("Sqrt", b.op("Max", squares, b.like(eps, x), part="max"), part="norm")
    return b.op("Div", x, norm)


def dropout(b: Builder, x: ir.Value, **settings: Any) -> tuple[ir.Value, ...]:
    """Inference: `x` itself, and a mask that keeps all."""
    return x, x


OPERATORS: dict[str, Operator] = {
    "nn.batch_norm": batch_norm,
    "nn.dropout": dropout,
    "nn.fast_softmax": softmax,
    "nn.group_norm": group_norm,
    "nn.instance_norm": instance_norm,
    "nn.l2_normalize": l2_normalize,
    "nn.layer_norm": layer_norm,
    "nn.log_softmax": log_softmax,
    "nn.lrn": lrn,
    "nn.softmax": softmax,
}
