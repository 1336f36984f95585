"""What drives a row. Action: one row driven for one input slice."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.hw.target import Target


def isaac(spec: Spec) -> Component:
    """ISAAC's 1-bit DAC; more bits in proportion (model).

    4 mW for 8 x 128 over a 100 ns cycle is 0.390625 pJ, so that the table adds up; the 0.41667 pJ
    that is stated too is the same power over 128 conversions at 1.2 GS/s.
    """
    spec.need_node(32, "ISAAC")
    source = "ISAAC: 8 x 128 1-bit DACs 4 mW, 0.00017 mm2, 100 ns"
    return _by_bits(spec, 170 / 1024, 4 / 1024, source)


def puma(spec: Spec) -> Component:
    """PUMA's 1-bit DAC; more bits in proportion (model)."""
    spec.need_node(32, "PUMA")
    return _by_bits(spec, 0.167, 0.0039, "PUMA's simulator: 0.0039 mW, 1.67e-7 mm2, 100 ns an MVM")


def _by_bits(spec: Spec, area_um2: float, power_mw: float, source: str) -> Component:
    bits = spec.target.inputs.dac_bits
    return Component(
        area_um2 * bits,
        power_mw * bits * 100,
        latency_ns=spec.target.device.read_pulse_ns,
        rate_gps=0.01,
        source=source + ("" if bits == 1 else f"; model: x {bits} for {bits} bits"),
    )


def dacs_per_core(target: Target) -> int:
    """DACs of one core."""
    core = target.core
    return core.crossbars * target.array.rows if core.dacs is None else core.dacs


def shared(target: Target) -> float:
    """Pulses of a DAC by rows that they drive: arrays may share the DACs of their rows.

    Those that hold slices of the same weights can (PUMA's do).
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
    {"isaac": isaac, "puma": puma},
)
