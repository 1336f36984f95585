"""The cost of one mapped layer alone, and of several together: `map` chooses by it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from xdsl.dialects.builtin import ModuleOp

from xbarc.cost.components import Parts
from xbarc.cost.events import count_events
from xbarc.cost.model import energy_pj, leakage_pj
from xbarc.cost.rollup import area_mm2, check_capacity, leakage_mw, roll_up
from xbarc.cost.time import digital_work, rates_of, times
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


@dataclass(frozen=True)
class LayerCost:
    """One layer on crossbars of its own, for a batch of one.

    `cycles` and `crossbars` are counted as in the report. `energy_pj` is the energy of all
    components. It includes `leakage_pj`, the leakage of what the layer occupies while it runs.
    `latency_ns` is the time of its crossbars and of the scale and bias of its results. `area_mm2`
    is its crossbars' share of the area of their cores.
    """

    crossbars: int
    cycles: int
    energy_pj: float
    leakage_pj: float
    latency_ns: float
    area_mm2: float

    def document(self) -> dict[str, int | float]:
        """As `report.json` has it."""
        return {**asdict(self), "area_delay_mm2_ns": self.area_delay_mm2_ns}

    def figure(self, by: str) -> float:
        """What a choice by one of `FIGURES` compares."""
        return self.document()[FIGURES[by]]

    @property
    def area_delay_mm2_ns(self) -> float:
        """Area x latency."""
        return self.area_mm2 * self.latency_ns


def layer_cost(
    module: ModuleOp, weights: Mapping[str, Array], target: Target, parts: Parts
) -> LayerCost:
    """The cost of a module of one mapped layer and nothing else.

    Raises `XbarcError` where the target's chips have fewer crossbars than it needs.
    """
    (layer,) = count_events(module, weights, target)
    check_capacity({layer.name: layer.crossbars}, target)
    stages = stages_of(module)
    found = times(stages, target, digital_work(stages, {}, parts), rates_of(target, parts))
    (leaked,) = leakage_pj([layer], target, parts, found.latency_ns, [1.0])
    core_mm2 = roll_up(target, parts)["core"]["area_mm2"]
    return LayerCost(
        layer.crossbars,
        layer.cycles,
        sum(energy_pj(layer, target, parts).values()) + leaked,
        leaked,
        found.by_layer()[layer.name]["latency_ns"],
        core_mm2 * layer.crossbars / target.core.crossbars,
    )


def together(
    costs: Sequence[LayerCost],
    target: Target,
    parts: Parts,
    latency_ns: float | None = None,
) -> LayerCost:
    """The cost of several layers together, each on crossbars of its own.

    They take `latency_ns`; without it, the sum of their own times. Everything that they occupy
    leaks until the last layer is done. `area_mm2` is the area in use, counted as in the report,
    with nodes and chips. If one chip isn't enough, energy and area include its links.
    """
    crossbars = sum(c.crossbars for c in costs)
    if latency_ns is None:
        latency_ns = sum(c.latency_ns for c in costs)
    leaked = leakage_mw(crossbars, target, parts) * latency_ns
    return LayerCost(
        crossbars,
        sum(c.cycles for c in costs),
        sum(c.energy_pj - c.leakage_pj for c in costs) + leaked,
        leaked,
        latency_ns,
        sum(area_mm2(crossbars, target, parts).values()),
    )
