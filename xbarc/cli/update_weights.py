"""`xbarc update-weights`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, print_json, warn

EXAMPLES = ("xbarc update-weights model.xbar pruned.onnx -o pruned.xbar",)


def command(
    program: options.ProgramPath,
    model: Annotated[
        Path, typer.Argument(metavar="NEW.onnx", help="The same network with other weights.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="NEW.xbar", help="Default: in place."),
    ] = None,
    calibration: options.Calibration = None,
    plugin: options.Plugins = None,
    limits: options.Limits = None,
    as_json: options.AsJson = False,
) -> None:
    """Program the same tiles with new weights: pruned ones, or those of another training.

    Layers, tiles, input scales, converters' ranges and digital parts stay: a model that asks for
    others is refused.
    """
    from xbarc.api import load
    from xbarc.artifact.folder import check_free
    from xbarc.driver.refit import is_fitted

    path = output or program
    before = load(program)
    check_free(path)
    if calibration is None and is_fitted(before):
        warn(
            "no --calibration given: the program was fitted to calibration data, the new weights "
            "are rounded to the nearest codes"
        )
    after = before.update_weights(model, calibration, plugins=plugin or ())
    after.save(path)
    if as_json:
        print_json(after.report)
        return
    _print_summary(before.report["totals"], after.report["totals"], path)


def _print_summary(was: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """What new weights change: counts of one input, energy and power."""
    from xbarc.support.units import quantity

    power = ("crossbar", "peripheral", "read")
    figures = {
        "nonzero weights": ("weights", was["nonzero_weights"], now["nonzero_weights"]),
        "MACs": ("macs", was["macs"], now["macs"]),
        "conversions": ("adc_conversions", was["adc_conversions"], now["adc_conversions"]),
        "energy": ("energy_uj", was["energy_uj"]["total"], now["energy_uj"]["total"]),
        **{
            f"{p} power": ("power_w", now[f"{p}_power_before_w"], now[f"{p}_power_w"])
            for p in power
        },
    }
    out = console()
    for name, (key, old, new) in figures.items():
        moved = f" ({new / old - 1:+.1%})" if old else ""
        out.print(f"{name:<16} {quantity(key, old)} -> {quantity(key, new)}{moved}")
    out.print(f"{'written to':<16} {path}", soft_wrap=True)
