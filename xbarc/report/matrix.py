"""A layer's weight matrix before and after its rows and columns were put in order: a picture.

A point is a weight that isn't zero; where the matrix is larger than the picture, the darker the
more of them. After: rows and columns in the order in which tiles hold them first, and a frame
around each tile that stands on rows and columns of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.artifact import CompiledProgram
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.report.html import Markup, tag
from xbarc.support.errors import XbarcError, nearest

SHADES = (0.0, 0.1, 0.35, 0.7)
"""A cell of the picture gets darker above each of these shares of weights that aren't zero."""

INKS = " .:*#"
"""Characters for no weight, and for each shade."""

Shares = npt.NDArray[np.float64]
Frame = tuple[float, float, float, float]
"""Row begin and end, column begin and end, as shares of the matrix."""


@dataclass(frozen=True, eq=False)
class MatrixPicture:
    """Shares of nonzeros before and after, [height, width] each, and frames of tiles after."""

    name: str
    shape: tuple[int, int]
    nonzeros: int
    tiles: int
    before: Shares
    after: Shares
    frames: tuple[Frame, ...]

    @property
    def caption(self) -> str:
        """Name, shape and what it takes."""
        share = self.nonzeros / (self.shape[0] * self.shape[1])
        return (
            f"{self.name}: {self.shape[0]} x {self.shape[1]}, {share:.1%} of the weights aren't "
            f"zero, {self.tiles} tile{'s' * (self.tiles != 1)}"
        )


def matrix_pictures(program: CompiledProgram, layer: str | None, size: int) -> list[MatrixPicture]:
    """The pictures of all layers that can be drawn, or of one.

    Raises `XbarcError` where there is no such layer, or it has one order only.
    """
    mvms = {weights_of(op).symbol: op for op in program.module.walk() if isinstance(op, MvmOp)}
    if layer is not None and layer not in mvms:
        raise XbarcError(f"no layer {layer!r}: {nearest(layer, mvms)}")
    named = mvms if layer is None else {layer: mvms[layer]}
    found = [matrix_picture(program, op, size) for op in named.values() if drawable(op)]
    if not found:
        which = "every layer" if layer is None else f"layer {layer!r}"
        raise XbarcError(
            f"{which} has its rows and columns in their own order: compile with cluster, or with "
            "prune, after which drop-zeros runs"
        )
    return found


def drawable(op: MvmOp) -> bool:
    """Whether there is one matrix whose rows and columns were put in order."""
    return op.unroll is None and (op.rows is not None or op.columns is not None)


def matrix_picture(program: CompiledProgram, op: MvmOp, size: int) -> MatrixPicture:
    """The picture of a layer, of at most `size` cells a side."""
    weights, placed = weights_of(op), coverage_of(op, program.weights)
    k, n = op.matrix
    nonzero = np.zeros((k, n), bool)
    for g in range(weights.group_count):
        kg, ng = k // weights.group_count, n // weights.group_count
        at = slice(g * kg, g * kg + kg), slice(g * ng, g * ng + ng)
        nonzero[at] = program.weights[weights.symbol][:, at[1]] != 0
    rows = np.arange(k) if placed.rows is None else placed.rows
    columns = np.arange(n) if placed.columns is None else placed.columns
    row_order, column_order = _Order(k), _Order(n)
    frames: list[Frame] = []
    for r0, r1, c0, c1 in placed.tiles.tolist():
        r, c = row_order.add(rows[r0:r1]), column_order.add(columns[c0:c1])
        if r is not None and c is not None:
            frames.append((r[0] / k, r[1] / k, c[0] / n, c[1] / n))
    after = nonzero[row_order.all()][:, column_order.all()]
    return MatrixPicture(
        weights.symbol,
        (k, n),
        int(nonzero.sum()),
        len(placed.tiles),
        _shares(nonzero, size),
        _shares(after, size),
        tuple(frames),
    )


class _Order:
    """Rows or columns in the order in which they are met first."""

    def __init__(self, count: int) -> None:
        self.seen = np.zeros(count, bool)
        self.order: list[int] = []

    def add(self, indices: Any) -> tuple[int, int] | None:
        """Where they stand, if none of them was met before."""
        new = indices[~self.seen[indices]]
        self.seen[new] = True
        begin = len(self.order)
        self.order += new.tolist()
        return (begin, len(self.order)) if len(new) == len(indices) else None

    def all(self) -> list[int]:
        """These, and behind them all others."""
        return [*self.order, *np.flatnonzero(~self.seen).tolist()]


