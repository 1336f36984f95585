"""`xbarc inspect`."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import completion, options
from xbarc.cli.output import console, number, print_json, shown, table
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

SPANS_SHOWN = 9
"""Begins and ends that are printed of an axis; --json has all."""

SVG_CELLS = 256
"""Cells of a matrix's side in an SVG file."""

WIDTH, HEIGHT = 72, 36
"""Columns and lines that a drawing fits into; beyond that several outputs are one character."""


EXAMPLES = (
    "xbarc inspect model.xbar",
    "xbarc inspect model.xbar --layer conv1 --tiles",
    "xbarc inspect model.xbar --matrix --svg matrices.svg",
    "xbarc inspect model.xbar --onnx annotated.onnx",
)


def command(
    program: options.ProgramPath,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Only this layer.",
            autocompletion=completion.layers,
        ),
    ] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="List the tiles.")] = False,
    floorplan: Annotated[
        bool, typer.Option("--floorplan", help="Draw which layer stands on which core.")
    ] = False,
    matrix: Annotated[
        bool,
        typer.Option("--matrix", help="Draw the weight matrices before and after clustering."),
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="With --matrix: draw them to an SVG file."),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="FILE",
            help="Write the network as ONNX, each node with where it runs, for Netron.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show how each layer stands on crossbars, and which columns collapse to an exact product."""
    if onnx is not None:
        if layer or tiles or floorplan or matrix or svg is not None or as_json:
            raise UsageError("--onnx writes the whole network: leave out the other options")
        _write_onnx(program, onnx)
        return
    if svg is not None and not matrix:
        raise UsageError("--svg is where --matrix draws: give both")
    if matrix:
        if floorplan or tiles or as_json:
            raise UsageError("--matrix draws: leave out --floorplan, --tiles and --json")
        _draw_matrices(program, layer, svg)
        return
    if floorplan:
        if layer is not None or tiles:
            raise UsageError("--floorplan shows all layers: leave out --layer and --tiles")
        _print_floorplan(program, as_json=as_json)
        return
    from xbarc.api import load
    from xbarc.report.inspect import inspect

    document = inspect(load(program), layer, with_tiles=tiles)
    if as_json:
        print_json(document)
        return
    _print_layers(shown(document), with_choices=layer is not None)


def _print_floorplan(program: Path, *, as_json: bool) -> None:
    from xbarc.api import load
    from xbarc.report.floorplan import draw, floorplan

    found = floorplan(load(program))
    if as_json:
        print_json(found)
    else:
        print("\n".join(draw(shown(found))))


def _write_onnx(program: Path, output: Path) -> None:
    from xbarc.api import load
    from xbarc.report.annotated import write_annotated

    for file in write_annotated(load(program), output):
        print(file)


def _draw_matrices(program: Path, layer: str | None, svg: Path | None) -> None:
    """The matrices of all layers whose rows or columns were put in order, or of one."""
    from xbarc.api import load
    from xbarc.report.html import write_page
    from xbarc.report.matrix import matrix_pictures, svg_file, text_lines

    found = matrix_pictures(load(program), layer, WIDTH if svg is None else SVG_CELLS)
    if svg is not None:
        write_page(svg, svg_file(found))
        print(svg)
        return
    for picture in found:
        print("\n".join(text_lines(picture)))


def _print_layers(document: Mapping[str, Any], *, with_choices: bool) -> None:
    """A row a layer; below, where they were asked for, what was chosen from, and the tiles."""
    out, layers = console(), document["layers"]
    out.print(_layers(layers))
    if document["blocks"]:
        out.print("\nsqueeze-and-excitation")
        out.print(_blocks(document["blocks"]))
    for row in layers:
        if with_choices and "choice" in row:
            choice = row["choice"]
            out.print(_choice(choice))
            for scheme, reason in _refused(choice):
                out.print(f"{scheme} is out: {reason}")
    for row in layers:
        if "tile_list" in row:
            out.print(f"\n{row['name']}: rows [begin, end), weight columns [begin, end)")
            for r0, r1, c0, c1 in row["tile_list"]:
                out.print(f"  rows {r0:>6} {r1:>6}   columns {c0:>6} {c1:>6}")
    for row in layers:
        if "patches" in row:
            out.print("\n".join(["", row["name"], *_partition_lines(row["partition"])]))
    out.print(
        "\nxbars: crossbars; cells: of one weight; in: type of the input codes, z: the code of 0\n"
        "collapsed: physical columns whose sums provably can't reach the converters' limit, "
        "computed as one exact integer product"
    )


