"""Sub-images: which outputs of a layer one shot gives, and from which part of its input."""

from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.artifact import CompiledProgram
from xbarc.ir.analysis.output_patches import Span, output_patches
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.report import saved
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.report.saved import Figure
from xbarc.support.units import count

HEADING = "Sub-images and windows"

MOST_LINES = 128
"""Borders drawn of an axis; beyond that only every so many."""


def section(program: CompiledProgram) -> Section | None:
    """A picture a layer that is cut in patches; none of a program without one."""
    mvms = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    cuts = [
        (weights_of(op).symbol, output_patches(op, program.weights, program.target)) for op in mvms
    ]
    known = [(name, _about(found), found) for name, found in cuts if found is not None]
    if not known:
        return None
    drawn = [(name, about, picture(found, f"{name}: {about}")) for name, about, found in known]
    figures = [_figure(*each) for each in drawn]
    several = [Figure(f"{name}: {about}", [(shown, ())]) for name, about, shown in drawn]
    link = saved.link(HEADING, saved.gallery(HEADING, several, (128, 128), columns=2))
    lead = (
        "Each picture is a layer's output, cut in the patches that one shot gives each. Filled is "
        "the window of the first: as large a part of the picture as it is of the padded input."
    )
    body = [tag("p", lead, " ", link, class_="lead"), tag("div", figures, class_="layers")]
    return Section("partition", HEADING, body)


def _about(found: Mapping[str, Any]) -> str:
    sizes = ["×".join(map(str, found[key])) for key in ("outputs", "map", "window")]
    return (
        f"{count(found['patches'])} patches of {sizes[0]} outputs on {sizes[1]}, "
        f"each from {sizes[2]} inputs"
    )


def _figure(name: str, about: str, shown: Markup) -> Markup:
    caption = tag("figcaption", tag("b", breakable(name)), tag("span", about))
    return tag("figure", caption, shown)


def picture(found: Mapping[str, Any], label: str) -> Markup:
    """The output's last two axes, the borders of the patches, and the first one's window."""
    axes = found["axes"][-2:]
    rows, columns = axes if len(axes) == 2 else (None, axes[0])
    down = rows["outputs"] if rows is not None else [(0, max(1, columns["outputs"][-1][1] // 8))]
    across = columns["outputs"]
    height, width = down[-1][1], across[-1][1]
    seen = [_share(axis, size) for axis, size in zip(axes, found["map"][-2:], strict=True)]
    high, wide = (seen[0], seen[1]) if rows is not None else ((0, height), seen[0])
    lines = "".join(f"M0 {y}h{width}" for y in _borders(down))
    lines += "".join(f"M{x} 0v{height}" for x in _borders(across))
    return tag(
        "svg",
        tag("title", label),
        tag("rect", width=width, height=height, class_="empty"),
        tag(
            "rect",
            x=f"{wide[0]:g}",
            y=f"{high[0]:g}",
            width=f"{wide[1] - wide[0]:g}",
            height=f"{high[1] - high[0]:g}",
            class_="s0",
        ),
        tag("path", d=lines, class_="cut"),
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        class_="map",
        role="img",
        aria_label=label,
    )


def _share(axis: Mapping[str, Any], size: int) -> tuple[float, float]:
    """The first window on the output, by the share of the input that all windows reach over."""
    first, last = axis["window"][0], axis["window"][-1]
    whole = max(last[1] - first[0], 1)
    return 0.0, min(size, (first[1] - first[0]) * size / whole)


def _borders(spans: Sequence[Span]) -> list[int]:
    """Where patches end but for the last, at most `MOST_LINES` of them."""
    ends = [end for _, end in spans[:-1]]
    return ends[:: -(-len(ends) // MOST_LINES) or 1]
