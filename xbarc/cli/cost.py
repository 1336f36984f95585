"""`xbarc cost`."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, number, print_json, shown, table
from xbarc.cli.targets import peak_text
from xbarc.support.units import quantity

if TYPE_CHECKING:
    from rich.table import Table

    from xbarc.artifact import CompiledProgram


EXAMPLES = (
    "xbarc cost model.xbar",
    "xbarc cost model.xbar --json",
)


def command(
    program: options.ProgramPath,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain", metavar="KEY", help="Unfold a figure: energy_uj.adc, latency_us, power_w."
        ),
    ] = None,
    plugin: options.Plugins = None,
    as_json: options.AsJson = False,
) -> None:
    """Show area, energy, time and the counts behind them, for one input: in a stream, and alone."""
    from xbarc.api import load
    from xbarc.driver import extensions

    loaded = load(program)
    if explain is not None:
        with extensions.using(plugin or ()):
            _explain(loaded, explain, as_json=as_json)
        return
    report = loaded.report
    if as_json:
        print_json(report)
        return
    from xbarc.artifact.caveats import marks

    report = shown(report)
    totals, out = report["totals"], console()

    def mark(*keys: str) -> str:
        return marks(report["caveats"], *keys)

    if not report["layers"]:
        # Its totals are 0, which would read as free and infinitely fast.
        for note in _notes(report):
            out.print(note)
        return
    out.print(_layers(report))
    out.print("xbars: crossbars; used: share of their cells; ADC: conversions; uJ: streaming\n")
    out.print(_components(totals, mark))
    out.print()
    for name, text, *keys in _facts(totals):
        out.print(f"{name:<12} {text} {mark(*keys)}".rstrip())
    out.print()
    for note in _notes(report):
        out.print(note)


def _explain(program: "CompiledProgram", key: str, *, as_json: bool) -> None:
    """A figure and what it follows from, a line each, down to counts and constants."""
    from xbarc.cost.explain import Figure
    from xbarc.cost.explain import explain as unfolded
    from xbarc.report.figures import unit_key

    figure = unfolded(program, key)
    if as_json:
        print_json(figure.document())
        return

    def lines(of: Figure, depth: int) -> Iterator[str]:
        shown = quantity(unit_key(of.key), of.value)
        more = " = " + of.how if of.how else ""
        more += f"  [{of.source}]" if of.source else ""
        yield f"{'  ' * depth}{of.key}: {shown}{more}"
        for part in of.parts:
            yield from lines(part, depth + 1)

    for line in lines(figure, 0):
        print(line)


def _layers(report: Mapping[str, Any]) -> "Table":
    """Counts a layer."""
    made = table(
        "layer", "mapping", "matrix", "xbars", "used", "vectors", "cycles", "MACs", "ADC", "uJ"
    )
    for row in report["layers"]:
        made.add_row(
            row["name"],
            row["mapping"],
            f"{row['matrix'][0]}x{row['matrix'][1]}",
            number(row["crossbars"]),
            f"{row['utilization']:.0%}",
            number(row["vectors"]),
            number(row["cycles"]),
            number(row["macs"]),
            number(row["adc_conversions"]),
            f"{sum(row['energy_pj'].values()) * 1e-6:.4g}",
        )
    return made


def _components(totals: Mapping[str, Any], mark: Callable[[str], str]) -> "Table":
    """Area and energy by component, the total below; `mark` gives a figure's caveats."""
    made = table("component", "area mm2", "uJ streaming", "uJ alone")
    modes = totals["modes"]
    columns = {"area_mm2": totals["area_mm2"]}
    columns |= {f"modes.{m}.energy_uj": modes[m]["energy_uj"] for m in ("stream", "single")}
    names = [n for n in {**totals["area_mm2"], **totals["energy_uj"]} if n != "total"]
    for name in [*names, "total"]:
        cells = (
            f"{figures.get(name, 0.0):.4g} {mark(f'{key}.{name}')}".rstrip()
            for key, figures in columns.items()
        )
        made.add_row(name, *cells)
    return made


def _facts(totals: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """What the whole program takes, and how fast it is; then keys whose caveats stand beside it."""
    yield (
        "crossbars",
        f"{number(totals['crossbars'])} in {number(totals['cores'])} cores, "
        f"{number(totals['nodes'])} nodes; {totals['utilization']:.1%} of the cells in use",
    )
    yield "memristors", number(totals["memristors"])
    yield "MACs", number(totals["macs"]), "macs"
    yield "conversions", number(totals["adc_conversions"])
    order = "row by row" if totals["schedule"] == "rows" else "layer after layer"
    stream, single = totals["modes"]["stream"], totals["modes"]["single"]
    yield (
        "streaming",
        f"{quantity('throughput_ips', totals['throughput_ips'])}, one every "
        f"{quantity('interval_us', stream['interval_us'])}, "
        f"{quantity('energy_uj', stream['energy_uj']['total'])} each: "
        f"{quantity('power_w', stream['power_w'])}",
        "modes.stream.energy_uj.total",
        "throughput_ips",
    )
    yield (
        "alone",
        f"{quantity('latency_us', single['latency_us'])}, {order}, "
        f"{quantity('energy_uj', single['energy_uj']['total'])}: "
        f"{quantity('power_w', single['power_w'])}",
        "modes.single.energy_uj.total",
        "modes.single.latency_us",
    )
    worst = totals["bottleneck"]
    bounds = "none" if worst is None else f"{worst['resource']} of {worst['layer']}"
    yield "bottleneck", bounds, "interval_us"
    yield "efficiency", f"{peak_text(totals)}, streaming", "tops", "tops_per_w"
    yield "peak", f"{peak_text(totals['peak'])}, a chip"
    yield "cells", _power(totals)
    pulses = totals["write_pulses"] // max(totals["memristors"], 1)
    yield (
        "programming",
        f"{quantity('energy_uj', totals['programming_energy_uj'])}, "
        f"{quantity('time_ms', totals['programming_time_ms'])}, "
        f"{pulses or 1} pulse{'s' if pulses > 1 else ''} a cell",
    )
    if totals["lifetime_years"] is not None:
        yield (
            "endurance",
            f"{number(totals['lifetime_years'])} years (device.programmings_per_day)",
        )


def _power(totals: Mapping[str, Any]) -> str:
    """Power with the cells as they are programmed, and what it was before."""
    now = (
        f"{quantity('power_w', totals['crossbar_power_w'])} in them as they are programmed, "
        f"{quantity('power_w', totals['read_power_w'])} with all else"
    )
    if totals["read_power_ratio"] == 1:
        return now
    return (
        f"{now}; {totals['read_power_ratio']:.1%} of "
        f"{quantity('power_w', totals['read_power_before_w'])} with "
        f"{totals['read_power_baseline']}"
    )


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before believing the figures."""
    yield from (f"[{i + 1}] {caveat['text']}." for i, caveat in enumerate(report["caveats"]))
    if report["calibration"]["source"] == "generated":
        yield "Activation ranges come from generated inputs, not from calibration data."
    if "random_weights" in report:
        yield f"Weights are random (seed {report['random_weights']['seed']}): cost figures only."
