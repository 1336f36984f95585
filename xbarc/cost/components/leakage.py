"""How components leak whose source doesn't say it: by a named model, or an assumed share."""

from collections.abc import Mapping
from dataclasses import replace

from xbarc.cost.components.base import Component
from xbarc.hw.target import Target
from xbarc.support.errors import XbarcError

NODE_NM = 32.0
"""The node of PUMA's simulator."""

ALU = 0.192 / 1.90
"""Of PUMA's arithmetic unit, 0.27 mW at 45 nm."""

PUMA: Mapping[str, float] = {
    "adc": 0.2 / 2.0,
    "dac": 0.000390625 / 0.003896875,
    "crossbar": 0.0,
    "sample_hold": 0.1,
    "shift_add": 0.005 / 0.05,
    "core_buffer": 2 / 18,
    "buffer": 2 / 18,
    "chip_buffer": 2 / 18,
    "bus": 1 / 7,
    "router": 0.41 / 16.54,
    "vector_unit": ALU,
    "activation": 0.026 / 0.26,
    "pooling": ALU,
    "multiplier": ALU,
}
"""Leakage as a share of the power at full load, by component: the constants of PUMA's simulator,
32 nm. Pooling units and multipliers, which it hasn't, as its arithmetic unit (model)."""

REGISTERS: Mapping[int, float] = {
    256: 0.044 / 0.204,
    512: 0.078 / 0.318,
    1024: 0.147 / 0.477,
    2048: 0.33 / 0.9,
}
"""Bytes of a memory beside the crossbars -> the same; other sizes as the nearest (model)."""


def leaking(role: str, unit: Component, target: Target) -> Component:
    """A unit of which nothing says how it leaks, with a share of its power as leakage (model).

    `technology.leakage = "puma"` gives the share that the part has in PUMA's simulator,
    `technology.leakage_share` one for all that it hasn't. The power at full load stays; a unit that
    has none, for want of a rate, stays as it is. Raises `XbarcError` for the first at another node
    than 32 nm, but for figures scaled from there.
    """
    if unit.leakage_mw is not None:
        return unit
    technology = target.technology
    share, why = technology.leakage_share, "(technology.leakage_share)"
    if technology.leakage == "puma":
        if technology.node_nm != NODE_NM and technology.scaling == "none":
            raise XbarcError(
                'technology.leakage = "puma": its shares are of 32 nm, technology.node_nm is '
                f"{technology.node_nm:g}: assume one, technology.leakage_share"
            )
        known = _puma(role, target)
        if known is not None:
            share, why = known, "as in PUMA's simulator"
    if share is None or not unit.full_power_mw:
        return unit
    return replace(
        unit,
        leakage_mw=share * unit.full_power_mw,
        energy_pj=(1 - share) * unit.energy_pj,
        source=f"{unit.source}; model: {share:.3g} of the power at full load is leakage, {why}",
    )


def _puma(role: str, target: Target) -> float | None:
    """The share of a component, None where PUMA's simulator has nothing like it."""
    sizes = {
        "input_register": target.core.input_register_bytes,
        "output_register": target.core.output_register_bytes,
        "node_register": target.node.register_bytes,
    }
    if role not in sizes:
        return PUMA.get(role)
    return REGISTERS[min(REGISTERS, key=lambda size: abs(size - sizes[role]))]
