"""Charts as files: SVG that stands alone, with its title, its texts and its colours.

The page holds each file as a `data:` link, so a chart is saved without a script and without a
network. Texts are texts, and shapes are plain paths: what draws slides can open and change them.
"""

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xbarc.report.html import Child, Markup, join, plain, tag
from xbarc.report.redraw import Box, looks, palette, redraw, shapes

FONT = "system-ui, Segoe UI, Noto Sans, Liberation Sans, sans-serif"
TEXT, SMALL, TITLE = 13.0, 11.5, 16.0
"""Sizes of text in pixels."""

LETTER = 0.58
"""Mean width of a letter, as a share of the size of its text; no file can measure its font."""

EDGE, GAP, LINE = 16.0, 14.0, 20.0
"""Pixels around a picture, between columns, and from one line of text to the next."""

BAR, PLOT = (420.0, 12.0), (560.0, 300.0)
"""Width and height of a bar and of a plot."""


MOST_ROWS = 250
"""Rows of a chart, and figures of a gallery, in a file: it is for slides and papers."""


@dataclass(frozen=True)
class Row:
    """A line of a chart: its name, its bar, its figures."""

    name: Child
    bar: Child
    figures: Sequence[Child]


def link(name: str, file: Markup) -> Markup:
    """A link that saves `file`."""
    called = re.sub(r"[^\w.-]+", "-", name.lower()).strip("-")[:80] or "chart"
    # In a text a quote is written &quot;, so all others stand around attributes; a single one may
    # stay in a link, as what else is safe in one. The rest is written as %XX.
    content = urllib.parse.quote(file.replace('"', "'"), safe=" '=:/;,()!*?@+-._~$^|")
    about = tag("a", "SVG", download=f"{called}.svg", class_="save", title=f"Save {called}.svg")
    return Markup(about.replace("<a", f'<a href="data:image/svg+xml;charset=utf-8,{content}"', 1))


def file(title: str, width: float, height: float, *content: Child, about: str = "") -> Markup:
    """A whole SVG file: `content` below its title, on white."""
    ground = tag("rect", width=f"{width:g}", height=f"{height:g}", fill=palette()["card"])
    head = written(EDGE, EDGE + TITLE * 0.8, title, size=TITLE, weight="600")
    return tag(
        "svg",
        tag("title", title),
        tag("desc", about) if about else "",
        ground,
        head,
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        font_family=FONT,
        font_size=f"{TEXT:g}",
        fill=palette()["ink"],
    )


def written(
    x: float,
    y: float,
    content: Child,
    *,
    anchor: str = "start",
    size: float | None = None,
    color: str | None = None,
    weight: str | None = None,
) -> Markup:
    """A line of text, as those around it but for what is given.

    `anchor` says which end of it stands at `x`.
    """
    return tag(
        "text",
        plain(content),
        x=f"{x:.5g}",
        y=f"{y:.5g}",
        font_size=size and f"{size:g}",
        text_anchor=None if anchor == "start" else anchor,
        fill=color and palette()[color],
        font_weight=weight,
    )


def width_of(content: Child, size: float = TEXT) -> float:
    """About how wide a text is, in pixels."""
    return len(plain(content)) * size * LETTER


def legend(key: Mapping[str, str], x: float, y: float, width: float) -> tuple[list[Child], float]:
    """What the colours mean, in lines that are `width` wide at most; and the height of them."""
    drawn: list[Child] = []
    left, line = x, y
    for name, color in key.items():
        wide = 18 + width_of(name, SMALL) + GAP
        if left > x and left + wide > x + width:
            left, line = x, line + LINE
        drawn += [_swatch(color, left, line), written(left + 18, line + 10, name, size=SMALL)]
        left += wide
    return drawn, (line + LINE - y if key else 0.0)


def _swatch(color: str, x: float, y: float) -> Markup:
    if color in ("dash", "solid"):
        broken = "5 4" if color == "dash" else None
        ink = palette()["ink"]
        return tag(
            "path", d=f"M{x:g} {y + 6:g}h13", stroke=ink, stroke_width=2, stroke_dasharray=broken
        )
    fill = color if color.startswith("#") else looks(color).get("fill", palette()["ink"])
    return tag("rect", x=f"{x:g}", y=f"{y:g}", width=11, height=11, rx=2, fill=fill)


def pictures(child: Child) -> list[Markup]:
    """The `svg` elements in a child."""
    return [Markup(m) for m in re.findall(r"<svg .*?</svg>", join(child), re.DOTALL)]


