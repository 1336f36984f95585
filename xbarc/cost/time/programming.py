"""How long writing the weights takes, and what a verify loop costs."""

import math
from dataclasses import dataclass
from typing import Self

from xbarc.cost.components import Parts, adc_gsps
from xbarc.hw.target import Target


@dataclass(frozen=True)
class Writing:
    """How a cell is written: by so many `pulses` in the mean, and `verified` by a read after each.

    A report takes the target's `device.write_pulses`; more than one is a verify loop.
    """

    pulses: float
    verified: bool

    @classmethod
    def of(cls, target: Target) -> Self:
        """As the target says."""
        pulses = target.device.write_pulses
        return cls(pulses, pulses > 1)


def programming_time_ms(
    crossbars: int, target: Target, adc_gsps: float = math.inf, writing: Writing | None = None
) -> dict[str, float]:
    """Time to write all crossbars at once, each row by row: `{"write", "verify", "total"}`, ms.

    A row takes as many pulses as its cells in the mean; `writing` is the target's without it. In a
    verify loop the row is read after each pulse, which takes a cycle.
    """
    writing = writing or Writing.of(target)
    pulses = writing.pulses * target.array.rows if crossbars else 0
    write = pulses * target.device.write_pulse_ns * 1e-6
    verify = pulses * target.cycle_ns(adc_gsps) * 1e-6 if writing.verified else 0.0
    return {"write": write, "verify": verify, "total": write + verify}


def verify_energy_uj(
    memristors: int,
    target: Target,
    conversion_pj: float = 0.0,
    writing: Writing | None = None,
) -> float:
    """Energy of the reads of a verify loop that writes the cells once, in uJ.

    After each pulse each cell is read, V^2 G t at the mean conductance, and converted
    (`conversion_pj`). One read pulse is enough for that, whatever pulses code an input
    (`inputs.coding`). `writing` is the target's without it.
    """
    device, writing = target.device, writing or Writing.of(target)
    if not writing.verified:
        return 0.0
    mean_us = (device.g_on_us + device.g_off_us) / 2
    # V^2 * uS * ns = 1e-15 J; in uJ 1e-9.
    read = device.read_voltage_v**2 * mean_us * device.read_pulse_ns * 1e-9
    return memristors * writing.pulses * (read + conversion_pj * 1e-6)


def programming_totals(
    crossbars: int,
    memristors: int,
    target: Target,
    parts: Parts,
    writing: Writing | None = None,
    *,
    energy_uj: float = 0.0,
    limit_w: float = 0.0,
) -> dict[str, float]:
    """The totals' keys about programming: its time, and time and energy of the verify loop.

    With `limit_w`, a power, it takes as long as that allows for `energy_uj` of pulses and the reads
    of a verify loop.
    """
    time = programming_time_ms(crossbars, target, adc_gsps(parts), writing)
    adc = parts.get("adc")
    reads_uj = verify_energy_uj(
        memristors, target, 0.0 if adc is None else adc.unit.energy_pj, writing
    )
    # uJ / W = us.
    allowed_ms = (energy_uj + reads_uj) / limit_w * 1e-3 if limit_w else 0.0
    longer = max(allowed_ms / time["total"], 1.0) if time["total"] else 1.0
    return {
        "programming_time_ms": time["total"] * longer,
        "programming_verify_time_ms": time["verify"] * longer,
        "programming_verify_energy_uj": reads_uj,
    }
