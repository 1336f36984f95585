"""kernel-2d1d: 2D and 1D kernels in place of 3D kernels, in some of the layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor
from typing import Any, ClassVar

import onnx_ir as ir

from xbarc.cost.events import count_events
from xbarc.graph.attachments import feeds_of, leave
from xbarc.graph.calibration import calibrate
from xbarc.graph.compress.separable import (
    Convolution,
    find_convolution,
    insert_split,
    moments_of,
    split,
)
from xbarc.graph.fold import drop_unused
from xbarc.graph.inputs import input_specs
from xbarc.graph.query import dims, value_names
from xbarc.graph.run import Session, relative_error
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.lowering.legalize import legalize
from xbarc.lowering.lower import lower
from xbarc.lowering.plan import measured, plan
from xbarc.pipeline import (
    GraphPass,
    XbarContext,
    load_registry,
    map_all,
    parse_passes,
)
from xbarc.support.data import Feeds, batches
from xbarc.support.errors import UsageError, XbarcError

SWEEPS = 8
"""How often 2D and 1D kernels are fitted to each other."""

SAMPLES = 64
"""Calibration samples that deviations are measured on."""


@dataclass(frozen=True)
class Kernel2d1d(GraphPass):
    """Replace 3D kernels by 2D kernels (one an input channel) and 1D kernels (1x1), layer by layer.

        %y = Conv<pads=[1, 1, 1, 1]>(%x, %w, %b)                        # 3 x 3 x 64 -> 64: 36864
    ->
        %d = Conv<group=64, pads=[1, 1, 1, 1]>(%x, %w.depthwise)        # 3 x 3 a channel:    576
        %y = Conv(%d, %w.pointwise, %b)                                 # 1 x 1 x 64 -> 64:  4096

    The sub-image mapping then takes far fewer crossbars. A 3D kernel needs one crossbar for each
    input channel, filter and sub-image. After Oh, An and Min (Micromachines 14(2):309, 2023).

    One of these options chooses the layers:

    - `ratio`: the last layers, this share of all, 0 to 1 (the paper replaces the last half).
    - `layers`: the layers named.
    - `stage`: the layers of these stages, counted from 1. A stage is a run of convolutions, in the
      graph's order, whose results have the same height and width.
    - `crossbars`: as few layers as bring the network down to that many crossbars, first those whose
      replacement moves the outputs least for each crossbar saved. The crossbars are those of the
      whole network, counted on its tile IR as mapped by `mapping` (pipeline text; other layers get
      the default mapping). Give the mapping that the compilation uses.

    The network's first convolution is replaced only if `layers` names it. Grouped and 1x1
    convolutions aren't 3D kernels.

    The 2D kernel of a channel is the best of rank one, weighted by how the channel's windows vary
    over the calibration data. Then 2D kernels, 1D kernels and the bias are fitted to each other in
    turns, in closed form, layer by layer: from the layer's input in the changed network to its
    output in the original one. `refit=false` takes only the weights' own singular vectors and needs
    no data. There is no retraining. The layer `conv` becomes `conv.depthwise` and `conv.pointwise`.
    `report.json` lists under `pass_figures` what was replaced.
    """

    name: ClassVar[str] = "kernel-2d1d"
    preserves: ClassVar[bool] = False

    ratio: float | None = None
    layers: tuple[str, ...] = ()
    stage: tuple[int, ...] = ()
    crossbars: int | None = None
    mapping: str = "im2col"
    refit: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError unless exactly one option chooses, within its range."""
        options = {
            "ratio": self.ratio is not None,
            "layers": bool(self.layers),
            "stage": bool(self.stage),
            "crossbars": self.crossbars is not None,
        }
        given = [name for name, is_given in options.items() if is_given]
        if len(given) != 1:
            what = f"{' and '.join(given)} each choose" if given else "nothing chooses"
            raise UsageError(f"{what} the layers: give one of {', '.join(options)}")
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise UsageError(f"ratio is a share from 0 to 1, not {self.ratio:g}")
        if self.crossbars is not None and self.crossbars < 1:
            raise UsageError(f"crossbars is a budget of 1 at least, not {self.crossbars}")

    @property
    def needs_target(self) -> bool:
        """Crossbars are counted as the target has them."""
        return self.crossbars is not None

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether any layer was replaced.

        Raises:
            UsageError: `layers` or `stage` names what isn't there or has no 3D kernel; the budget
                can't be met.
            XbarcError: no calibration data where they are needed.
        """
        found, refused = _convolutions(model)
        every = list(found.values())
        figures: dict[str, Any] = {"of": len(every[1:])}
        if self.layers:
            chosen = select(self.layers, found, refused)
        elif self.stage:
            chosen = _in_stages(every, self.stage)
        elif self.crossbars is not None:
            chosen, counted = self._within_budget(model, every[1:], target)
            figures.update(counted)
        else:
            chosen = every[1:][len(every[1:]) - floor((self.ratio or 0) * len(every[1:]) + 0.5) :]
        if chosen:
            figures["weights"] = {
                "before": sum(la.weights.size for la in chosen),
                "after": sum(la.cost(1) for la in chosen),
            }
            replace(model, [la.name for la in chosen], feeds_of(model) if self.refit else None)
        leave(model, self.name, {"replaced": [la.name for la in chosen], **figures})
        return bool(chosen)

    def _within_budget(
        self, model: ir.Model, layers: Sequence[Convolution], target: Target | None
    ) -> tuple[list[Convolution], dict[str, Any]]:
        """The layers to replace, and what was counted and measured to choose them."""
        if target is None or self.crossbars is None:
            raise UsageError("a budget of crossbars asks for the hardware: give --target")
        feeds = feeds_of(model)
        whole = model.clone()
        replace(whole, [la.name for la in layers], None)
        before, after = (_crossbars(m, target, self.mapping, feeds) for m in (model, whole))
        saved = {
            la.name: before[la.name] - after[f"{la.name}.depthwise"] - after[f"{la.name}.pointwise"]
            for la in layers
        }
        count, saving = sum(before.values()), {n: c for n, c in saved.items() if c > 0}
        least = count - sum(saving.values())
        if least > self.crossbars:
            raise UsageError(
                f"crossbars={self.crossbars} can't be met: mapped by {self.mapping}, the network "
                f"takes {count}, and {least} with every layer replaced that saves any"
            )
        excess = count - self.crossbars
        moved = self._deviations(model, list(saving), feeds) if excess > 0 else {}
        chosen = fewest(saving, moved, excess)
        counted = {
            "mapping": self.mapping,
            "crossbars": {
                "before": count,
                "after": count - sum(saved[name] for name in chosen),
                "budget": self.crossbars,
            },
            "layers": {
                la.name: {"crossbars_saved": saved[la.name], "deviation": moved.get(la.name)}
                for la in layers
            },
        }
        return [la for la in layers if la.name in chosen], counted

    def _deviations(self, model: ir.Model, names: Sequence[str], feeds: Feeds) -> dict[str, float]:
        """How far the outputs move where one layer alone is replaced."""
        some = next(batches(input_specs(model), feeds, SAMPLES))
        outputs = Session(model).run(some)
        moved = {}
        for name in names:
            one = model.clone()
            replace(one, [name], feeds if self.refit else None)
            moved[name] = relative_error(outputs, Session(one).run(some))
        return moved


# --- Which layers -------------------------------------------------------------------------------


def _convolutions(model: ir.Model) -> tuple[dict[str, Convolution], dict[str, str]]:
    """The convolutions of 3D kernels by name, in order; why others aren't."""
    found: dict[str, Convolution] = {}
    refused: dict[str, str] = {}
    for node in model.graph:
        layer = find_convolution(node)
        if isinstance(layer, Convolution):
            found[layer.name] = layer
        elif layer is not None:
            refused[node.name or ""] = layer
    return found, refused


