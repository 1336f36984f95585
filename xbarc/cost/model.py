"""Area, energy and time of counted events, from the target's component constants.

Energy is events times the energy of one; area is what is occupied; everything is for batch 1.
"""

import math
from collections.abc import Sequence

from xbarc.cost.events import LayerEvents
from xbarc.target import Target


def energy_pj(layer: LayerEvents, target: Target) -> dict[str, float]:
    """Energy of one layer by component, in pJ."""
    cost = target.cost
    # A register's action is a cycle of its whole core: a layer pays for its share of the crossbars.
    core_cycles = layer.crossbar_reads / target.core.crossbars
    return {
        "adc": layer.adc_conversions * cost.adc.energy_pj,
        "dac": layer.row_pulses * cost.dac.energy_pj,
        "crossbar": layer.crossbar_reads * cost.crossbar.energy_pj,
        "sample_hold": layer.adc_conversions * cost.sample_hold.energy_pj,
        "shift_add": layer.adc_conversions * cost.shift_add.energy_pj,
        "input_register": core_cycles * cost.input_register.energy_pj,
        "output_register": core_cycles * cost.output_register.energy_pj,
    }


def latency_ns(layer: LayerEvents, target: Target) -> float:
    """Time of one layer: its cycles, each a read and the conversions that share an ADC."""
    return layer.cycles * target.cycle_ns()


def area_mm2(crossbars: int, target: Target) -> dict[str, float]:
    """Area by component, in mm2, of `crossbars` crossbars in the cores that they need."""
    cost, cores = target.cost, math.ceil(crossbars / target.core.crossbars)
    units = {
        "adc": cores * target.adcs_per_core() * cost.adc.area_um2,
        "dac": crossbars * target.array.rows * cost.dac.area_um2,
        "crossbar": crossbars * cost.crossbar.area_um2,
        "sample_hold": crossbars * target.array.cols * cost.sample_hold.area_um2,
        "shift_add": cores * target.core.shift_adds * cost.shift_add.area_um2,
        "input_register": cores * cost.input_register.area_um2,
        "output_register": cores * cost.output_register.area_um2,
    }
    return {name: um2 * 1e-6 for name, um2 in units.items()}


def programming_energy_uj(memristors: int, target: Target) -> float:
    """Energy to write the cells once: V^2 G t a pulse, at the mean conductance."""
    device = target.device
    mean_us = (device.g_on_us + device.g_off_us) / 2
    # V^2 * uS * ns = 1e-15 J; in uJ 1e-9.
    pulse = device.write_voltage_v**2 * mean_us * device.write_pulse_ns * 1e-9
    return memristors * device.write_pulses * pulse


def programming_time_ms(crossbars: int, target: Target) -> float:
    """Time to write all crossbars at once, each row by row."""
    if not crossbars:
        return 0.0
    return target.array.rows * target.device.write_pulses * target.device.write_pulse_ns * 1e-6


def totals(layers: Sequence[LayerEvents], target: Target) -> dict[str, object]:
    """The `totals` of the report: sums over the layers, and what follows from them."""
    crossbars = sum(la.crossbars for la in layers)
    cores = math.ceil(crossbars / target.core.crossbars)
    memristors = sum(la.memristors for la in layers)
    cells = crossbars * target.array.rows * target.array.cols
    energies = [energy_pj(la, target) for la in layers]
    energy = {k: sum(e[k] for e in energies) * 1e-6 for k in (energies[0] if energies else {})}
    area = area_mm2(crossbars, target)
    times = [latency_ns(la, target) for la in layers]
    slowest = max(times, default=0.0)
    rate = 1e9 / slowest if slowest else 0.0
    return {
        "weights": sum(la.weights for la in layers),
        "nonzero_weights": sum(la.nonzero_weights for la in layers),
        "memristors": memristors,
        "crossbars": crossbars,
        "cores": cores,
        "nodes": math.ceil(cores / target.node.cores),
        "utilization": memristors / cells if cells else 0.0,
        "vectors": sum(la.vectors for la in layers),
        "activations": sum(la.activations for la in layers),
        "cycles": sum(la.cycles for la in layers),
        "macs": sum(la.macs for la in layers),
        "adc_conversions": sum(la.adc_conversions for la in layers),
        "area_mm2": {**area, "total": sum(area.values())},
        "energy_uj": {**energy, "total": sum(energy.values())},
        "latency_us": sum(times) * 1e-3,
        "throughput_ips": rate,
        "power_w": sum(energy.values()) * 1e-6 * rate,
        "programming_energy_uj": programming_energy_uj(memristors, target),
        "programming_time_ms": programming_time_ms(crossbars, target),
    }
