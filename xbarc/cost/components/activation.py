"""Activation units. Action: one value."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec


def isaac(spec: Spec) -> Component:
    """ISAAC's sigmoid unit: 2 of them 0.52 mW, 0.0006 mm2; one value a clock (model)."""
    spec.need_node(32, "ISAAC")
    clock = spec.target.technology.clock_ghz
    return Component(
        300.0,
        0.26 / clock,
        rate_gps=clock,
        source="ISAAC: 2 sigmoid units 0.52 mW, 0.0006 mm2; model: one value a clock",
    )


KIND = ComponentKind(
    "activation",
    (
        Role(
            "activation",
            {"node": lambda target: target.node.activations},
            operations=("activation",),
        ),
    ),
    {"isaac": isaac},
)
