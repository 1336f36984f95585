"""What holds a column's value until its converter is free. Action: one sample."""

from xbarc.cost.components.base import Component, Model, Spec


def isaac(spec: Spec) -> Component:
    """ISAAC: 0.01 mW and 0.00004 mm2 for 8 x 128, a sample each in 100 ns."""
    spec.need_node(32, "ISAAC")
    return Component(
        40 / 1024,
        0.01 / 1024 * 100,
        rate_gps=0.01,
        source="ISAAC: 8 x 128 sample-and-holds 0.01 mW, 0.00004 mm2, 100 ns",
    )


MODELS: dict[str, Model] = {"isaac": isaac}
