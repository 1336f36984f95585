"""Real devices: how much accuracy they leave, which layer minds, what cells really conduct."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from xbarc.artifact.runs import Conductances, Level, Run
from xbarc.artifact.trials import Record, Value
from xbarc.report import charts, plots
from xbarc.report.charts import Row
from xbarc.report.figures import count, data, digits
from xbarc.report.html import Child, Markup, Section, breakable, tag
from xbarc.report.page.results import latest
from xbarc.report.plots import Axis
from xbarc.report.studies import Group, Study, ideal_accuracy, numbers, studies_of

MOST_LAYERS = 20
"""Layers that are shown at once, the most lost first; the others can be unfolded."""

HAIR = 0.003
"""No part of a shape is narrower, as a share of the plot: a few stuck cells can be seen."""

Numbered = tuple[int, Study]
"""A study and its number on the page, which `data-key` has: `trials.0.accuracy.mean`."""

FIGURES = ("Mean", "95 % interval", "Standard deviation", "Worst", "Median", "Best")
"""What is told of trials, as `accuracy` of `xbarc run --trials --json`."""


def section(runs: Sequence[Run], records: Sequence[Record]) -> Section | None:
    """What kept trials and runs with effects tell; None where there are neither."""
    studies = studies_of(records)
    real = [run for run in runs if run.result.effects]
    if not studies and not real:
        return None
    lead = (
        "Memristors differ from what they should be, each in its own way. Everything here is "
        "simulated. One trial, or one seed, is one simulated chip: the same program and samples, "
        "devices with errors of their own. A chip that you make is like one of these."
    )
    numbered = list(enumerate(studies))
    ideal = {i: ideal_accuracy(study, studies, runs) for i, study in numbered}
    body: list[Child] = [tag("p", lead, class_="lead")]
    if not studies:
        body.append(single(real[-1]))
    plain = [s for s in numbered if s[1].header.vary is None and not s[1].header.by_layer]
    if plain:
        body.append(sure(plain, ideal))
    if varied := [s for s in numbered if s[1].header.vary is not None]:
        body.append(strengths(varied, ideal))
    body += [by_layer(i, study, ideal[i]) for i, study in numbered if study.header.by_layer]
    run = latest(runs, "conductances")
    if run is not None and run.result.conductances is not None:
        body.append(programmed(run, run.result.conductances))
    return Section("devices", "Real devices", body)


def single(run: Run) -> Markup:
    """A run with effects, where there are no trials yet."""
    key = "run_with_effects.accuracy"
    return tag(
        "p",
        f"The newest run with real devices ({run.devices}; seed {run.options.seed}) is one chip: "
        f"accuracy ",
        data(key, run.result.accuracy),
        f" on {count(run.result.samples)} samples of {run.input}. The next chip differs. ",
        tag("code", "xbarc run --trials 20"),
        " says by how much.",
    )


def part(heading: str, lead: str, *body: Child) -> list[Child]:
    """A picture with its heading, and what it is for."""
    return [tag("h3", heading), tag("p", lead, class_="lead"), *body]


# How sure is the accuracy


def sure(studies: Sequence[Numbered], ideal: Mapping[int, float | None]) -> Child:
    """Each study as a strip of dots, those over the same samples on one axis."""
    lead = (
        "Each dot is a chip, so the spread of the dots is what you can expect of one. The thin "
        "line is their mean; the shaded range is the 95 % confidence interval of the mean over all "
        "chips, and more trials narrow it. The dashed line is the same network on ideal devices. "
        "Compare the worst chip, not the mean, with the accuracy that every chip must reach."
    )
    together: dict[tuple[str, str, int | None], list[Numbered]] = {}
    for numbered in studies:
        together.setdefault(numbered[1].data, []).append(numbered)
    body = [strips(some, ideal[some[0][0]]) for some in together.values()]
    table = charts.grid(
        "Trials in figures",
        ["Devices", "Trials", *FIGURES, "Worst seed", "Ideal devices", "Samples", *STUDY],
        [
            [
                breakable(study.name),
                data(f"trials.{i}.trials", len(study.groups[0].trials)),
                *figures(f"trials.{i}", study.groups[0]),
                str(study.groups[0].worst_seed),
                data(f"trials.{i}.ideal.accuracy", ideal[i], fine(ideal[i])),
                data(f"trials.{i}.samples", study.samples),
                *described(study),
            ]
            for i, study in studies
        ],
    )
    return part("How sure is the accuracy?", lead, *body, table)


STUDY = ("Seeds", "Data", "Effects")
"""What says how a study came to be."""


def described(study: Study) -> list[Child]:
    """The cells of `STUDY`."""
    options = study.header.options
    limit = f", first {options.limit}" if options.limit is not None else ""
    return [
        study.groups[0].seeds,
        f"{study.header.input} (labels {options.labels}{limit})",
        [[tag("code", effect), " "] for effect in study.header.effects],
    ]


def figures(key: str, group: Group) -> Iterator[Child]:
    """The cells of `FIGURES`, of trials under `key`."""
    found = group.summary
    low, high = found.interval if found.interval is not None else (None, None)
    key = f"{key}.accuracy"
    yield data(f"{key}.mean", found.mean, fine(found.mean))
    yield (
        [
            data(f"{key}.interval.0", low, fine(low)),
            " to ",
            data(f"{key}.interval.1", high, fine(high)),
        ]
        if found.interval is not None
        else "–"
    )
    yield data(f"{key}.std", found.std, fine(found.std, " points"))
    for name in ("worst", "median", "best"):
        yield data(f"{key}.{name}", getattr(found, name), fine(getattr(found, name)))


def fine(share: float | None, unit: str = " %") -> str:
    """An accuracy to a hundredth of a percent."""
    return "–" if share is None else f"{100 * share:.2f}{unit}"


def strips(studies: Sequence[Numbered], ideal: float | None) -> Markup:
    """Studies over the same samples, a strip each."""
    known = [] if ideal is None else [ideal]
    axis = plots.accuracy_axis(
        [*known, *(v for _, study in studies for v in study.groups[0].accuracies)]
    )
    rows = [
        Row(
            breakable(study.name),
            strip(study, axis, ideal),
            [data(None, mean := study.groups[0].summary.mean, fine(mean))],
        )
        for _, study in studies
    ]
    if ideal is not None:
        drawn = plots.strip(ideal_line(axis, ideal), f"ideal devices: {fine(ideal)}")
        rows.insert(0, Row("ideal devices", drawn, [data(None, ideal, fine(ideal))]))
    first = studies[0][1]
    return charts.table(
        f"Accuracy of each chip, {count(first.samples)} samples of {first.header.input}",
        ["Devices", ends(axis), "mean"],
        rows,
        kind="strips",
    )


def ends(axis: Axis) -> Markup:
    """The marks of an axis above a column of strips."""
    marks = [(axis.at(value), str(text)) for value, text in axis.marks]
    return charts.axis(marks)


def ideal_line(axis: Axis, ideal: float) -> Markup:
    """Where ideal devices are on a strip."""
    at = axis.at(ideal)
    return plots.line([(at, 0.0), (at, 1.0)], "ink", "dashed")


def strip(study: Study, axis: Axis, ideal: float | None) -> Markup:
    """A dot a trial, the mean and its interval; the accuracy of ideal devices."""
    (group, found) = study.groups[0], study.groups[0].summary
    drawn: list[Child] = []
    if found.interval is not None:
        low, high = map(axis.at, found.interval)
        drawn.append(plots.area([(low, 0.1), (low, 0.9), (high, 0.9), (high, 0.1)], "s0", "band"))
    if ideal is not None:
        drawn.append(ideal_line(axis, ideal))
    at = axis.at(found.mean)
    drawn.append(plots.line([(at, 0.1), (at, 0.9)], "s0"))
    places = [axis.at(v) for v in group.accuracies]
    aside = plots.apart(places, 0.16, 0.42)
    drawn.append(plots.dots([(x, 0.5 + y) for x, y in zip(places, aside, strict=True)], "s0"))
    return plots.strip(drawn, f"{study.name}: {in_words(group)}")


def in_words(group: Group) -> str:
    """The figures of trials in a sentence."""
    found, n = group.summary, len(group.trials)
    sure = ""
    if found.interval is not None:
        low, high = map(fine, found.interval)
        sure = f" (95 % interval {low} to {high})"
    return (
        f"{count(n)} {'trial' if n == 1 else 'trials'}, mean accuracy {fine(found.mean)}{sure}, "
        f"worst {fine(found.worst)}, best {fine(found.best)}"
    )


# How it falls with an option


def strengths(studies: Sequence[Numbered], ideal: Mapping[int, float | None]) -> Child:
    """Accuracy against an option; studies of one option and the same samples share a chart."""
    lead = (
        "How good must the devices be? The line is the mean over the chips, its band the 95 % "
        "confidence interval of that mean, a dot one chip, the dashed line ideal devices. Go "
        "along the lowest dots until they fall below the accuracy that you need."
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
        plots.frame(x, y, drawn, caption, told),
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


# Which layer suffers most


def by_layer(i: int, study: Study, ideal: float | None) -> Child:
    """Bars of the accuracy that each layer alone loses, the most first."""
    n = max(len(group.trials) for group in study.groups)
    lead = (
        "One layer at a time has these devices, all others ideal ones. The layers at the top "
        "deserve better devices, verified writing or digital hardware first. The bar is the mean "
        "loss in points of accuracy (hundredths of all samples), the thin line reaches from the "
        "least to the most that a chip lost. Losses of layers don't add up to that of all."
    )
    without = study.without if study.without is not None else ideal
    if without is None:
        said: Child = "The run without effects isn't there yet: run the same command again."
    else:
        said = [
            "Without effects the accuracy is ",
            data(f"trials.{i}.without_effects", without, fine(without)),
            f" on {count(study.samples)} samples of {study.header.input}. Devices: {study.name}; ",
            f"{count(n)} {'trial' if n == 1 else 'trials'} a layer.",
        ]
    shown_first, others = study.groups[:MOST_LAYERS], study.groups[MOST_LAYERS:]
    body: list[Child] = [tag("p", said)]
    if without is not None:
        body.append(losses(i, 0, shown_first, study, without))
        if others:
            summary = tag("summary", f"and {count(len(others))} more layers")
            body.append(
                tag("details", summary, losses(i, len(shown_first), others, study, without))
            )
    table = charts.grid(
        "Accuracy with one layer alone on these devices",
        ["Layer", "Trials", *FIGURES, "Worst seed", *STUDY],
        [
            [
                breakable(str(group.layer)),
                data(f"trials.{i}.layers.{j}.trials", len(group.trials)),
                *figures(f"trials.{i}.layers.{j}", group),
                str(group.worst_seed),
                *described(study),
            ]
            for j, group in enumerate(study.groups)
        ],
    )
    body.append(tag("details", tag("summary", "Figures"), table))
    return part("Which layer suffers most?", lead, *body)


def losses(i: int, first: int, groups: Sequence[Group], study: Study, without: float) -> Markup:
    """A bar a layer, all on the study's axis; `first` is the number of the first layer."""
    ends_of = [without - v for g in study.groups for v in (g.summary.worst, g.summary.best)]
    axis = plots.round_axis("lost", [0.0, *ends_of], factor=100, least=0.01)

    def row(j: int, group: Group) -> Row:
        found = group.summary
        lost = without - found.mean
        zero, at = axis.at(0.0), axis.at(lost)
        least, most = axis.at(without - found.best), axis.at(without - found.worst)
        drawn = [
            plots.area([(zero, 0.2), (zero, 0.8), (at, 0.8), (at, 0.2)], "s0"),
            plots.line([(zero, 0.0), (zero, 1.0)], "rest"),
            plots.line([(least, 0.5), (most, 0.5)], "ink"),
            plots.line([(least, 0.3), (least, 0.7)], "ink"),
            plots.line([(most, 0.3), (most, 0.7)], "ink"),
        ]
        label = f"{group.layer}: {points(lost)} lost; {in_words(group)}"
        figure = data(f"trials.{i}.layers.{j}.lost", lost, points(lost))
        return Row(breakable(str(group.layer)), plots.strip(drawn, label), [figure])

    return charts.table(
        f"Accuracy lost, in points: {study.name}",
        ["Layer", ends(axis), "mean"],
        [row(j, group) for j, group in enumerate(groups, first)],
        kind="strips",
    )


