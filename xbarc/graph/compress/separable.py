"""Splitting a convolution into depthwise (2D) kernels and a 1x1 (1D) convolution, and its fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations
from xbarc.graph.compress.least_squares import Moments, fit
from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.query import attribute, constant, dims, input_at, is_op
from xbarc.graph.windows import resolved_pads
from xbarc.support.data import Array, Feeds

MAX_SAMPLES = 1 << 15
"""Output positions, over all calibration data, that a layer is fitted on."""

RIDGE = 1e-4
"""Share of the mean variance that is added to each kernel position's, so that none is lost."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution over all its input channels: `weights` [M, C, *kernel], `bias` [M]."""

    node: ir.Node
    weights: Array
    bias: Array | None

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name or ""

    @property
    def channels(self) -> int:
        """Input channels."""
        return int(self.weights.shape[1])

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's size along each spatial axis."""
        return self.weights.shape[2:]

    @property
    def full_rank(self) -> int:
        """The rank that keeps the function."""
        return min(prod(self.kernel), len(self.weights))

    @property
    def slices(self) -> Array:
        """What each input channel contributes: [C, M, k^2], float64."""
        outputs, channels = self.weights.shape[:2]
        return self.weights.reshape(outputs, channels, -1).transpose(1, 0, 2).astype(np.float64)

    def cost(self, rank: int) -> int:
        """Weights after the split."""
        return rank * self.channels * (prod(self.kernel) + len(self.weights))


@dataclass(frozen=True)
class Split:
    """`kernels` [C, r, k^2] and `points` [M, C * r] in place of a layer's weights."""

    kernels: Array
    points: Array
    bias: Array | None


def find_convolution(node: ir.Node) -> Convolution | str | None:
    """The convolution that `node` is; why it can't be split; None for any other operator."""
    if not is_op(node, "Conv"):
        return None
    weights, bias = constant(input_at(node, 1)), constant(input_at(node, 2))
    if weights is None or weights.dtype.kind != "f":
        return "its weights aren't static real numbers"
    if input_at(node, 2) is not None and bias is None:
        return "its bias changes at run time"
    groups = attribute(node, "group", 1)
    if groups != 1:
        kind = "depthwise already" if weights.shape[1] == 1 else f"of {groups} groups"
        return f"it is {kind}"
    if prod(weights.shape[2:]) == 1:
        return f"its kernel is {' x '.join(map(str, weights.shape[2:]))}"
    return Convolution(node, weights, bias)


# --- The split ----------------------------------------------------------------------------------


def split(layer: Convolution, rank: int, moments: Moments | None, *, sweeps: int = 0) -> Split:
    """The best kernels and 1x1 weights of this rank; without `moments`, from the weights alone.

    Each of `sweeps` fits the 1x1 weights to the kernels, then all kernels at once to the 1x1
    weights (alternating least squares): so channels that see the same share the work.
    """
    left = bases(layer, moments)[0][:, :, :rank]
    kernels = np.einsum("cmr,cmk->crk", left, layer.slices)
    points = left.transpose(1, 0, 2).reshape(len(layer.weights), -1)
    if moments is None or rank >= layer.full_rank:
        return Split(kernels, points, layer.bias)
    features, cross, _ = moments.covariance()
    for _ in range(sweeps):
        inner, crossed = kernel_covariances(kernels, features, cross)
        points = fit(inner, crossed, points)
        kernels = _fit_kernels(features, cross, points, kernels)
    inner, crossed = kernel_covariances(kernels, features, cross)
    # Kernel outputs of one size: they share the scale that they are quantised with.
    size = np.sqrt(np.maximum(np.diagonal(inner), 0))
    size = np.where(size > 0, size, 1.0)
    kernels = kernels / size.reshape(*kernels.shape[:2], 1)
    points = fit(inner / np.outer(size, size), crossed / size[:, None], points * size)
    mean, wanted = moments.means
    bias = wanted - points @ _apply(kernels, mean[:, None])[:, 0]
    return Split(kernels, points, bias)


def bases(layer: Convolution, moments: Moments | None) -> tuple[Array, Array]:
    """Left singular vectors [C, M, full_rank] and values [C, full_rank] of the channels' slices.

    With `moments`, of the slices times the square root of their windows' covariance: what the
    windows hold decides how much of a slice matters.
    """
    slices = layer.slices
    positions = slices.shape[2]
    if moments is not None:
        features = moments.covariance()[0]
        roots = np.empty((layer.channels, positions, positions))
        for channel in range(layer.channels):
            own = slice(channel * positions, (channel + 1) * positions)
            block = features[own, own]
            floor = RIDGE * float(np.trace(features)) / len(features) or 1.0
            values, vectors = np.linalg.eigh(block + floor * np.eye(positions))
            roots[channel] = vectors * np.sqrt(np.maximum(values, 0))
        slices = slices @ roots
    left, values, _ = np.linalg.svd(slices, full_matrices=False)
    return left, values


