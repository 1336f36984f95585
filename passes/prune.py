"""prune: weights, kernels, channels, rows, columns or whole crossbars go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations, first_runs
from xbarc.graph.analysis.dependencies import Mask, analyse
from xbarc.graph.attachments import feeds_of, leave
from xbarc.graph.compress.channels import (
    fold_constants,
    giving_outputs,
    removable_channels,
    smallest_channels,
)
from xbarc.graph.compress.matrices import LayerMatrix, find_matrices
from xbarc.graph.compress.refit import refit
from xbarc.graph.compress.shrink import remove
from xbarc.graph.compress.sizes import Criterion, WeightSizes
from xbarc.graph.compress.units import Amount, Unit, smallest, unfit, units_of
from xbarc.graph.fold import drop_unused
from xbarc.graph.inputs import input_specs
from xbarc.graph.run import relative_error
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.ir.analysis.compaction import fewest_tiles
from xbarc.pipeline import GraphPass
from xbarc.support.data import Array, Feeds, sample_count
from xbarc.support.errors import UsageError

Granularity = Literal[
    "weight", "kernel", "channel", "depthwise-kernel", "row", "column", "crossbar"
]

SAMPLES = 64
"""Calibration samples that deviations are measured on."""


@dataclass(frozen=True)
class Prune(GraphPass):
    """Remove the weights, kernels or channels that matter least, so that less hardware is needed.

    `granularity=channel` removes channels from the graph, together with everything that depends on
    them: the layers that make them, biases, normalisation, residual sums, concatenations, depthwise
    layers, and the rows of the layers that read them.

        %a = Relu(Conv(%x, %w1, %b1))      # 3 -> 32
        %y = Conv(%a, %w2)                 # 32 -> 64
    ->
        %a = Relu(Conv(%x, %w1, %b1))      # 3 -> 16
        %y = Conv(%a, %w2, %b2)            # 16 -> 64

    A channel may not depend on the input (its weights are zero, its bias isn't). First the pass
    adds such a channel to the bias of the layers that read it, if they don't pad.

    The other granularities:

    - `depthwise-kernel` removes channels of depthwise layers, with the row of the 1x1 layer behind
      and the column of the layer before. A model of MSCCNN's pruning (Wen et al., IEEE TNSE 7(3),
      2020), without the paper's retraining.
    - `weight` and `kernel` (the window of one pair of channels) put zeros in place.
    - `row` and `column` (of the weight matrix [K, N]) and `crossbar` put zeros in place. The pass
      `drop-zeros`, which then runs by itself after mapping, leaves them off the crossbars. For
      `crossbar` a unit is as many rows of one block of columns as a crossbar of the target holds:
      those that matter least, wherever they stand.

    `sparsity` is the share of units to remove (0.5 by default). `threshold` instead removes units
    below that size. A unit's size is the mean of |w| over its weights (`criterion=l1`), their root
    mean square (`l2`), or the root mean square of w x (`activation`), where x are the inputs that
    calibration data bring to w. `sparsity` ranks the units of all layers together, each by its size
    relative to the mean size in its layer. So layers with more to spare lose more; each layer keeps
    one unit. `layers` names the layers; without it the pass takes all layers that have such units
    (for `column`, except those that give the model's outputs).

    By default the pass then refits each layer's remaining weights and bias: least squares from the
    layer's input now to its output before, over the calibration data. `report.json` has under
    `pass_figures` the weights, MACs and crossbars before and after, and how far the outputs moved
    by pruning and after refitting. This is measured on the first samples of the fitted data, so few
    samples say little: give as many as the widest layer has rows.
    """

    name: ClassVar[str] = "prune"
    preserves: ClassVar[bool] = False

    granularity: Granularity = "channel"
    sparsity: float | None = None
    threshold: float | None = None
    criterion: Criterion = "l2"
    layers: tuple[str, ...] = ()
    refit: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError for options that make no sense, alone or together."""
        if self.sparsity is not None and self.threshold is not None:
            raise UsageError("give sparsity or threshold, not both")
        if self.sparsity is not None and not 0 <= self.sparsity <= 1:
            raise UsageError(f"sparsity is a share from 0 to 1, not {self.sparsity:g}")
        if self.threshold is not None and not 0 <= self.threshold < np.inf:
            raise UsageError(f"threshold is a size from 0 up, not {self.threshold:g}")

    @property
    def needs_target(self) -> bool:
        """How large a crossbar is, the target says."""
        return self.granularity == "crossbar"

    @property
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """Zeros stay in the matrix; a tile pass can take them off the crossbars."""
        return {} if self._unit is None else {"zeros": ()}

    @property
    def _unit(self) -> Unit | None:
        """What is set to zero; None where channels are taken out of the graph instead."""
        if self.granularity == "channel" or self.granularity == "depthwise-kernel":
            return None
        return self.granularity

    @property
    def _amount(self) -> Amount:
        return Amount(0.5 if self.sparsity is None else self.sparsity, self.threshold)

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether anything went.

        Raises:
            UsageError: `layers` names what isn't there or has no such units; no target for
                `crossbar`.
            XbarcError: a layer would be left with nothing; calibration data are needed and missing.
        """
        layers, refused = find_matrices(model.graph)
        feeds = feeds_of(model) if self.refit or self.criterion == "activation" else None
        # Weights aren't copied: arrays are shared, and never written to.
        before = model.clone()
        counted = _count(layers, target)
        outputs = None if feeds is None else _run(model, feeds)
        sizes = WeightSizes(self.criterion, model, layers, feeds)
        kept: dict[str, Mask] = {}
        if self._unit is None:
            gone, kept = self._remove_channels(model, layers, refused, sizes)
        else:
            gone = self._zero(self._unit, model, layers, refused, sizes, target)
        if not gone:
            return False
        moved = {}
        if feeds is not None and outputs is not None:
            moved["pruned"] = relative_error(outputs, _run(model, feeds))
            if self.refit:
                refit(before, model, kept, feeds)
                moved["refitted"] = relative_error(outputs, _run(model, feeds))
        drop_unused(model)
        figures: dict[str, Any] = {"granularity": self.granularity, "removed": gone}
        figures["before"] = counted
        figures["after"] = _count(find_matrices(model.graph)[0], target)
        figures["deviation"] = moved
        if feeds is not None:
            figures["samples"] = sample_count(input_specs(model), feeds)
        leave(model, self.name, figures)
        return True

    def _zero(
        self,
        unit: Unit,
        model: ir.Model,
        layers: Mapping[str, LayerMatrix],
        refused: Mapping[str, str],
        sizes: WeightSizes,
        target: Target | None,
    ) -> int:
        """Set the units that matter least to zero; how many."""
        reasons = {name: unfit(layer, unit) for name, layer in layers.items()}
        able = {name: layer for name, layer in layers.items() if not reasons[name]}
        refused = {**refused, **{name: reason for name, reason in reasons.items() if reason}}
        if unit == "column" and not self.layers:
            fixed = giving_outputs(model)
            able = {name: layer for name, layer in able.items() if layer.node not in fixed}
        chosen = {layer.name: layer for layer in select(self.layers, able, refused)}
        if not chosen:
            return 0
        units = {
            n: units_of(
                la, unit, sizes.of(la), None if target is None else _crossbar(target.for_layer(n))
            )
            for n, la in chosen.items()
        }
        gone = smallest({n: sizes.root(u.means) for n, u in units.items()}, self._amount, unit)
        for name, some in gone.items():
            if some.any():
                layer = chosen[name]
                layer.replace(np.where(units[name].expand(some), 0, layer.matrix))
        return int(sum(some.sum() for some in gone.values()))

    def _remove_channels(
        self,
        model: ir.Model,
        layers: Mapping[str, LayerMatrix],
        refused: Mapping[str, str],
        sizes: WeightSizes,
    ) -> tuple[int, dict[str, Mask]]:
        """Take channels out of the graph: how many, and which of each layer's outputs stay."""
        dependencies = analyse(model)
        depthwise = self.granularity == "depthwise-kernel"
        found, reasons = removable_channels(dependencies, layers, depthwise=depthwise)
        named = {name: (name, dim) for name, dim in found.items()}
        chosen = dict(select(self.layers, named, {**reasons, **refused}))
        columns = sizes.of_columns([layers[name] for name in chosen])
        gone = smallest_channels(dependencies, chosen, columns, self._amount)
        if not gone:
            return 0, {}
        masks = dependencies.kept(gone)
        fold_constants(model, masks, layers.values())
        kept = {
            producer.node.name or "": masks[producer.output]
            for producer in dependencies.producers
            if producer.output in masks
        }
        remove(model, dependencies, gone)
        return len(gone), kept


def _run(model: ir.Model, feeds: Feeds) -> dict[str, Array]:
    """The model's outputs for some samples, batches one after the other."""
    names = [str(v.name) for v in model.graph.outputs]
    parts = [found for _, found in activations(model, names, first_runs(model, feeds, SAMPLES))]
    return {n: np.concatenate([np.atleast_1d(p[n]) for p in parts]) for n in names}


def _crossbar(target: Target) -> tuple[int, int]:
    """Rows of a crossbar, and weights in one of them."""
    return target.array.weights_per_column, target.array.weights_per_row(target.weights.bits)


def _count(layers: Mapping[str, LayerMatrix], target: Target | None) -> dict[str, int]:
    """Weights, MACs for a batch of one, and crossbars (zeros compacted, groups packed)."""
    weights = nonzero = macs = crossbars = 0
    for name, layer in layers.items():
        mask = layer.matrix != 0
        weights += mask.size
        nonzero += int(mask.sum())
        macs += int(mask.sum()) * layer.vectors
        if target is not None:
            own, parts = target.for_layer(name), layer.cut(mask)
            tiles = sum(fewest_tiles(part, layer.groups, *_crossbar(own)) for part in parts)
            crossbars += tiles * own.array.crossbars_per_tile(own.weights.bits)
    counted = {"weights": weights, "nonzero_weights": nonzero, "macs": macs}
    return counted if target is None else {**counted, "crossbars": crossbars}
