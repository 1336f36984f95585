"""Which layer suffers most? The accuracy that each layer alone loses."""

from collections.abc import Sequence

from xbarc.report import charts, plots
from xbarc.report.charts import Row
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, breakable, tag
from xbarc.report.page.devices.figures import (
    FIGURES,
    STUDY,
    described,
    ends,
    figures,
    fine,
    in_words,
    part,
)
from xbarc.report.studies import Group, Study
from xbarc.support.units import count

MOST_LAYERS = 20
"""Layers that are shown at once, the most lost first; the others can be unfolded."""


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
            f"{count(n)} {'trial' if n == 1 else 'trials'} a layer. One sample is "
            f"{points(1 / study.samples)} points: smaller differences mean nothing.",
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
        f"Accuracy lost, in points: {study.name}{', further layers' * (first > 0)}",
        ["Layer", "", "mean"],
        [row(j, group) for j, group in enumerate(groups, first)],
        kind="strips",
        marks=ends(axis),
    )


def points(share: float) -> str:
    """A difference of accuracies in hundredths; no `-0.00`."""
    return f"{100 * share + 0.0:.2f}".replace("-0.00", "0.00")