def table(
    title: str,
    head: Sequence[Child],
    rows: Sequence[Row],
    foot: Row | None,
    marks: Sequence[tuple[float, str]],
    key: Mapping[str, str],
) -> Markup:
    """A chart that is a table: a line a row, names left of the bars, figures right of them."""
    more = [Row(name, "", [""] * (len(head) - 2)) for name in _more(len(rows))]
    every = [*rows[:MOST_ROWS], *more, *([foot] if foot else [])]
    names = max(width_of(entry) for entry in [head[0], *(r.name for r in every)]) + GAP
    figures = [
        max(width_of(c) for c in [title_of, *column]) + GAP
        for title_of, *column in zip(
            head[2:], *(map(_first_line, r.figures) for r in every), strict=True
        )
    ]
    left = EDGE + names
    right = left + BAR[0]
    ends = [right + sum(figures[: i + 1]) for i in range(len(figures))]
    width = max((ends[-1] if ends else right) + EDGE, width_of(title, TITLE) + 2 * EDGE)
    explained, high = legend(key, EDGE, EDGE + 1.6 * TITLE, width - 2 * EDGE)
    y = EDGE + 1.6 * TITLE + high + LINE
    drawn: list[Child] = [explained]
    drawn += _heads(head, left, right, ends, y, marks)
    top = y + 0.4 * LINE
    moved: list[tuple[str, Mapping[str, str]]] = []
    told: list[Child] = []
    y = top
    for row in every:
        bars = pictures(row.bar)
        high = max(LINE, len(bars) * (BAR[1] + 4) + 4)
        drawn.append(written(EDGE, y + high / 2 + 4, row.name))
        each = (high - 4) / max(len(bars), 1)
        for i, bar in enumerate(bars):
            tall = min(each, LINE - 4) if len(bars) == 1 else each - 3
            moved += redraw(bar, Box(left, y + 2 + i * each + (each - tall) / 2, BAR[0], tall))
        for end, column in zip(ends, row.figures, strict=True):
            told += _lines(column, end, y, high)
        y += high
    drawn.append(tag("g", told, text_anchor="end"))
    lines = [
        tag(
            "path",
            d=f"M{left + at * BAR[0]:.1f} {top:g}V{y:g}",
            stroke=palette()["line"],
        )
        for at, _ in marks
    ]
    return file(title, round(width), round(y + EDGE), lines, list(shapes(moved)), drawn)


def _more(count: int) -> list[str]:
    """What stands in place of what is left out, if anything is."""
    return [f"and {count - MOST_ROWS} more"] if count > MOST_ROWS else []


def _heads(
    head: Sequence[Child],
    left: float,
    right: float,
    ends: Sequence[float],
    y: float,
    marks: Sequence[tuple[float, str]],
) -> Iterator[Markup]:
    """The line above a chart: what its columns are, and its axis."""
    yield _muted(EDGE, y, head[0])
    for end, name in zip(ends, head[2:], strict=True):
        yield _muted(end, y, name, "end")
    for at, name in marks:
        yield _muted(left + at * (right - left), y, name, "end" if at > 0.9 else "start")


def _muted(x: float, y: float, content: Child, anchor: str = "start") -> Markup:
    return written(x, y, content, anchor=anchor, size=SMALL, color="muted")


def _parts(figure: Child) -> list[str]:
    """The lines of a figure: one a division in it."""
    found = re.findall(r"<div>(.*?)</div>", join(figure))
    return [plain(Markup(part)) for part in found] or [plain(figure)]


def _first_line(figure: Child) -> str:
    return max(_parts(figure), key=len)


def _lines(figure: Child, end: float, y: float, high: float) -> Iterator[Markup]:
    parts = _parts(figure)
    each = high / len(parts)
    for i, part in enumerate(parts):
        if part:
            yield written(end, y + (i + 0.5) * each + 4, part)


def graph(title: str, rows: Sequence[Row], width: float, key: Mapping[str, str]) -> Markup:
    """Pictures one upon the other, `width` wide, with a text beside each."""
    texts = max((width_of(row.name) for row in rows), default=0.0)
    whole = max(2 * EDGE + width + GAP + texts, width_of(title, TITLE) + 2 * EDGE)
    explained, high = legend(key, EDGE, EDGE + 1.6 * TITLE, whole - 2 * EDGE)
    top = EDGE + 1.6 * TITLE + high + 8
    moved: list[tuple[str, Mapping[str, str]]] = []
    drawn: list[Child] = [explained]
    for i, row in enumerate(rows):
        y = top + i * LINE
        for each in pictures(row.bar):
            moved += redraw(each, Box(EDGE, y, width, LINE))
        drawn.append(written(EDGE + width + GAP, y + LINE / 2 + 4, row.name))
    # Marks above all lines.
    moved.sort(key=lambda shape: "stroke" not in shape[1])
    height = top + len(rows) * LINE + EDGE
    return file(title, round(whole), round(height), list(shapes(moved)), drawn)


