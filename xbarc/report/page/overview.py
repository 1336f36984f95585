"""The overview: the totals, and what to know before believing them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xbarc.artifact.caveats import marks
from xbarc.artifact.runs import Run, headline
from xbarc.report.figures import HEADLINES, count, data, flatten, others, percent, title
from xbarc.report.html import Child, Markup, Section, breakable, tag


def section(report: Mapping[str, Any], runs: Sequence[Run]) -> Section:
    """The totals: the ones that matter large, all of them in a table."""
    totals = dict(flatten(report["totals"]))
    noted = report["caveats"]
    cards = [
        card(name, data(f"totals.{key}", totals[key]), marks(noted, key))
        for key, name in HEADLINES.items()
        if key in totals
    ]
    if (run := headline(runs)) is not None:
        shown = data("run.accuracy", run.result.accuracy, percent(run.result.accuracy or 0))
        name = f"Accuracy, {count(run.result.samples)} samples, {run.devices}"
        cards.insert(0, card(name, shown))
        beside = run.result.float_
        if beside is not None and beside.accuracy is not None:
            exact = data("run.float.accuracy", beside.accuracy, percent(beside.accuracy))
            cards.insert(1, card("Accuracy in float, the same samples", exact))
    rest = [
        card(title(key), data(f"totals.{key}", totals[key]), marks(noted, key))
        for key in others(totals)
        if isinstance(totals[key], int | float | str)
    ]
    figures = [tag("dl", cards, class_="cards"), tag("dl", rest, class_="facts")]
    return Section("overview", "Overview", [figures, notes(report)])


def card(name: str, figure: Child, mark: str = "") -> Markup:
    """One figure with its name, and the numbers of its caveats."""
    beside = [" ", tag("small", mark)] if mark else []
    return tag("div", tag("dt", name), tag("dd", figure, *beside))


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
