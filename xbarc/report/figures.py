"""Which figures a report shows, what they are called, and their colours."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from xbarc.report.html import Markup, tag
from xbarc.support.units import SHARES, UNITS, quantity

WORDS = {"adc": "ADC", "dac": "DAC", "macs": "MACs", "mm2": "mm²", "io": "I/O", "noc": "NoC"}

HEADLINES = {
    "modes.stream.energy_uj.total": "Energy of an input, streaming",
    "modes.stream.interval_us": "Interval, streaming",
    "throughput_ips": "Inputs a second, streaming",
    "power_w": "Power, streaming",
    "modes.single.energy_uj.total": "Energy, one input alone",
    "modes.single.latency_us": "Latency, one input alone",
    "modes.single.power_w": "Power, one input alone",
    "tops": "Operations a second, streaming",
    "tops_per_w": "Operations a second per watt",
    "tops_per_mm2": "Operations a second per mm² in use",
    "energy_per_mac_pj": "Energy a MAC, streaming",
    "peak.tops": "Peak operations a second, a chip",
    "peak.tops_per_w": "Peak operations a second per watt",
    "peak.tops_per_mm2": "Peak operations a second per mm², a chip",
    "peak.energy_per_mac_pj": "Energy a MAC at peak",
    "area_mm2.total": "Area in use",
    "crossbars": "Crossbars",
    "utilization": "Cells in use",
    "memristors": "Memristors",
    "macs": "MACs, one input",
    "adc_conversions": "ADC conversions, one input",
}
"""The totals that matter most, and what they are called."""

BY_COMPONENT = {"energy_uj": "Energy of an input, streaming", "area_mm2": "Area in use"}
"""The totals that are split by component."""

TWICE = ("latency_us", "interval_us", "modes.stream.power_w", "modes.stream.rate_ips")
"""Keys of totals whose figure stands among the headlines under another."""

COLORS = {
    "adc": "s0",
    "crossbar": "s1",
    **dict.fromkeys(("dac", "word_line"), "s2"),
    **dict.fromkeys(("sample_hold", "shift_add"), "s3"),
    **dict.fromkeys(("input_register", "output_register", "node_register"), "s4"),
    **dict.fromkeys(("core_buffer", "buffer", "chip_buffer"), "s4"),
    **dict.fromkeys(("vector_unit", "activation", "pooling", "multiplier", "control"), "s5"),
    **dict.fromkeys(("bus", "router", "link", "memory"), "s6"),
}
"""A component has the same colour in every report: that of its family. Others are `rest`."""


def component_colors(names: Collection[str]) -> dict[str, str]:
    """The colours of components, xbarc's own first."""
    ordered = [name for name in COLORS if name in names]
    ordered += sorted(set(names) - {*ordered})
    return {name: COLORS.get(name, "rest") for name in ordered}


def others(totals: Iterable[str]) -> list[str]:
    """The dotted keys of totals that are neither headlines nor a component's part."""
    return [
        k
        for k in totals
        if k not in (*HEADLINES, *TWICE)
        and ".energy_uj." not in k
        and k.split(".")[0] not in BY_COMPONENT
    ]


def words(key: str) -> str:
    """`sample_hold` as `sample hold`, `adc_conversions` as `ADC conversions`."""
    return " ".join(WORDS.get(w, w) for w in key.split("_"))


def title(key: str) -> str:
    """A key without its unit, as words, the first letter a capital."""
    key = key.replace(".", "_")
    name, _, ending = key.rpartition("_")
    plain = words(name if name and ending in UNITS else key)
    return plain[:1].upper() + plain[1:]


def data(key: str | None, value: Any, shown: str | None = None) -> Markup:
    """A figure with the exact value behind it, by its place in the document: `totals.macs`."""
    exact = None if value is None or isinstance(value, str) else repr(value)
    written = quantity(unit_key(key or ""), value) if shown is None else shown
    return tag("data", written, value=exact, data_key=key)


def unit_key(key: str) -> str:
    """The part of a dotted key that ends in a unit: of `totals.energy_uj.adc` `energy_uj`."""
    parts = key.split(".")
    for part in reversed(parts):
        if part in SHARES or part.rpartition("_")[2] in UNITS:
            return part
    return parts[-1]


def totals_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The totals of a program by their dotted keys; None where nothing of it is on crossbars.

    Such a program doesn't run on the target, whose peak stays: 0 J and 0 s would read as free and
    fast.
    """
    totals = dict(flatten(report["totals"]))
    if report["layers"]:
        return totals
    return {key: value if key.startswith("peak.") else None for key, value in totals.items()}


def flatten(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that isn't a table, by its dotted key."""
    for key, value in values.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flatten(value, place)
        else:
            yield place, value
