"""Accuracy, and what the converters clipped, where a run left them."""

import shlex
from collections.abc import Iterator, Sequence

from xbarc.artifact.runs import Options, Programming, Result, Run, Written, headline
from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import data
from xbarc.report.html import Child, Section, breakable, tag
from xbarc.support.units import count, percent, quantity

MOST_RUNS = 10
"""Runs that are shown, the newest first."""

FLOAT = ("in float", "agree with float", "SNR against float")
"""What is said of the float network on the same samples."""

FIGURES = {"accuracy": "", "psnr_db": "PSNR", "snr_db": "SNR"}
"""What labels say of a run, by its key, and what the table of runs calls it beside its figure."""

WRITTEN = ("cells", "pulses", "pulses_per_cell", "energy_uj", "verify_energy_uj", "time_us")
"""What is shown of programming."""


def section(runs: Sequence[Run]) -> Section:
    """Accuracy, and what the converters clipped, where a run left them."""
    heading = "Accuracy and converters"
    if not runs:
        text = "No run is kept with this program: `xbarc run` leaves its result here."
        return Section("runs", heading, tag("p", text, class_="lead"))
    newest = list(reversed(runs))[:MOST_RUNS]
    table = charts.grid(
        "Runs, the newest first" + (f" ({len(runs)} in all)" if len(runs) > MOST_RUNS else ""),
        [
            "When (UTC)",
            "Data",
            "Options",
            "Samples",
            "Accuracy",
            *FLOAT,
            "Clipped at most",
            "Speed",
        ],
        [run_row(i, run) for i, run in enumerate(newest)],
        numbers=3,
    )
    body = [table, saturation(headline(runs) or newest[0])]
    if (run := latest(runs, "programming")) is not None and run.result.programming is not None:
        body.append(written(run, run.result.programming))
    return Section("runs", heading, body)


def run_row(i: int, run: Run) -> Sequence[Child]:
    """A line of the table of runs."""
    result = run.result
    worst = max((layer.saturated for layer in result.adc.values()), default=0.0)
    beside = result.float_
    key = next((k for k in FIGURES if getattr(result, k) is not None), "accuracy")
    agreed = None if beside is None else beside.agreement
    words = ["trace"] * run.options.trace + list(options_text(run.options))
    options = [[tag("span", o, class_="nb"), " "] for o in words]
    return [
        f"{run.at:%Y-%m-%d %H:%M:%S}",
        run.input,
        options or "–",
        data(f"runs.{i}.samples", result.samples),
        figure(f"runs.{i}.{key}", getattr(result, key)),
        figure(f"runs.{i}.float.{key}", getattr(beside, key, None)),
        data(f"runs.{i}.float.agreement", agreed, "–" if agreed is None else percent(agreed)),
        list(ratios(f"runs.{i}", result)) or "–",
        data(f"runs.{i}.saturated", worst),
        f"{result.images_per_second:.3g} /s",
    ]


def figure(key: str, value: float | None) -> Child:
    """What labels say: a share, or dB with the name of the ratio."""
    kind = FIGURES[key.rpartition(".")[2]]
    return data(key, value, None if value is None or not kind else f"{kind} {decibels(value)}")


def ratios(place: str, result: Result) -> Iterator[Child]:
    """Each output's signal-to-noise ratio, by its name where there are several."""
    found = {
        (f"{place}.outputs.{name}.snr_db", name): beside.snr_db
        for name, beside in result.outputs.items()
        if "snr_db" in beside.model_fields_set  # null where both are alike, absent without a ratio
    }
    beside = result.float_
    # A run that was kept before `outputs` were has the ratio of its first output.
    if not result.outputs and beside is not None and "output_snr_db" in beside.model_fields_set:
        found[f"{place}.float.output_snr_db", ""] = beside.output_snr_db
    several = len(result.outputs) > 1
    for (key, name), ratio in found.items():
        shown = data(key, ratio, "alike" if ratio is None else decibels(ratio))
        yield [breakable(name), " ", tag("span", shown, class_="nb"), " "] if several else shown


def decibels(ratio: float) -> str:
    """A ratio as the report writes it."""
    return f"{ratio:.1f}\N{NO-BREAK SPACE}dB"


def options_text(options: Options) -> Iterator[str]:
    """Options as they are typed; one that is given several times, as often."""
    given = options.given()
    given.pop("trace", None)
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            yield f"--{name}" if one is True else f"--{name} {shlex.quote(str(one))}"


def saturation(run: Run) -> Child:
    """What share of each layer's conversions was clipped in a run: the one behind the accuracy."""
    adc = run.result.adc
    most = max((layer.saturated for layer in adc.values()), default=0.0)
    lossless = sum(layer.lossless for layer in adc.values())
    about = (
        f"Converters in the run of {run.at:%Y-%m-%d %H:%M:%S} ({run.devices}, "
        f"{count(run.result.samples)} samples). "
    )
    if lossless:
        about += (
            f"{count(lossless)} of {count(len(adc))} layers can't lose anything in their "
            "converters, whatever the input: the programmed levels prove it."
        )
    lead = tag("p", about, class_="lead")
    if not most:
        return [lead, tag("p", "No conversion was clipped.")]

    def row(name: str) -> Row:
        share = adc[name].saturated
        label = f"{name}: {percent(share)} clipped"
        drawn = charts.bar([Segment(share, "warn", label)], most, label)
        note = "lossless" if adc[name].lossless else ""
        return Row(breakable(name), drawn, [data(f"run.adc.{name}.saturated", share), note])

    rows = [row(name) for name in adc]
    return [lead, charts.table("Conversions that were clipped", ["Layer", "", "", ""], rows)]


def written(run: Run, programming: Programming) -> Child:
    """What programming took in a run, layer by layer and in all."""
    about = (
        f"In the newest run whose devices err when they are written ({run.devices}; seed "
        f"{run.options.seed}). The report's own programming figures take the same number of pulses "
        "for every cell."
    )
    head = ["Layer", "Cells", "Pulses", "a cell", "Energy", "of reads", "Time"]

    def row(name: Child, place: str, figures: Written) -> Sequence[Child]:
        place = f"run.programming.{place}"
        return [name, *(data(f"{place}.{key}", getattr(figures, key)) for key in WRITTEN)]

    rows = [
        row(breakable(name), f"layers.{name}", figures)
        for name, figures in programming.layers.items()
    ]
    rows.append(row("all, at once", "total", programming.total))
    table = charts.grid("Programming in a run", head, rows)
    summary = tag(
        "summary", f"Programming took {quantity('energy_uj', programming.total.energy_uj)}"
    )
    return tag("details", summary, tag("p", about, class_="lead"), table)


def latest(runs: Sequence[Run], field: str) -> Run | None:
    """The newest run that left this field."""
    left = (run for run in reversed(runs) if getattr(run.result, field))
    return next(left, None)
