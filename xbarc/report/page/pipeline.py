"""When each layer works on one input, and what bounds a stream of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.report import charts
from xbarc.report.charts import Row
from xbarc.report.figures import data, words
from xbarc.report.html import Section, breakable, tag
from xbarc.support.units import quantity, si


def section(report: Mapping[str, Any]) -> Section:
    """When each layer works on one input, and what bounds a stream of them."""
    found = report["pipeline"]
    whole = max((stage["finish_ns"] for stage in found), default=0.0)
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for stage in found:
        # Digital work stands with the layer whose nodes do it.
        rows.setdefault(stage.get("layer") or stage["name"], []).append(stage)
    digital = any(stage["kind"] == "digital" for stage in found)
    body = [
        gantt_row(i, name, parts, whole, lanes=1 + digital)
        for i, (name, parts) in enumerate(rows.items())
    ]
    colors = {"crossbars": "s0", "digital units": "s1"} if digital else {}
    ticks = charts.ticks(whole)
    labels = [(t / whole if whole else 0.0, si(t * 1e-9, "s")) for t in ticks]
    chart = charts.table(
        "When each layer works, for one input",
        ["Layer", "", "start", "finish", "busy"],
        body,
        kind="gantt",
        step=labels[1][0] if len(labels) > 1 else None,
        marks=labels,
        key=colors,
    )
    key = charts.legend(colors) if digital else ""
    lead = tag("p", pace(report["totals"]), class_="lead")
    waiting = (
        "A bar reaches from a layer's first row to its last. In between, above all digital units "
        "wait for rows: busy is how long the crossbars or units work on one input. What is busy "
        "longest bounds the stream."
    )
    return Section("pipeline", "Pipeline", [lead, tag("p", waiting, class_="lead"), key, chart])


def pace(totals: Mapping[str, Any]) -> str:
    """How the program runs, and what bounds its throughput, in words."""
    if not totals["interval_us"]:
        return "Nothing of it takes time on this hardware."
    lines = [
        "A layer starts as soon as the rows that it needs are there, as scheduled."
        if totals["schedule"] == "rows"
        else "Layer after layer: the program has no schedule.",
        f"In a stream there is an input every {quantity('interval_us', totals['interval_us'])}.",
    ]
    if worst := totals["bottleneck"]:
        what = "crossbars" if worst["resource"] == "crossbar" else words(worst["resource"])
        of = f" of {worst['layer']}" if worst["layer"] else ""
        lines.append(f"What bounds it: the {what}{of}.")
    return " ".join(lines)


def gantt_row(
    i: int, name: str, parts: Sequence[Mapping[str, Any]], whole: float, lanes: int
) -> Row:
    """A layer's line of the chart: its crossbars above, its digital work below."""
    start = min(part["start_ns"] for part in parts)
    finish = max(part["finish_ns"] for part in parts)
    spans = []
    for part in parts:
        lane, color = (1, "s1") if part["kind"] == "digital" else (0, "s0")
        ends = (part["start_ns"], part["finish_ns"])
        about = f"{part['name']}: {si(ends[0] * 1e-9, 's')} to {si(ends[1] * 1e-9, 's')}"
        spans.append(charts.Span(*ends, color, about, lane, lanes))
    label = f"{name}: {si(start * 1e-9, 's')} to {si(finish * 1e-9, 's')}"
    # Digital work of a layer is short beside its span: it waits for rows.
    busy = max(part["busy_ns"] for part in parts)
    figures = [
        data(f"pipeline.{i}.start_ns", start),
        data(f"pipeline.{i}.finish_ns", finish),
        data(f"pipeline.{i}.busy_ns", busy),
    ]
    return Row(breakable(name), charts.spans(spans, whole, label), figures)
