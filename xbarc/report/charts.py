"""Charts as inline SVG that stretches, with all text in HTML: it never shrinks with the picture."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from xbarc.report import saved
from xbarc.report.figures import words
from xbarc.report.html import Child, Markup, name_length, tag
from xbarc.report.saved import Row

__all__ = ["Row"]

WIDTH = 1000
"""Units across a bar; it takes whatever width there is."""

COLORS = 7
"""Components with a colour of their own; the others share one."""

LEAST = 3.0
"""No bar is thinner: what there is can be seen."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a bar: its length, its colour (`s0` ..), what it is."""

    value: float
    color: str
    title: str


def bar(segments: Iterable[Segment], whole: float, label: str) -> Markup:
    """Stacked segments of a bar that is `whole` long."""
    rects, x = [], 0.0
    for segment in segments:
        width = _scaled(segment.value, whole)
        if width > 0:
            rects.append(_rect(x, width, segment.color, segment.title))
            x += width
    return _strip(rects, label)


@dataclass(frozen=True)
class Span:
    """A stretch of time: its colour, what it is, and the lane (of `lanes`) that it runs in."""

    start: float
    finish: float
    color: str
    title: str
    lane: int = 0
    lanes: int = 1


def spans(found: Sequence[Span], whole: float, label: str) -> Markup:
    """Stretches on an axis that is `whole` long; what takes no time isn't drawn."""
    rects = []
    for span in found:
        if span.finish > span.start:
            x = min(_scaled(span.start, whole), WIDTH - LEAST)
            width = max(_scaled(span.finish - span.start, whole), LEAST)
            high = 10 / span.lanes
            rects.append(_rect(x, width, span.color, span.title, span.lane * high, high))
    return _strip(rects, label)


def _scaled(value: float, whole: float) -> float:
    return WIDTH * value / whole if whole > 0 else 0.0


def _rect(
    x: float, width: float, color: str, title: str, y: float = 0, height: float = 10
) -> Markup:
    return tag(
        "rect",
        tag("title", title),
        x=_short(x),
        y=_short(y) if y else None,
        width=_short(width),
        height=_short(height),
        class_=color,
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _strip(rects: Sequence[Markup], label: str) -> Markup:
    return tag(
        "svg",
        rects,
        viewBox=f"0 0 {WIDTH} 10",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=label,
    )


def colors(weights: Mapping[str, float]) -> dict[str, str]:
    """A colour for each name, the heaviest first; all beyond `COLORS` share `rest`."""
    ranked = sorted(weights, key=lambda name: -weights[name])
    return {name: f"s{i}" if i < COLORS else "rest" for i, name in enumerate(ranked)}


def legend(names: Mapping[str, str]) -> Markup:
    """What the colours mean: {text: colour}."""
    items = [tag("li", tag("i", class_=f"key {color}"), name) for name, color in names.items()]
    return tag("ul", items, class_="legend")


def families(colors: Mapping[str, str]) -> dict[str, str]:
    """What the colours of components mean; those of one family are named together."""
    found: dict[str, list[str]] = {}
    for name, color in colors.items():
        found.setdefault(color, []).append(words(name))
    return {", ".join(names): color for color, names in found.items()}


def component_legend(colors: Mapping[str, str]) -> Markup:
    """The colours of components."""
    return legend(families(colors))


def ticks(whole: float, most: int = 5) -> list[float]:
    """Round values from 0 up to `whole`, at most `most` steps."""
    if whole <= 0:
        return [0.0]
    rough = whole / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [i * step for i in range(int(whole / step * 1.0001) + 1)]


Marks = Sequence[tuple[float, str]]
"""Labels at shares (0 to 1) of an axis."""


def axis(labels: Marks) -> Markup:
    """The labels of an axis above its bars."""
    marks = [
        tag(
            "span",
            label,
            style=f"left:{100 * at:.2f}%",
            class_="last" if at > 0.85 else None,
        )
        for at, label in labels
    ]
    return tag("div", marks, class_="axis", aria_hidden="true")


def table(
    caption: str,
    head: Sequence[Child],
    rows: Iterable[Row],
    *,
    foot: Row | None = None,
    kind: str = "",
    step: float | None = None,
    marks: Marks = (),
    key: Mapping[str, str] = MappingProxyType({}),
) -> Markup:
    """A chart that is a table: name, bar, figures. `head` has as many entries as a row.

    `step`: the share of the axis between two lines of its grid; `marks`: the labels of the axis.
    `key`: what the colours mean, {text: colour}, for the file that the chart is saved as.
    """
    rows = list(rows)
    link = saved.link(caption, saved.table(caption, head, rows, foot, marks, key)) if rows else ""
    if marks:
        head = [head[0], axis(marks), *head[2:]]
    longest = max((name_length(row.name) for row in rows), default=0)

    def line(row: Row) -> Markup:
        return tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", row.bar, class_="plot"),
            [tag("td", figure, class_="n") for figure in row.figures],
        )

    columns = [
        tag("th", entry, scope="col", class_="plot" if i == 1 else "n" if i > 1 else None)
        for i, entry in enumerate(head)
    ]
    return tag(
        "table",
        tag("caption", caption, " ", link),
        tag("thead", tag("tr", columns)),
        tag("tbody", [line(row) for row in rows]),
        tag("tfoot", line(foot)) if foot else "",
        class_=f"chart {kind}".strip(),
        style=f"--name:{longest + 1}ch" + (f";--step:{100 * step:.3f}%" if step else ""),
    )


def grid(
    caption: str,
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    numbers: int = 1,
    words: Collection[int] = (),
) -> Markup:
    """A plain table in a frame that scrolls sideways.

    Columns from `numbers` on are figures, but for those of `words`.
    """

    def kind(i: int) -> str | None:
        return "n" if i >= numbers and i not in words else None

    rows = list(rows)
    longest = max((name_length(row[0]) for row in rows), default=0)
    body = [
        tag(
            "tr",
            tag("th", first, scope="row"),
            [tag("td", cell, class_="w" if i in words else None) for i, cell in enumerate(rest, 1)],
        )
        for first, *rest in rows
    ]
    inner = tag(
        "table",
        tag("caption", caption),
        tag(
            "thead",
            tag("tr", [tag("th", h, scope="col", class_=kind(i)) for i, h in enumerate(head)]),
        ),
        tag("tbody", body),
        class_=f"grid n{numbers}",
        style=f"--name:{longest + 1}ch",
    )
    # Focusable, so that it scrolls without a mouse.
    return tag("div", inner, class_="scroll", role="region", tabindex=0, aria_label=caption)
