"""How strong may an error be? Accuracy against an option that trials vary."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from xbarc.artifact.trials import Value
from xbarc.report import charts, plots
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, tag
from xbarc.report.page.devices.figures import (
    FIGURES,
    STUDY,
    Numbered,
    dashed,
    described,
    figures,
    in_words,
    part,
)
from xbarc.report.plots import Axis
from xbarc.report.studies import Study, numbers
from xbarc.support.units import count, digits


def strengths(studies: Sequence[Numbered], ideal: Mapping[int, float | None]) -> Child:
    """Accuracy against an option; studies of one option and the same samples share a chart."""
    lead = (
        "How good must the devices be? The line is the mean over the chips, its band the 95 % "
        "confidence interval of that mean, a dot one chip. "
        f"{dashed(ideal)} Follow the lowest dots until they fall below the accuracy that you need."
    )
    together: dict[tuple[object, ...], list[Numbered]] = {}
    for numbered in studies:
        key = (numbered[1].header.vary, *numbered[1].data)
        together.setdefault(key, []).append(numbered)
    drawn = [curves(some, ideal[some[0][0]]) for some in together.values()]
    return part("How strong may an error be?", lead, tag("div", drawn, class_="pair"))


def curves(studies: Sequence[Numbered], ideal: float | None) -> Markup:
    """A line a study, over the values that any of them has, and the figures."""
    first = studies[0][1]
    vary = str(first.header.vary)
    values = list(dict.fromkeys(g.value for _, study in studies for g in study.groups))
    known = numbers(values)
    if known is not None:
        x, at = plots.value_axis(vary, known), dict(zip(values, known, strict=True))
    else:
        x, at = (
            plots.word_axis(vary, list(map(shown, values))),
            {v: i for i, v in enumerate(values)},
        )
    everything = [v for _, study in studies for g in study.groups for v in g.accuracies]
    y = plots.accuracy_axis([*everything, *([] if ideal is None else [ideal])])
    colors = [f"s{i}" if i < charts.COLORS else "rest" for i in range(len(studies))]
    places = sorted(x.at(place) for place in at.values())
    room = min((b - a for a, b in itertools.pairwise(places)), default=0.2)
    drawn: list[Child] = []
    if ideal is not None:
        drawn.append(plots.line([(0.0, y.at(ideal)), (1.0, y.at(ideal))], "ink", "dashed"))
    for turn, ((_, study), color) in enumerate(zip(studies, colors, strict=True)):
        aside = (turn - (len(studies) - 1) / 2) * min(0.02, room / (len(studies) + 1))
        where = {v: x.at(p) for v, p in at.items()}
        drawn += curve(study, where, y, color, aside, room, joined=known is not None)
    names = {"ideal devices": "dash"} if ideal is not None else {}
    if len(studies) > 1:
        names = {**{legend_of(i, studies): c for i, c in enumerate(colors)}, **names}
    told = "; ".join(
        f"{shown(group.value)}: {in_words(group)}" for _, study in studies for group in study.groups
    )
    caption = f"Accuracy against {vary}"
    devices = f"; beside it: {first.name}" if len(studies) == 1 else ""
    about = f"{count(first.samples)} samples of {first.header.input}{devices}"
    table = charts.grid(
        caption,
        [vary, "Trials", *FIGURES, "Worst seed", *STUDY],
        [
            [
                data(f"trials.{i}.values.{j}.value", numeric(group.value), shown(group.value)),
                data(f"trials.{i}.values.{j}.trials", len(group.trials)),
                *figures(f"trials.{i}.values.{j}", group),
                str(group.worst_seed),
                *described(study),
            ]
            for i, study in studies
            for j, group in enumerate(study.groups)
        ],
    )
    return tag(
        "figure",
        tag("figcaption", tag("b", caption), tag("span", about)),
        charts.legend(names) if names else "",
        plots.frame(x, y, drawn, caption, told, names),
        tag("details", tag("summary", "Figures"), table),
    )


def legend_of(which: int, studies: Sequence[Numbered]) -> str:
    """The name of one of several lines, unlike the others'."""
    names = [study.name for _, study in studies]
    study = studies[which][1]
    again = names.count(study.name) > 1
    return f"{study.name} ({which + 1}, begun {study.header.at:%Y-%m-%d %H:%M:%S})" * again or (
        study.name
    )


def shown(value: Value | None) -> str:
    """A value of an option."""
    return digits(value) if isinstance(value, int | float) else str(value)


def numeric(value: Value | None) -> float | None:
    """A value that is a number."""
    return value if isinstance(value, int | float) else None


def curve(
    study: Study,
    at: Mapping[Value | None, float],
    y: Axis,
    color: str,
    aside: float,
    room: float,
    *,
    joined: bool,
) -> Iterator[Child]:
    """The means of a study with their intervals, and its dots; `room` between two places `at`.

    Between numbers the means are `joined` by a line in a band. There is nothing between words.
    """
    groups = [(at[group.value], group, group.summary) for group in study.groups]
    bounds = [(x, *map(y.at, found.interval or (found.mean, found.mean))) for x, _, found in groups]
    means = [(x, y.at(found.mean)) for x, _, found in groups]
    if joined and len(groups) > 1:
        upper, lower = [(x, high) for x, _, high in bounds], [(x, low) for x, low, _ in bounds]
        yield plots.area([*upper, *reversed(lower)], color, "band")
        yield plots.line(means, color)
    else:
        wide = 0.25 * room / 2
        for (x, low, high), (_, mean) in zip(bounds, means, strict=True):
            x += aside
            around = [(x - wide, low), (x + wide, low), (x + wide, high), (x - wide, high)]
            yield plots.area(around, color, "band")
            yield plots.line([(x - wide, mean), (x + wide, mean)], color)
    for x, group, _ in groups:
        places = [y.at(v) for v in group.accuracies]
        beside = plots.apart(places, 0.012, min(0.4 * room, 0.04))
        points = [(x + aside + dx, p) for dx, p in zip(beside, places, strict=True)]
        yield plots.dots(points, color)
