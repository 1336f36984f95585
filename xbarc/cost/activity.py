"""Energy that follows the values of a run, beside the fixed energy of an action.

An array's energy depends on the values that meet in it. One constant for each action, as in ISAAC's
table, differs from detailed simulation by 28 % on average and 70 % at worst; a model that follows
the values stays within 3 % (CiMLoop: Andrulis et al., ISPASS 2024).

The statistics come from a simulation (`xbarc run --activity`) and are sums over all its samples.

- Crossbar: a cell of conductance G read at V for t takes V^2 G t. Inputs coded by amplitude
  (`inputs.coding`): a row driven at level x is at x / (2^dac_bits - 1) of `read_voltage_v`, for
  `read_pulse_ns`, so the energy grows with x^2. By pulses: it gets x pulses of the whole voltage,
  or one for each bit that is set in x. G = g_off + level (g_on - g_off) / (2^cell_bits - 1).
  Columns that hold no weight aren't selected and take nothing.
- ADC: needed conversions, times the constant energy of one. A read that drives no row above level 0
  needs none, nor does a column whose cells are all at level 0. No source gives these converters'
  energy by output code, so none is assumed.
"""

from collections.abc import Mapping
from typing import Any

from xbarc.hw.target import Target

Statistics = Mapping[str, int]


def crossbar_energy_pj(counts: Statistics, target: Target) -> float:
    """Energy in the cells over all samples, in pJ: the sum of V^2 G t."""
    device, array = target.device, target.array
    top_input, top_cell = (1 << target.inputs.dac_bits) - 1, (1 << array.cell_bits) - 1
    step_us = (device.g_on_us - device.g_off_us) / top_cell
    if target.inputs.coding != "amplitude":
        cells, levels = counts["cell_pulses"], counts["cell_level_pulses"]
        volts = device.read_voltage_v
    else:
        cells, levels = counts["cell_drives"], counts["cell_level_drives"]
        volts = device.read_voltage_v / top_input
    conductance_us = cells * device.g_off_us + levels * step_us
    # V^2 uS ns = 1e-15 J = 1e-3 pJ
    return conductance_us * volts**2 * device.read_pulse_ns * 1e-3


def follow_values(
    layers: Mapping[str, Mapping[str, Any]],
    statistics: Mapping[str, Statistics],
    target: Target,
) -> dict[str, dict[str, Any]]:
    """The document's `activity`: by layer, the counts, shares, and the energy of a batch of one.

    `layers` are the report's rows by name, for a batch of one; the vectors seen against theirs say
    how many the statistics are of. `energy_pj` has `fixed` (None where the target has no such
    component) and `values` for the crossbar and the ADC.
    """
    return {
        name: {
            **counts,
            "driven_rows": _share(counts["driven_row_pulses"], counts["row_pulses"]),
            "conversions_needed": _share(counts["needed_conversions"], counts["conversions"]),
            "energy_pj": _energies(layers[name], counts, target),
        }
        for name, counts in statistics.items()
        if name in layers
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _energies(
    row: Mapping[str, Any], counts: Statistics, target: Target
) -> dict[str, dict[str, float | None]]:
    fixed = row["energy_pj"]
    adc = fixed.get("adc")
    needed = _share(counts["needed_conversions"], counts["conversions"])
    per_batch = _share(row["vectors"], counts["vectors"])
    return {
        "crossbar": {
            "fixed": fixed.get("crossbar"),
            "values": crossbar_energy_pj(counts, target) * per_batch,
        },
        "adc": {"fixed": adc, "values": None if adc is None else adc * needed},
    }
