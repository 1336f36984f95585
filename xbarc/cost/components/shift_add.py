"""Shift-and-add units. Action: one value shifted and added."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.digital import CLASSES


def isaac(spec: Spec) -> Component:
    """ISAAC: 0.05 mW and 60 um2 a unit, 0.021 pJ an action."""
    spec.need_node(32, "ISAAC")
    clock = spec.target.technology.clock_ghz
    return Component(
        60.0,
        0.021,
        rate_gps=clock,
        power_mw=0.05,
        source="ISAAC: 4 units 0.2 mW, 0.00024 mm2; 0.021 pJ an action; model: one a clock",
    )


def puma(spec: Spec) -> Component:
    """What is left of PUMA's MVMU after crossbars, DACs and converters (model).

    An MVMU (19.09 mW, 0.012 mm2) holds 8 arrays with a converter each and 128 DACs; the rest,
    0.1908 mW and 0.00218 mm2, is sample-and-hold, shift-and-add and registers together. A tenth of
    it is leakage, as PUMA's simulator has it for sample-and-hold and shift-and-add.
    """
    spec.need_node(32, "PUMA")
    power = 19.09 - 8 * 0.3 - 128 * 0.0039 - 8 * 2.0
    area = 12000 - 8 * 25.0 - 128 * 0.167 - 8 * 1200.0
    return Component(
        area,
        0.9 * power * 100 / (8 * 128),
        leakage_mw=0.1 * power,
        rate_gps=8 * 128 / 100,
        source="model: rest of an MVMU (PIMCOMP Table I: 1221.76 mW for 64; PUMA: 0.012 mm2 each) "
        "after 8 crossbars, 8 ADCs and 128 DACs; S+H, S+A and registers together; PUMA's "
        "simulator: a tenth is leakage",
    )


KIND = ComponentKind(
    "shift_add",
    (
        Role(
            "shift_add",
            {
                "core": lambda target: target.core.shift_adds,
                "node": lambda target: target.node.shift_adds,
            },
            lambda layer, target: layer.shift_adds + layer.offset_adds,
            # Every core has them, so there is always something that can do an operation.
            operations=CLASSES,
            spare=True,
            # Without a multiplier, a product is a shifted sum for each bit of a factor (model).
            steps={"products": lambda target: target.inputs.bits},
        ),
    ),
    {"isaac": isaac, "puma": puma},
)
