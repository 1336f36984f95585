"""Figures of one technology node at another, by published tables.

Stillmaker and Baas, "Scaling equations for the accurate prediction of CMOS device performance from
180 nm to 7 nm", Integration 58, 2017: area factors, and polynomials of delay and energy in the
supply, of high-performance transistors. The tables are of logic: analog circuits and memory cells
scale less (model). Supplies are the nominal ones of the PTM transistors that the tables stand on.
"""

import math
from dataclasses import dataclass, replace

from xbarc.cost.components.base import Component
from xbarc.support.errors import XbarcError

SOURCE = "Stillmaker & Baas 2017"

AREA = {
    180: 40.0,
    130: 14.0,
    90: 6.1,
    65: 3.3,
    45: 2.2,
    32: 1.0,
    20: 0.46,
    16: 0.41,
    14: 0.38,
    10: 0.22,
    7: 0.13,
}
"""Area of the same circuit, that at 32 nm being 1 (their table of area factors)."""

Polynomial = tuple[float, ...]

SUPPLY_V = {
    180: 1.8,
    130: 1.3,
    90: 1.2,
    65: 1.1,
    45: 1.0,
    32: 0.9,
    20: 0.9,
    16: 0.85,
    14: 0.8,
    10: 0.75,
    7: 0.7,
}

ENERGY: dict[int, Polynomial] = {
    180: (24.64, -17.98, 0.0),
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.018, -0.3107, 0.1539),
    32: (0.8367, -0.4341, 0.1701),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
"""Energy of an operation by the supply, highest power first (their Table 5)."""

DELAY: dict[int, Polynomial] = {
    180: (0.0, 97.09, -356.7, 406.5),
    130: (-76.65, 334.9, -493.4, 275.8),
    90: (-60.34, 262.5, -384.2, 210.9),
    65: (-53.3, 230.4, -333.9, 178.6),
    45: (-501.6, 1567.0, -1619.0, 566.1),
    32: (-1047.0, 2982.0, -2797.0, 873.5),
    20: (0.0, 34.63, -66.37, 41.15),
    16: (0.0, 24.8, -47.52, 28.87),
    14: (-40.66, 109.2, -100.6, 35.92),
    10: (-34.95, 93.65, -85.99, 30.4),
    7: (-28.58, 76.6, -70.26, 24.69),
}
"""Delay of a gate by the supply, highest power first (their Table 4)."""


@dataclass(frozen=True)
class Factors:
    """What an area, an energy of an action and a time are multiplied by."""

    area: float
    energy: float
    delay: float


def factors(from_nm: float, to_nm: float) -> Factors:
    """From one node to another; between the table's nodes by interpolating logarithms (model).

    Raises `XbarcError` beyond 180 and 7 nm.
    """
    area, energy, delay = (
        _between(table, to_nm) / _between(table, from_nm)
        for table in (AREA, _nominal(ENERGY), _nominal(DELAY))
    )
    return Factors(area, energy, delay)


def _nominal(table: dict[int, Polynomial]) -> dict[int, float]:
    """Polynomials at each node's nominal supply."""
    return {
        nm: sum(c * SUPPLY_V[nm] ** (len(of) - 1 - i) for i, c in enumerate(of))
        for nm, of in table.items()
    }


def _between(table: dict[int, float], nm: float) -> float:
    nodes = sorted(table)
    if not nodes[0] <= nm <= nodes[-1]:
        raise XbarcError(
            f"technology.scaling: {SOURCE} have nodes of {nodes[0]} to {nodes[-1]} nm, not {nm:g}"
        )
    above = next(node for node in nodes if node >= nm)
    below = max(node for node in nodes if node <= nm)
    if above == below:
        return table[above]
    share = math.log(nm / below) / math.log(above / below)
    return math.exp((1 - share) * math.log(table[below]) + share * math.log(table[above]))


def scaled(unit: Component, from_nm: float, to_nm: float) -> Component:
    """A component's figures at another node, its source saying so.

    Leakage isn't in the tables: it goes with power, energy over delay (model).
    """
    by = factors(from_nm, to_nm)
    power = by.energy / by.delay
    return replace(
        unit,
        area_um2=unit.area_um2 * by.area,
        energy_pj=unit.energy_pj * by.energy,
        leakage_mw=None if unit.leakage_mw is None else unit.leakage_mw * power,
        clock_mw=unit.clock_mw * power,
        rate_gps=unit.rate_gps / by.delay,
        power_mw=None if unit.power_mw is None else unit.power_mw * power,
        source=f"{unit.source}; scaled from {from_nm:g} to {to_nm:g} nm ({SOURCE}): area x "
        f"{by.area:.3g}, energy x {by.energy:.3g}, time x {by.delay:.3g}",
    )
