"""How much each weight of a layer matters: its size by one of three criteria."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations, first_runs
from xbarc.graph.compress.matrices import LayerMatrix
from xbarc.support.data import Array, Feeds

Criterion = Literal["l1", "l2", "activation"]

SAMPLES = 64
"""Calibration samples that inputs are measured on."""


@dataclass
class WeightSizes:
    """|w| (`l1`), w^2 (`l2`), or w^2 times the mean square of the input that w meets.

    `activation`, the last, runs `model` on `feeds` when it is first asked. `layers` are the model's
    layers by name.
    """

    criterion: Criterion
    model: ir.Model
    layers: Mapping[str, LayerMatrix]
    feeds: Feeds | None
    _powers: dict[str, Array] = field(default_factory=dict, init=False)

    def of(self, layer: LayerMatrix) -> Array:
        """Sizes [K, N] of a layer's weights, to take the mean of over each unit."""
        w = layer.matrix.astype(np.float64)
        if self.criterion == "l1":
            return np.abs(w)
        if self.criterion == "l2":
            return w * w
        power = self._power(layer)
        per_row = np.repeat(power, w.shape[0] * layer.groups // len(power))
        if layer.groups == 1:
            return w * w * per_row[:, None]
        by_group = per_row.reshape(layer.groups, -1).T  # [Kg, groups]
        return w * w * np.repeat(by_group, w.shape[1] // layer.groups, axis=1)

    def of_columns(self, layers: Iterable[LayerMatrix]) -> dict[str, Array]:
        """The size of each column, by layer."""
        return {layer.name: self.root(self.of(layer).mean(0)) for layer in layers}

    def root(self, means: Array) -> Array:
        """Means over units as sizes: of squares the root."""
        return means if self.criterion == "l1" else np.sqrt(means)

    def _power(self, layer: LayerMatrix) -> Array:
        """The mean square of each channel, or entry, of what a layer reads."""
        if not self._powers:
            self._powers = self._measured()
        return self._powers[layer.name]

    def _measured(self) -> dict[str, Array]:
        assert self.feeds is not None
        names = sorted({str(layer.source.name) for layer in self.layers.values()})
        sums: dict[str, Array] = {}
        count = 0
        feeds = first_runs(self.model, self.feeds, SAMPLES)
        for _, found in activations(self.model, names, feeds):
            count += 1
            for name, layer in self.layers.items():
                x = found[str(layer.source.name)].astype(np.float64)
                axis = layer.channel_axis(x.ndim)
                others = tuple(i for i in range(x.ndim) if i != axis)
                sums[name] = sums.get(name, np.zeros(x.shape[axis])) + np.square(x).mean(others)
        return {name: total / max(count, 1) for name, total in sums.items()}
