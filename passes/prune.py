"""prune: weights, kernels, channels, rows, columns or whole crossbars go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.activations import activations
from xbarc.graph.analysis.dependencies import Dependencies, Dim, analyse
from xbarc.graph.attachments import feeds_of, leave
from xbarc.graph.compress.matrices import CONVOLUTIONS, LayerMatrix, find_matrices
from xbarc.graph.compress.refit import refit
from xbarc.graph.compress.shrink import remove
from xbarc.graph.fold import drop_unused
from xbarc.graph.inputs import input_specs
from xbarc.graph.query import attribute, constant, dims, is_op
from xbarc.graph.run import Session, random_inputs, relative_error
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.ir.analysis.compaction import best_layout
from xbarc.pipeline import GraphPass
from xbarc.support.data import Array, Feeds, first_samples, sample_count
from xbarc.support.errors import UsageError, XbarcError

Mask = npt.NDArray[np.bool_]
Granularity = Literal[
    "weight", "kernel", "channel", "depthwise-kernel", "row", "column", "crossbar"
]

SHRINKING = ("channel", "depthwise-kernel")
"""Granularities that take channels out of the graph; the others leave zeros in the weights."""

SAMPLES = 64
"""Calibration samples for `criterion=activation`, and for the deviation."""


@dataclass(frozen=True)
class Prune(GraphPass):
    """Take out what matters least, so that the network needs less hardware.

    `granularity=channel` removes channels from the graph, through all that hangs together with
    them: producers, biases, normalisation, residual sums, concatenations, depthwise layers, the
    rows of the layers that read them.

        %a = Relu(Conv(%x, %w1, %b1))      # 3 -> 32
        %y = Conv(%a, %w2)                 # 32 -> 64
    ->
        %a = Relu(Conv(%x, %w1, %b1))      # 3 -> 16
        %y = Conv(%a, %w2, %b2)            # 16 -> 64

    A channel that doesn't depend on the input (its weights are zero, its bias isn't) goes into the
    bias of the layers that read it first, where they don't pad.

    - `depthwise-kernel`: channels of depthwise layers, with the row of the 1x1 behind each and the
      column of the layer before it. A model of MSCCNN's pruning (Wen et al., IEEE TNSE 7(3), 2020),
      without the paper's retraining.
    - `weight`, `kernel` (the windows of pairs of channels): zeros in place.
    - `row`, `column` of the weight matrix [K, N], `crossbar` (as many rows of one block of columns
      as a crossbar of the target holds: those that matter least, wherever they stand): zeros in
      place, which `drop-zeros` then leaves off the crossbars. It runs after mapping by itself.

    `sparsity` is the share of these units that goes (0.5 without either), `threshold` the size
    below which they go. A unit's size is the mean of |w| over its weights (`criterion=l1`), their
    root mean square (`l2`), or that of w x, x being the inputs that calibration data bring to w
    (`activation`). By `sparsity`, units of all layers are ranked together, each by its size over
    the mean size in its layer, so that layers with more to spare lose more; each layer keeps one.
    `layers` names the layers, by default all that have such units (for `column`, but those that
    give the model's outputs).

    Then, by default, each layer's remaining weights and bias are refitted: the least squares of
    what the layer computed before on what it reads now, over the calibration data. `report.json`
    has weights, MACs and crossbars before and after under `pass_figures`, and how far the outputs
    moved, by pruning and after refitting, on the first of the data that it was fitted to: of few
    samples that says little, so give as many as the widest layer has rows.
    """

    name: ClassVar[str] = "prune"
    preserves: ClassVar[bool] = False

    granularity: Granularity = "channel"
    sparsity: float | None = None
    threshold: float | None = None
    criterion: Literal["l1", "l2", "activation"] = "l2"
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
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """Zeros in place, which need not stand on crossbars."""
        return {} if self.granularity in SHRINKING else {"zeros": ()}

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
        sizes = _Sizes(self.criterion, model, feeds)
        kept: dict[str, Mask] = {}
        if self.granularity in SHRINKING:
            gone = self._remove_channels(model, layers, refused, sizes, kept)
        else:
            gone = self._zero(model, layers, refused, sizes, target)
        if not gone:
            return False
        figures: dict[str, Any] = {"granularity": self.granularity, "removed": gone}
        figures["before"] = counted
        moved = {}
        if feeds is not None and outputs is not None:
            moved["pruned"] = relative_error(outputs, _run(model, feeds))
        if self.refit and feeds is not None and outputs is not None:
            refit(before, model, kept, feeds)
            moved["refitted"] = relative_error(outputs, _run(model, feeds))
        drop_unused(model)
        figures["after"] = _count(find_matrices(model.graph)[0], target)
        figures["deviation"] = moved
        if feeds is not None:
            figures["samples"] = sample_count(input_specs(model), feeds)
        leave(model, self.name, figures)
        return True

    # --- zeros in place -------------------------------------------------------------------------

    def _zero(
        self,
        model: ir.Model,
        layers: Mapping[str, LayerMatrix],
        refused: dict[str, str],
        sizes: "_Sizes",
        target: Target | None,
    ) -> int:
        able = {}
        for name, layer in layers.items():
            if reason := self._unfit(layer):
                refused[name] = reason
            else:
                able[name] = layer
        if self.granularity == "column" and not self.layers:
            fixed = _giving_outputs(model)
            able = {n: la for n, la in able.items() if la.node not in fixed}
        chosen = select(self.layers, able, refused)
        if not chosen:
            return 0
        parts = [_units(layer, self.granularity, sizes.of(layer), target) for layer in chosen]
        gone = self._choose(
            [self._root(part.sizes) for part in parts], [layer.name for layer in chosen]
        )
        for layer, part, some in zip(chosen, parts, gone, strict=True):
            if some.any():
                zero = part.expand(some)
                layer.replace(np.where(zero, 0, layer.matrix))
        return int(sum(some.sum() for some in gone))

    def _unfit(self, layer: LayerMatrix) -> str:
        """Why a layer has no units of this granularity; empty where it has."""
        if self.granularity == "kernel" and int(np.prod(layer.kernel, dtype=np.int64)) <= 1:
            return "kernel: it has no window of more than one weight"
        if self.granularity in ("row", "column", "crossbar") and layer.groups > 1:
            return (
                f"{self.granularity}: its matrix is block-diagonal, of {layer.groups} groups: "
                "prune channels or kernels of it"
            )
        if self.granularity == "crossbar" and is_op(layer.node, "ConvTranspose"):
            return "crossbar: its matrix stands in a sub-array a kernel position: prune rows of it"
        return ""

    def _root(self, sizes: Array) -> Array:
        """Means of squares as root mean squares."""
        return sizes if self.criterion == "l1" else np.sqrt(sizes)

    def _choose(self, sizes: Sequence[Array], names: Sequence[str]) -> list[Mask]:
        """Which units of each layer go; each layer keeps its largest."""
        if self.threshold is not None:
            gone = [size < self.threshold for size in sizes]
            for name, some in zip(names, gone, strict=True):
                if some.all():
                    raise XbarcError(
                        f"threshold={self.threshold:g} would leave layer {name!r} with nothing: "
                        "lower it, or name other layers"
                    )
            return gone
        share = 0.5 if self.sparsity is None else self.sparsity
        relative = [size / (size.mean() or 1) for size in sizes]
        count = sum(size.size for size in sizes)
        wanted = round(share * count)
        if wanted > count - len(sizes):
            name = min(zip((s.size for s in sizes), names, strict=True))[1]
            raise XbarcError(
                f"sparsity={share:g} would leave a layer such as {name!r} with nothing: at most "
                f"{count - len(sizes)} of the {count} {self.granularity}s can go"
            )
        for size in relative:
            size.flat[size.argmax()] = np.inf
        order = np.argsort(np.concatenate([size.ravel() for size in relative]), kind="stable")
        flags = np.zeros(count, bool)
        flags[order[:wanted]] = True
        parts = np.split(flags, np.cumsum([size.size for size in sizes])[:-1])
        return [part.reshape(size.shape) for part, size in zip(parts, sizes, strict=True)]

    # --- channels that go ------------------------------------------------------------------------

    def _remove_channels(
        self,
        model: ir.Model,
        layers: Mapping[str, LayerMatrix],
        refused: dict[str, str],
        sizes: "_Sizes",
        kept: dict[str, Mask],
    ) -> int:
        dependencies = analyse(model)
        groups = self._groups(dependencies, layers, refused)
        if not groups.count:
            return 0
        gone = self._choose_groups(dependencies, groups, sizes.of_channels(dependencies, layers))
        if not gone:
            return 0
        _fold_constants(model, dependencies.kept(gone), layers)
        masks = dependencies.kept(gone)
        for producer in dependencies.producers:
            if producer.output in masks:
                kept[producer.node.name or ""] = masks[producer.output]
        remove(model, dependencies, gone)
        return len(gone)

    def _groups(
        self,
        dependencies: Dependencies,
        layers: Mapping[str, LayerMatrix],
        refused: dict[str, str],
    ) -> "_Groups":
        """The groups that may go, with the layers that decide about each."""
        found: dict[str, Dim] = {}
        for producer in dependencies.producers:
            name, labels = producer.node.name or "", dependencies.labels[producer.output]
            if name not in layers:
                refused.setdefault(name, "its weights aren't static real numbers")
            elif reason := self._unfit_producer(producer.node):
                refused[name] = reason
            elif dependencies.removable.isdisjoint(labels.tolist()):
                refused[name] = f"its channels stay: {dependencies.reasons[int(labels[0])]}"
            else:
                found[name] = producer.output
        return _Groups(found, select(self.layers, found, refused), dependencies.removable)

    def _unfit_producer(self, node: ir.Node) -> str:
        if self.granularity == "channel":
            return ""
        weights = constant(node.inputs[1]) if is_op(node, "Conv") else None
        if weights is None or attribute(node, "group", 1) == 1 or weights.shape[1] != 1:
            return "depthwise-kernel: it isn't a depthwise convolution"
        if not _is_alone(node):
            return "depthwise-kernel: other nodes read its input's channels too"
        return ""

    def _choose_groups(
        self, dependencies: Dependencies, groups: "_Groups", sizes: Mapping[Dim, Array]
    ) -> set[int]:
        """Groups that go, the least first, none that would leave a dimension with nothing."""
        total: dict[int, list[float]] = {}
        relative: dict[int, list[float]] = {}
        for dim in groups.dims:
            if dim not in sizes:
                continue
            size = self._root(sizes[dim])
            mean = float(size.mean()) or 1.0
            for group, value in zip(dependencies.labels[dim].tolist(), size.tolist(), strict=True):
                if group in groups.removable:
                    total.setdefault(group, []).append(value)
                    relative.setdefault(group, []).append(value / mean)
        if self.threshold is not None:
            order = sorted(g for g, v in total.items() if np.mean(v) < self.threshold)
            wanted = len(order)
        else:
            order = sorted(relative, key=lambda g: (float(np.mean(relative[g])), g))
            wanted = round((0.5 if self.sparsity is None else self.sparsity) * len(order))
        left = _Left(dependencies, order)
        gone: set[int] = set()
        for group in order:
            if len(gone) == wanted:
                break
            if left.take(group):
                gone.add(group)
            elif self.threshold is not None:
                break
        if len(gone) < wanted:
            name = next(
                (n for n, d in groups.found.items() if left.is_last(d)), next(iter(groups.found))
            )
            option = "sparsity" if self.threshold is None else "threshold"
            given = getattr(self, option)
            raise XbarcError(
                f"{option}={0.5 if given is None else given:g} would leave layer {name!r} with "
                f"nothing: {wanted} of {len(total)} channels can't go"
            )
        return gone


@dataclass(frozen=True)
class _Groups:
    """Layers whose channels may go, by name; the dimensions that decide; the groups."""

    found: Mapping[str, Dim]
    dims: Sequence[Dim]
    removable: set[int]

    @property
    def count(self) -> int:
        """How many layers decide."""
        return len(self.dims)


class _Left:
    """How much of each dimension is left while groups go."""

    def __init__(self, dependencies: Dependencies, groups: Iterable[int]) -> None:
        wanted = np.array(sorted(groups), np.int64)
        self._left: dict[Dim, int] = {}
        self._takes: dict[int, list[tuple[Dim, int]]] = {}
        self._refused: set[Dim] = set()
        for dim, labels in dependencies.labels.items():
            hit, counts = np.unique(labels[np.isin(labels, wanted)], return_counts=True)
            if len(hit):
                self._left[dim] = len(labels)
            for group, count in zip(hit.tolist(), counts.tolist(), strict=True):
                self._takes.setdefault(group, []).append((dim, count))

    def take(self, group: int) -> bool:
        """Let a group go, unless a dimension would be left with nothing."""
        takes = self._takes.get(group, [])
        empty = [dim for dim, count in takes if self._left[dim] <= count]
        self._refused.update(empty)
        if empty:
            return False
        for dim, count in takes:
            self._left[dim] -= count
        return True

    def is_last(self, dim: Dim) -> bool:
        """Whether a group stayed because of this dimension."""
        return dim in self._refused


@dataclass(frozen=True)
class _Units:
    """The sizes of a layer's units, as `criterion` means them squared or not, and their weights."""

    sizes: Array
    owner: npt.NDArray[np.int64]  # [K, N]: the unit of each weight; or broadcasts to that

    def expand(self, units: Mask) -> Mask:
        """The weights of these units, [K, N]."""
        return np.asarray(units.ravel()[self.owner], dtype=bool)


def _units(
    layer: LayerMatrix, granularity: Granularity, size: Array, target: Target | None
) -> _Units:
    """The units of a layer with the mean of `size` [K, N] over each."""
    k, n = size.shape
    if granularity == "weight":
        return _Units(size.ravel(), np.arange(k * n).reshape(k, n))
    if granularity == "row":
        return _Units(size.mean(1), np.repeat(np.arange(k)[:, None], n, 1))
    if granularity == "column":
        return _Units(size.mean(0), np.repeat(np.arange(n)[None], k, 0))
    if granularity == "kernel":
        window = int(np.prod(layer.kernel, dtype=np.int64))
        means = size.reshape(k // window, window, n).mean(1)
        pair = np.arange(k)[:, None] // window * n + np.arange(n)
        return _Units(means.ravel(), pair)
    if target is None:
        raise UsageError("granularity=crossbar asks for the hardware: give --target")
    return _crossbars(size, target)


def _crossbars(size: Array, target: Target) -> _Units:
    """Each block of columns, its rows sorted by size and cut as they fill crossbars.

    The rows that matter most stand together, in full crossbars, and those that matter least in the
    last ones: so what goes is whole crossbars, and what is left is gathered by its rows.
    """
    k, n = size.shape
    rows, width = target.array.rows, target.array.weights_per_row(target.weights.bits)
    owner = np.zeros((k, n), np.int64)
    means: list[float] = []
    for start in range(0, n, max(width, 1)):
        block = size[:, start : start + width].mean(1)
        order = np.argsort(-block, kind="stable")
        for first in range(0, k, rows):
            some = order[first : first + rows]
            owner[some, start : start + width] = len(means)
            means.append(float(block[some].mean()))
    return _Units(np.array(means), owner)


@dataclass
class _Sizes:
    """|w|, w^2, or w^2 times the mean square of the input that w meets."""

    criterion: str
    model: ir.Model
    feeds: Feeds | None
    _inputs: dict[str, Array] = field(default_factory=dict)

    def of(self, layer: LayerMatrix) -> Array:
        """Sizes [K, N] of a layer's weights."""
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

    def of_channels(
        self, dependencies: Dependencies, layers: Mapping[str, LayerMatrix]
    ) -> dict[Dim, Array]:
        """Mean sizes of the weights that make each output channel."""
        found = {}
        for producer in dependencies.producers:
            layer = layers.get(producer.node.name or "")
            if layer is not None:
                found[producer.output] = self.of(layer).mean(0)
        return found

    def _power(self, layer: LayerMatrix) -> Array:
        """The mean square of each channel, or entry, of what a layer reads."""
        if not self._inputs:
            self._measure()
        return self._inputs[layer.name]

    def _measure(self) -> None:
        assert self.feeds is not None
        layers, _ = find_matrices(self.model.graph)
        names = sorted({str(layer.source.name) for layer in layers.values()})
        sums: dict[str, Array] = {}
        count = 0
        for _, found in activations(self.model, names, _some(self.model, self.feeds)):
            count += 1
            for name, layer in layers.items():
                x = found[str(layer.source.name)].astype(np.float64)
                axis = 1 if is_op(layer.node, *CONVOLUTIONS) else x.ndim - 1
                if layer.side == 0 and x.ndim > 1:
                    axis = x.ndim - 2
                if is_op(layer.node, "Gemm") and attribute(layer.node, "transA", 0):
                    axis = 0
                others = tuple(i for i in range(x.ndim) if i != axis)
                sums[name] = sums.get(name, np.zeros(x.shape[axis])) + np.square(x).mean(others)
        self._inputs = {name: total / max(count, 1) for name, total in sums.items()}


def _some(model: ir.Model, feeds: Feeds) -> dict[str, Array]:
    """The first samples, as many as whole runs of the model take."""
    specs = input_specs(model)
    step = max((s.dims[0] or 1 for s in specs if s.dims), default=1)
    return first_samples(specs, feeds, max(step, SAMPLES // step * step))


def _run(model: ir.Model, feeds: Feeds) -> dict[str, Array]:
    """The model's outputs for some samples, batches one after the other."""
    names = [str(v.name) for v in model.graph.outputs]
    parts = [found for _, found in activations(model, names, _some(model, feeds))]
    return {n: np.concatenate([np.atleast_1d(p[n]) for p in parts]) for n in names}


def _count(layers: Mapping[str, LayerMatrix], target: Target | None) -> dict[str, int]:
    """Weights, MACs for a batch of one, and crossbars (zeros compacted, groups packed)."""
    weights = nonzero = macs = crossbars = 0
    for layer in layers.values():
        mask = layer.matrix != 0
        weights += mask.size
        nonzero += int(mask.sum())
        macs += int(mask.sum()) * _vectors(layer)
        if target is not None:
            tiles = sum(_tiles(part, layer.groups, target) for part in _arrays(layer, mask))
            crossbars += tiles * target.array.crossbars_per_tile(target.weights.bits)
    counted = {"weights": weights, "nonzero_weights": nonzero, "macs": macs}
    return counted if target is None else {**counted, "crossbars": crossbars}


def _vectors(layer: LayerMatrix) -> int:
    """Vectors that meet the matrix for a batch of one; a transposed convolution's are inputs."""
    value, length = layer.output, layer.matrix.shape[1]
    if is_op(layer.node, "ConvTranspose"):
        value, length = layer.source, len(layer.weights)
    shape = dims(value) or ()
    return max(1, int(np.prod([s or 1 for s in shape[1:]] or [length], dtype=np.int64)) // length)


def _arrays(layer: LayerMatrix, mask: Mask) -> list[Mask]:
    """The matrices [K, N] that are cut into tiles: of a transposed convolution one an offset."""
    if not is_op(layer.node, "ConvTranspose"):
        return [mask]
    offsets = mask.reshape(len(layer.weights) // layer.groups, -1, mask.shape[1])
    return [offsets[:, i] for i in range(offsets.shape[1])]


def _tiles(mask: Mask, groups: int, target: Target) -> int:
    rows, width = target.array.rows, target.array.weights_per_row(target.weights.bits)
    k, n = mask.shape
    if not width:
        return 0
    if groups == 1:
        return len(best_layout(mask, rows, width).tiles)
    some = int(mask.reshape(k, groups, -1).any((0, 2)).sum()) or groups
    together = min(rows // k, width // (n // groups), some)
    if together:
        return -(-some // together)
    return some * -(-k // rows) * -(-(n // groups) // width)


def _giving_outputs(model: ir.Model) -> set[ir.Node]:
    """Layers whose columns are the model's outputs."""
    found = analyse(model)
    return {
        producer.node
        for producer in found.producers
        if any("the output" in found.reasons.get(g, "") for g in found.labels[producer.output])
    }


def _is_alone(node: ir.Node) -> bool:
    """Whether nobody but a depthwise layer reads the channels that it reads, up to their layer."""
    value = node.inputs[0]
    while value is not None:
        if len(tuple(value.uses())) != 1 or value.is_graph_output():
            return False
        producer = value.producer()
        if producer is None or is_op(producer, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            return True
        moving = [v for v in producer.inputs if v is not None and constant(v) is None]
        if len(moving) != 1:
            return True
        value = moving[0]
    return True


def _fold_constants(
    model: ir.Model, masks: Mapping[Dim, Mask], layers: Mapping[str, LayerMatrix]
) -> None:
    """Channels that go and that no input moves: what they add, into their readers' biases."""
    readers: list[tuple[LayerMatrix, Mask]] = []
    for layer in layers.values():
        axis = _channel_axis(layer)
        mask = None if axis is None else masks.get(Dim(layer.source, axis))
        padded = any(attribute(layer.node, "pads", ())) or attribute(
            layer.node, "auto_pad", "NOTSET"
        ).startswith("SAME")
        # Not every value of a transposed convolution's result meets the whole kernel.
        whole = layer.groups == 1 and not padded and not is_op(layer.node, "ConvTranspose")
        if mask is not None and whole:
            readers.append((layer, ~mask))
    if not readers:
        return
    names = sorted({str(layer.source.name) for layer, _ in readers})
    held = Session(model, names).run(random_inputs(model, 2))
    for layer, gone in readers:
        x = np.moveaxis(held[str(layer.source.name)], _channel_axis(layer) or 0, 0)
        x = x.reshape(len(gone), -1).astype(np.float64)
        steady = gone & (x.min(1) == x.max(1)) & (x[:, 0] != 0)
        if steady.any():
            matrix = layer.matrix.astype(np.float64)
            weights = matrix.reshape(len(gone), -1, matrix.shape[1]).sum(1)
            alpha = attribute(layer.node, "alpha", 1.0) if is_op(layer.node, "Gemm") else 1.0
            layer.add_to_bias(alpha * (x[steady, 0] @ weights[steady]))


def _channel_axis(layer: LayerMatrix) -> int | None:
    """The axis of a layer's input along which its rows' channels lie."""
    rank = len(dims(layer.source) or ())
    if is_op(layer.node, *CONVOLUTIONS):
        return 1
    if is_op(layer.node, "Gemm"):
        return 0 if attribute(layer.node, "transA", 0) else 1
    if not rank:
        return None
    return rank - 2 if layer.side == 0 and rank > 1 else rank - 1
