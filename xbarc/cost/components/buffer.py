"""Buffers of a core, a node and a chip: eDRAM, SRAM. Action: one bit read or written."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.events import LayerEvents
from xbarc.hw.target import Target

EDRAM_PJ_PER_BIT = 20.45 / 256
"""ISAAC: 20.45 pJ per 256 bits."""


def isaac(spec: Spec) -> Component:
    """ISAAC's 64 KB eDRAM; area and power in proportion to the size, energy a bit not (model)."""
    spec.need_node(32, "ISAAC")
    share = size_kb(spec) / 64
    return Component(
        83000.0 * share,
        EDRAM_PJ_PER_BIT,
        rate_gps=256.0,
        power_mw=20.7 * share,
        source="ISAAC: eDRAM 64 KB 20.7 mW, 0.083 mm2, 20.45 pJ per 256 b; model: 256 b a ns"
        + ("" if share == 1 else f", x {share:g} by the size"),
    )


def puma(spec: Spec) -> Component:
    """PUMA's memories as PIMCOMP restates them: 64 KB a core, 4 MB a chip."""
    spec.need_node(32, "PUMA")
    # Of 64 KB PUMA's simulator knows the leakage, 2 mW; the same share of 4 MB's power is a model.
    known = {64.0: (85000.0, 18.0, 2.0), 4096.0: (2.42e6, 257.72, 257.72 * 2 / 18)}
    size = size_kb(spec)
    if size not in known:
        raise spec.fault(f"PUMA's memories are of 64 and 4096 KB, not {size:g}")
    area, power, leakage = known[size]
    return Component(
        area,
        EDRAM_PJ_PER_BIT,
        leakage_mw=leakage,
        rate_gps=256.0,
        power_mw=power,
        source=f"PIMCOMP Table I: {size:g} KB {power:g} mW, {area * 1e-6:g} mm2"
        "; PUMA's simulator: 2 mW of 64 KB is leakage"
        + ("" if size == 64 else "; model: the same share here")
        + "; model: energy a bit of ISAAC's eDRAM, 256 b a ns",
    )


def size_kb(spec: Spec) -> float:
    """The size of the buffer at its level of the target, in KB."""
    target = spec.target
    return {
        "core_buffer": target.core.buffer_kb,
        "buffer": target.node.buffer_kb,
        "chip_buffer": target.chip.buffer_kb,
    }[spec.role]


def _bits(layer: LayerEvents) -> int:
    return layer.buffer_read_bits + layer.buffer_write_bits


def node_bits(layer: LayerEvents, target: Target) -> float:
    """Bits of a node's buffer: all of them, where there is one."""
    return _bits(layer)


def core_bits(layer: LayerEvents, target: Target) -> float:
    """Bits of a core's buffer: all of them where the nodes have none."""
    return 0 if target.node.buffers else _bits(layer)


def chip_bits(layer: LayerEvents, target: Target) -> float:
    """Bits of a chip's buffer: what other buffers can't hold, all where there is no other."""
    inner = target.node.buffers or target.core.buffers
    return layer.spill_bits if inner else _bits(layer)


KIND = ComponentKind(
    "buffer",
    (
        Role("core_buffer", {"core": lambda target: target.core.buffers}, core_bits),
        Role("buffer", {"node": lambda target: target.node.buffers}, node_bits),
        Role("chip_buffer", {"chip": lambda target: target.chip.buffers}, chip_bits),
    ),
    {"isaac": isaac, "puma": puma},
)
