"""How the mapping of each layer was chosen, where the pass `map` did."""

from collections.abc import Callable, Mapping
from typing import Any

from xbarc.report import charts
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, Section, breakable, tag
from xbarc.report.inspect import chosen_by, ranked
from xbarc.support.units import count, digits, quantity

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
    by = "; ".join(dict.fromkeys(map(chosen_by, found.values())))
    lead = (
        f"Chosen by {by}, of all layers together. Figures are those of each layer by itself, for "
        "one input. The runner-up is the next scheme with figures of its own; × is against the "
        "chosen one."
    )
    below = (
        "Each layer's schemes: the chosen one, the others from the least on, then those that "
        "can't take the layer, and why."
    )
    everything = charts.grid("What each scheme would cost, for one input", head, rows, numbers=3)
    summary = tag("summary", f"All {count(len(rows))} candidates")
    folded = tag("details", summary, tag("p", below, class_="lead"), everything)
    body = [tag("p", lead, class_="lead"), decided(found), folded]
    return Section("choices", "Choice of the mappings", body)


DECIDING = ("crossbars", "cycles", "energy_pj")
"""The figures that are shown of a choice at a glance."""


def decided(found: Mapping[str, Mapping[str, Any]]) -> Markup:
    """A row a layer: what was chosen, what does as well, the runner-up."""
    shown = [CANDIDATE[key] for key in DECIDING]
    head = ["Layer", "Chosen", *shown, "Runner-up", *shown, "As good as the chosen"]
    table = []
    for name, choice in found.items():
        chosen, *others = (c for c in ranked(choice) if "refused" not in c)
        alike = [c["scheme"] for c in others if _same(c, chosen)]
        second = next((c for c in others if not _same(c, chosen)), None)
        row: list[Child] = [breakable(name), tag("b", chosen["scheme"])]
        row += map(_figure(chosen), DECIDING)
        if second is None:
            row += ["–", *[""] * len(DECIDING)]
        else:
            row.append(second["scheme"])
            row += ([_figure(second)(key), _times(second[key], chosen[key])] for key in DECIDING)
        table.append([*row, ", ".join(alike) or "–"])
    return charts.grid("Chosen, and the runner-up", head, table, words=(1, 5, 9))


def _same(candidate: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two candidates have the same figures."""
    return all(candidate.get(key) == other.get(key) for key in CANDIDATE)


def _times(value: float, chosen: float) -> Markup:
    """How many times the chosen scheme's figure it is."""
    many = f"×{digits(float(f'{value / chosen:.3g}'))}" if chosen else ""
    return tag("small", "" if many == "×1" else many)


def _figure(candidate: Mapping[str, Any]) -> Callable[[str], Child]:
    def shown(key: str) -> Child:
        value = candidate.get(key)
        if value is None or key != "area_delay_mm2_ns":
            return data(None, value, quantity(key, value))
        return data(None, value, f"{value:.4g} mm² ns")

    return shown