def _shares(nonzero: npt.NDArray[np.bool_], size: int) -> Shares:
    """The share of nonzeros in each cell of a picture."""
    k, n = nonzero.shape
    height, width = min(k, size), min(n, size)
    row, column = np.arange(k) * height // k, np.arange(n) * width // n
    by_row = np.add.reduceat(nonzero, np.searchsorted(row, np.arange(height)), 0, np.int64)
    sums = np.add.reduceat(by_row, np.searchsorted(column, np.arange(width)), 1)
    return sums / np.outer(np.bincount(row), np.bincount(column))


def shades(shares: Shares) -> npt.NDArray[np.int64]:
    """0 for no weight, else how dark: 1 to `len(SHADES)`."""
    return np.searchsorted(np.array(SHADES), shares, "left")


def text_lines(picture: MatrixPicture) -> Iterator[str]:
    """Before and after as characters, one below the other."""
    yield picture.caption
    for title, shares in (("before", picture.before), ("after", picture.after)):
        yield f"{title}:"
        edge = f"+{'-' * shares.shape[1]}+"
        yield edge
        # A line is as high as two characters are wide.
        for pair in np.array_split(shades(shares), max(1, len(shares) // 2)):
            yield f"|{''.join(INKS[shade] for shade in pair.max(0).tolist())}|"
        yield edge


def svg(picture: MatrixPicture) -> Markup:
    """Both sides for a page, coloured by its style sheet."""
    sides = [_side(picture, after=after, class_="matrix") for after in (False, True)]
    return tag("div", sides, class_="matrices")


def _side(picture: MatrixPicture, *, after: bool, **attributes: str | float) -> Markup:
    """Before or after, in an SVG of its own."""
    shares = picture.after if after else picture.before
    height, width = shares.shape
    label = f"{picture.name} {'after' if after else 'before'}"
    frames = tag("path", d=_frames(picture.frames, height, width), class_="frame")
    return tag(
        "svg",
        tag("title", label),
        tag("rect", width=width, height=height, class_="empty"),
        _paths(shares),
        frames if after and picture.frames else "",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        **attributes,
    )


def _paths(shares: Shares) -> list[Markup]:
    """A path a shade: runs of cells along a row."""
    found, made = shades(shares), []
    for shade in range(1, len(SHADES) + 1):
        mask = np.pad(found == shade, ((0, 0), (1, 1)))
        row, at = np.nonzero(mask[:, 1:] != mask[:, :-1])
        runs = zip(row[::2].tolist(), at[::2].tolist(), at[1::2].tolist(), strict=True)
        d = "".join(f"M{begin} {r}h{end - begin}v1h{begin - end}" for r, begin, end in runs)
        if d:
            made.append(tag("path", d=d, class_=f"shade{shade}"))
    return made


def _frames(frames: Sequence[Frame], height: int, width: int) -> str:
    parts = []
    for r0, r1, c0, c1 in frames:
        x, y, w, h = c0 * width, r0 * height, (c1 - c0) * width, (r1 - r0) * height
        parts.append(f"M{x:.2f} {y:.2f}h{w:.2f}v{h:.2f}h{-w:.2f}z")
    return "".join(parts)


STYLE = """
text { font: 13px sans-serif; fill: #222 }
.empty { fill: #f4f4f2; stroke: #bbb; stroke-width: .2 }
.shade1 { fill: #b9c7dd } .shade2 { fill: #86a0c8 }
.shade3 { fill: #4d72ab } .shade4 { fill: #1f4a8a }
.frame { fill: none; stroke: #c2410c; stroke-width: 1.2; vector-effect: non-scaling-stroke }
"""


def svg_file(pictures: Sequence[MatrixPicture], side: int = 440) -> Markup:
    """A whole SVG document: before and after side by side, a picture below the other."""
    gap, top = 24, 44
    width, height = 2 * side + 3 * gap, len(pictures) * (side + top + gap)
    parts = [tag("style", Markup(STYLE)), tag("rect", width=width, height=height, fill="#fff")]
    for i, picture in enumerate(pictures):
        y = i * (side + top + gap)
        parts.append(tag("text", picture.caption, x=gap, y=y + 18))
        for j, title in enumerate(("before", "after")):
            x = gap + j * (side + gap)
            place = {"x": x, "y": y + top, "width": side, "height": side}
            parts += [
                tag("text", title, x=x, y=y + 37),
                _side(picture, after=title == "after", **place),
            ]
    return tag(
        "svg",
        parts,
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
    )
