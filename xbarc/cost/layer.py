"""The cost of one mapped layer alone, and of several together: `map` chooses by it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from xdsl.dialects.builtin import ModuleOp

from xbarc.cost.components import Parts
from xbarc.cost.events import count_events
from xbarc.cost.model import energy_pj
from xbarc.cost.rollup import area_mm2, check_capacity, roll_up
from xbarc.cost.standing import Occupant, leakage_mw, standing_pj
from xbarc.cost.time import Times, digital_work, rates_of
from xbarc.cost.time import times as times_of
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import stages_of
from xbarc.support.data import Array

FIGURES = {
    "crossbars": "crossbars",
    "cycles": "cycles",
    "energy": "energy_pj",
    "area-delay": "area_delay_mm2_ns",
}
"""What a mapping can be chosen by -> the figure."""

Operation = Literal["stream", "single"]
"""The operating mode that energy and time are of (`xbarc.cost.modes`)."""


@dataclass(frozen=True)
class LayerCost:
    """One layer on crossbars of its own, for a batch of one, in the operating mode `mode`.

    `cycles` and `crossbars` are counted as in the report. `energy_pj` is the energy of all
    components. It includes `leakage_pj`, the leakage of what the layer occupies for the time of the
    mode. `latency_ns` is the time of its crossbars and of the scale and bias of its results,
    `interval_ns` the longer of both. `area_mm2` is its crossbars' share of the area of their cores.
    """

    mode: Operation
    crossbars: int
    cycles: int
    energy_pj: float
    leakage_pj: float
    latency_ns: float
    interval_ns: float
    area_mm2: float

    off_chip_bits: ClassVar[int] = 0

    def document(self) -> dict[str, Any]:
        """As `report.json` has it."""
        return {**asdict(self), "area_delay_mm2_ns": self.area_delay_mm2_ns}

    def figure(self, by: str) -> float:
        """What a choice by one of `FIGURES` compares."""
        return float(self.document()[FIGURES[by]])

    @property
    def area_delay_mm2_ns(self) -> float:
        """Area x the time of the mode: the latency, or the interval of a stream."""
        return self.area_mm2 * self.period_ns

    @property
    def period_ns(self) -> float:
        """The time of the mode."""
        return self.latency_ns if self.mode == "single" else self.interval_ns


def layer_cost(
    module: ModuleOp,
    weights: Mapping[str, Array],
    target: Target,
    parts: Parts,
    mode: Operation = "stream",
) -> LayerCost:
    """The cost of a module of one mapped layer and nothing else, as of a layer within a model.

    Raises `XbarcError` where the target's chips have fewer crossbars than it needs.
    """
    (layer,) = count_events(module, weights, target)
    layer.io_bits = 0  # What a layer reads and hands on is the model's own only at its ends.
    check_capacity({layer.name: layer.crossbars}, target)
    stages = stages_of(module)
    work = digital_work(stages, {}, parts, target)
    found = times_of(stages, target, work, rates_of(target, parts))
    latency_ns = found.by_layer()[layer.name]["latency_ns"]
    period_ns = found.latency_ns if mode == "single" else found.interval_ns
    leaked = _leaked([layer], [latency_ns], target, parts, period_ns)
    core_mm2 = roll_up(target, parts)["core"]["area_mm2"]
    return LayerCost(
        mode,
        layer.crossbars,
        layer.cycles,
        sum(energy_pj(layer, target, parts).values()) + leaked,
        leaked,
        latency_ns,
        found.interval_ns,
        core_mm2 * layer.crossbars / target.core.crossbars,
    )


def together(
    costs: Sequence[LayerCost],
    target: Target,
    parts: Parts,
    mode: Operation = "stream",
    times: Times | None = None,
) -> LayerCost:
    """The cost of several layers together, each on crossbars of its own, in a mode.

    They take `times`; without them one input alone takes the sum of their own latencies, and a
    stream the longest of their intervals. Everything that they occupy leaks for that time
    (`technology.gating`). `area_mm2` is the area in use, counted as in the report, with nodes and
    chips. If one chip isn't enough, energy and area include its links.
    """
    crossbars = sum(c.crossbars for c in costs)
    latency_ns = sum(c.latency_ns for c in costs)
    interval_ns = max((c.interval_ns for c in costs), default=0.0)
    if times is not None:
        latency_ns, interval_ns = times.latency_ns, times.interval_ns
    period_ns = latency_ns if mode == "single" else interval_ns
    leaked = _leaked(costs, [c.latency_ns for c in costs], target, parts, period_ns)
    return LayerCost(
        mode,
        crossbars,
        sum(c.cycles for c in costs),
        sum(c.energy_pj - c.leakage_pj for c in costs) + leaked,
        leaked,
        latency_ns,
        interval_ns,
        sum(area_mm2(crossbars, target, parts).values()),
    )


def _leaked(
    layers: Sequence[Occupant],
    on_ns: Sequence[float],
    target: Target,
    parts: Parts,
    period_ns: float,
) -> float:
    if target.technology.gating == "none":
        return leakage_mw(sum(la.crossbars for la in layers), target, parts) * period_ns
    standing = standing_pj(layers, on_ns, target, parts, period_ns)
    return sum(pj for energy in standing for pj in energy.values())
