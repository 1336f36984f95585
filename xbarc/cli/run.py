"""`xbarc run`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from xbarc.cli import options, trials
from xbarc.cli.output import console, number, print_json, progress_bar, shown, warn
from xbarc.support.errors import UsageError, XbarcError

MOST_CLIPPED = 5
"""Layers whose clipped conversions are printed; --json has all."""

CLIPPED, USED = 0.01, 0.4
"""More clipped inputs, or a smaller part of the codes in use, is worth a warning."""

UNITS = {"accuracy": "%", "psnr_db": " dB", "snr_db": " dB"}
"""The figures of a metric by their keys, and how each is printed."""

AGAINST = "against float"
"""The title of a line about an output that no labels are about."""


EXAMPLES = (
    "xbarc run model.xbar --input images.npz --labels y",
    'xbarc run model.xbar --input x.npz --labels y --noise "programming{sigma=0.05}" --trials 20',
    "xbarc run model.xbar --input x.npz --labels y --engine torch --torch-device cuda",
)


def command(
    program: options.ProgramPath,
    data: options.Input,
    labels: options.Labels = None,
    metric: options.Metric = None,
    limit: options.Limit = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Samples at once; bounds the memory.")
    ] = None,
    threads: options.Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="Y.npz", help="Write the outputs there.")
    ] = None,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="Lossless converters and ideal devices.")
    ] = False,
    noise: options.Noise = "",
    device: options.Device = None,
    seed: options.Seed = 0,
    plugin: options.Plugins = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="torch: on any of its devices; else compiled kernels."),
    ] = None,
    torch_device: Annotated[
        str | None,
        typer.Option("--torch-device", metavar="cpu|cuda", help="Where --engine torch computes."),
    ] = None,
    limits: options.Limits = None,
    activity: Annotated[
        bool, typer.Option("--activity", help="Driven rows, and energy that follows the values.")
    ] = False,
    beside_float: Annotated[
        bool, typer.Option("--float/--no-float", help="The float network on the same inputs.")
    ] = True,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep the result with the program.")
    ] = True,
    count: trials.Count = None,
    vary: trials.Vary = None,
    by_layer: trials.ByLayer = False,
    workers: trials.Workers = None,
    scheduler: trials.Scheduler = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a compiled program on the functional simulator."""
    where = _torch_device(engine, torch_device)
    asked = trials.Asked(count, vary, by_layer, workers, scheduler)
    if asked.check(labels, ideal=ideal, output=output, activity=activity):
        assert labels is not None
        asked.run(
            program,
            data,
            labels,
            metric=metric,
            limit=limit,
            batch=batch,
            threads=threads,
            noise=noise,
            device=device,
            seed=seed,
            torch_device=where,
            plugins=plugin or (),
            record=record,
            as_json=as_json,
        )
        return
    from xbarc.artifact import runs
    from xbarc.driver import extensions
    from xbarc.driver.evaluate import evaluate, save_outputs
    from xbarc.support.files import check_output

    if output is not None:
        check_output(output, reads=(data, *(plugin or ())))
    with extensions.using(plugin or ()), _progress() as progress:
        result = evaluate(
            program,
            data,
            labels=labels,
            metric=metric,
            limit=limit,
            batch=batch,
            threads=threads,
            ideal=ideal,
            noise=noise,
            device=device,
            seed=seed,
            activity=activity,
            beside_float=beside_float,
            torch_device=where,
            progress=progress,
        )
    if output is not None:
        save_outputs(output, result.outputs)
    if record:
        given = runs.Options(
            labels=labels,
            metric=metric,
            limit=limit,
            batch=batch,
            ideal=ideal,
            noise=noise,
            device=device,
            seed=seed,
            plugin=[str(file) for file in plugin or ()],
            activity=activity,
        )
        try:
            runs.record(program, result.program, data.name, given, result.document)
        except XbarcError as error:
            warn(str(error))
    for line in _scaled_otherwise(result.document["inputs"]):
        warn(line)
    if as_json:
        print_json(result.document)
        return
    _print_summary(shown(result.document), output)


