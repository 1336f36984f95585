"""Pooling units. Action: one value that enters a window."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec


def isaac(spec: Spec) -> Component:
    """ISAAC's max pooling unit: 0.4 mW, 0.00024 mm2; one value a clock (model)."""
    spec.need_node(32, "ISAAC")
    clock = spec.target.technology.clock_ghz
    return Component(
        240.0,
        0.4 / clock,
        rate_gps=clock,
        source="ISAAC: max pooling unit 0.4 mW, 0.00024 mm2; model: one value a clock",
    )


KIND = ComponentKind(
    "pooling",
    (
        Role(
            "pooling",
            {"node": lambda target: target.node.poolings},
            operations=("pooling",),
        ),
    ),
    {"isaac": isaac},
)
