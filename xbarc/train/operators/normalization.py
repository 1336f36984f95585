"""Normalisation and softmax; batch normalisation keeps the statistics of the trained network."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.train.operators.operator import Operator, Unsupported


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Tensor:
    """By the statistics given, channel by channel."""
    if training_mode or not spatial:
        raise Unsupported("statistics of the batch itself")
    shape = [-1, *[1] * (x.ndim - 2)]
    factor = scale / torch.sqrt(variance + epsilon)
    return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)


def instance_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    """Each channel of each sample by itself."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Groups of channels by themselves; `scale` and `bias` a channel (opset 21) or a group."""
    if len(scale) != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // num_groups) for v in (scale, bias))
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """All axes from `axis` on together; the mean and the inverse deviation as well."""
    over = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(dim=over, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(dim=over, keepdim=True) + epsilon)
    y = (x - mean) * inverse * scale
    return y if bias is None else y + bias, mean, inverse


def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """By the root of the mean square from `axis` on."""
    over = tuple(range(axis % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(dim=over, keepdim=True) + epsilon) * scale


def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """By the norm along an axis."""
    return F.normalize(x, p=float(p), dim=axis, eps=0.0)


def mean_variance_normalization(x: Tensor, *, axes: tuple[int, ...] = (0, 2, 3)) -> Tensor:
    """Mean 0 and variance 1 over the axes."""
    mean = x.mean(dim=tuple(axes), keepdim=True)
    deviation = (x - mean).square().mean(dim=tuple(axes), keepdim=True).sqrt()
    return (x - mean) / (deviation + 1e-9)


def local_response_normalization(
    x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """By the squares of `size` neighbouring channels."""
    squares = x.square().flatten(2)[:, None]  # [N, 1, C, spatial]
    sides = (0, 0, (size - 1) // 2, math.ceil((size - 1) / 2))
    total = F.avg_pool2d(F.pad(squares, sides), (size, 1), 1)[:, 0].reshape(x.shape)
    return x / (bias + alpha * total) ** beta


def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Along one axis, as from opset 13 on."""
    return torch.softmax(x, dim=axis)


def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Along one axis, as from opset 13 on."""
    return torch.log_softmax(x, dim=axis)


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
    "Softmax": softmax,
}