def _layers(layers: Sequence[Mapping[str, Any]]) -> "Table":
    made = table(
        "layer", "op", "mapping", "matrix", "groups", "tiles", "xbars", "cells", "in", "collapsed"
    )
    for row in layers:
        made.add_row(
            row["name"],
            row["op"],
            row["mapping"],
            f"{row['matrix'][0]}x{row['matrix'][1]}",
            str(row["groups"]),
            number(row["tiles"]),
            number(row["crossbars"]),
            str(row["slices"] * row["polarities"]),
            row["inputs"] + (f" z {row['zero_point']}" if row["zero_point"] else ""),
            f"{row['collapsed']:.1%}",
        )
    return made


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> "Table":
    """A row a squeeze-and-excitation block."""
    made = table("layers", "channels", "pool", "activation", "gate", "scale", "tiles", "xbars")
    for block in blocks:
        behind = block["scale"]["behind"]
        made.add_row(
            " + ".join(block["layers"]),
            f"{block['channels']}-{block['squeezed']}-{block['channels']}",
            block["pool"]["on"],
            block["activation"],
            block["gate"],
            "digital" if behind is None else f"digital, behind {behind}",
            number(block["tiles"]),
            number(block["crossbars"]),
        )
    return made


def _choice(choice: Mapping[str, Any]) -> "Table":
    """What a layer's mapping was chosen from, the least first.

    `program`: the figure chosen by of all layers together, as multiples of the chosen scheme's.
    """
    from xbarc.report.inspect import chosen_by, ranked

    figures = ("crossbars", "cycles", "energy uJ", "latency us", "area mm2", "mm2 us")
    made = table("scheme", *figures, "program", title=f"\nchosen by {chosen_by(choice)}")
    least = ranked(choice)[0].get("program")
    for candidate in ranked(choice):
        if "refused" not in candidate:
            made.add_row(
                candidate["scheme"],
                number(candidate["crossbars"]),
                number(candidate["cycles"]),
                f"{candidate['energy_pj'] * 1e-6:.4g}",
                f"{candidate['latency_ns'] * 1e-3:.4g}",
                f"{candidate['area_mm2']:.4g}",
                f"{candidate['area_delay_mm2_ns'] * 1e-3:.4g}",
                f"{candidate['program'] / least:.6g}" if "program" in candidate else "no room",
            )
    return made


def _refused(choice: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The schemes that can't take the layer, and why."""
    for candidate in choice["candidates"]:
        if "refused" in candidate:
            yield candidate["scheme"], candidate["refused"]


def _partition_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A layer's patches of outputs: sizes, a drawing, and where they begin and end."""

    def by(sizes: Sequence[int]) -> str:
        return "x".join(map(str, sizes))

    yield (
        f"{found['patches']} patches of {by(found['outputs'])} outputs on {by(found['map'])}"
        f"{' pixels in a row' if found['flat'] else ''}, each from {by(found['window'])} inputs, "
        f"of which neighbours share {by(found['overlap'])}"
    )
    yield f"rows driven for one image {found['rows']}, weight columns read {found['columns']}"
    yield from draw_patches(found)
    for axis, spans in enumerate(found["axes"]):
        for key in ("outputs", "window"):
            shown = [f"{begin}:{end}" for begin, end in spans[key]]
            if len(shown) > SPANS_SHOWN:
                shown[SPANS_SHOWN - 1 : -1] = ["..."]
            yield f"  axis {axis} {key:<7} {' '.join(shown)}"


def draw_patches(found: Mapping[str, Any]) -> list[str]:
    """The last two axes of a layer's `partition` as lines: a frame around each patch's outputs.

    An output is two characters wide and a line high, several of them together where the map is
    larger than the drawing; nothing where patches are too small for that.
    """
    outputs = [axis["outputs"] for axis in found["axes"]][-2:]
    rows, columns = outputs if len(outputs) == 2 else ([(0, 1)], outputs[0])
    step = max(1, ceil(columns[-1][1] * 2 / WIDTH), ceil(rows[-1][1] / HEIGHT))
    if any(len(spans) > 1 and spans[0][1] < step for spans in (rows, columns)):
        return []
    down, across = _borders(rows, step, 1), _borders(columns, step, 2)
    border, inside = (
        "".join(mark if x in across else fill for x in range(across[-1] + 1))
        for mark, fill in ("+-", "| ")
    )
    return [border if y in down else inside for y in range(down[-1] + 1)]


def _borders(spans: Sequence[Sequence[int]], step: int, characters: int) -> list[int]:
    """Where the borders of spans stand in a drawing."""
    return [0, *(ceil(end / step) * characters + i for i, (_, end) in enumerate(spans, start=1))]
