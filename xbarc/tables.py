"""What the command line prints for people: tables on stdout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xbarc.optimize import Optimized
from xbarc.program import Program

PIPE_WIDTH = 160


def _console() -> Console:
    # Into a file or a pipe nothing is shortened to the width of a screen that isn't there.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        text = name in ("layer", "op", "mapping", "component", "in")
        table.add_column(
            name,
            justify="left" if text else "right",
            overflow="fold" if name == "layer" else "ellipsis",
            no_wrap=name != "layer",
        )
    return table


def number(value: float) -> str:
    """A figure in four digits at most, with an SI letter from ten thousand up: 9999, 31.7M."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (1e4 if letter == "k" else scale):
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"


def optimize_summary(done: Optimized, path: Path) -> None:
    """What `xbarc opt` wrote for a model, and how far lossy passes moved its outputs."""
    (weights, weights_now), (nodes, nodes_now) = done.weights, done.nodes
    lines = [
        f"weights  {weights} -> {weights_now}",
        f"nodes    {nodes} -> {nodes_now}",
    ]
    for name, moved in done.deviation.items():
        lines.append(f"lossy    {name}: relative deviation {moved:.3g} on {done.samples} samples")
    for name, figures in done.figures.items():
        before, after = figures.get("before", {}), figures.get("after", {})
        counts = [f"{key} {before[key]} -> {after[key]}" for key in before if key in after]
        if counts:
            lines.append(f"counted  {name}: {', '.join(counts)}")
    lines.append(f"written  {path}")
    console = _console()
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def compile_summary(program: Program, path: Path) -> None:
    """What landed where, and what it takes."""
    report, console = program.report, _console()
    covered, totals = report["coverage"], report["totals"]
    operators = covered["crossbar_operators"] + covered["digital_operators"]
    lines = [
        f"{report['model']} for {report['target']}",
        f"  on crossbars  {covered['crossbar_operators']} of {operators} operators, "
        f"{covered['mac_share']:.2%} of the multiply-accumulates",
        f"  it takes      {number(totals['crossbars'])} crossbars, "
        f"{number(totals['memristors'])} memristors, {totals['utilization']:.1%} of the cells",
        f"  per input     {number(totals['energy_uj']['total'])} uJ, "
        f"{number(totals['latency_us'])} us; area {totals['area_mm2']['total']:.4g} mm2",
    ]
    for name, moved in report["deviation"].items():
        lines.append(f"  lossy         {name}: relative deviation {moved:.3g}")
    for name, reason in covered["digital_reasons"].items():
        lines.append(f"  digital       {name}: {reason}")
    lines.append(f"  written to    {path}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def run_summary(document: Mapping[str, Any], output: Path | None) -> None:
    """Samples, accuracy, speed, and what the converters did."""
    console = _console()
    adc = document["adc"]
    console.print(f"samples            {document['samples']}")
    if "accuracy" in document:
        console.print(f"accuracy           {document['accuracy']:.2%}")
    console.print(f"simulated          {document['images_per_second']:.1f} samples/s")
    lossless = sum(1 for layer in adc.values() if layer["lossless"])
    console.print(f"lossless layers    {lossless} of {len(adc)}")
    clipped = {name: a["saturated"] for name, a in adc.items() if a["saturated"]}
    for name, share in sorted(clipped.items(), key=lambda item: -item[1])[:5]:
        console.print(Text(f"clipped            {share:.3%} of the conversions of {name}"))
    if output is not None:
        console.print(Text(f"outputs            {output}"))


def cost_tables(program: Program) -> None:
    """Counts a layer, then area and energy by component."""
    report, console = program.report, _console()
    layers = _table(
        "layer", "mapping", "matrix", "xbars", "used", "vectors", "cycles", "MACs", "ADC", "uJ"
    )
    for row in report["layers"]:
        layers.add_row(
            Text(row["name"]),
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
    totals = report["totals"]
    console.print(layers)
    console.print("xbars: crossbars; used: share of their cells; ADC: conversions\n")
    parts = _table("component", "area mm2", "energy uJ", title=None)
    for name in [*(k for k in totals["area_mm2"] if k != "total"), "total"]:
        parts.add_row(name, f"{totals['area_mm2'][name]:.4g}", f"{totals['energy_uj'][name]:.4g}")
    console.print(parts)
    console.print()
    facts = {
        "crossbars": f"{number(totals['crossbars'])} in {number(totals['cores'])} cores, "
        f"{number(totals['nodes'])} nodes; {totals['utilization']:.1%} of the cells in use",
        "memristors": number(totals["memristors"]),
        "MACs": number(totals["macs"]),
        "conversions": number(totals["adc_conversions"]),
        "latency": f"{number(totals['latency_us'])} us, layer after layer",
        "throughput": f"{number(totals['throughput_ips'])} inputs/s, layers as a pipeline",
        "power": f"{totals['power_w']:.4g} W at that rate",
        "programming": f"{number(totals['programming_energy_uj'])} uJ, "
        f"{totals['programming_time_ms']:.4g} ms",
    }
    for name, text in facts.items():
        console.print(f"{name:<12} {text}")
    if report.get("calibration", {}).get("source") == "generated":
        console.print("\nActivation ranges come from generated inputs, not from calibration data.")


def inspect_tables(document: Mapping[str, Any]) -> None:
    """A row a layer; the tiles below, where they were asked for."""
    console = _console()
    table = _table(
        "layer", "op", "mapping", "matrix", "groups", "tiles", "xbars", "cells", "in", "collapsed"
    )
    for row in document["layers"]:
        table.add_row(
            Text(row["name"]),
            row["op"],
            row["mapping"],
            f"{row['matrix'][0]}x{row['matrix'][1]}",
            str(row["groups"]),
            number(row["tiles"]),
            number(row["crossbars"]),
            str(row["slices"] * row["polarities"]),
            row["inputs"],
            f"{row['collapsed']:.1%}",
        )
    console.print(table)
    for row in document["layers"]:
        if "tile_list" not in row:
            continue
        console.print(Text(f"\n{row['name']}: rows [begin, end), weight columns [begin, end)"))
        for r0, r1, c0, c1 in row["tile_list"]:
            console.print(f"  rows {r0:>6} {r1:>6}   columns {c0:>6} {c1:>6}")
    console.print(
        "\nxbars: crossbars; cells: of one weight; in: type of the input codes\n"
        "collapsed: physical columns whose sums provably can't reach the converters' limit, "
        "computed as one exact integer product"
    )
