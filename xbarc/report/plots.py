"""Plots with axes: SVG that stretches with its frame, beside text in HTML, which doesn't.

Dots are strokes without length: they stay round and keep their size however the picture stretches.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xbarc.report import saved
from xbarc.report.charts import WIDTH
from xbarc.report.html import Child, Markup, name_length, tag
from xbarc.support.units import digits

DECADES = 1000
"""Numbers above 0 that differ by this factor stand on a logarithmic axis."""

CROWDED = 0.1
"""Share of an axis that a mark needs for its text."""

MARGIN = 0.06
"""Share of the values' span that is free at both ends, for dots aside."""

Point = tuple[float, float]
"""Shares (0 to 1) of both axes."""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with marks: values and their texts. `name` has the unit."""

    name: str
    low: float
    high: float
    marks: Sequence[tuple[float, Child]]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, as a share of the axis; what lies beyond is at its end."""
        if self.logarithmic:
            low, high, value = math.log(self.low), math.log(self.high), math.log(value)
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)


def round_axis(
    name: str, values: Iterable[float], *, factor: float = 1, unit: str = "", least: float = 1e-9
) -> Axis:
    """An axis around values that begins and ends at a round number; at least `least` long.

    Its marks are `factor` times the values, with a unit.
    """
    values = list(values)
    low, high = min(values), max(values)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    marks = [(i * step, f"{factor * i * step:.6g}{unit}") for i in range(first, last + 1)]
    return Axis(name, first * step, last * step, marks)


def accuracy_axis(accuracies: Iterable[float]) -> Axis:
    """The axis of accuracies from 0 to 1, in percent; never beyond 0 and 100 %."""
    found = round_axis("accuracy", accuracies, factor=100, unit=" %", least=0.01)
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    marks = [(v, text) for v, text in found.marks if low - 1e-9 <= v <= high + 1e-9]
    return Axis(found.name, low, high, marks)


def value_axis(name: str, values: Sequence[float]) -> Axis:
    """An axis with a mark at each value that has room for one."""
    low, high = min(values), max(values)
    many_decades = len(values) > 2 and low > 0 and high / low >= DECADES
    if many_decades:
        reach = (high / low) ** MARGIN
        axis = Axis(f"{name} (logarithmic axis)", low / reach, high * reach, [], logarithmic=True)
    else:
        reach = MARGIN * (high - low) or abs(low) or 1.0
        axis = Axis(name, low - reach, high + reach, [])
    marks: list[tuple[float, Child]] = []
    for value in sorted(values):
        if not marks or axis.at(value) - axis.at(marks[-1][0]) >= CROWDED:
            marks.append((value, digits(value)))
    return Axis(axis.name, axis.low, axis.high, marks, axis.logarithmic)


def word_axis(name: str, words: Sequence[str]) -> Axis:
    """Words side by side, at 0, 1, 2 ..."""
    return Axis(name, -0.5, len(words) - 0.5, list(enumerate(words)))


def frame(
    x: Axis, y: Axis, drawn: Child, label: str, about: str, key: Mapping[str, str] | None = None
) -> Markup:
    """A plot: what is drawn, on a grid, between its axes. `about`: the same in words.

    `key`: what the colours mean, {text: colour}, for the file that the plot is saved as.
    """
    longest = max((name_length(text) for _, text in y.marks), default=0)
    lines = [f"M0 {_down(y.at(v))}h{WIDTH}" for v, _ in y.marks]
    picture = tag(
        "svg",
        tag("desc", about),
        tag("path", d="".join(lines), class_="lines"),
        drawn,
        viewBox=f"0 0 {WIDTH} {WIDTH}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
    wide = f"max-width:{100 / max(len(x.marks), 1):.1f}%"
    across, down = ((side.name, [(side.at(v), text) for v, text in side.marks]) for side in (x, y))
    link = saved.link(label, saved.plot(label, about, picture, across, down, key or {}))
    return tag(
        "div",
        tag("span", y.name, " ", link, class_="y-name"),
        tag(
            "div",
            [tag("span", text, style=f"bottom:{100 * y.at(v):.2f}%") for v, text in y.marks],
            class_="y-marks",
            aria_hidden="true",
        ),
        picture,
        tag(
            "div",
            [tag("span", text, style=f"left:{100 * x.at(v):.2f}%;{wide}") for v, text in x.marks],
            class_="x-marks",
            aria_hidden="true",
        ),
        tag("span", x.name, class_="x-name"),
        class_="xy",
        style=f"--y:{longest + 1}ch",
    )


def strip(drawn: Child, label: str) -> Markup:
    """A plot one line high, with an axis only across."""
    return tag(
        "svg",
        drawn,
        viewBox=f"0 0 {WIDTH} {WIDTH}",
        preserveAspectRatio="none",
        class_="strip",
        role="img",
        aria_label=label,
    )


def dots(points: Iterable[Point], color: str) -> Markup:
    """A dot at each point, in the colour `color` (`s0` ..)."""
    places = dict.fromkeys(f"M{_across(x)} {_down(y)}h0" for x, y in points)
    return tag("path", d="".join(places), class_=f"dots line-{color}")


def line(points: Sequence[Point], color: str, kind: str = "") -> Markup:
    """A line through points; `kind` "dashed" is broken."""
    path = "L".join(f"{_across(x)} {_down(y)}" for x, y in points)
    return tag("path", d=f"M{path}", class_=f"line line-{color} {kind}".strip())


def area(points: Sequence[Point], color: str, kind: str = "") -> Markup:
    """What is within a line around; `kind` "band" lets through what lies below."""
    path = "L".join(f"{_across(x)} {_down(y)}" for x, y in points)
    return tag("path", d=f"M{path}z", class_=f"{color} {kind}".strip())


def apart(places: Sequence[float], pitch: float, reach: float, near: float = 0.008) -> list[float]:
    """How far aside each dot goes so that none hides another: 0, then to both sides in turn.

    Dots whose `places` are within `near` are beside each other, `pitch` apart, nearer where they
    would reach further than `reach`.
    """
    crowds: list[list[int]] = []
    for i in sorted(range(len(places)), key=lambda i: (places[i], i)):
        if crowds and places[i] - places[crowds[-1][0]] <= near:
            crowds[-1].append(i)
        else:
            crowds.append([i])
    most = max(map(len, crowds), default=1)
    pitch = min(pitch, reach / max(most // 2, 1))
    found = [0.0] * len(places)
    for crowd in crowds:
        for turn, i in enumerate(crowd):
            found[i] = (turn + 1) // 2 * pitch * (1 if turn % 2 else -1)
    return found


def _across(share: float) -> str:
    return f"{WIDTH * share:.1f}".removesuffix(".0")


def _down(share: float) -> str:
    return _across(1 - share)