Side = tuple[str, Sequence[tuple[float, Child]]]
"""An axis: its name, and its marks at shares of it."""


def plot(
    title: str, about: str, picture: Markup, x: Side, y: Side, key: Mapping[str, str]
) -> Markup:
    """A plot between its axes."""
    left = EDGE + max((width_of(text, SMALL) for _, text in y[1]), default=0.0) + 8
    width = max(left + PLOT[0] + 2 * EDGE, width_of(title, TITLE) + 2 * EDGE)
    explained, high = legend(key, EDGE, EDGE + 1.6 * TITLE, width - 2 * EDGE)
    top = EDGE + 1.6 * TITLE + high + LINE
    box = Box(left, top, *PLOT)
    bottom = top + PLOT[1]
    drawn: list[Child] = [_muted(EDGE, top - 10, y[0])]
    drawn += [_muted(left - 6, bottom - at * PLOT[1] + 4, text, "end") for at, text in y[1]]
    drawn += [_muted(left + at * PLOT[0], bottom + 16, text, "middle") for at, text in x[1]]
    drawn.append(_muted(left + PLOT[0] / 2, bottom + 36, x[0], "middle"))
    content: list[Child] = [list(shapes(redraw(picture, box))), drawn, explained]
    return file(title, round(width), round(bottom + 36 + EDGE), content, about=about)


def picture(title: str, drawn: Markup, size: tuple[float, float], key: Mapping[str, str]) -> Markup:
    """A picture by itself, and below it what its colours mean."""
    width = max(size[0], 420.0, width_of(title, TITLE)) + 2 * EDGE
    top = EDGE + 1.6 * TITLE
    explained, high = legend(key, EDGE, top + size[1] + GAP, width - 2 * EDGE)
    content = list(shapes(redraw(drawn, Box(EDGE, top, *size))))
    return file(title, round(width), round(top + size[1] + GAP + high + EDGE), content, explained)


@dataclass(frozen=True)
class Figure:
    """A picture of a gallery: its caption, and pictures side by side with lines below each."""

    caption: str
    parts: Sequence[tuple[Markup, Sequence[str]]]


def gallery(
    title: str,
    figures: Iterable[Figure],
    size: tuple[float, float],
    *,
    columns: int = 4,
    key: Mapping[str, str] | None = None,
) -> Markup:
    """Figures in rows of `columns`; each of their pictures is `size` large."""
    figures = list(figures)
    more = [Figure(name, ()) for name in _more(len(figures))]
    figures = [*figures[:MOST_ROWS], *more]
    columns = max(1, min(columns, len(figures)))
    below = max((len(lines) for f in figures for _, lines in f.parts), default=0)
    each = max(
        (
            max(
                width_of(f.caption, SMALL),
                sum(
                    max([size[0], *(width_of(n, SMALL) for n in lines)]) + 8 for _, lines in f.parts
                ),
            )
            for f in figures
        ),
        default=0.0,
    )
    wide = each + 2 * GAP
    width = max(2 * EDGE + columns * wide, width_of(title, TITLE) + 2 * EDGE)
    explained, high = legend(key or {}, EDGE, EDGE + 1.6 * TITLE, width - 2 * EDGE)
    tall = LINE + size[1] + (below + 0.8) * 0.8 * LINE
    top = EDGE + 1.6 * TITLE + high + 8
    drawn: list[Child] = [explained]
    told: list[Child] = []
    moved: list[tuple[str, Mapping[str, str]]] = []
    for i, figure in enumerate(figures):
        x, y = EDGE + i % columns * wide, top + i // columns * tall
        told.append(written(x, y + 11, figure.caption, color="ink"))
        for picture, lines in figure.parts:
            moved += redraw(picture, Box(x, y + LINE, *size))
            frame = {"fill": "none", "stroke": palette()["rest"]}
            moved.append((f"M{x:g} {y + LINE:g}h{size[0]:g}v{size[1]:g}h{-size[0]:g}z", frame))
            for j, line in enumerate(lines):
                told.append(written(x, y + LINE + size[1] + (j + 0.9) * 0.8 * LINE, line))
            x += max([size[0], *(width_of(n, SMALL) for n in lines)]) + 8
    drawn.append(tag("g", told, font_size=f"{SMALL:g}", fill=palette()["muted"]))
    height = top + -(-len(figures) // columns) * tall
    return file(title, round(width), round(height + EDGE), list(shapes(moved)), drawn)
