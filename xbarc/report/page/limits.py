"""What limits a program, in a sentence each: speed, energy, area, accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xbarc.artifact.runs import Run, headline
from xbarc.report.figures import words
from xbarc.report.html import Child, Markup, breakable, join, tag
from xbarc.report.page.results import latest
from xbarc.support.units import count, percent, quantity, si

AS_SLOW = 0.99
"""A stage that is busy for this share of the interval bounds the stream too."""

CLOSE = 0.0005
"""Accuracies that are nearer than this aren't told apart: half a tenth of a percent."""


def limits(report: Mapping[str, Any], runs: Sequence[Run]) -> Markup:
    """A list: what is limited, and by what."""
    found = [
        ("Accuracy", join(*accuracy(runs))),
        ("Speed", join(*speed(report))),
        ("Energy", join(*energy(report))),
        ("Area", join(*area(report))),
    ]
    entries = [tag("div", tag("dt", name), tag("dd", told)) for name, told in found if told]
    return tag("dl", entries, class_="limits") if entries else Markup("")


def accuracy(runs: Sequence[Run]) -> Iterator[Child]:
    """What crossbars cost of the float network's accuracy, and the worst layer of a trace."""
    run = headline(runs)
    beside = None if run is None else run.result.float_
    if run is not None and beside is not None and beside.accuracy is not None:
        lost = beside.accuracy - (run.result.accuracy or 0.0)
        side = "below" if lost > 0 else "above"
        yield (
            "The same as in float. "
            if abs(lost) < CLOSE
            else f"{100 * abs(lost):.1f} points {side} float. "
        )
    # A trace of the devices that somebody tried says nothing of the program as it was compiled.
    traced = latest([r for r in runs if r.as_compiled], "trace") or latest(runs, "trace")
    layers = [] if traced is None else traced.result.trace
    if alone := [(la.own_snr_db, la.name) for la in layers if la.own_snr_db is not None]:
        assert traced is not None
        ratio, name = min(alone)
        tried = traced.options.ideal or traced.result.effects
        layer = tag("b", breakable(name))
        yield [
            "The layer that misses most by itself is ",
            layer,
            f" ({ratio:.1f}\N{NO-BREAK SPACE}dB{f', with {traced.devices}' if tried else ''}).",
        ]


def speed(report: Mapping[str, Any]) -> Iterator[Child]:
    """What the interval of a stream is the time of."""
    totals = report["totals"]
    worst = totals["bottleneck"]
    if not worst:
        return
    every = si(totals["interval_us"] * 1e-6, "s")
    resource, layer = worst["resource"], worst["layer"]
    what = "crossbars" if resource == "crossbar" else words(resource)
    of = [" of ", tag("b", breakable(layer))] if layer else ""
    uncounted = report["coverage"].get("uncounted")
    bound = (
        f"No time is known for {' and '.join(uncounted)}: a stream may be much slower. "
        if uncounted
        else "No stream is faster. "
    )
    yield [f"Each input occupies the {what}", of, f" for {every}. {bound}"]
    if resource == "crossbar":
        busy = [s["busy_ns"] for s in report["pipeline"] if s["kind"] == "crossbar"]
        alike = sum(ns >= AS_SLOW * totals["interval_us"] * 1e3 for ns in busy) - 1
        if alike > 0:
            yield f"The crossbars of {count(alike)} more layers are occupied as long."


def energy(report: Mapping[str, Any]) -> Iterator[Child]:
    """The component and the layer that take most."""
    part, share = _largest(report["totals"]["energy_uj"])
    sums = {row["name"]: sum(row["energy_pj"].values()) for row in report["layers"]}
    if not part or not sums:
        return
    layer = max(sums, key=lambda name: sums[name])
    whole = sum(sums.values())
    yield [
        tag("b", words(part)),
        f" takes {percent(share)}. The layer that takes most is ",
        tag("b", breakable(layer)),
        f": {quantity('energy_pj', sums[layer])}, {percent(sums[layer] / whole)}.",
    ]


def area(report: Mapping[str, Any]) -> Iterator[Child]:
    """The component that takes most, and how full the crossbars are."""
    totals = report["totals"]
    part, share = _largest(totals["area_mm2"])
    if part:
        yield [
            tag("b", words(part)),
            f" takes {percent(share)} of the area in use. Weights fill "
            f"{percent(totals['utilization'])} of the cells of "
            f"{count(totals['crossbars'])} crossbars.",
        ]


def _largest(table: Mapping[str, float]) -> tuple[str, float]:
    """The largest entry beside the total, and its share; no name where all are 0."""
    parts = {name: value for name, value in table.items() if name != "total"}
    name = max(parts, key=lambda n: parts[n], default="")
    whole = table["total"]
    return (name, parts[name] / whole) if name and whole else ("", 0.0)
