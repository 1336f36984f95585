"""depthwise: a convolution as depthwise kernels and a 1x1 convolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.data import Array, Feeds
from xbarc.errors import UsageError
from xbarc.graph.activations import activations
from xbarc.graph.calibration import feeds_of
from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.fold import drop_unused
from xbarc.graph.least_squares import Moments, fit, residual
from xbarc.graph.query import attribute, constant, dims, input_at, is_op, value_names
from xbarc.graph.select import select
from xbarc.layers import resolved_pads
from xbarc.pipeline import GraphPass
from xbarc.target import Target

STEM_CHANNELS = 3
"""A convolution on no more input channels than this is a network's first: it is kept."""

MAX_SAMPLES = 1 << 15
"""Output positions, over all calibration data, that a layer is fitted on."""

RIDGE = 1e-4
"""Share of the mean variance that is added to each kernel position's, so that none is lost."""


@dataclass(frozen=True)
class Depthwise(GraphPass):
    """Split convolutions into `rank` depthwise kernels a channel and a 1x1 convolution.

        %y = Conv<pads=[2, 2, 2, 2]>(%x, %w, %b)                        # 5 x 5, 6 -> 16: 2400
    ->
        %d = Conv<group=6, pads=[2, 2, 2, 2]>(%x, %w.depthwise)         # 5 x 5 a channel: 150
        %y = Conv(%d, %w.pointwise, %b)                                 # 1 x 1, 6 -> 16:   96

    Rank r of k x k kernels, C -> M: r k^2 C + r C M weights in place of k^2 C M. Rank
    min(k^2, M) keeps the function. Below it, the kernels of a channel are the leading singular
    vectors of its M x k^2 slice, weighted by how the channel's windows vary over the calibration
    data; then the 1x1 weights and the bias are fitted in closed form, layer by layer, to what the
    network computed before the pass, from what reaches the layer now. `refit=false` takes the
    weights' own singular vectors alone and needs no data.

    The rank is chosen, one for all channels of a layer, by one of

    - `rank`: the same for each layer (1 if nothing is said);
    - `energy`: the least that keeps this share of the squared singular values, 0 to 1;
    - `error`: the least whose fit differs by at most this from the layer's output (relative L2
      error about the mean, over the calibration data), 0 to 1;
    - `budget`: at most this share of the layers' weights in all, 0 to 1, spent where a rank more
      keeps the most of a layer's energy a weight.

    Under the last three a layer that wouldn't get smaller is kept. So are grouped layers, and
    those on 3 channels or fewer unless `layers` names them. The layers `conv.depthwise` and
    `conv.pointwise` come of `conv`. A model of MSCCNN's separable convolutions (Wen et al., IEEE
    TNSE 7(3), 2020), without the paper's retraining.
    """

    name: ClassVar[str] = "depthwise"
    preserves: ClassVar[bool] = False

    rank: int | None = None
    energy: float | None = None
    error: float | None = None
    budget: float | None = None
    layers: tuple[str, ...] = ()
    refit: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError for two ways to choose, or a value out of range."""
        shares = {"energy": self.energy, "error": self.error, "budget": self.budget}
        given = [name for name, value in shares.items() if value is not None]
        if self.rank is not None:
            given.insert(0, "rank")
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} each choose the rank: give one of them")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"rank is at least 1, not {self.rank}")
        for name, value in shares.items():
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"{name} is above 0 and at most 1, not {value:g}")

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether any layer was split.

        Raises:
            UsageError: `layers` names what isn't there or can't be split; no layer has that rank.
            XbarcError: no calibration data where they are needed.
        """
        layers = self._chosen(model)
        feeds = feeds_of(model) if self._needs_data(layers) else None
        original = model.clone() if feeds is not None else None
        ranks = self._within_budget(model, layers, feeds) if self.budget is not None else {}
        taken = value_names(model)
        modified = False
        for layer in layers:
            rank = ranks.get(layer.name, self.rank or 1)
            moments = None
            if original is not None and feeds is not None and not self._is_exact(layer):
                moments = _moments(original, model, layer, feeds)
            if self.energy is not None:
                rank = _least(_kept(layer, moments), self.energy)
            if self.error is not None:
                rank = _least([1 - e for e in _errors(layer, moments)], 1 - self.error)
            rank = min(rank, layer.full_rank)
            by_saving = self.energy is not None or self.error is not None
            if rank == 0 or (by_saving and layer.cost(rank) >= layer.weights.size):
                continue
            _replace(layer, split(layer, rank, moments), taken)
            modified = True
        if modified:
            drop_unused(model)
        return modified

    def _chosen(self, model: ir.Model) -> list["Layer"]:
        found: dict[str, Layer] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            layer = find_layer(node)
            if isinstance(layer, Layer):
                if layer.channels > STEM_CHANNELS or layer.name in self.layers:
                    found[layer.name] = layer
            elif layer is not None:
                refused[node.name or ""] = layer
        layers = select(self.layers, found, refused)
        if self.rank is None or not layers:
            return layers
        # Without names a rank may be too large for a narrow layer, but not for all of them.
        limits = [la.full_rank for la in layers]
        if self.rank > (min(limits) if self.layers else max(limits)):
            tight = min(layers, key=lambda la: la.full_rank * (1 if self.layers else -1))
            raise UsageError(
                f"rank {self.rank} is out of range: {tight.name!r} has ranks 1 to "
                f"{tight.full_rank} (of {prod(tight.kernel)} kernel positions and "
                f"{len(tight.weights)} outputs)"
            )
        return layers

    def _is_exact(self, layer: "Layer") -> bool:
        return self.rank is not None and self.rank >= layer.full_rank

    def _needs_data(self, layers: Sequence["Layer"]) -> bool:
        return self.refit and not all(self._is_exact(layer) for layer in layers)

    def _within_budget(
        self, model: ir.Model, layers: Sequence["Layer"], feeds: Feeds | None
    ) -> dict[str, int]:
        """The rank of each layer that keeps the most energy; 0 where the layer stays."""
        kept = {
            la.name: _kept(la, None if feeds is None else _moments(model, model, la, feeds))
            for la in layers
        }
        ranks = {la.name: 1 if la.cost(1) < la.weights.size else 0 for la in layers}
        split_now = [la for la in layers if ranks[la.name]]
        whole = sum(la.weights.size for la in layers)
        least = sum(la.cost(1) if ranks[la.name] else la.weights.size for la in layers)
        left = (self.budget or 0) * whole - least
        if left < 0:
            share = ceil(1000 * least / whole) / 1000
            raise UsageError(f"budget {self.budget:g} is less than rank 1 takes: {share:g}")
        while True:
            # One rank more, or the layer as it was once a rank would cost no less.
            steps: list[tuple[float, str, int, int]] = []
            for la in split_now:
                rank = ranks[la.name]
                if rank == 0:
                    continue
                more = rank + 1 if la.cost(rank + 1) < la.weights.size else 0
                price = (la.cost(more) if more else la.weights.size) - la.cost(rank)
                gain = (kept[la.name][more - 1] if more else 1.0) - kept[la.name][rank - 1]
                if price <= left:
                    steps.append((gain / max(price, 1), la.name, more, price))
            if not steps:
                return ranks
            _, name, more, price = max(steps)
            ranks[name], left = more, left - price


