"""What holds a column's value until its converter is free. Action: one sample."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.hw.target import Target


def isaac(spec: Spec) -> Component:
    """ISAAC: 0.01 mW and 0.00004 mm2 for 8 x 128, a sample each in 100 ns."""
    spec.need_node(32, "ISAAC")
    return Component(
        40 / 1024,
        0.01 / 1024 * 100,
        rate_gps=0.01,
        source="ISAAC: 8 x 128 sample-and-holds 0.01 mW, 0.00004 mm2, 100 ns",
    )


def sample_holds_per_core(target: Target) -> int:
    """Sample-and-holds of one core."""
    core = target.core
    return core.crossbars * target.array.cols if core.sample_holds is None else core.sample_holds


KIND = ComponentKind(
    "sample_hold",
    (
        Role(
            "sample_hold",
            {"core": sample_holds_per_core},
            lambda layer, target: layer.adc_conversions,
            used_with="crossbar",
        ),
    ),
    {"isaac": isaac},
)
