"""How long writing the weights takes, and what a verify loop costs."""

import math

from xbarc.cost.components import Parts
from xbarc.cost.time.rates import adc_gsps
from xbarc.hw.target import Target


def programming_time_ms(
    crossbars: int, target: Target, adc_gsps: float = math.inf
) -> dict[str, float]:
    """Time to write all crossbars at once, each row by row: `{"write", "verify", "total"}`, ms.

    A cell takes `device.write_pulses` pulses. More than one is a verify loop: after each pulse the
    row is read, which takes a cycle.
    """
    device = target.device
    pulses = device.write_pulses * target.array.rows if crossbars else 0
    write = pulses * device.write_pulse_ns * 1e-6
    verify = pulses * target.cycle_ns(adc_gsps) * 1e-6 if device.write_pulses > 1 else 0.0
    return {"write": write, "verify": verify, "total": write + verify}


def verify_energy_uj(memristors: int, target: Target, conversion_pj: float = 0.0) -> float:
    """Energy of the reads of a verify loop that writes the cells once, in uJ.

    After each pulse each cell is read, V^2 G t at the mean conductance, and converted
    (`conversion_pj`).
    """
    device = target.device
    if device.write_pulses < 2:
        return 0.0
    mean_us = (device.g_on_us + device.g_off_us) / 2
    # V^2 * uS * ns = 1e-15 J; in uJ 1e-9.
    read = device.read_voltage_v**2 * mean_us * device.read_pulse_ns * 1e-9
    return memristors * device.write_pulses * (read + conversion_pj * 1e-6)


def programming_totals(
    crossbars: int, memristors: int, target: Target, parts: Parts
) -> dict[str, float]:
    """The totals' keys about programming: its time, and time and energy of the verify loop."""
    time = programming_time_ms(crossbars, target, adc_gsps(parts))
    adc = parts.get("adc")
    return {
        "programming_time_ms": time["total"],
        "programming_verify_time_ms": time["verify"],
        "programming_verify_energy_uj": verify_energy_uj(
            memristors, target, 0.0 if adc is None else adc.unit.energy_pj
        ),
    }
