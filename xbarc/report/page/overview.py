"""The overview: the figures that decide, what limits them, what to know before believing them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xbarc.artifact.caveats import marks
from xbarc.artifact.runs import Run, headline
from xbarc.report.figures import HEADLINES, data, others, title, totals_of
from xbarc.report.html import Child, Markup, Section, breakable, tag
from xbarc.report.page.limits import limits
from xbarc.support.units import count, percent, quantity

CARDS = (
    "modes.stream.energy_uj.total",
    "throughput_ips",
    "modes.single.latency_us",
    "power_w",
    "area_mm2.total",
    "tops_per_w",
)
"""The totals that are shown large; all others are folded."""

NORMAL_95 = 1.96
"""Standard deviations that hold 95 % of a normal distribution."""


def section(report: Mapping[str, Any], runs: Sequence[Run]) -> Section:
    """The figures that decide, large; what limits them; notes; all other totals, folded."""
    totals = totals_of(report)

    def shown(key: str) -> Child:
        return figure(key, totals, marks(report["caveats"], key))

    cards = [*accuracies(headline(runs))]
    cards += [card(HEADLINES[key], shown(key)) for key in CARDS if key in totals]
    more = [
        card(name, shown(key))
        for key, name in HEADLINES.items()
        if key in totals and key not in CARDS
    ]
    more += [
        card(title(key), shown(key))
        for key in others(totals)
        if isinstance(totals[key], int | float | str)
    ]
    folded = tag(
        "details",
        tag("summary", f"All {count(len(more))} other totals and counters"),
        tag("dl", more, class_="facts"),
    )
    body = [tag("dl", cards, class_="cards"), limits(report, runs), notes(report), folded]
    return Section("overview", "Overview", body)


def accuracies(run: Run | None) -> Iterator[Markup]:
    """The accuracy that stands for the program, and the float network's on the same samples."""
    if run is None:
        return
    share, samples = run.result.accuracy or 0.0, run.result.samples
    name = f"Accuracy, {count(samples)} samples, {run.devices}"
    low, high = interval_95(share, samples)
    about = f"{100 * low:.1f} to {percent(high)} (95 %)"
    each = run.result.metric in (None, "top1", "top5")  # else not a share of the samples
    yield card(
        name, [data("run.accuracy", share, percent(share)), tag("small", about) if each else ""]
    )
    beside = run.result.float_
    if beside is not None and beside.accuracy is not None:
        exact = data("run.float.accuracy", beside.accuracy, percent(beside.accuracy))
        yield card("Accuracy in float, the same samples", exact)


def interval_95(share: float, samples: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of so many samples.

    Wilson's (1927), which also holds near 0 and 1.
    """
    z2 = NORMAL_95**2
    whole = 1 + z2 / samples
    middle = (share + z2 / (2 * samples)) / whole
    half = NORMAL_95 * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples**2)) / whole
    return max(0.0, middle - half), min(1.0, middle + half)


def figure(key: str, totals: Mapping[str, Any], mark: str) -> Child:
    """A total with the numbers of its caveats; the area in use beside that of its chips."""
    shown = [data(f"totals.{key}", totals[key])]
    if mark:
        shown += [Markup(" "), tag("small", mark, class_="mark")]
    if key != "area_mm2.total" or totals[key] is None:
        return shown
    whole = quantity("chip_area_mm2", totals["chip_area_mm2"])
    chips = count(totals["chips"])
    return [*shown, tag("small", f"of {chips} chip{'s' * (totals['chips'] != 1)}, {whole}")]


def card(name: str, shown: Child) -> Markup:
    """One figure with its name."""
    return tag("div", tag("dt", name), tag("dd", shown))


def notes(report: Mapping[str, Any]) -> Markup:
    """What a reader must know before believing the figures."""
    return tag("ul", [tag("li", line) for line in _notes(report)], class_="notes")


def _notes(report: Mapping[str, Any]) -> Iterator[Child]:
    covered = report["coverage"]
    operators = covered["crossbar_operators"] + covered["digital_operators"]
    share = (
        "not all multiply-accumulates can be counted."
        if covered["mac_share"] is None
        else f"with {percent(covered['mac_share'])} of the multiply-accumulates."
    )
    yield (
        "All figures are for one input (a batch of one): one of a stream, in which layers work on "
        "several inputs side by side, or one alone, for which everything waits."
    )
    yield from (f"[{i + 1}] {caveat['text']}." for i, caveat in enumerate(report["caveats"]))
    yield programming(report["totals"])
    yield f"{covered['crossbar_operators']} of {operators} operators run on crossbars, {share}"
    for name, reason in covered["digital_reasons"].items():
        yield ["Digital: ", breakable(name), f": {reason}"]
    if report["calibration"]["source"] == "generated":
        yield (
            "Activation ranges come from generated inputs, not from calibration data: accuracy "
            "will suffer, and costs may be off, for ranges decide how inputs are driven."
        )
    if "random_weights" in report:
        made_up = report["random_weights"]
        yield (
            f"{len(made_up['names'])} weights are random (seed {made_up['seed']}): "
            "costs mean something, results don't."
        )
    for name, moved in report["deviation"].items():
        size = "infinite" if moved is None else f"{moved:.3g}"
        yield f"Lossy pass {name}: relative deviation {size}."


def programming(totals: Mapping[str, Any]) -> str:
    """How many pulses the programming figures are for."""
    cells = totals["memristors"]
    pulses = totals["write_pulses"] // cells if cells else 1
    if pulses == 1:
        how = "one pulse for each cell, written blind"
    else:
        how = f"{pulses} pulses for each cell, with a read after each"
    return f"Programming figures are for {how}; a run with the effect verify counts its own."
