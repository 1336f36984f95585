"""The figures that papers print: TOPS, TOPS/W, TOPS/mm2, and the energy of a multiply-accumulate.

A multiply-accumulate is two operations. Only the products of crossbar layers count.
"""

from collections.abc import Mapping
from typing import Any

OPERATIONS = 2
"""Of a multiply-accumulate."""


def ratios(tops: float, power_w: float, area_mm2: float) -> dict[str, float]:
    """The four figures of hardware that does `tops` at this power on this area."""
    return {
        "tops": tops,
        "tops_per_w": tops / power_w if power_w else 0.0,
        "tops_per_mm2": tops / area_mm2 if area_mm2 else 0.0,
        # W / TOPS = pJ an operation.
        "energy_per_mac_pj": OPERATIONS * power_w / tops if tops else 0.0,
    }


def achieved(totals: Mapping[str, Any]) -> dict[str, float]:
    """The four figures of a program in a stream, of the report's totals."""
    macs = totals["macs"]
    tops = OPERATIONS * macs * totals["throughput_ips"] * 1e-12
    found = ratios(tops, totals["power_w"], totals["area_mm2"]["total"])
    energy_pj = totals["energy_uj"]["total"] * 1e6
    return {**found, "energy_per_mac_pj": energy_pj / macs if macs else 0.0}
