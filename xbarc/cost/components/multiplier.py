"""Digital multiply-accumulate units, for products of values with values. Action: one product.

Products that aren't with static weights (attention) can't stand on crossbars. Published crossbar
chips have no unit for them, so it is in use only where a program has such products, and no part of
a chip's roll-up.
"""

import math

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec

ADD_32 = (0.1, 137.0)
MULTIPLY_8 = (0.2, 282.0)
MULTIPLY_32 = (3.1, 3495.0)
"""pJ and um2 at 45 nm, 0.9 V (Horowitz, ISSCC 2014)."""

NODES = (22.0, 65.0)
"""nm to which the figures are taken in proportion (model)."""


def horowitz(spec: Spec) -> Component:
    """A multiplier of `inputs.bits` and a 32-bit adder, after Horowitz (ISSCC 2014), 45 nm.

    Between 8 and 32 bits, and beyond, a multiplier grows with a power of its width, nearly the
    second. From 22 to 65 nm in proportion, as PUMA's simulator scales its ALU from 45 to 32 nm
    (model). Beyond, `XbarcError` unless the target scales.
    """
    node, clock = spec.target.technology.node_nm, spec.target.technology.clock_ghz
    if not NODES[0] <= node <= NODES[1]:
        spec.need_node(45, "Horowitz")
    bits, scale = spec.target.inputs.bits, node / 45
    energy, area = (_multiplier(bits, i) + ADD_32[i] for i in (0, 1))
    return Component(
        area * scale,
        energy * scale,
        rate_gps=clock,
        source=f"Horowitz, ISSCC 2014: multipliers of 8 and 32 bits 0.2 and 3.1 pJ, 282 and 3495 "
        f"um2, a 32-bit adder 0.1 pJ, 137 um2, at 45 nm; model: {bits} bits by the power between "
        f"both, {node:g} nm in proportion, one a clock",
    )


def _multiplier(bits: int, figure: int) -> float:
    """A multiplier's energy (0) or area (1) by its width."""
    narrow, wide = MULTIPLY_8[figure], MULTIPLY_32[figure]
    return narrow * (bits / 8) ** (math.log(wide / narrow) / math.log(32 / 8))


KIND = ComponentKind(
    "multiplier",
    (
        Role(
            "multiplier",
            {"node": lambda target: target.node.multipliers},
            operations=("products",),
            used_with="operations",
        ),
    ),
    {"horowitz": horowitz},
)
