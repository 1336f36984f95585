"""Which layer stands on which core of which node: `xbarc inspect --floorplan`."""

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xbarc.artifact import CompiledProgram
from xbarc.cost.time import placed
from xbarc.hw.mesh import Mesh, Range, path
from xbarc.ir.analysis.stages import homes, stages_of
from xbarc.ir.dialect import copies_of, ranges_of

WIDTH = 80
"""Columns that a drawing fits into."""

CORES_DRAWN = 4096
"""Up to so many cores each is drawn by itself; above that nodes are."""

SHADES = " ░▒▓█"
"""A node's crossbars in use: none, up to a quarter, ... up to all."""


def floorplan(program: CompiledProgram) -> dict[str, Any]:
    """The mesh, where each layer stands, and what stands on each node that is in use.

    `{"target", "placed", "mesh": {"chips", "nodes", ...}, "layers": [{"name", "copies",
    "crossbars", "ranges": [[node, core, crossbar, count]]}], "floorplan": [{"node", "chip", "row",
    "column", "used", "utilization", "layers": [{"name", "crossbars"}], "cores": [[layer index,
    crossbars], ...]}]}`: nodes by number, `row` and `column` within the chip, `cores` what stands
    on each core, largest share first (-1 and 0 where it is empty). A program that wasn't placed
    (`placed`: false) is shown in program order. Raises `XbarcError` where it doesn't fit the
    target's chips.
    """
    stages = stages_of(program.module)
    mesh, ranges = placed(stages, program.target)
    merged: dict[str, dict[str, Any]] = {}
    own = homes(stages)
    for index, found in ranges.items():
        if own[index] != index:
            continue  # on another's crossbars
        name = stages[index].name
        layer = merged.setdefault(
            name,
            {"name": name, "copies": copies_of(stages[index].op), "crossbars": 0, "ranges": []},
        )
        layer["crossbars"] += sum(count for *_, count in found)
        layer["ranges"] += [list(r) for r in found]
    layers = list(merged.values())
    return {
        "target": program.target.name,
        "placed": bool(ranges) and all(ranges_of(stages[i].op) for i in ranges),
        "mesh": {
            "chips": mesh.chips,
            "nodes": mesh.nodes,
            "cores": mesh.cores,
            "crossbars": mesh.crossbars,
            "width": mesh.width,
            "height": mesh.height,
            "band": mesh.band,
        },
        "layers": layers,
        "floorplan": list(_nodes(mesh, layers)),
    }


