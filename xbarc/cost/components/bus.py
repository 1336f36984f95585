"""The bus between a node's buffer and its cores. Action: one bit moved."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec


def isaac(spec: Spec) -> Component:
    """ISAAC: 384 bits, 7 mW, 0.090 mm2, 0.054 pJ a bit; other widths in proportion (model)."""
    spec.need_node(32, "ISAAC")
    bits, clock = spec.target.node.bus_bits, spec.target.technology.clock_ghz
    share = bits / 384
    return Component(
        90000.0 * share,
        0.054,
        rate_gps=bits * clock,
        power_mw=7.0 * share,
        source="ISAAC: 384 b 7 mW, 0.090 mm2, 0.054 pJ/b; model: its width a clock"
        + ("" if share == 1 else f", x {share:g} by the width"),
    )


KIND = ComponentKind(
    "bus",
    (
        Role(
            "bus",
            {"node": lambda target: target.node.buses},
            lambda layer, target: layer.bus_bits,
        ),
    ),
    {"isaac": isaac},
)
