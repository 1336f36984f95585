"""Routers of the mesh. Action: one bit through one router."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec

PJ_PER_BIT = 20.74 / 256
"""ISAAC: 20.74 pJ per 256 bits."""


def isaac(spec: Spec) -> Component:
    """ISAAC: 42 mW, 0.151 mm2, 20.74 pJ per 256 bits; one router for 4 tiles.

    0.1512 mm2, so that a tile's quarter is the 0.0378 mm2 of the same table.
    """
    spec.need_node(32, "ISAAC")
    source = "ISAAC: 42 mW, 0.151 mm2 (0.0378 a quarter), 20.74 pJ per 256 b"
    return _router(spec, 151200.0, 42.0, source)


def puma(spec: Spec) -> Component:
    """PUMA's as PIMCOMP restates it: flit 64, 43.13 mW, 0.14 mm2, one for 4 cores."""
    spec.need_node(32, "PUMA")
    source = "PIMCOMP Table I: flit 64, 43.13 mW, 0.14 mm2; model: energy a bit of ISAAC's router"
    leakage = 43.13 * 0.41 / (16.13 + 0.41)
    source += "; PUMA's simulator: 2.5 % of a router's power is leakage"
    return _router(spec, 140000.0, 43.13, source, leakage)


def _router(
    spec: Spec, area_um2: float, power_mw: float, source: str, leakage_mw: float | None = None
) -> Component:
    return Component(
        area_um2,
        PJ_PER_BIT,
        leakage_mw=leakage_mw,
        power_mw=power_mw,
        rate_gps=power_mw / PJ_PER_BIT,
        source=f"{source}; model: one clock a hop, as many bits as the power allows",
    )


KIND = ComponentKind(
    "router",
    (
        Role(
            "router",
            {"node": lambda target: target.node.routers},
            lambda layer, target: layer.mesh_bit_hops + layer.partial_sum_bits,
        ),
    ),
    {"isaac": isaac, "puma": puma},
)
