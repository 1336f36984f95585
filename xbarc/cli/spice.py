"""`xbarc spice`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from xbarc.cli import completion, options
from xbarc.support.errors import UsageError

EXAMPLES = ("xbarc spice model.xbar --layer conv1 --tile 0 --row 1 --col 1 -o tile.cir",)


def command(
    program: options.ProgramPath,
    layer: Annotated[
        str,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="The layer.",
            autocompletion=completion.layers,
        ),
    ],
    tile: Annotated[
        int, typer.Option("--tile", min=0, help="Its tile, as inspect --tiles counts them.")
    ],
    crossbar: Annotated[
        int, typer.Option("--crossbar", min=0, help="The tile's crossbar, where it has several.")
    ] = 0,
    replica: Annotated[
        int, typer.Option("--replica", min=0, help="The copy, where a layer has several.")
    ] = 0,
    noise: options.Noise = "",
    device: options.Device = None,
    seed: options.Seed = 0,
    plugin: options.Plugins = None,
    row: Annotated[
        float | None,
        typer.Option("--row", metavar="OHM", help="A segment of a word line. Default: 1."),
    ] = None,
    col: Annotated[
        float | None,
        typer.Option("--col", metavar="OHM", help="A segment of a bit line. Default: 1."),
    ] = None,
    source: Annotated[
        float | None,
        typer.Option("--source", metavar="OHM", help="In series with a word line. Default: 0."),
    ] = None,
    sense: Annotated[
        float | None,
        typer.Option("--sense", metavar="OHM", help="In series with a bit line. Default: 0."),
    ] = None,
    drive_from: Annotated[
        Literal["left", "both"] | None,
        typer.Option("--drive-from", help="Where word lines are driven. Default: left."),
    ] = None,
    sense_at: Annotated[
        Literal["bottom", "top"] | None,
        typer.Option("--sense-at", help="Where bit lines are read. Default: bottom."),
    ] = None,
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
    """Write the netlist of one array for ngspice: cells, wires, drivers, bit lines' currents.

    Cells conduct what they do in a run with the same --noise, --device, --seed.

    Wires are those of the effect wire there; options change it.
    """
    from xbarc.api import load
    from xbarc.driver import extensions
    from xbarc.report.spice import netlist
    from xbarc.simulator.devices.wire import Wire
    from xbarc.simulator.noise import effects_for
    from xbarc.support.files import check_output, written_whole

    asked: dict[str, Any] = {
        "row": row,
        "col": col,
        "source": source,
        "sense": sense,
        "drive_from": drive_from,
        "sense_at": sense_at,
    }
    inputs = _volts(drive) if drive else None
    if output is not None:
        check_output(output, reads=plugin or ())
    with extensions.using(plugin or ()):
        loaded = load(program)
        effects = effects_for(loaded, noise, device)
        wire = next((effect for effect in effects if isinstance(effect, Wire)), Wire())
        wire = replace(wire, **{name: given for name, given in asked.items() if given is not None})
        text = netlist(
            loaded,
            layer,
            tile,
            replica=replica,
            crossbar=crossbar,
            effects=(*(effect for effect in effects if not isinstance(effect, Wire)), wire),
            seed=seed,
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
