"""Energy of counted events, and the totals of a program.

Dynamic energy is events times the energy of one; area is what is occupied; everything is for batch
1. Energy and power of the two operating modes: `xbarc.cost.modes`. The formulas: `docs/cost.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from xbarc.cost.components import Parts, components
from xbarc.cost.events import COUNTS, LayerEvents
from xbarc.cost.rollup import area_mm2, chips_needed, roll_up
from xbarc.cost.standing import leakage_mw, not_modelled
from xbarc.hw.target import CrossbarArray, Target
from xbarc.ir.analysis.zero_point import has_sign

Energy = dict[str, float]

DAYS_A_YEAR = 365.25


def digital_unit(operation: str, parts: Parts) -> str:
    """The component that does a class of digital operations (model).

    Of those that can, the one that does the fewest classes, a spare one last.
    """
    able = {n: p.role for n, p in parts.items() if operation in p.role.operations and p.is_there}
    return min(able, key=lambda name: (able[name].spare, len(able[name].operations)))


def at_work(layers: Sequence[LayerEvents], parts: Parts) -> frozenset[str]:
    """The components that do digital operations of these layers."""
    asked = {operation for la in layers for operation, count in la.digital.items() if count}
    return frozenset(digital_unit(operation, parts) for operation in asked)


def actions(layer: LayerEvents, target: Target, parts: Parts) -> dict[str, float]:
    """How often each component acts for one image; what an action is: `docs/cost.md`."""
    counts = {name: part.role.actions(layer, target) for name, part in parts.items()}
    for operation, count in layer.digital.items():
        unit = digital_unit(operation, parts)
        counts[unit] += count * parts[unit].steps(operation, target)
    return counts


def energy_pj(layer: LayerEvents, target: Target, parts: Parts) -> Energy:
    """Dynamic energy of one layer by component, in pJ; of the components that the target has."""
    counts = actions(layer, target, parts)
    own = parts_of(layer, target, parts)
    return {n: counts[n] * part.unit.energy_pj for n, part in own.items() if part.is_there}


def parts_of(layer: LayerEvents, target: Target, parts: Parts) -> Parts:
    """The components as a layer uses them: by its widths (`layers`), and by its inputs' sign."""
    own = target.for_layer(layer.name)
    if own is not target:
        parts = {**parts, **components(own)}
    if has_sign(layer.input_codes):
        return parts
    return {n: replace(part, unit=part.of(signed=False)) for n, part in parts.items()}


def array_energies_uj(layers: Sequence[LayerEvents], target: Target) -> dict[str, float]:
    """What the arrays of a program take for one image by each of `array.energy`, in uJ."""
    found: dict[str, float] = {}
    for way in get_args(CrossbarArray.model_fields["energy"].annotation):
        array = target.array.model_copy(update={"energy": way})
        asked = target.model_copy(update={"array": array})
        part = components(asked).get("crossbar")
        if part is not None:
            reads = sum(part.role.actions(layer, asked) for layer in layers)
            found[way] = reads * part.unit.energy_pj * 1e-6
    return found


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
    target: Target,
    parts: Parts,
) -> dict[str, Any]:
    """The `totals` of the report but for times and energies: sums over the layers."""
    crossbars = sum(la.crossbars for la in layers)
    cores = math.ceil(crossbars / target.core.crossbars)
    cells = crossbars * target.array.rows * target.array.cols
    counts = {name: sum(getattr(la, name) for la in layers) for name in COUNTS}
    working = at_work(layers, parts)
    area = area_mm2(crossbars, target, parts, working)
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
        "leakage_mw": leakage_mw(crossbars, target, parts, working),
        "leakage_not_modelled": not_modelled(parts),
        "programming_energy_uj": programming_energy_uj(counts["write_pulses"], target),
        "lifetime_years": lifetime_years(target),
    }
