"""The page of a sweep: accuracy against what varies, accuracy against energy, every point."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xbarc.report import charts, plots
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, Section, page, tag
from xbarc.support.units import count, digits, percent

if TYPE_CHECKING:
    from xbarc.artifact.sweeps import Point, Setting
    from xbarc.driver.sweep import Axis, Swept

HEADS = {
    "accuracy": "Accuracy",
    "psnr_db": "PSNR",
    "snr_db": "SNR",
    "energy_uj": "Energy",
    "area_mm2": "Area",
    "latency_us": "Latency",
    "throughput_ips": "Inputs/s",
    "crossbars": "Crossbars",
}


def sweep_page(found: "Swept", document: Mapping[str, Any]) -> Markup:
    """The page."""
    sections = [Section("points", "Points", table(found, document))]
    if any(point.accuracy is not None for point in found.points):
        drawn = [against_energy(found), *(against(found, axis) for axis in found.axes)]
        sections.insert(0, Section("plots", "Accuracy", tag("div", drawn, class_="pair")))
    keys = ", ".join(axis.key for axis in found.axes)
    lead = f"{count(len(found.points))} points of {keys}"
    if found.samples is not None:
        lead += f"; accuracy over {count(found.samples)} samples"
    if (exact := found.float_figures.get("accuracy")) is not None:
        lead += f", {percent(exact)} in float"
    head = tag(
        "header",
        tag("p", "xbarc sweep", class_="kind"),
        tag("h1", found.title),
        tag("p", lead + ".", class_="lead"),
    )
    body = [tag("section", tag("h2", s.heading), s.body, id=s.anchor) for s in sections]
    return page(f"xbarc sweep: {found.model}", [head, tag("main", body)])


def table(found: "Swept", document: Mapping[str, Any]) -> Markup:
    """A row a point."""
    keys = [axis.key for axis in found.axes]
    shown = [key for key in HEADS if any(key in point for point in document["points"])]

    def row(i: int, point: Mapping[str, Any]) -> Sequence[Child]:
        told = point.get("error") or ("on the front" if point["pareto"] else "")
        figures = [data(f"points.{i}.{key}", point.get(key)) for key in shown]
        return [*(str(point["settings"][key]) for key in keys), *figures, told]

    caption = "On the front: no other point is as accurate for less energy"
    rows = [row(i, point) for i, point in enumerate(document["points"])]
    numbers = [all(isinstance(v, int | float) for v in axis.values) for axis in found.axes]
    texts = [i for i, number in enumerate(numbers) if not number] + [len(keys) + len(shown)]
    return charts.grid(caption, [*keys, *(HEADS[key] for key in shown), ""], rows, words=texts)


def lines_of(found: "Swept", axis: "Axis") -> dict[str, list["Point"]]:
    """Points with an accuracy along an axis: a line for each setting of the others, by its name."""
    others = [other.key for other in found.axes if other.key != axis.key and len(other.values) > 1]
    lines: dict[str, list[Point]] = {}
    for point in found.points:
        if point.accuracy is not None:
            name = ", ".join(f"{key}={point.settings[key]}" for key in others)
            lines.setdefault(name, []).append(point)
    return lines


def against(found: "Swept", axis: "Axis") -> Markup:
    """Accuracy along an axis, a line for each setting of the others."""
    lines = lines_of(found, axis)
    known = [value for value in axis.values if isinstance(value, int | float)]
    joined = len(known) == len(axis.values)
    x = plots.value_axis(axis.key, known) if joined else words(axis)
    y = _accuracies(found)
    colors = charts.colors(dict.fromkeys(lines, 0.0))
    drawn: list[Child] = [_float_line(found, y)]
    for name, points in lines.items():
        places = [(x.at(_place(axis, p)), y.at(p.accuracy or 0.0)) for p in points]
        if joined:
            drawn.append(plots.line(sorted(places), colors[name]))
        drawn.append(plots.dots(places, colors[name]))
    return _figure(found, f"Accuracy against {axis.key}", x, y, drawn, colors)


def words(axis: "Axis") -> plots.Axis:
    """Values that aren't all numbers, side by side."""
    return plots.word_axis(axis.key, [str(value) for value in axis.values])


def _place(axis: "Axis", point: "Point") -> float:
    value: Setting = point.settings[axis.key]
    numbers = all(isinstance(v, int | float) for v in axis.values)
    return float(value) if numbers else float(axis.values.index(value))


def against_energy(found: "Swept") -> Markup:
    """Accuracy against energy, a dot a point, and the front."""
    from xbarc.driver.sweep import pareto

    points = [p for p in found.points if p.accuracy is not None and p.energy_uj is not None]
    x = plots.value_axis(
        "energy of one input in a stream, µJ", sorted({p.energy_uj or 0.0 for p in points})
    )
    y = _accuracies(found)
    front = [found.points[i] for i in sorted(pareto(found.points))]
    others = [p for p in points if p not in front]
    best = sorted((x.at(p.energy_uj or 0.0), y.at(p.accuracy or 0.0)) for p in front)
    drawn: list[Child] = [
        _float_line(found, y),
        plots.dots([(x.at(p.energy_uj or 0.0), y.at(p.accuracy or 0.0)) for p in others], "s1"),
        plots.line(best, "s0"),
        plots.dots(best, "s0"),
    ]
    colors = {"on the front": "s0", "other points": "s1"}
    return _figure(found, "Accuracy against energy", x, y, drawn, colors)


def _accuracies(found: "Swept") -> plots.Axis:
    known = [point.accuracy for point in found.points if point.accuracy is not None]
    exact = found.float_figures.get("accuracy")
    return plots.accuracy_axis([*known, *([] if exact is None else [exact])])


def _float_line(found: "Swept", y: plots.Axis) -> Child:
    exact = found.float_figures.get("accuracy")
    if exact is None:
        return ""
    return plots.line([(0.0, y.at(exact)), (1.0, y.at(exact))], "ink", "dashed")


def _figure(
    found: "Swept",
    caption: str,
    x: plots.Axis,
    y: plots.Axis,
    drawn: Sequence[Child],
    colors: Mapping[str, str],
) -> Markup:
    names = {name: color for name, color in colors.items() if name}
    if found.float_figures.get("accuracy") is not None:
        names["float"] = "dash"
    told = "; ".join(
        f"{', '.join(f'{k}={v}' for k, v in point.settings.items())}: "
        f"{percent(point.accuracy)}, {digits(point.energy_uj or 0.0)} µJ"
        for point in found.points
        if point.accuracy is not None
    )
    return tag(
        "figure",
        tag("figcaption", tag("b", caption)),
        charts.legend(names) if names else "",
        plots.frame(x, y, drawn, caption, told, names),
    )