def points(share: float) -> str:
    """A difference of accuracies in hundredths; no `-0.00`."""
    return f"{100 * share + 0.0:.2f}".replace("-0.00", "0.00")


# What cells conduct


def programmed(run: Run, found: Conductances) -> Child:
    """What cells conduct against what they should, level by level."""
    lead = (
        "What writing and ageing leave of the conductances that were wanted: a shape a level, "
        "wide where many cells are. On the dashed line cells are as wanted. A shape that is off "
        "the line is an error that all cells share, which calibration can take away. A tall shape "
        "is a difference between cells: it needs verified writing, or fewer bits in a cell, most "
        "where shapes overlap."
    )
    grouped = any(level.level != level.to_level for level in found.levels)
    about = (
        f"{count(found.cells)} cells of {count(found.arrays)} of {count(found.arrays_in_all)} "
        f"arrays; {run.devices}; seed {run.options.seed}; wires aren't in it"
        + ("; neighbouring levels are drawn together" if grouped else "")
    )
    caption = "Conductance of cells, wanted and programmed"
    key = "run.conductances"
    head = ["Level", "Wanted", "Mean", "Mean misses by", "Standard deviation", "Cells"]
    table = charts.grid(
        "Levels in figures",
        head,
        [
            [
                level_name(level),
                microsiemens(f"{key}.levels.{i}.wanted_us", level.wanted_us),
                microsiemens(f"{key}.levels.{i}.mean_us", level.mean_us),
                microsiemens(None, level.mean_us - level.wanted_us),
                microsiemens(f"{key}.levels.{i}.std_us", level.std_us),
                data(f"{key}.levels.{i}.cells", level.cells),
            ]
            for i, level in enumerate(found.levels)
        ],
    )
    names = {"programmed cells": "s0", "their mean": "solid", "as wanted": "dash"}
    figure = tag(
        "figure",
        tag("figcaption", tag("b", caption), tag("span", about)),
        charts.legend(names),
        violins(found, caption),
    )
    return part("What do cells conduct?", lead, tag("div", figure, table, class_="pair"))


