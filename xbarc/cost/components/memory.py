"""Memory off the chip: inputs, results, and what buffers can't hold. Action: one bit.

It is no part of the chip: it has no area, and its standby power isn't counted.
"""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.events import LayerEvents
from xbarc.hw.target import Target


def horowitz(spec: Spec) -> Component:
    """DRAM with its interface: 1.3 to 2.6 nJ for 64 bits (Horowitz, ISSCC 2014), the lower figure.

    The same at every node of the chip.
    """
    return Component(
        0.0,
        1300 / 64,
        source="Horowitz, ISSCC 2014: DRAM 1.3 to 2.6 nJ for 64 bits; model: the lower, no standby",
    )


def bits(layer: LayerEvents, target: Target) -> float:
    """Inputs and results; spilled bits without a chip's buffer; other chips' without links."""
    found = layer.io_bits
    if not target.chip.buffers:
        found += layer.spill_bits
    if not target.chip.links:
        found += layer.off_chip_bits
    return found


KIND = ComponentKind(
    "memory",
    (Role("memory", {"chip": lambda target: target.chip.memories}, bits),),
    {"horowitz": horowitz},
)
