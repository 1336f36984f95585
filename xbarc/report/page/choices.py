"""How the mapping of each layer was chosen, where the pass `map` did."""

from collections.abc import Callable, Mapping
from typing import Any

from xbarc.report import charts
from xbarc.report.figures import data, quantity
from xbarc.report.html import Child, Section, breakable, tag
from xbarc.report.inspect import ranked

CANDIDATE = {
    "crossbars": "Crossbars",
    "cycles": "Cycles",
    "energy_pj": "Energy",
    "latency_ns": "Latency",
    "area_mm2": "Area",
    "area_delay_mm2_ns": "Area × latency",
}
"""Figures of a scheme that a layer could be mapped by."""


def section(report: Mapping[str, Any]) -> Section | None:
    """How the mapping of each layer was chosen, and what the others would have cost."""
    found = report.get("mapping_choices")
    if not found:
        return None
    head = ["Layer", "Scheme", "", *CANDIDATE.values()]
    rows: list[list[Child]] = []
    for name, choice in found.items():
        for candidate in ranked(choice):
            chosen = candidate["scheme"] == choice["chosen"]
            state = "chosen" if chosen else candidate.get("refused", "")
            scheme = tag("b", candidate["scheme"]) if chosen else candidate["scheme"]
            rows.append([breakable(name), scheme, state, *map(_figure(candidate), CANDIDATE)])
    by = ", ".join(dict.fromkeys(choice["by"] for choice in found.values()))
    lead = (
        f"Each layer by itself under every scheme, chosen by {by} of all layers together; the "
        "others follow from the least on, then those that can't take the layer, and why."
    )
    table = charts.grid("What each scheme would cost, for one input", head, rows, numbers=3)
    return Section("choices", "Choice of the mappings", [tag("p", lead, class_="lead"), table])


def _figure(candidate: Mapping[str, Any]) -> Callable[[str], Child]:
    def shown(key: str) -> Child:
        value = candidate.get(key)
        if value is None or key != "area_delay_mm2_ns":
            return data(None, value, quantity(key, value))
        return data(None, value, f"{value:.4g} mm² ns")

    return shown