def level_name(level: Level) -> str:
    """Of a level, or of several."""
    same = level.level == level.to_level
    return str(level.level) if same else f"{level.level} to {level.to_level}"


def microsiemens(key: str | None, value: float) -> Markup:
    """A conductance, given in uS."""
    return data(key, value, f"{digits(float(f'{value:.4g}'))} µS")


def violins(found: Conductances, label: str) -> Markup:
    """Each level's histogram, upright and to both sides of what was wanted."""
    edges = found.edges_us
    wanted = [level.wanted_us for level in found.levels]
    y = plots.round_axis("programmed, µS", [edges[0], edges[-1]])
    gap = min((b - a for a, b in itertools.pairwise(wanted)), default=0.0) or y.high - y.low
    x = plots.value_axis("wanted, µS", wanted)
    x = Axis(x.name, min(wanted) - gap / 2, max(wanted) + gap / 2, x.marks)
    half = 0.45 * (x.at(wanted[0] + gap / 2) - x.at(wanted[0])) * 2
    drawn: list[Child] = []
    for level in found.levels:
        middle, most = x.at(level.wanted_us), max(level.counts, default=0) or 1
        right = [
            (middle + (max(half * n / most, HAIR) if n else 0.0), y.at(edge))
            for n, pair in zip(level.counts, itertools.pairwise(edges), strict=True)
            for edge in pair
        ]
        left = [(2 * middle - place, edge) for place, edge in reversed(right)]
        drawn.append(plots.area([*right, *left], "s0", "soft"))
    low, high = max(x.low, y.low), min(x.high, y.high)
    if low < high:
        drawn.append(plots.line([(x.at(v), y.at(v)) for v in (low, high)], "ink", "dashed"))
    for level in found.levels:
        middle, mean = x.at(level.wanted_us), y.at(level.mean_us)
        drawn.append(plots.line([(middle - half / 2, mean), (middle + half / 2, mean)], "ink"))
    told = "; ".join(
        f"level {level_name(level)}: wanted {level.wanted_us:.4g} µS, mean {level.mean_us:.4g} µS, "
        f"standard deviation {level.std_us:.3g} µS"
        for level in found.levels
    )
    return plots.frame(x, y, drawn, label, told)
