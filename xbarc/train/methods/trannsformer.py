"""`trannsformer`: prune, cluster, retrain, so that the weights left stand on few tiles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from xbarc.ir.analysis.cluster_layout import clustered, dense_tiles, occupied_tiles
from xbarc.ir.analysis.clusters import Remainder, Room, find_clusters
from xbarc.support.data import Array
from xbarc.support.errors import UsageError
from xbarc.support.names import named
from xbarc.train.method import Method, Training
from xbarc.train.network import TrainedLayer

STEP = 0.1
"""From one density to the next lower one."""

SETTLED = 0.05
"""Clustering goes on at a lower density once the unclustered share moves by less than this."""

SCORE = 0.005, 0.01
"""The share of the best cluster's score below which clusters go, and its growth an epoch."""

EPOCHS = 40
"""Epochs of the published schedule, which `growth` is for."""


@dataclass(frozen=True)
class Trannsformer(Method):
    """Prune the smallest weights, cluster what is left, and delete weak clusters, while training.

    After TraNNsformer (Ankit et al., ICCAD 2017). The published schedule, over all epochs:

    - Weights below a threshold are pruned. It grows by `growth` times 40 over the epochs in every
      epoch in which the training loss fell. Gradients aren't masked, so a weight may grow back.
    - From the share `begin` of the training on, clusters are found (`cluster` says how) at
      `density`. Once the share of weights outside of clusters moves by less than 0.05, more are
      found at a density lower by 0.1, down to `floor`. Weights in clusters survive even below the
      threshold (`survive`).
    - From the share `delete` on, clusters go whose score, density times nonzeros, is below a share
      of the best one's: 0.005, and 0.01 more each epoch.

    Variants: `sparsity` prunes that share of each layer instead, reached along a cubic schedule at
    `delete`; the threshold follows from it. `survive=false` lets small weights of clusters go.

    `tile` is the most rows and columns of a cluster; without it, those of the target's crossbar.
    `count` is the side of the tiles (the paper's mPEs) that figures are counted in; without it, the
    target's crossbar. The result counts from the middle of the deletions on.

    Figures: `tiles_dense` of the whole matrices, `tiles_pruned` of plain grids that hold a nonzero,
    `tiles_unclustered` as `drop-zeros` makes them, `tiles` as `cluster` does; `nonzero_share`.
    """

    name: ClassVar[str] = "trannsformer"
    masks_each_step: ClassVar[bool] = False
    untrained_counts: ClassVar[bool] = False

    tile: int | None = None
    count: int | None = None
    density: float = 0.7
    floor: float = 0.3
    threshold: float = 0.0
    growth: float = 0.0005
    sparsity: float | None = None
    begin: float = 0.2
    delete: float = 0.8
    survive: bool = True
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `UsageError` for options that make no sense."""
        for key in ("tile", "count"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UsageError(f"{key} is a number of rows and columns, at least 1, not {value}")
        for key in ("density", "floor", "begin", "delete", "sparsity"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{key} is a share from 0 to 1, not {value:g}")
        for key in ("threshold", "growth"):
            if not 0 <= getattr(self, key) < np.inf:
                raise UsageError(f"{key} is a size from 0 up, not {getattr(self, key):g}")

    def start(self, training: Training) -> None:
        """Nothing is clustered yet.

        Raises `UsageError` if `layers` names what isn't there, or can't be clustered.
        """
        if next(self._chosen(training), None) is None:
            which = f"layers={','.join(self.layers)}" if self.layers else "the model's layers"
            raise UsageError(
                f"trannsformer: {which}: grouped convolutions alone, which aren't clustered"
            )
        first = {"threshold": self.threshold, "loss": np.inf, "outside": np.inf, "score": SCORE[0]}
        # The density of the next clustering.
        first["density"] = self.density
        memory = {key: torch.tensor(value, dtype=torch.float64) for key, value in first.items()}
        training.memory.update(memory)
        for layer in self._chosen(training):
            shape = tuple(layer.matrix().shape)
            training.memory[_labels(layer)] = torch.zeros(shape, dtype=torch.int32)

    def after_step(self, training: Training) -> None:
        """Within an epoch all weights may grow."""
        for layer in self._chosen(training):
            layer.mask = None

    def after_epoch(self, training: Training, loss: float) -> Mapping[str, float]:
        """The masks of the next epoch."""
        memory, done = training.memory, (training.epoch + 1) / training.settings.epochs
        if loss < float(memory["loss"]):
            memory["threshold"] += self.growth * EPOCHS / training.settings.epochs
        memory["loss"].fill_(loss)
        states = [_State(la, training.memory[_labels(la)].numpy()) for la in self._chosen(training)]
        for state in states:
            state.prune(self._threshold(state.size, float(memory["threshold"]), done), self.survive)
        kept = sum(int(s.kept.sum()) for s in states)
        outside = sum(int((s.kept & (s.labels == 0)).sum()) for s in states) / max(1, kept)
        if done >= self.begin:
            before = float(memory["outside"])
            if not np.isfinite(before) or abs(outside - before) < SETTLED:
                self._cluster(states, training)
            memory["outside"].fill_(outside)
        deleted = 0
        if done >= self.delete:
            deleted = sum(state.delete(float(memory["score"])) for state in states)
            memory["score"] += SCORE[1]
        for state in states:
            state.layer.keep(torch.from_numpy(state.kept.astype(np.float32)))
        kept = sum(int(s.kept.sum()) for s in states)
        return {
            "nonzero_share": kept / max(1, sum(s.kept.size for s in states)),
            "unclustered_share": outside,
            "clusters": float(sum(s.clusters for s in states)),
            "deleted": float(deleted),
        }

    def counts(self, training: Training) -> bool:
        """Pruned and clustered to the end, or nearly."""
        done = (training.epoch + 1) / training.settings.epochs
        return done >= (1 + self.delete) / 2 or training.epoch + 1 == training.settings.epochs

    def finish(self, training: Training) -> Mapping[str, float]:
        """Tiles of all layers, dense, pruned only, and clustered."""
        figures = dict.fromkeys(
            ("tiles_dense", "tiles_pruned", "tiles_unclustered", "tiles", "nonzero_share"), 0.0
        )
        total = nonzeros = 0
        for layer in self._chosen(training):
            nonzero = layer.matrix().cpu().numpy() != 0
            tile = self._size(training, self.count)
            found = clustered(nonzero, tile, self._densities(), block=_block(layer))
            figures["tiles_dense"] += dense_tiles(nonzero.shape, tile)
            figures["tiles_pruned"] += occupied_tiles(nonzero, tile)
            figures["tiles_unclustered"] += found.unclustered_tiles
            figures["tiles"] += len(found.layout.tiles)
            total, nonzeros = total + nonzero.size, nonzeros + int(nonzero.sum())
        figures["nonzero_share"] = nonzeros / max(1, total)
        return figures

    def _cluster(self, states: "list[_State]", training: Training) -> None:
        """One clustering of what is in no cluster yet, and the next one's density."""
        density = training.memory["density"]
        tile = self._size(training, self.tile)
        for state in states:
            state.cluster(tile, float(density))
        density.fill_(max(self.floor, float(density) - STEP))

    def _threshold(self, size: Array, threshold: float, done: float) -> float:
        """Below which size weights of a layer go."""
        if self.sparsity is None:
            return threshold
        left = 1 - min(1.0, done / max(self.delete, 1e-9))
        share = self.sparsity * (1 - left**3)
        return float(np.quantile(size, share)) if share > 0 else 0.0

    def _size(self, training: Training, side: int | None) -> tuple[int, int]:
        """Rows and columns of a tile: `side`, or what a crossbar of the target holds."""
        if side is not None:
            return side, side
        target = training.network.target
        return target.array.weights_per_column, target.array.weights_per_row(target.weights.bits)

    def _densities(self) -> list[float]:
        steps = int((self.density - self.floor) / STEP + 1e-9)
        return [round(self.density - STEP * i, 6) for i in range(max(0, steps) + 1)]

    def _chosen(self, training: Training) -> Iterator[TrainedLayer]:
        for name in named(self.layers, training.layers, "layer"):
            if training.layers[name].groups == 1:
                yield training.layers[name]


