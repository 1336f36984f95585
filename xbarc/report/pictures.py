"""Pictures for slides, by matplotlib (extra `plot`): SVG and PNG files of a sweep."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from xbarc.report.sweep import lines_of

if TYPE_CHECKING:
    from xbarc.driver.sweep import Axis, Swept

SIZE = (7.0, 4.2)
"""Inches."""

STYLE: Any = {
    "svg.hashsalt": "xbarc",  # the same file each time
    "svg.fonttype": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}


def sweep_pictures(found: "Swept") -> Iterator[tuple[str, bytes]]:
    """File names and contents: accuracy along each axis, and against energy."""
    if all(point.accuracy is None for point in found.points):
        return
    with mpl.rc_context(STYLE):
        for axis in found.axes:
            if len(axis.values) > 1:
                yield from _files(f"accuracy-{axis.key}", _along(found, axis))
        yield from _files("accuracy-energy", _energy(found))


def _files(name: str, figure: Figure) -> Iterator[tuple[str, bytes]]:
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=200, metadata=metadata)
        yield f"{name.replace('/', '-')}.{kind}", content.getvalue()


def _along(found: "Swept", axis: "Axis") -> Figure:
    figure, plot = _empty(found)
    numbers = all(isinstance(value, int | float) for value in axis.values)
    for name, points in lines_of(found, axis).items():
        places = [p.settings[axis.key] if numbers else str(p.settings[axis.key]) for p in points]
        heights = [100 * (p.accuracy or 0.0) for p in points]
        plot.plot(places, heights, "o-" if numbers else "o", label=name or None)
    plot.set_xlabel(axis.key)
    if numbers and all(isinstance(value, int) for value in axis.values) and len(axis.values) < 16:
        plot.set_xticks(axis.values)
    _legend(plot)
    return figure


def _energy(found: "Swept") -> Figure:
    from xbarc.driver.sweep import pareto

    figure, plot = _empty(found)
    points = [p for p in found.points if p.accuracy is not None]
    plot.plot(
        [p.energy_uj for p in points], [100 * (p.accuracy or 0) for p in points], "o", alpha=0.5
    )
    best = sorted((found.points[i] for i in pareto(found.points)), key=lambda p: p.energy_uj or 0.0)
    front = [(p.energy_uj, 100 * (p.accuracy or 0.0)) for p in best]
    plot.plot([x for x, _ in front], [y for _, y in front], "o-", label="Pareto front")
    for point, place in zip(best, front, strict=True):
        varied = [str(point.settings[axis.key]) for axis in found.axes if len(axis.values) > 1]
        plot.annotate(", ".join(varied), place, (6, -12), textcoords="offset points", fontsize=8)
    plot.set_xlabel("energy of one input in a stream, µJ")
    _legend(plot)
    return figure


def _empty(found: "Swept") -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE)
    plot = figure.subplots()
    plot.set_ylabel(f"accuracy, % ({found.samples} samples)")
    plot.set_title(found.title)
    exact = found.float_figures.get("accuracy")
    if exact is not None:
        plot.axhline(100 * exact, color="0.3", linestyle="--", label="float")
    return figure, plot


def _legend(plot: Any) -> None:
    if plot.get_legend_handles_labels()[1]:
        plot.legend()