def _torch_device(engine: str | None, device: str | None) -> str | None:
    """Where torch computes; None: it doesn't. Raises `UsageError` where options don't fit."""
    if engine not in (None, "torch"):
        raise UsageError(f"--engine {engine}: there is torch; without it compiled kernels run")
    if device is not None and engine is None:
        raise UsageError("--torch-device is about --engine torch: give that too")
    return None if engine is None else device or "cpu"


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on stderr, where that is a terminal: called with (samples done, samples in all)."""
    with progress_bar() as bar:
        task = bar.add_task("simulating", total=None)
        yield lambda done, total: bar.update(task, advance=done, total=total)


def _print_summary(document: Mapping[str, Any], output: Path | None) -> None:
    """Samples, accuracy, speed, and what the converters did."""
    out, adc = console(), document["adc"]
    out.print(f"samples            {document['samples']}")
    for line in _answers(document):
        out.print(line)
    out.print(f"simulated          {document['images_per_second']:.1f} samples/s")
    for effect in document["effects"]:
        out.print(f"effect             {effect}")
    if document["effects"]:
        out.print(f"seed               {document['seed']}")
    lossless = sum(1 for layer in adc.values() if layer["lossless"])
    out.print(f"lossless layers    {lossless} of {len(adc)}")
    clipped = {name: a["saturated"] for name, a in adc.items() if a["saturated"]}
    for name, share in sorted(clipped.items(), key=lambda item: -item[1])[:MOST_CLIPPED]:
        out.print(f"clipped            {share:.3%} of the conversions of {name}")
    if "programming" in document:
        out.print(_programming(document["programming"]["total"]))
    for line in _energies(document.get("activity", {})):
        out.print(line)
    if output is not None:
        out.print(f"outputs            {output}")


def _answers(document: Mapping[str, Any]) -> Iterator[str]:
    """A line an output: how right the judged one is, how far each is from the float network's.

    Where there are several, each line names its own.
    """
    beside, outputs = document.get("float", {}), document.get("outputs", {})
    key = next((k for k in UNITS if k in document), None)
    for name, found in outputs.items():
        title, parts = AGAINST, []
        if key is not None and name == document["judged"]:
            metric, unit = document["metric"], UNITS[key]
            title = {"top1": "accuracy", "top5": "top-5 accuracy"}.get(metric, metric)
            if key in beside:
                parts.append(f"float {_figure(beside[key], unit)}")
            parts.append(f"crossbars {_figure(document[key], unit)}")
        if "agree" in found:
            parts.append(f"agree {found['agree']:.2%}")
        if "snr_db" in found:
            ratio = found["snr_db"]
            than = "signal to noise" if title == AGAINST else AGAINST
            parts.append("alike" if ratio is None else f"{ratio:.2f} dB {than}")
        if parts:
            of = f"{name}: " if len(outputs) > 1 else ""
            yield f"{title:<18} {of}{' | '.join(parts)}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "alike"
    return f"{value:.2%}" if unit == "%" else f"{value:.2f}{unit}"


def _scaled_otherwise(inputs: Mapping[str, Any]) -> Iterator[str]:
    """What shows that data are scaled unlike those of the calibration."""
    for name, codes in inputs.items():
        low, high = codes["reach"]
        if codes["clipped"] > CLIPPED:
            what = f"{codes['clipped']:.1%} of the inputs are beyond its codes and are clipped"
        elif codes["used"] < USED:
            what = f"the inputs use {codes['used']:.0%} of its codes' range"
        else:
            continue
        yield (
            f"layer {name}: {what} (they reach from {number(low)} to {number(high)}): are they "
            "scaled as the calibration data were?"
        )


def _programming(total: Mapping[str, Any]) -> str:
    """What writing all cells took, in one line."""
    energy = total["energy_uj"] + total["verify_energy_uj"]
    from xbarc.support.units import quantity

    return (
        f"programming        {number(total['pulses'])} pulses, {number(total['pulses_per_cell'])} "
        f"a cell, {quantity('energy_uj', energy)}, {quantity('time_us', total['time_us'])}"
    )


def _energies(activity: Mapping[str, Any]) -> Iterator[str]:
    """Energy of one input: at a fixed energy per action, and by the values driven."""
    if not activity:
        return
    from xbarc.support.units import quantity

    for part, what in (("crossbar", "by the values"), ("adc", "for the conversions needed")):
        fixed, values = (
            sum(layer["energy_pj"][part][how] or 0.0 for layer in activity.values()) * 1e-6
            for how in ("fixed", "values")
        )
        name = f"{part} energy"
        shown, whole = (quantity("energy_uj", energy) for energy in (values, fixed))
        yield f"{name:<18} {shown} {what}, {whole} fixed per action"