def _fit_kernels(features: Array, cross: Array, points: Array, prior: Array) -> Array:
    """The kernels [C, r, k^2] whose outputs give the targets best by `points` [M, C * r]."""
    channels, _, positions = prior.shape
    window = np.arange(channels * positions).reshape(channels, 1, positions)
    rows = np.broadcast_to(window, prior.shape).ravel()
    weights = np.repeat(points, positions, axis=1)  # [M, C * r * k^2]
    inner = features[np.ix_(rows, rows)] * (weights.T @ weights)
    crossed = np.einsum("fm,mf->f", cross[rows], weights)
    return fit(inner, crossed[:, None], prior.reshape(1, -1)).reshape(prior.shape)


def kernel_covariances(kernels: Array, features: Array, cross: Array) -> tuple[Array, Array]:
    """Covariances of the outputs of `kernels` [C, r, k^2], and of these with the targets.

    `features` and `cross` are those of the window positions [C * k^2].
    """
    half = _apply(kernels, features)
    return _apply(kernels, half.T), _apply(kernels, cross)


def _apply(kernels: Array, windows: Array) -> Array:
    """Kernels [C, r, k^2] on rows of window positions [C * k^2, n]: [C * r, n]."""
    channels, rank, positions = kernels.shape
    blocks = windows.reshape(channels, positions, -1)
    return np.asarray(kernels @ blocks).reshape(channels * rank, -1)


# --- Data ---------------------------------------------------------------------------------------


def moments_of(original: ir.Model, model: ir.Model, layer: Convolution, feeds: Feeds) -> Moments:
    """Moments of the windows that the layer sees in `model` and of what it gave in `original`."""
    source, result = str(layer.node.inputs[0].name), str(layer.node.outputs[0].name)  # type: ignore[union-attr]
    moments = Moments(layer.channels * prod(layer.kernel), len(layer.weights))
    samples = max(len(array) for array in feeds.values() if array.ndim)
    each = ceil(MAX_SAMPLES / max(samples, 1))
    rng = np.random.default_rng(0)
    before = activations(original, [result], feeds)
    now = activations(model, [source], feeds)
    for (_, outputs), (_, inputs) in zip(before, now, strict=True):
        windows, wanted = [], []
        for x, y in zip(inputs[source], outputs[result], strict=True):
            count = prod(y.shape[1:])
            chosen = np.arange(count)
            if count > each:
                chosen = np.sort(rng.choice(count, each, replace=False))
            windows.append(_windows(layer, x, y.shape[1:], chosen))
            wanted.append(y.reshape(len(y), -1)[:, chosen])
        moments.add(np.concatenate(windows, axis=1), np.concatenate(wanted, axis=1))
    return moments


def _windows(layer: Convolution, x: Array, result: Sequence[int], chosen: Array) -> Array:
    """What the kernel sees of `x` [C, ...] at the output positions `chosen`: [C * k^2, n]."""
    strides, pads, dilations = resolved_pads(layer.node, x.shape[1:], layer.kernel)
    rank = len(layer.kernel)
    padded = np.pad(x, [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    corners = [
        axis * stride
        for axis, stride in zip(np.unravel_index(chosen, tuple(result)), strides, strict=True)
    ]
    found = np.empty((len(x), prod(layer.kernel), len(chosen)), np.float32)
    for position, offset in enumerate(np.ndindex(*layer.kernel)):
        places = tuple(c + o * d for c, o, d in zip(corners, offset, dilations, strict=True))
        found[:, position] = padded[(slice(None), *places)]
    return found.reshape(-1, len(chosen))


# --- The graph ----------------------------------------------------------------------------------


def insert_split(layer: Convolution, found: Split, taken: set[str]) -> None:
    """Put `conv.depthwise` and `conv.pointwise` in the graph, in the place of `conv`.

    `taken` are the names of the graph's values; the new ones are added.
    """
    node, name = layer.node, layer.name
    graph, source, output = node.graph, node.inputs[0], node.outputs[0]
    if not isinstance(graph, ir.Graph) or source is None:
        raise TypeError(f"{node} stands in no graph")
    dtype: Any = layer.weights.dtype
    channels, rank, _ = found.kernels.shape
    kernels = found.kernels.reshape(channels * rank, 1, *layer.kernel).astype(dtype)
    points = found.points.reshape(*found.points.shape, *[1] * len(layer.kernel)).astype(dtype)
    shape = dims(output)
    middle = insert_before(
        node,
        "Conv",
        [source, add_initializer(graph, f"{name}.depthwise.weight", kernels, taken)],
        f"{name}.depthwise",
        taken,
        attributes={
            **{key: attr.value for key, attr in node.attributes.items()},
            "group": channels,
        },
        like=output,
        shape=None
        if shape is None or output.shape is None
        else [output.shape[0], channels * rank, *shape[2:]],
    )
    inputs = [middle, add_initializer(graph, f"{name}.pointwise.weight", points, taken)]
    if found.bias is not None:
        bias = found.bias.astype(dtype)
        inputs.append(add_initializer(graph, f"{name}.pointwise.bias", bias, taken))
    result = insert_before(node, "Conv", inputs, f"{name}.pointwise", taken, like=output)
    stand_in(result, output)
    graph.remove(node, safe=True)