@dataclass(frozen=True, eq=False)
class Layer:
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


def find_layer(node: ir.Node) -> Layer | str | None:
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
    return Layer(node, weights, bias)


# --- The split ----------------------------------------------------------------------------------


def split(layer: Layer, rank: int, moments: Moments | None) -> Split:
    """The best kernels and 1x1 weights of this rank; from the weights alone without `moments`."""
    bases = _bases(layer, moments)[0][:, :, :rank]
    kernels = np.einsum("cmr,cmk->crk", bases, layer.slices)
    points = bases.transpose(1, 0, 2).reshape(len(layer.weights), -1)
    if moments is None or rank >= layer.full_rank:
        return Split(kernels, points, layer.bias)
    features, cross, _ = moments.covariance()
    inner, crossed = _through(kernels, features, cross)
    # Kernel outputs of one size: they share the scale that they are quantised with.
    size = np.sqrt(np.maximum(np.diagonal(inner), 0))
    size = np.where(size > 0, size, 1.0)
    kernels = kernels / size.reshape(*kernels.shape[:2], 1)
    points = fit(inner / np.outer(size, size), crossed / size[:, None], points * size)
    mean, wanted = moments.means
    bias = wanted - points @ _apply(kernels, mean[:, None])[:, 0]
    return Split(kernels, points, bias)


def _bases(layer: Layer, moments: Moments | None) -> tuple[Array, Array]:
    """Left singular vectors [C, M, full_rank] and values [C, full_rank] of the channels' slices.

    With `moments`, of the slices times the square root of their windows' covariance: what matters
    of a slice is what the windows make of it.
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


def _through(kernels: Array, features: Array, cross: Array) -> tuple[Array, Array]:
    """Covariances of the kernels' outputs, from those of the window positions."""
    half = _apply(kernels, features)
    return _apply(kernels, half.T), _apply(kernels, cross)


def _apply(kernels: Array, windows: Array) -> Array:
    """Kernels [C, r, k^2] on rows of window positions [C * k^2, n]: [C * r, n]."""
    channels, rank, positions = kernels.shape
    blocks = windows.reshape(channels, positions, -1)
    return np.asarray(kernels @ blocks).reshape(channels * rank, -1)


def _kept(layer: Layer, moments: Moments | None) -> list[float]:
    """The share of the energy that ranks 1, 2 ... keep."""
    energy = (_bases(layer, moments)[1] ** 2).sum(axis=0)
    whole = float(energy.sum())
    return [1.0] * len(energy) if not whole else (np.cumsum(energy) / whole).tolist()


def _errors(layer: Layer, moments: Moments | None) -> list[float]:
    """The relative error of the fit of ranks 1, 2 ..."""
    if moments is None:
        return [float(np.sqrt(max(1 - kept, 0))) for kept in _kept(layer, moments)]
    features, cross, variances = moments.covariance()
    errors = []
    for rank in range(1, layer.full_rank):
        found = split(layer, rank, moments)
        inner, crossed = _through(found.kernels, features, cross)
        errors.append(residual(inner, crossed, variances, found.points))
    return [*errors, 0.0]


def _least(quality: Sequence[float], wanted: float) -> int:
    """The first rank whose quality is at least `wanted` (up to rounding)."""
    return next((i for i, q in enumerate(quality, 1) if q >= wanted - 1e-9), len(quality))


# --- Data ---------------------------------------------------------------------------------------


def _moments(original: ir.Model, model: ir.Model, layer: Layer, feeds: Feeds) -> Moments:
    """Windows that reach the layer in `model`, against what it gave in `original`."""
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


def _windows(layer: Layer, x: Array, result: Sequence[int], chosen: Array) -> Array:
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


def _replace(layer: Layer, found: Split, taken: set[str]) -> None:
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
