"""How sure is the accuracy? Each study as a strip of dots, a dot a chip."""

from collections.abc import Mapping, Sequence

from xbarc.report import charts, plots
from xbarc.report.charts import Row
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, breakable
from xbarc.report.page.devices.figures import (
    FIGURES,
    STUDY,
    Numbered,
    dashed,
    described,
    ends,
    figures,
    fine,
    in_words,
    part,
)
from xbarc.report.plots import Axis
from xbarc.report.studies import Study
from xbarc.support.units import count


def sure(studies: Sequence[Numbered], ideal: Mapping[int, float | None]) -> Child:
    """Each study as a strip of dots, those over the same samples on one axis."""
    lead = (
        "Each dot is a chip, so the spread of the dots is what you can expect of one. The thin "
        "line is their mean; the shaded range is the 95 % confidence interval of the mean over all "
        "chips, and more trials narrow it. "
        f"{dashed(ideal)} Compare the worst chip, not the mean, with the accuracy that every chip "
        "must reach."
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
        ["Devices", "", "mean"],
        rows,
        kind="strips",
        marks=ends(axis),
    )


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
