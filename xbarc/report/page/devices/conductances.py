"""What do cells conduct? Each level's histogram beside what was wanted."""

import itertools
from collections.abc import Mapping

from xbarc.artifact.runs import Conductances, Level, Run
from xbarc.report import charts, plots
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, tag
from xbarc.report.page.devices.figures import part
from xbarc.report.plots import Axis
from xbarc.support.units import count, digits

HAIR = 0.003
"""No part of a shape is narrower, as a share of the plot: a few stuck cells can be seen."""


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
        violins(found, caption, names),
    )
    return part("What do cells conduct?", lead, tag("div", figure, table, class_="pair"))


def level_name(level: Level) -> str:
    """Of a level, or of several."""
    same = level.level == level.to_level
    return str(level.level) if same else f"{level.level} to {level.to_level}"


def microsiemens(key: str | None, value: float) -> Markup:
    """A conductance, given in uS."""
    return data(key, value, f"{digits(float(f'{value:.4g}'))} µS")


def violins(found: Conductances, label: str, key: Mapping[str, str]) -> Markup:
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
    return plots.frame(x, y, drawn, label, told, key)
