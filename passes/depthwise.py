"""depthwise: a convolution as depthwise kernels and a 1x1 convolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.attachments import feeds_of
from xbarc.graph.compress.least_squares import Moments, residual
from xbarc.graph.compress.separable import (
    Convolution,
    bases,
    find_convolution,
    insert_split,
    kernel_covariances,
    moments_of,
    split,
)
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import value_names
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass
from xbarc.support.data import Feeds
from xbarc.support.errors import UsageError

STEM_CHANNELS = 3
"""A convolution on no more input channels than this is a network's first: it is kept."""


@dataclass(frozen=True)
class Depthwise(GraphPass):
    """Split convolutions into `rank` depthwise kernels a channel and a 1x1 convolution.

        %y = Conv<pads=[2, 2, 2, 2]>(%x, %w, %b)                        # 5 x 5, 6 -> 16: 2400
    ->
        %d = Conv<group=6, pads=[2, 2, 2, 2]>(%x, %w.depthwise)         # 5 x 5 a channel: 150
        %y = Conv(%d, %w.pointwise, %b)                                 # 1 x 1, 6 -> 16:   96

    At rank r, k x k kernels C -> M have r k^2 C + r C M weights instead of k^2 C M. Rank
    min(k^2, M) keeps the function. Below it, the kernels of a channel are the leading singular
    vectors of its M x k^2 slice, weighted by how the channel's windows vary over the calibration
    data. Then the 1x1 weights and the bias are fitted in closed form, layer by layer: from the
    layer's input in the changed network to its output in the original one. `refit=false` takes only
    the weights' own singular vectors and needs no data.

    One of these options chooses the rank, one rank for all channels of a layer:

    - `rank`: the same for each layer (1 by default).
    - `energy`: the lowest that keeps this share of the squared singular values, 0 to 1.
    - `error`: the lowest whose fit differs by at most this from the layer's output (relative L2
      error about the mean, over the calibration data), 0 to 1.
    - `budget`: at most this share of the layers' weights in all, 0 to 1. It is spent where one more
      rank keeps the most of a layer's energy for each weight.

    With the last three, a layer that wouldn't get smaller is kept. Grouped layers are kept too, and
    layers on 3 channels or fewer unless `layers` names them. The layer `conv` becomes
    `conv.depthwise` and `conv.pointwise`. A model of MSCCNN's separable convolutions (Wen et al.,
    IEEE TNSE 7(3), 2020), without the paper's retraining.
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
                moments = moments_of(original, model, layer, feeds)
            if self.energy is not None:
                rank = _least(_kept(layer, moments), self.energy)
            if self.error is not None:
                rank = _least([1 - e for e in _errors(layer, moments)], 1 - self.error)
            rank = min(rank, layer.full_rank)
            by_saving = self.energy is not None or self.error is not None
            if rank == 0 or (by_saving and layer.cost(rank) >= layer.weights.size):
                continue
            insert_split(layer, split(layer, rank, moments), taken)
            modified = True
        if modified:
            drop_unused(model)
        return modified

    def _chosen(self, model: ir.Model) -> list[Convolution]:
        found: dict[str, Convolution] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            layer = find_convolution(node)
            if isinstance(layer, Convolution):
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

    def _is_exact(self, layer: Convolution) -> bool:
        return self.rank is not None and self.rank >= layer.full_rank

    def _needs_data(self, layers: Sequence[Convolution]) -> bool:
        return self.refit and not all(self._is_exact(layer) for layer in layers)

    def _within_budget(
        self, model: ir.Model, layers: Sequence[Convolution], feeds: Feeds | None
    ) -> dict[str, int]:
        """The rank of each layer that keeps the most energy; 0 where the layer stays."""
        kept = {
            la.name: _kept(la, None if feeds is None else moments_of(model, model, la, feeds))
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


def _kept(layer: Convolution, moments: Moments | None) -> list[float]:
    """The share of the energy that ranks 1, 2 ... keep."""
    energy = (bases(layer, moments)[1] ** 2).sum(axis=0)
    whole = float(energy.sum())
    return [1.0] * len(energy) if not whole else (np.cumsum(energy) / whole).tolist()


def _errors(layer: Convolution, moments: Moments | None) -> list[float]:
    """The relative error of the fit of ranks 1, 2 ..."""
    if moments is None:
        return [float(np.sqrt(max(1 - kept, 0))) for kept in _kept(layer, moments)]
    features, cross, variances = moments.covariance()
    errors = []
    for rank in range(1, layer.full_rank):
        found = split(layer, rank, moments)
        inner, crossed = kernel_covariances(found.kernels, features, cross)
        errors.append(residual(inner, crossed, variances, found.points))
    return [*errors, 0.0]


def _least(quality: Sequence[float], wanted: float) -> int:
    """The first rank whose quality is at least `wanted` (up to rounding)."""
    return next((i for i, q in enumerate(quality, 1) if q >= wanted - 1e-9), len(quality))
