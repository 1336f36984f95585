"""Energy of counted events, and the totals of a program.

Energy is events times the energy of one, and leakage times the time; area is what is occupied;
everything is for batch 1. The formulas: `docs/cost.md`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.cost.components import Component
from xbarc.cost.events import COUNTS, LayerEvents
from xbarc.cost.rollup import area_mm2, chips_needed, leakage_mw, roll_up
from xbarc.hw.target import Target

UNITS = {
    "activation": ("activation", "vector_unit", "shift_add"),
    "pooling": ("pooling", "vector_unit", "shift_add"),
    "elementwise": ("vector_unit", "shift_add"),
    "other": ("vector_unit", "shift_add"),
}
"""Digital operations -> the components that can do them; the first that the target has does."""

Energy = dict[str, float]


def digital_unit(operation: str, target: Target) -> str:
    """The component that does a class of digital operations (model).

    What no unit of the target is for goes to the shift-and-add units, which every core has.
    """
    units = target.units()
    present = {name for level in units.values() for name, count in level.items() if count}
    return next(name for name in UNITS[operation] if name in present or name == "shift_add")


def actions(layer: LayerEvents, target: Target) -> dict[str, float]:
    """How often each component acts for one image; what an action is: `docs/cost.md`."""
    units = target.units()
    # A node's buffer if there is one, else the core's, else the chip's.
    buffers = {"buffer": "node", "core_buffer": "core", "chip_buffer": "chip"}
    buffer = next((b for b, level in buffers.items() if units[level][b]), "buffer")
    # Arrays that hold slices of the same weights may share the DACs of their rows (PUMA's do).
    rows = target.core.crossbars * target.array.rows
    shared = min(units["core"]["dac"] / rows, 1.0) if units["core"]["dac"] else 1.0
    counts: dict[str, float] = {
        "adc": layer.adc_conversions,
        "dac": layer.row_pulses * shared,
        "crossbar": layer.crossbar_reads,
        "sample_hold": layer.adc_conversions,
        "shift_add": layer.shift_adds,
        "input_register": layer.input_bits * shared,
        "output_register": layer.output_values,
        "node_register": layer.results,
        buffer: layer.buffer_read_bits + layer.buffer_write_bits,
        "bus": layer.bus_bits,
        "router": layer.mesh_bit_hops,
        "link": layer.off_chip_bits,
    }
    for operation, count in layer.digital.items():
        unit = digital_unit(operation, target)
        counts[unit] = counts.get(unit, 0) + count
    return counts


def energy_pj(layer: LayerEvents, target: Target, parts: Mapping[str, Component]) -> Energy:
    """Dynamic energy of one layer by component, in pJ; of the components that the target has."""
    counts = actions(layer, target)
    units = target.units().values()
    present = {name for level in units for name, count in level.items() if count}
    return {
        name: counts.get(name, 0) * part.energy_pj
        for name, part in parts.items()
        if name in present
    }


def leakage_pj(
    layers: Sequence[LayerEvents],
    target: Target,
    parts: Mapping[str, Component],
    time_ns: float,
    shares: Sequence[float],
) -> list[float]:
    """Leakage of all that is occupied over `time_ns`, in pJ, shared out by `shares` (mW ns = pJ).

    `shares` are the layers' own times: a layer bears the leakage of the whole chip while it runs.
    """
    leaked = leakage_mw(sum(la.crossbars for la in layers), target, parts) * time_ns
    whole = sum(shares)
    return [leaked * share / whole if whole else 0.0 for share in shares]


def batch_energy_uj(energy: Mapping[str, float], batch: int) -> float:
    """Dynamic energy of `batch` images, in uJ, from the `energy_uj` of the totals: in proportion.

    Leakage isn't in it: it goes with the time that a batch takes, not with its size.
    """
    return batch * sum(v for k, v in energy.items() if k not in ("total", "leakage"))


def programming_energy_uj(write_pulses: int, target: Target) -> float:
    """Energy of the write pulses: V^2 G t each, at the mean conductance, in uJ."""
    device = target.device
    mean_us = (device.g_on_us + device.g_off_us) / 2
    # V^2 * uS * ns = 1e-15 J; in uJ 1e-9.
    return write_pulses * device.write_voltage_v**2 * mean_us * device.write_pulse_ns * 1e-9


def totals(
    layers: Sequence[LayerEvents],
    energies: Sequence[Energy],
    target: Target,
    parts: Mapping[str, Component],
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
    }
