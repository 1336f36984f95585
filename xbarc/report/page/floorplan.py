"""The floor plan: which layers stand on which nodes of the mesh."""

from collections.abc import Sequence
from dataclasses import dataclass

from xbarc.artifact import CompiledProgram
from xbarc.cost.time import placed
from xbarc.hw.mesh import Mesh, Range
from xbarc.ir.analysis.stages import homes, stages_of
from xbarc.ir.dialect import ranges_of
from xbarc.report import charts, saved
from xbarc.report.figures import data
from xbarc.report.html import Markup, Section, breakable, tag
from xbarc.support.units import count

VIRIDIS = ("440154", "3b528b", "21918c", "5ec962", "fde725")
"""A scale that reads in order, in grey and to the colour-blind too (van der Walt, Smith 2015)."""

NODE_REM = 11
"""No node is drawn wider, in rem."""

MARGIN = 0.06
"""Space around a node, in nodes."""


def scale(share: float) -> str:
    """A colour for 0 .. 1."""
    position = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    i = min(int(position), len(VIRIDIS) - 2)
    low, high = ([int(VIRIDIS[k][c : c + 2], 16) for c in (0, 2, 4)] for k in (i, i + 1))
    mixed = (round(a + (b - a) * (position - i)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{v:02x}" for v in mixed)


Box = tuple[int, int, int, int]
"""A part of the mesh: its first row and column of nodes, how many of each."""


@dataclass(frozen=True)
class Placed:
    """A layer on the mesh: the nodes it stands on, and its crossbars on each."""

    name: str
    nodes: Sequence[int]
    crossbars: Sequence[int]


def section(program: CompiledProgram) -> Section | None:
    """The floor plan; none of a program without a layer."""
    stages = stages_of(program.module)
    mesh, ranges = placed(stages, program.target)
    if not ranges:
        return None
    by_layer: dict[str, list[Range]] = {}
    home = homes(stages)
    for index, found in ranges.items():
        if home[index] == index:  # else on another's crossbars
            by_layer.setdefault(stages[index].name, []).extend(found)
    layers = []
    for name, found in by_layer.items():
        nodes, counts = mesh.load(found)
        layers.append(Placed(name, nodes.tolist(), counts.tolist()))
    own = all(ranges_of(stages[index].op) for index in ranges)
    how = "" if own else "The program isn't placed: layers stand in their order. "
    box = crop(mesh, layers)
    colors = [scale(i / max(len(layers) - 1, 1)) for i in range(len(layers))]
    rows, columns = mesh.shape
    chips = f", {mesh.chips} chips" if mesh.chips > 1 else ""
    part = ""
    if box != (0, 0, rows, columns):
        top, left, high, wide = box
        part = (
            f" Drawn: {_range('row', top, high)}, {_range('column', left, wide)}; no node beside "
        )
        part += "these is in use."
    lead = (
        f"{how}A mesh of {rows} × {columns} nodes{chips}; a node has {mesh.node_crossbars} "
        f"crossbars, and is filled from below as far as they are in use.{part} Colours run from "
        "the first layer to the last."
    )
    ends = tag(
        "p",
        tag("span", breakable(layers[0].name)),
        tag("span", breakable(layers[-1].name)),
        class_="ramp-ends",
    )
    picture = plan(mesh, layers, colors, box)
    drawn = tag("div", ramp(), ends, picture)
    key = {layer.name: color for layer, color in zip(layers, colors, strict=True)}
    link = saved.link("Floor plan", saved.picture("Floor plan", picture, mesh_size(box), key))
    table = charts.grid(
        "Where each layer stands",
        ["Layer", "Crossbars", "Nodes", "From node", "To node"],
        [
            [
                [swatch(color), breakable(layer.name)],
                data(f"floorplan.{i}.crossbars", sum(layer.crossbars)),
                count(len(layer.nodes)),
                str(min(layer.nodes)),
                str(max(layer.nodes)),
            ]
            for i, (layer, color) in enumerate(zip(layers, colors, strict=True))
        ],
    )
    body = [tag("p", lead, " ", link, class_="lead"), tag("div", drawn, table, class_="pair")]
    return Section("floorplan", "Floor plan", body)


def mesh_size(box: Box) -> tuple[float, float]:
    """Pixels of the plan in a file of its own."""
    node = min(96.0, 800 / box[3])
    return node * box[3], node * box[2]


def _range(what: str, first: int, many: int) -> str:
    """Rows or columns of the mesh, numbered from 0."""
    return f"{what} {first}" if many == 1 else f"{what}s {first} to {first + many - 1}"


def swatch(color: str) -> Markup:
    """A small square of a colour."""
    return tag("i", class_="key", style=f"background:{color}")


def ramp() -> Markup:
    """The scale of colours from first to last."""
    steps = 40
    rects = [
        tag("rect", x=i, width=1.05, height=1, fill=scale(i / (steps - 1))) for i in range(steps)
    ]
    return tag(
        "svg",
        rects,
        viewBox=f"0 0 {steps} 1",
        preserveAspectRatio="none",
        class_="ramp",
        role="img",
        aria_label="scale of colours from the first layer to the last",
    )


def crop(mesh: Mesh, layers: Sequence[Placed]) -> Box:
    """The smallest part of the mesh with all nodes in use."""
    used = mesh.positions[sorted({node for layer in layers for node in layer.nodes})]
    (top, left), (bottom, right) = used.min(axis=0).tolist(), used.max(axis=0).tolist()
    return top, left, bottom - top + 1, right - left + 1


def plan(mesh: Mesh, layers: Sequence[Placed], colors: Sequence[str], box: Box) -> Markup:
    """A part of the mesh, a square a node; in it the layers' crossbars, one upon the other."""
    top, left, rows, columns = box
    places = mesh.positions.tolist()
    side = 1 - 2 * MARGIN
    outlines = "".join(
        f"M{c + MARGIN:g} {r + MARGIN:g}h{side:g}v{side:g}h-{side:g}z"
        for r, c in places
        if top <= r < top + rows and left <= c < left + columns
    )
    filled: dict[int, float] = {}
    paths = []
    for layer, color in zip(layers, colors, strict=True):
        path = ""
        for node, crossbars in zip(layer.nodes, layer.crossbars, strict=True):
            height, below = side * crossbars / mesh.node_crossbars, filled.get(node, 0.0)
            r, c = places[node]
            path += (
                f"M{c + MARGIN:g} {r + 1 - MARGIN - below:.3f}h{side:g}v-{height:.3f}h-{side:g}z"
            )
            filled[node] = below + height
        about = f"{layer.name}: {sum(layer.crossbars)} crossbars on {len(layer.nodes)} nodes"
        paths.append(tag("path", tag("title", about), d=path, fill=color))
    borders = [
        tag("path", d=f"M{c} {top}v{rows}", class_="edge")
        for c in range(mesh.width, mesh.shape[1], mesh.width)
        if left < c < left + columns
    ]
    borders += [
        tag("path", d=f"M{left} {r}h{columns}", class_="edge")
        for r in range(mesh.height, mesh.shape[0], mesh.height)
        if top < r < top + rows
    ]
    return tag(
        "svg",
        paths,
        tag("path", d=outlines, class_="node"),
        borders,
        viewBox=f"{left} {top} {columns} {rows}",
        class_="mesh",
        style=f"max-width:{min(columns * NODE_REM, 44)}rem",
        role="img",
        aria_label=f"floor plan of {len(layers)} layers, {rows} by {columns} nodes",
    )
