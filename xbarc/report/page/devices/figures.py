"""What every picture of trials says: its heading, its figures, how the study came to be."""

from collections.abc import Iterator, Mapping

from xbarc.report.charts import Marks
from xbarc.report.figures import data
from xbarc.report.html import Child, tag
from xbarc.report.plots import Axis
from xbarc.report.studies import Group, Study
from xbarc.support.units import count

Numbered = tuple[int, Study]
"""A study and its number on the page, which `data-key` has: `trials.0.accuracy.mean`."""

FIGURES = ("Mean", "95 % interval", "Standard deviation", "Worst", "Median", "Best")
"""What is told of trials, as `accuracy` of `xbarc run --trials --json`."""


def part(heading: str, lead: str, *body: Child) -> list[Child]:
    """A picture with its heading, and what it is for."""
    return [tag("h3", heading), tag("p", lead, class_="lead"), *body]


def dashed(ideal: Mapping[int, float | None]) -> str:
    """What the dashed line is, or how to get one where no study has one."""
    if any(accuracy is not None for accuracy in ideal.values()):
        return "The dashed line is the same network on ideal devices."
    return "A run with --noise none over the same samples adds what ideal devices reach."


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


def ends(axis: Axis) -> Marks:
    """The marks of an axis above a column of strips."""
    return [(axis.at(value), str(text)) for value, text in axis.marks]