def _in_stages(layers: Sequence[Convolution], wanted: Sequence[int]) -> list[Convolution]:
    """The layers of the stages `wanted`, the network's first convolution left out."""
    sizes = {la.name: (dims(la.node.outputs[0]) or (None,) * 3)[2:] for la in layers}
    for name, size in sizes.items():
        if None in size:
            raise XbarcError(
                f"stages: the height and width of {name!r} aren't known: fix the input"
            )
    stages = [list(run) for _, run in groupby(layers, key=lambda la: sizes[la.name])]
    for number in wanted:
        if not 1 <= number <= len(stages):
            raise UsageError(f"no stage {number}: the network's convolutions have {len(stages)}")
    return [la for number in sorted(set(wanted)) for la in stages[number - 1] if la != layers[0]]


def fewest(saved: Mapping[str, int], moved: Mapping[str, float], excess: int) -> list[str]:
    """Layers that together save at least `excess`: those that move least for what they save.

    `saved` is above 0. Those that the last ones taken made needless are left out, the worst first.
    """
    order = sorted(moved, key=lambda name: moved[name] / saved[name])
    chosen: list[str] = []
    while excess > 0:
        chosen.append(order[len(chosen)])
        excess -= saved[chosen[-1]]
    for name in reversed(chosen[:-1]):
        if excess + saved[name] <= 0:
            chosen.remove(name)
            excess += saved[name]
    return chosen


# --- Replacing ----------------------------------------------------------------------------------


def replace(model: ir.Model, names: Sequence[str], feeds: Feeds | None) -> None:
    """Put 2D and 1D kernels in the place of the layers `names`, fitted to `feeds` where given."""
    original = None if feeds is None else model.clone()
    taken = value_names(model)
    for node in list(model.graph):
        layer = find_convolution(node) if node.name in names else None
        if not isinstance(layer, Convolution):
            continue
        moments = None
        if original is not None and feeds is not None:
            moments = moments_of(original, model, layer, feeds)
        insert_split(layer, split(layer, 1, moments, sweeps=SWEEPS), taken)
    drop_unused(model)


# --- Counting -----------------------------------------------------------------------------------


def _crossbars(model: ir.Model, target: Target, mapping: str, feeds: Feeds) -> dict[str, int]:
    """Crossbars of each layer, counted on the tile IR as `mapping` maps it."""
    registry = load_registry()
    pipeline = parse_passes(mapping, registry)
    if pipeline.graph:
        raise UsageError(f"mapping: {pipeline.graph[0].name!r} is no mapping pass")
    model = model.clone()
    legalize(model)
    planned = plan(model)
    one = next(batches(input_specs(model), feeds, 1))
    calibrated = calibrate(model, one, planned.ranged, measured(model, planned))
    lowered = lower(model, planned, calibrated, target)
    context = XbarContext(target, lowered.weights, lowered.digital)
    map_all(context, lowered.module, pipeline.mapping, registry)
    return {la.name: la.crossbars for la in count_events(lowered.module, lowered.weights, target)}
