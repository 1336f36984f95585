"""What drives a row. Action: one row driven for one input slice."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.hw.target import Target

ISAAC = (170 / 1024, 4 / 1024, "ISAAC: 8 x 128 1-bit DACs 4 mW, 0.00017 mm2, 100 ns")
"""um2 and mW of one of 1 bit. 4 mW for 8 x 128 over a 100 ns cycle is 0.390625 pJ, so that the
table adds up; the 0.41667 pJ that is stated too is the same power over 128 conversions at 1.2
GS/s."""

CYCLE_NS = 100.0


def isaac(spec: Spec) -> Component:
    """ISAAC's 1-bit DAC; more bits in proportion (model).

    At 8 bits that is 3.1 pJ, between MNSIM's 5.0 and PUMA's 0.39.
    """
    spec.need_node(32, "ISAAC")
    bits = spec.target.inputs.dac_bits
    area, power, source = ISAAC
    return Component(
        area * bits,
        power * bits * CYCLE_NS,
        rate_gps=1 / CYCLE_NS,
        source=source if bits == 1 else f"{source}; model: x {bits} for {bits} bits",
    )


MNSIM_BITS = (1, 2, 3, 4, 6, 8)


def mnsim(spec: Spec) -> Component:
    """MNSIM 2.0's table: 0.166 um2 and 0.0039 mW at 1 bit, doubled a bit, to 8 bits.

    It draws that for (bits + 2) ns, as MNSIM counts: 0.012 pJ at 1 bit, 5.0 pJ at 8. Raises
    `XbarcError` for bits that the table doesn't have.
    """
    bits = spec.target.inputs.dac_bits
    if bits not in MNSIM_BITS:
        known = ", ".join(map(str, MNSIM_BITS))
        raise spec.fault(f"MNSIM has DACs of {known} bits, inputs.dac_bits is {bits}")
    factor, time_ns = 2 ** (bits - 1), bits + 2
    return Component(
        0.166 * factor,
        0.0039 * factor * time_ns,
        rate_gps=1 / time_ns,
        source=f"MNSIM 2.0: {bits} bits {0.0039 * factor:g} mW for {time_ns} ns, "
        f"{0.166 * factor:g} um2",
    )


def puma(spec: Spec) -> Component:
    """PUMA's DAC: 0.0039 mW, of which a tenth is leakage, and the same for 1 to 16 bits."""
    spec.need_node(32, "PUMA")
    leakage = 0.000390625
    return Component(
        0.167,
        (0.0039 - leakage) * CYCLE_NS,
        leakage_mw=leakage,
        rate_gps=1 / CYCLE_NS,
        source="PUMA's simulator: 0.0039 mW, of it 0.00039 mW leakage, 1.67e-7 mm2, for 1 to 16 "
        "bits; 100 ns an MVM",
    )


def dacs_per_core(target: Target) -> int:
    """DACs of one core."""
    core = target.core
    return core.crossbars * target.array.rows if core.dacs is None else core.dacs


def shared(target: Target) -> float:
    """Pulses of a DAC by rows that they drive: arrays may share the DACs of their rows.

    Those that hold slices of the same weights can (PUMA's do). Rows of one array can't, so that at
    most a core's arrays share one (`Target` refuses fewer DACs than an array's rows).
    """
    rows = target.core.crossbars * target.array.rows
    return min(dacs_per_core(target) / rows, 1.0) if dacs_per_core(target) else 1.0


KIND = ComponentKind(
    "dac",
    (
        Role(
            "dac",
            {"core": dacs_per_core},
            lambda layer, target: layer.row_pulses * shared(target),
            used_with="crossbar",
        ),
    ),
    {"isaac": isaac, "mnsim": mnsim, "puma": puma},
)
