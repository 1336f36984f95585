"""`xbarc spice`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xbarc.cli import options
from xbarc.support.errors import UsageError


def command(
    program: options.ProgramPath,
    layer: Annotated[str, typer.Option("--layer", metavar="NAME", help="The layer.")],
    tile: Annotated[
        int, typer.Option("--tile", min=0, help="Its tile, as inspect --tiles counts them.")
    ],
    crossbar: Annotated[
        int, typer.Option("--crossbar", min=0, help="The tile's crossbar, where it has several.")
    ] = 0,
    replica: Annotated[
        int, typer.Option("--replica", min=0, help="The copy, where a layer has several.")
    ] = 0,
    row: Annotated[
        float, typer.Option("--row", metavar="OHM", help="A segment of a word line.")
    ] = 1.0,
    col: Annotated[
        float, typer.Option("--col", metavar="OHM", help="A segment of a bit line.")
    ] = 1.0,
    source: Annotated[
        float, typer.Option("--source", metavar="OHM", help="In series with a word line.")
    ] = 0.0,
    sense: Annotated[
        float, typer.Option("--sense", metavar="OHM", help="In series with a bit line.")
    ] = 0.0,
    drive_from: Annotated[
        Literal["left", "both"], typer.Option("--drive-from", help="Where word lines are driven.")
    ] = "left",
    sense_at: Annotated[
        Literal["bottom", "top"], typer.Option("--sense-at", help="Where bit lines are read.")
    ] = "bottom",
    drive: Annotated[
        list[str] | None,
        typer.Option(
            "--drive", metavar="R=V", help="Volts of word line R, others 0. Default: 1 V on all."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="TILE.cir", help="Default: standard output."),
    ] = None,
) -> None:
    """Write the netlist of one array for ngspice: cells, wires, drivers, bit lines' currents."""
    from xbarc.api import load
    from xbarc.report.spice import netlist
    from xbarc.simulator.devices.wire import Wire
    from xbarc.support.data import written_whole

    wire = Wire(row, col, source, sense, drive_from, sense_at)
    inputs = _volts(drive) if drive else None
    text = netlist(
        load(program),
        layer,
        tile,
        replica=replica,
        crossbar=crossbar,
        effects=(wire,),
        inputs=inputs,
    )
    if output is None:
        sys.stdout.write(text)
        return
    with written_whole(output) as file:
        file.write(text.encode())
    print(output)


def _volts(texts: list[str]) -> dict[int, float]:
    """Texts like `3=0.2` as volts by word line. Raises `UsageError` on any other."""
    found = {}
    for text in texts:
        row, _, volts = text.partition("=")
        try:
            found[int(row)] = float(volts)
        except ValueError:
            raise UsageError(
                f"--drive {text}: written R=V, a word line's number and volts"
            ) from None
    return found
