"""Vector units: what no other unit does. Action: one operation on one value."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.digital import CLASSES

LEAKAGE_MW = 0.27 * 32 / 45
"""PUMA's simulator: leakage of its ALU at 45 nm, scaled as it does it."""


def puma(spec: Spec) -> Component:
    """PUMA's vector unit: 1.90 mW, 0.004 mm2 (12 a core in PIMCOMP); one a clock (model).

    PUMA's simulator divides the same 1.90 mW into 1.707 and 0.192 of leakage (2.4 and 0.27 x
    32/45).
    """
    spec.need_node(32, "PUMA")
    clock = spec.target.technology.clock_ghz
    return Component(
        4000.0,
        (1.90 - LEAKAGE_MW) / clock,
        leakage_mw=LEAKAGE_MW,
        rate_gps=clock,
        source="PIMCOMP Table I: 12 vector units 22.80 mW, 0.048 mm2; PUMA's simulator: of it "
        f"{LEAKAGE_MW:g} mW leakage each; model: one value a clock",
    )


KIND = ComponentKind(
    "vector_unit",
    (
        Role(
            "vector_unit",
            {
                "core": lambda target: target.core.vector_units,
                "node": lambda target: target.node.vector_units,
            },
            operations=CLASSES,
        ),
    ),
    {"puma": puma},
)
