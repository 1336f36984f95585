"""Occupancy: how tiles fill crossbars, as the distinct shapes of each layer's tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xbarc.artifact import CompiledProgram
from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect import MvmOp, Tiles, weights_of
from xbarc.report import saved
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.report.saved import Figure
from xbarc.support.units import count, percent

MOST_SHAPES = 6
"""Shapes of tiles drawn for a layer; the others are counted."""

MOST_BLOCKS = 256
"""Blocks of a diagonal that are drawn one by one."""

Rectangle = tuple[int, int, int, int]
"""Row begin and end, column begin and end."""


def section(program: CompiledProgram) -> Section:
    """How each layer's tiles fill crossbars."""
    array = program.target.array
    mvms = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    lead = (
        f"Each picture is a crossbar of {array.rows} rows × {array.cols} columns; filled is what "
        "holds weights. Tiles that look alike are drawn once."
    )
    drawn = [filled(op, array) for op in mvms]
    link = saved.link(
        "Occupancy of the crossbars",
        saved.gallery("Occupancy of the crossbars", [figure for _, figure in drawn], (64, 64)),
    )
    figures = tag("div", [shown for shown, _ in drawn], class_="layers")
    body = [tag("p", lead, " ", link, class_="lead"), figures]
    return Section("occupancy", "Occupancy of the crossbars", body)


def filled(op: MvmOp, array: CrossbarArray) -> tuple[Markup, Figure]:
    """A layer's distinct tiles, and the same for a file."""
    weights = weights_of(op)
    bits, found = weights.weight_bits, shapes(op)
    each = array.crossbars_per_tile(bits)
    tiles = [tile(shape, array, bits) for shape in found[:MOST_SHAPES]]
    pictures = [tag("li", picture, [tag(*part) for part in told]) for picture, told in tiles]
    others = found[MOST_SHAPES:]
    if others:
        left = sum(shape.count for shape in others)
        pictures.append(tag("li", f"and {count(left)} tiles of {count(len(others))} more shapes"))
    total = sum(shape.count for shape in found)
    k, n = weights.matrix
    about = f"{k} × {n}, {count(total)} tile{'s' * (total != 1)}"
    about += f", {each} crossbars a tile" if each > 1 else ""
    shown = tag(
        "figure",
        tag("figcaption", tag("b", breakable(weights.symbol)), tag("span", about)),
        tag("ul", pictures),
    )
    parts = [(picture, [text for _, text in told]) for picture, told in tiles]
    return shown, Figure(f"{weights.symbol}: {about}", parts)


def tile(
    shape: "Shape", array: CrossbarArray, bits: int
) -> tuple[Markup, Sequence[tuple[str, str]]]:
    """One shape, and what stands below it: an element's name and its text each."""
    columns = shape.cols * array.columns_per_weight(bits)
    share = percent(shape.occupied(array, bits))
    size = f"{shape.rows * array.rows_per_weight} × {columns}"
    label = f"{count(shape.count)} tiles of {size} cells, {share} of the crossbar"
    told = [("b", f"{count(shape.count)} ×"), ("span", size), ("span", share)]
    return picture(shape, array, bits, label), told


@dataclass(frozen=True)
class Shape:
    """Tiles that look alike: how many, their rows and weight columns, and where they hold weights.

    `blocks`: rectangles of rows and weight columns, counted from the tile's corner.
    """

    count: int
    rows: int
    cols: int
    blocks: tuple[Rectangle, ...]

    def occupied(self, array: CrossbarArray, weight_bits: int) -> float:
        """Share of a crossbar's cells that hold weights."""
        held = sum((r1 - r0) * (c1 - c0) for r0, r1, c0, c1 in self.blocks)
        cells = array.rows_per_weight * array.columns_per_weight(weight_bits)
        return held * cells / (array.rows * array.cols)


def shapes(op: MvmOp) -> list[Shape]:
    """The distinct shapes of an mvm's tiles, the most frequent first, of these the largest."""
    weights = weights_of(op)
    (k, n), groups = weights.matrix, weights.group_count
    found, counts = np.unique(signatures(op.tiles(), k, n, groups), axis=0, return_counts=True)
    order = np.lexsort((-found[:, 1], -found[:, 0], -counts))
    return [
        Shape(count, signature[0], signature[1], _blocks(signature, k // groups, n // groups))
        for count, signature in zip(counts[order].tolist(), found[order].tolist(), strict=True)
    ]


def signatures(tiles: Tiles, k: int, n: int, groups: int) -> Tiles:
    """[T, 6]: what makes tiles of a `k` x `n` matrix look alike.

    Rows, columns, and 1, 0, 0, 0 for a tile within one block of a block-diagonal matrix; else 0 and
    where the tile begins in the blocks' pattern: row, column, by how many blocks the row is ahead.
    """
    kg, ng = k // groups, n // groups
    r0, r1, c0, c1 = tiles.T
    first = r0 // kg
    whole = (first == (r1 - 1) // kg) & (first == c0 // ng) & (first == (c1 - 1) // ng)
    place = np.stack([r0 % kg, c0 % ng, first - c0 // ng])
    return np.stack([r1 - r0, c1 - c0, whole, *np.where(whole, 0, place)], axis=1)


def _blocks(signature: Sequence[int], kg: int, ng: int) -> tuple[Rectangle, ...]:
    """Where a tile of that signature holds weights, for blocks of kg x ng."""
    rows, cols, whole, row, col, ahead = signature
    if whole:
        return ((0, rows, 0, cols),)
    blocks = []
    for g in range(-(-(row + rows) // kg)):
        r0, r1 = max(g * kg - row, 0), min((g + 1) * kg - row, rows)
        c0, c1 = max((g + ahead) * ng - col, 0), min((g + ahead + 1) * ng - col, cols)
        if r0 < r1 and c0 < c1:
            blocks.append((r0, r1, c0, c1))
    return tuple(blocks)


def picture(shape: Shape, array: CrossbarArray, weight_bits: int, label: str) -> Markup:
    """A crossbar, and the cells of it that hold weights."""
    per_weight, high = array.columns_per_weight(weight_bits), array.rows_per_weight
    blocks = shape.blocks
    if len(blocks) > MOST_BLOCKS:
        step = -(-len(blocks) // MOST_BLOCKS)
        parts = [blocks[i : i + step] for i in range(0, len(blocks), step)]
        blocks = tuple((p[0][0], p[-1][1], p[0][2], p[-1][3]) for p in parts)
    path = "".join(
        f"M{c0 * per_weight} {r0 * high}h{(c1 - c0) * per_weight}v{(r1 - r0) * high}"
        f"h{(c0 - c1) * per_weight}z"
        for r0, r1, c0, c1 in blocks
    )
    return tag(
        "svg",
        tag("title", label),
        tag("rect", width=array.cols, height=array.rows, class_="empty"),
        tag("path", d=path, class_="s0"),
        viewBox=f"0 0 {array.cols} {array.rows}",
        preserveAspectRatio="none",
        class_="array",
        role="img",
        aria_label=label,
    )
