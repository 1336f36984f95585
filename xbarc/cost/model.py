"""Energy of counted events, and the totals of a program.

Energy is events times the energy of one, and leakage times the time; area is what is occupied;
everything is for batch 1. The formulas: `docs/cost.md`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.cost.components import Parts
from xbarc.cost.events import COUNTS, LayerEvents
from xbarc.cost.rollup import area_mm2, chips_needed, leakage_mw, roll_up
from xbarc.hw.target import Target

Energy = dict[str, float]

DAYS_A_YEAR = 365.25


def digital_unit(operation: str, parts: Parts) -> str:
    """The component that does a class of digital operations (model).

    Of those that can, the one that does the fewest classes, a spare one last.
    """
    able = {n: p.role for n, p in parts.items() if operation in p.role.operations and p.is_there}
    return min(able, key=lambda name: (able[name].spare, len(able[name].operations)))


def actions(layer: LayerEvents, target: Target, parts: Parts) -> dict[str, float]:
    """How often each component acts for one image; what an action is: `docs/cost.md`."""
    counts = {name: part.role.actions(layer, target) for name, part in parts.items()}
    for operation, count in layer.digital.items():
        counts[digital_unit(operation, parts)] += count
    return counts


def energy_pj(layer: LayerEvents, target: Target, parts: Parts) -> Energy:
    """Dynamic energy of one layer by component, in pJ; of the components that the target has."""
    counts = actions(layer, target, parts)
    return {n: counts[n] * part.unit.energy_pj for n, part in parts.items() if part.is_there}


def leakage_pj(
    layers: Sequence[LayerEvents],
    target: Target,
    parts: Parts,
    time_ns: float,
    shares: Sequence[float],
) -> list[float]:
    """Leakage of everything in use over `time_ns`, in pJ, split by `shares` (mW ns = pJ).

    `shares` are the layers' own times: a layer bears the leakage of the whole chip while it runs.
    """
    leaked = leakage_mw(sum(la.crossbars for la in layers), target, parts) * time_ns
    whole = sum(shares)
    return [leaked * share / whole if whole else 0.0 for share in shares]


def batch_energy_uj(energy: Mapping[str, float], batch: int) -> float:
    """Dynamic energy of `batch` images, in uJ: `batch` times that of one (`energy_uj` of totals).

    Leakage isn't included: it depends on the time that a batch takes, not on its size.
    """
    return batch * sum(v for k, v in energy.items() if k not in ("total", "leakage"))


def programming_energy_uj(write_pulses: float, target: Target) -> float:
    """Energy of the write pulses, in uJ."""
    return write_pulses * target.device.pulse_energy_pj * 1e-6


def lifetime_years(target: Target) -> float | None:
    """How long cells last that are programmed `device.programmings_per_day` times a day.

    A programming takes `device.write_pulses` of a cell's `device.endurance`. None where that isn't
    known.
    """
    device = target.device
    if device.endurance is None:
        return None
    return device.endurance / (device.write_pulses * device.programmings_per_day * DAYS_A_YEAR)


def totals(
    layers: Sequence[LayerEvents],
    energies: Sequence[Energy],
    target: Target,
    parts: Parts,
) -> dict[str, Any]:
    """The `totals` of the report but for its times: sums over the layers, and what follows.

    `energies` are the layers' `energy_pj`, leakage included.
    """
    crossbars = sum(la.crossbars for la in layers)
    cores = math.ceil(crossbars / target.core.crossbars)
    cells = crossbars * target.array.rows * target.array.cols
    counts = {name: sum(getattr(la, name) for la in layers) for name in COUNTS}
    names = energies[0] if energies else {}
    energy = {k: sum(e[k] for e in energies) * 1e-6 for k in names}
    area = area_mm2(crossbars, target, parts)
    chips = chips_needed(crossbars, target)
    digital = {
        k: sum(la.digital[k] for la in layers) for k in (layers[0].digital if layers else ())
    }
    return {
        **counts,
        "digital": digital,
        "cores": cores,
        "nodes": math.ceil(cores / target.node.cores),
        "chips": chips,
        "utilization": counts["memristors"] / cells if cells else 0.0,
        "area_mm2": {**area, "total": sum(area.values())},
        "chip_area_mm2": chips * roll_up(target, parts)["chip"]["area_mm2"],
        "energy_uj": {**energy, "total": sum(energy.values())},
        "leakage_mw": leakage_mw(crossbars, target, parts),
        "programming_energy_uj": programming_energy_uj(counts["write_pulses"], target),
        "lifetime_years": lifetime_years(target),
    }
