"""`xbarc sweep`."""

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, number, print_json, progress_bar, table, warn
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from xbarc.driver.sweep import Swept

FIGURES = {
    "accuracy": "accuracy",
    "psnr_db": "PSNR dB",
    "snr_db": "SNR dB",
    "energy_uj": "energy uJ",
    "area_mm2": "area mm2",
    "latency_us": "latency us",
    "throughput_ips": "inputs/s",
    "crossbars": "crossbars",
}
"""The columns behind the settings."""


EXAMPLES = (
    "xbarc sweep model.onnx --target mca128 --vary adc.bits=4:10 --calibration c.npz "
    "--input x.npz --labels y -o sweep",
    "xbarc sweep model.onnx --vary target=mca64,mca128,isaac",
)


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="As `xbarc compile` takes it.")],
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="KEY=VALUES",
            help="A target key: adc.bits=4:10, array.rows=64,128; or target=mca64,isaac.",
        ),
    ],
    target: Annotated[str | None, options.target()] = None,
    data: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npz", help="Arrays by input name; without: costs only."),
    ] = None,
    labels: options.Labels = None,
    metric: options.Metric = None,
    limit: options.Limit = None,
    sets: options.Sets = None,
    passes: options.Passes = "",
    calibration: options.Calibration = None,
    percentile: options.Percentile = 100.0,
    ranges: options.Ranges = None,
    rounding: options.Rounding = None,
    bias_correction: options.BiasCorrection = None,
    equalize: options.Equalize = None,
    input_shape: options.InputShapes = None,
    batch_axis: options.BatchAxes = None,
    inputs: options.InputNames = None,
    params: options.Params = None,
    constants: options.Constants = None,
    random_weights: options.RandomWeights = None,
    plugin: options.Plugins = None,
    limits: options.Limits = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Tables, plots and a page; a sweep that is cut short goes on there.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compile and run a model at each point of a grid of settings: accuracy against cost."""
    from xbarc.artifact import sweeps
    from xbarc.driver.compile import Settings
    from xbarc.driver.metrics import metric_named
    from xbarc.driver.quantization import Quantization
    from xbarc.driver.sweep import TARGET, Sweep, axis_of, run_sweep
    from xbarc.frontends.source import SideWeights
    from xbarc.support.files import refuse_inside

    axes = tuple(axis_of(text) for text in vary)
    if (target is None) == all(axis.key != TARGET for axis in axes):
        raise UsageError("give the target once: --target NAME, or --vary target=NAME,NAME")
    if labels is not None and data is None:
        raise UsageError("--labels names an array of the inputs: give --input X.npz")
    if metric is not None and labels is None:
        raise UsageError(f"--metric {metric} compares with labels: give --labels KEY")
    settings = Settings(
        target or "",
        sets or (),
        passes,
        plugin or (),
        options.inputs(input_shape, batch_axis, inputs),
        percentile,
        SideWeights(params, constants, random_weights),
        Quantization.of(
            ranges, rounding, bias_correction, equalize, calibrated=calibration is not None
        ),
    )
    sweep = Sweep(
        model,
        settings,
        axes,
        data,
        labels,
        None if metric is None else metric_named(metric),
        limit,
        calibration,
        seed,
    )
    if calibration is None:
        warn(
            "no --calibration given: activation ranges come from generated inputs: accuracy will "
            "suffer, and costs may be off (what ranges show decides how inputs are driven)"
        )
    if output is not None:
        refuse_inside(output / sweeps.FILE)
    done = {} if output is None else sweeps.recorded(output)
    with _progress() as watch:
        found = run_sweep(
            sweep,
            done=done,
            keep=None if output is None else (lambda point: sweeps.append(output, point)),
            threads=threads,
            watch=watch,
        )
    document = found.document()
    if output is not None:
        _write(output, found, document)
    if as_json:
        print_json(document)
        return
    _print(found, document)
    if output is not None:
        print(f"\nwritten to {output}")


@contextmanager
def _progress() -> Iterator[Any]:
    with progress_bar() as bar:
        task = bar.add_task("points", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(found: "Swept", document: Mapping[str, Any]) -> None:
    """A row a point."""
    out = console()
    keys, points = [axis.key for axis in found.axes], document["points"]
    shown = [key for key in FIGURES if any(key in point for point in points)]
    rows = table(*keys, *(FIGURES[key] for key in shown), "")
    for point in points:
        front = "on the front" if point["pareto"] else ""
        rows.add_row(
            *(str(point["settings"][key]) for key in keys),
            *(_figure(key, point.get(key)) for key in shown),
            "failed" if "error" in point else front,
        )
    out.print(rows)
    for key, value in document.get("float", {}).items():
        out.print(f"\nfloat: {_figure(key, value)} over {found.samples} samples")
    for point in points:
        if "error" in point:
            told = ", ".join(f"{key}={value}" for key, value in point["settings"].items())
            warn(f"at {told}: {point['error']}")
    if any(point["pareto"] for point in points):
        out.print("on the front: no other point is as accurate for less energy")


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if key == "accuracy" else number(value)


def _write(folder: Path, found: "Swept", document: Mapping[str, Any]) -> None:
    """Tables, the page, and plots where matplotlib is installed."""
    from xbarc.report import write_page
    from xbarc.report.sweep import sweep_page
    from xbarc.support.document import to_json
    from xbarc.support.files import written_whole

    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "sweep.json") as file:
        file.write((to_json(document) + "\n").encode())
    with written_whole(folder / "sweep.csv") as file:
        file.write(_csv(found, document).encode())
    write_page(folder / "sweep.html", sweep_page(found, document))
    try:
        from xbarc.report.pictures import sweep_pictures
    except ImportError:
        warn("no plots: they need matplotlib: pip install 'xbarc[plot]'")
        return
    for name, content in sweep_pictures(found):
        with written_whole(folder / name) as file:
            file.write(content)


def _csv(found: "Swept", document: Mapping[str, Any]) -> str:
    keys = [axis.key for axis in found.axes]
    figures = [key for key in FIGURES if any(key in point for point in document["points"])]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*keys, *figures, "pareto", "error"])
    for point in document["points"]:
        settings = [point["settings"][key] for key in keys]
        rows.writerow(
            [
                *settings,
                *(point.get(k, "") for k in figures),
                point["pareto"],
                point.get("error", ""),
            ]
        )
    return text.getvalue()