def _nodes(mesh: Mesh, layers: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The nodes in use, by number."""
    cores = _cores(mesh, layers)
    chip_rows, chip_columns = mesh.height, mesh.width
    for node in sorted({core // mesh.cores for core in cores}):
        mine = [cores.get(node * mesh.cores + c, {}) for c in range(mesh.cores)]
        total: dict[int, int] = {}
        for core in mine:
            for layer, count in core.items():
                total[layer] = total.get(layer, 0) + count
        used, (row, column) = sum(total.values()), mesh.positions[node].tolist()
        yield {
            "node": node,
            "chip": node // mesh.nodes,
            "row": row % chip_rows,
            "column": column % chip_columns,
            "used": used,
            "utilization": used / mesh.node_crossbars,
            "layers": [{"name": layers[i]["name"], "crossbars": n} for i, n in total.items()],
            "cores": [[_largest(core), sum(core.values())] for core in mine],
        }


def _largest(core: Mapping[int, int]) -> int:
    """The layer with most crossbars, of equals the first; -1 where there is none."""
    return max(sorted(core), key=core.__getitem__, default=-1)


def _cores(mesh: Mesh, layers: Sequence[Mapping[str, Any]]) -> dict[int, dict[int, int]]:
    """Crossbars of each layer (by its index) on each core in use, cores counted along the path."""
    cores: dict[int, dict[int, int]] = {}
    for index, layer in enumerate(layers):
        for r in layer["ranges"]:
            first, counts = _per_core(mesh, r)
            for core, count in enumerate(counts.tolist(), first):
                shares = cores.setdefault(core, {})
                shares[index] = shares.get(index, 0) + count
    return cores


def _per_core(mesh: Mesh, r: Range) -> tuple[int, Any]:
    """The first core of a range, and the crossbars on it and those after it."""
    begin = mesh.number(*r[:3])
    end, first = begin + r[3], begin // mesh.crossbars
    edges = np.arange(first, (end - 1) // mesh.crossbars + 2) * mesh.crossbars
    return first, np.diff(np.clip(edges, begin, end))


# --- Drawing ------------------------------------------------------------------------------------


def symbols(count: int) -> list[str]:
    """A name for each layer in the drawing: a letter, or two signs where letters run out."""
    letters, digits = string.ascii_uppercase, string.digits
    if count <= len(letters):
        return list(letters[:count])
    seconds = digits if count <= len(letters) * len(digits) else digits + string.ascii_letters
    many = [a + b for a in letters for b in seconds]
    return [many[i % len(many)] for i in range(count)]


def draw(document: Mapping[str, Any], width: int = WIDTH) -> list[str]:
    """The floor plan as lines of at most `width` columns."""
    mesh, nodes = _drawn(document)
    names = symbols(len(document["layers"]))
    letters = max(map(len, names), default=1)
    core_columns = math.ceil(math.sqrt(mesh["cores"]))
    by_core = (
        len(nodes) * mesh["cores"] <= CORES_DRAWN
        and mesh["width"] * (core_columns * letters + 1) <= width
    )
    lines = [_headline(document)]
    for chip in range(mesh["chips"]):
        here = {(n["row"], n["column"]): n for n in nodes if n["chip"] == chip}
        if not here:
            continue
        lines += ["", f"chip {chip}"] if mesh["chips"] > 1 else [""]
        if by_core:
            lines += _draw_cores(mesh, here, names, letters, core_columns)
        else:
            lines += _draw_nodes(mesh, here, document, names, letters, width)
    return [*lines, "", *_legend(document, names, by_core)]


def _drawn(document: Mapping[str, Any]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The mesh and its nodes as they are drawn: chips of one node are the nodes of one mesh."""
    mesh, nodes = document["mesh"], document["floorplan"]
    if mesh["nodes"] > 1 or mesh["chips"] == 1:
        return mesh, nodes
    width = Mesh(mesh["chips"], 1, 1, 1, 1).chips_wide
    places = path(mesh["chips"], width, 1).tolist()
    moved = [
        {**n, "chip": 0, "row": places[n["chip"]][0], "column": places[n["chip"]][1]} for n in nodes
    ]
    return {**mesh, "nodes": mesh["chips"], "chips": 1, "width": width}, moved


def _headline(document: Mapping[str, Any]) -> str:
    mesh, nodes = document["mesh"], document["floorplan"]
    used = sum(n["used"] for n in nodes)
    capacity = mesh["chips"] * mesh["nodes"] * mesh["cores"] * mesh["crossbars"]
    how = "" if document["placed"] else "; not placed: in program order"
    return (
        f"{document['target']}: {used} of {capacity} crossbars on {len(nodes)} of "
        f"{mesh['chips'] * mesh['nodes']} nodes{how}"
    )


def _height(here: Mapping[tuple[int, int], Any]) -> int:
    """Rows of the mesh down to the last one in use."""
    return max(row for row, _ in here) + 1


def _draw_cores(
    mesh: Mapping[str, int],
    here: Mapping[tuple[int, int], Mapping[str, Any]],
    names: Sequence[str],
    letters: int,
    core_columns: int,
) -> Iterator[str]:
    """A block of cores a node: upper case a full core, lower case a part of one."""
    core_rows = math.ceil(mesh["cores"] / core_columns)
    for row in range(_height(here)):
        if row:
            yield ""
        for line in range(core_rows):
            first = line * core_columns
            count = min(core_columns, mesh["cores"] - first)
            blocks = []
            for column in range(mesh["width"]):
                node = here.get((row, column))
                cores = node["cores"][first : first + count] if node else [[-1, 0]] * count
                block = "".join(_core(c, names, letters, mesh["crossbars"]) for c in cores)
                blocks.append(block.ljust(core_columns * letters))
            yield " ".join(blocks).rstrip()


def _core(core: Sequence[int], names: Sequence[str], letters: int, crossbars: int) -> str:
    layer, used = core
    if layer < 0:
        return "·" * letters
    name = names[layer]
    return name if used == crossbars else name[0].lower() + name[1:]


def _draw_nodes(
    mesh: Mapping[str, int],
    here: Mapping[tuple[int, int], Mapping[str, Any]],
    document: Mapping[str, Any],
    names: Sequence[str],
    letters: int,
    width: int,
) -> Iterator[str]:
    """A node, or a square of nodes where the mesh is wide: its largest layer, a shade of use."""
    index = {layer["name"]: i for i, layer in enumerate(document["layers"])}
    cell = letters + 2
    side = math.ceil(mesh["width"] * cell / width)
    if side > 1:
        yield f"a square of {side} x {side} nodes each"
    for top in range(0, _height(here), side):
        line = []
        for left in range(0, mesh["width"], side):
            places = [(r, c) for r in range(top, top + side) for c in range(left, left + side)]
            found = [here[p] for p in places if p in here]
            exist = sum(
                r * mesh["width"] + c < mesh["nodes"] and c < mesh["width"] for r, c in places
            )
            shares: dict[str, int] = {}
            for node in found:
                for share in node["layers"]:
                    shares[share["name"]] = shares.get(share["name"], 0) + share["crossbars"]
            if not shares:
                line.append(("·" if exist else " ") * letters + " ")
                continue
            full = exist * mesh["cores"] * mesh["crossbars"]
            shade = SHADES[math.ceil(4 * sum(shares.values()) / full)]
            line.append(names[index[max(shares, key=shares.__getitem__)]] + shade)
        yield " ".join(line).rstrip()


def _legend(document: Mapping[str, Any], names: Sequence[str], by_core: bool) -> Iterator[str]:
    mesh = document["mesh"]
    if by_core:
        yield (
            f"a block is a node of {mesh['cores']} cores; upper case: all {mesh['crossbars']} "
            "crossbars of a core"
        )
        yield "in use, lower case: some, the letter of the largest; ·: none"
    else:
        yield "the largest layer of each node; ░▒▓█: crossbars in use, by quarters; ·: none"
    yield "from and to: node.core.crossbar"
    yield ""
    longest = max((len(layer["name"]) for layer in document["layers"]), default=0)
    wide = min(longest, WIDTH - 48)
    for name, layer in zip(names, document["layers"], strict=True):
        # The end of a long name tells layers apart.
        text = layer["name"] if len(layer["name"]) <= wide else "…" + layer["name"][1 - wide :]
        first = ".".join(map(str, layer["ranges"][0][:3]))
        last = ".".join(map(str, _last(mesh, layer["ranges"][-1])))
        copies = f" x {layer['copies']} copies" if layer["copies"] > 1 else ""
        yield f"{name:<2} {text:<{wide}}  {layer['crossbars']:>6}  {first} - {last}{copies}"


def _last(mesh: Mapping[str, int], r: Sequence[int]) -> tuple[int, int, int]:
    """Node, core and crossbar of a range's last crossbar."""
    size = mesh["cores"] * mesh["crossbars"]
    number = r[0] * size + r[1] * mesh["crossbars"] + r[2] + r[3] - 1
    node, rest = divmod(number, size)
    return node, *divmod(rest, mesh["crossbars"])
