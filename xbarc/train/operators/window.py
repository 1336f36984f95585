"""Convolution and pooling: windows over one to three spatial axes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.train.operators.operator import Operator, Unsupported

Ints = Sequence[int]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _rank(spatial: int) -> int:
    if spatial not in _CONV:
        raise Unsupported(f"{spatial} spatial axes: 1 to 3 can be trained")
    return spatial


def _spread(values: Ints | None, rank: int, default: int) -> list[int]:
    return [default] * rank if values is None else list(values)


def _edges(
    auto_pad: str, pads: Ints | None, size: Ints, extent: Ints, strides: Ints
) -> tuple[list[int], list[int]]:
    """Padding in front of each axis and behind it; `extent` is how far a window reaches."""
    rank = len(size)
    if auto_pad.startswith("SAME"):
        total = [
            max((-(-s // st) - 1) * st + e - s, 0)
            for s, st, e in zip(size, strides, extent, strict=True)
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        return (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    if auto_pad == "VALID" or pads is None:
        return [0] * rank, [0] * rank
    return list(pads[:rank]), list(pads[rank:])


def _padded(x: Tensor, begins: Ints, ends: Ints, value: float = 0.0) -> Tensor:
    if not (any(begins) or any(ends)):
        return x
    sides = [p for pair in zip(reversed(begins), reversed(ends), strict=True) for p in pair]
    return F.pad(x, sides, value=value)


def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """x [N, C, spatial...], w [F, C / group, kernel...], b [F]."""
    rank = _rank(w.ndim - 2)
    steps, apart = _spread(strides, rank, 1), _spread(dilations, rank, 1)
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], apart, strict=True)]
    begins, ends = _edges(auto_pad, pads, x.shape[2:], extent, steps)
    if begins != ends:
        x, begins = _padded(x, begins, ends), [0] * rank
    if group > 1 and max(steps) > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # oneDNN has no kernel for the gradient of this in bfloat16: it is 10 times slower.
        with torch.autocast("cpu", enabled=False):
            bias = None if b is None else b.float()
            return _CONV[rank](x.float(), w.float(), bias, steps, begins, apart, group)
    return _CONV[rank](x, w, b, steps, begins, apart, group)


def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """x [N, C, spatial...], w [C, F / group, kernel...], b [F]: the whole result, then cut."""
    rank = _rank(w.ndim - 2)
    steps, apart = _spread(strides, rank, 1), _spread(dilations, rank, 1)
    more = _spread(output_padding, rank, 0)
    whole = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[2:], steps, w.shape[2:], apart, strict=True)
    ]
    begins, ends = _edges("NOTSET", pads, x.shape[2:], [1] * rank, steps)
    wanted = list(output_shape)[-rank:] if output_shape is not None else None
    if wanted is None and auto_pad.startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], steps, strict=True)]
    if wanted is not None:
        total = [f + m - o for f, m, o in zip(whole, more, wanted, strict=True)]
        # Where more is wanted than there is, it stands at the end.
        less = [max(t, 0) // 2 for t in total]
        rest = [t - a for t, a in zip(total, less, strict=True)]
        first = auto_pad != "SAME_UPPER" and min(total) >= 0
        begins, ends = (rest, less) if first else (less, rest)
    y = _CONV_TRANSPOSE[rank](x, w, None, steps, [0] * rank, [0] * rank, group, apart)
    y = _padded(y, [-p for p in begins], [m - p for m, p in zip(more, ends, strict=True)])
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _hanging(
    size: Ints, extent: Ints, steps: Ints, begins: Ints, ends: Ints, ceil_mode: int
) -> list[int]:
    """How much further than the padding the last windows reach, under `ceil_mode`."""
    found = []
    for n, e, s, b, a in zip(size, extent, steps, begins, ends, strict=True):
        count = (n + b + a - e) // s + 1
        if ceil_mode:
            count = -(-(n + b + a - e) // s) + 1
            # A window that would begin behind the input isn't there.
            count -= (count - 1) * s >= n + b
        found.append(max((count - 1) * s + e - (n + b + a), 0))
    return found


def max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> Tensor:
    """The largest of each window; padding is never it."""
    rank = _rank(len(kernel_shape))
    steps, apart = _spread(strides, rank, 1), _spread(dilations, rank, 1)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel_shape, apart, strict=True)]
    begins, ends = _edges(auto_pad, pads, x.shape[2:], extent, steps)
    more = _hanging(x.shape[2:], extent, steps, begins, ends, ceil_mode)
    if any(begins) or any(ends) or any(more):
        x = _padded(x, begins, [e + m for e, m in zip(ends, more, strict=True)], -math.inf)
    return _MAX_POOL[rank](x, list(kernel_shape), steps, 0, apart)


def average_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The mean of each window: over the input alone, or over its padding too."""
    rank = _rank(len(kernel_shape))
    if any(d != 1 for d in dilations or ()):
        raise Unsupported("dilations")
    steps, kernel = _spread(strides, rank, 1), list(kernel_shape)
    begins, ends = _edges(auto_pad, pads, x.shape[2:], kernel, steps)
    more = _hanging(x.shape[2:], kernel, steps, begins, ends, ceil_mode)
    pool = _AVG_POOL[rank]
    if not (any(begins) or any(ends) or any(more)):
        return pool(x, kernel, steps)
    none, behind = [0] * rank, [e + m for e, m in zip(ends, more, strict=True)]
    inside = torch.ones_like(x[:1, :1])
    if count_include_pad:
        inside = _padded(_padded(inside, begins, ends, 1.0), none, more)
    else:
        inside = _padded(inside, begins, behind)
    return pool(_padded(x, begins, behind), kernel, steps) / pool(inside, kernel, steps)


def global_average_pool(x: Tensor) -> Tensor:
    """The mean over all spatial axes, which stay with size 1."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    """The largest over all spatial axes, which stay with size 1."""
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


OPERATORS: dict[str, Operator] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
