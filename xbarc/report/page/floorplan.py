"""The floor plan: which layers stand on which nodes of the mesh."""

from collections.abc import Sequence
from dataclasses import dataclass

from xbarc.artifact import CompiledProgram
from xbarc.cost.time import placed
from xbarc.hw.mesh import Mesh, Range
from xbarc.ir.analysis.stages import homes, stages_of
from xbarc.ir.dialect import ranges_of
from xbarc.report import charts
from xbarc.report.figures import count, data
from xbarc.report.html import Markup, Section, breakable, tag

VIRIDIS = ("440154", "3b528b", "21918c", "5ec962", "fde725")
"""A scale that reads in order, in grey and to the colour-blind too (van der Walt, Smith 2015)."""

MARGIN = 0.06
"""Space around a node, in nodes."""


def scale(share: float) -> str:
    """A colour for 0 .. 1."""
    position = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    i = min(int(position), len(VIRIDIS) - 2)
    low, high = ([int(VIRIDIS[k][c : c + 2], 16) for c in (0, 2, 4)] for k in (i, i + 1))
    mixed = (round(a + (b - a) * (position - i)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{v:02x}" for v in mixed)


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
    colors = [scale(i / max(len(layers) - 1, 1)) for i in range(len(layers))]
    rows, columns = mesh.shape
    chips = f", {mesh.chips} chips" if mesh.chips > 1 else ""
    lead = (
        f"{how}A mesh of {rows} × {columns} nodes{chips}; a node has {mesh.node_crossbars} "
        "crossbars, and is filled from below as far as they are in use. Colours run from the "
        "first layer to the last."
    )
    ends = tag(
        "p",
        tag("span", breakable(layers[0].name)),
        tag("span", breakable(layers[-1].name)),
        class_="ramp-ends",
    )
    drawn = tag("div", ramp(), ends, plan(mesh, layers, colors))
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
    body = [tag("p", lead, class_="lead"), tag("div", drawn, table, class_="pair")]
    return Section("floorplan", "Floor plan", body)


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


def plan(mesh: Mesh, layers: Sequence[Placed], colors: Sequence[str]) -> Markup:
    """The mesh, a square a node; in it the layers' crossbars, one upon the other."""
    rows, columns = mesh.shape
    places = mesh.positions.tolist()
    side = 1 - 2 * MARGIN
    outlines = "".join(
        f"M{c + MARGIN:g} {r + MARGIN:g}h{side:g}v{side:g}h-{side:g}z" for r, c in places
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
        tag("path", d=f"M{c} 0v{rows}", class_="edge")
        for c in range(mesh.width, columns, mesh.width)
    ]
    borders += [
        tag("path", d=f"M0 {r}h{columns}", class_="edge")
        for r in range(mesh.height, rows, mesh.height)
    ]
    return tag(
        "svg",
        paths,
        tag("path", d=outlines, class_="node"),
        borders,
        viewBox=f"0 0 {columns} {rows}",
        class_="mesh",
        role="img",
        aria_label=f"floor plan of {len(layers)} layers on {rows} by {columns} nodes",
    )
