"""Links between chips. Action: one bit sent."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec

RATE_GBPS = 6.4 * 8


def isaac(spec: Spec) -> Component:
    """ISAAC's HyperTransport: 4 links of 6.4 GB/s 10.4 W, 22.88 mm2; 26 pJ per 128 bits.

    What the energy of the bits leaves of the power is drawn whether bits are sent or not, until its
    clock is gated (model).
    """
    spec.need_node(32, "ISAAC")
    energy = 26 / 128
    return Component(
        22.88e6 / 4,
        energy,
        leakage_mw=0.0,
        clock_mw=10400 / 4 - energy * RATE_GBPS,
        rate_gps=RATE_GBPS,
        source="ISAAC: HyperTransport, 4 links of 6.4 GB/s 10.4 W, 22.88 mm2, 26 pJ per 128 b; "
        "model: the rest of the power is drawn while its clock runs, leakage with it",
    )


KIND = ComponentKind(
    "link",
    (
        Role(
            "link",
            {"chip": lambda target: target.chip.links},
            lambda layer, target: layer.off_chip_bits,
            used_with="other chips",
        ),
    ),
    {"isaac": isaac},
)