def _labels(layer: TrainedLayer) -> str:
    return f"clusters/{layer.name}"


def _block(layer: TrainedLayer) -> int:
    """Rows of an input channel in the layer's matrix."""
    return int(np.prod(layer.weight.shape[2:], dtype=np.int64))


class _State:
    """A layer in an epoch: sizes of its weights [K, N], which are kept, and their clusters.

    `labels`, shared with the training's memory: 0 outside of clusters, else the cluster's number.
    """

    def __init__(self, layer: TrainedLayer, labels: Any) -> None:
        self.layer, self.labels = layer, labels
        self.size = np.abs(layer.matrix().cpu().numpy())
        self.kept = np.ones(self.size.shape, bool)

    @property
    def clusters(self) -> int:
        """How many there are."""
        return len(np.unique(self.labels)) - bool((self.labels == 0).any())

    def prune(self, threshold: float, survive: bool) -> None:
        """Keep large weights, and those in clusters if they `survive`."""
        self.kept = (self.size >= threshold) & (self.size > 0)
        if survive:
            self.kept |= self.labels > 0

    def cluster(self, tile: tuple[int, int], density: float) -> None:
        """Find clusters among the kept weights outside of clusters."""
        outside = self.kept & (self.labels == 0)
        if not outside.any():
            return
        room = Room.of(tile, outside.shape, _block(self.layer))
        number = int(self.labels.max()) + 1
        for cluster in find_clusters(Remainder(outside, room), density):
            rows = (cluster.rows[:, None] * room.block + np.arange(room.block)).ravel()
            here = np.ix_(rows, cluster.columns)
            self.labels[here] = np.where(self.labels[here] == 0, number, self.labels[here])
            number += 1

    def delete(self, share: float) -> int:
        """Delete the clusters whose score is below that share of the best one's; how many."""
        count = int(self.labels.max()) + 1
        area = np.bincount(self.labels.ravel(), minlength=count)
        held = self.kept & (self.size > 0)
        nonzeros = np.bincount(self.labels.ravel(), held.ravel(), count)
        score = np.where(area > 0, nonzeros**2 / np.maximum(area, 1), 0)
        score[0] = 0
        weak = (area > 0) & (score < share * score.max())
        weak[0] = False
        gone = weak[self.labels]
        self.kept &= ~gone
        self.labels[gone] = 0
        return int(weak.sum())
