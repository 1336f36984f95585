"""What drives a row. Action: one row driven for one input slice."""

from xbarc.cost.components.base import Component, Model, Spec


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


MODELS: dict[str, Model] = {"isaac": isaac, "puma": puma}
