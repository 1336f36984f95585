"""Figures as people read them: a unit from the key's ending, SI prefixes, four digits."""

import math
from typing import Any

# Ending of a key -> (factor to the base unit, the base unit).
UNITS = {
    "pj": (1e-12, "J"),
    "nj": (1e-9, "J"),
    "uj": (1e-6, "J"),
    "mj": (1e-3, "J"),
    "ns": (1e-9, "s"),
    "us": (1e-6, "s"),
    "ms": (1e-3, "s"),
    "s": (1.0, "s"),
    "uw": (1e-6, "W"),
    "mw": (1e-3, "W"),
    "w": (1.0, "W"),
    "v": (1.0, "V"),
    "gsps": (1e9, "S/s"),
    "ips": (1.0, "inputs/s"),
    "years": (1.0, "years"),
    "mm2": (1.0, "mm²"),
    "um2": (1.0, "µm²"),
    "tops": (1e12, "OPS"),
    "tops_per_w": (1e12, "OPS/W"),
    "tops_per_mm2": (1e12, "OPS/mm²"),
}
UNSCALED = ("inputs/s", "mm²", "µm²")
SHARES = ("utilization", "accuracy", "mac_share", "saturated", "share", "clipped_conversions")
PREFIXES = tuple(
    (10.0 ** (12 - 3 * i), letter)
    for i, letter in enumerate(("T", "G", "M", "k", "", "m", "µ", "n", "p", "f"))
)


def digits(value: float) -> str:
    """Four digits at most, without an exponent where that stays short."""
    if value == int(value) and abs(value) < 1e4:
        return str(int(value))
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"


def si(value: float, unit: str) -> str:
    """`0.0089864, "s"` as `8.986 ms`."""
    if value == 0 or not math.isfinite(value):
        return f"{digits(value) if value == 0 else value} {unit}".rstrip()
    scale, prefix = next(((s, p) for s, p in PREFIXES if abs(value) >= s * 0.99995), PREFIXES[-1])
    return f"{digits(float(f'{value / scale:.4g}'))} {prefix}{unit}".rstrip()


def count(value: float) -> str:
    """A pure number: `9 999`, `2.167 M`."""
    if abs(value) >= 1e5:
        return si(value, "")
    whole = value == int(value)
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if whole else digits(value)


def percent(share: float) -> str:
    """`0.79716` as `79.7 %`; two digits below one percent."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def quantity(key: str, value: Any) -> str:
    """A value as its key says: `latency_us`, `area_mm2`, `utilization`, `crossbars`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    last = key.rsplit(".", 1)[-1]
    if last in SHARES:
        return percent(value)
    ending = last.rpartition("_")[2] if "_" in last else ""
    factor, unit = UNITS.get(last) or UNITS.get(ending) or (0.0, "")
    if not unit:
        return count(value)
    if unit in UNSCALED:
        return f"{digits(float(f'{value:.4g}')) if value < 1e4 else count(value)} {unit}"
    return si(value * factor, unit)
