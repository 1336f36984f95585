"""What the command line prints for people: tables on stdout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xbarc.artifact import CompiledProgram
from xbarc.driver.optimize import Optimized

PIPE_WIDTH = 160

SPANS_SHOWN = 9
"""Begins and ends that are printed of an axis; --json has all."""


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


def compile_summary(program: CompiledProgram, path: Path) -> None:
    """What landed where, and what it takes."""
    report, console = program.report, _console()
    covered, totals = report["coverage"], report["totals"]
    operators = covered["crossbar_operators"] + covered["digital_operators"]
    lines = [
        f"{report['model']} for {report['target']}",
        f"  on crossbars  {covered['crossbar_operators']} of {operators} operators, "
        + (
            "not all multiply-accumulates can be counted"
            if covered["mac_share"] is None
            else f"{covered['mac_share']:.2%} of the multiply-accumulates"
        ),
        f"  it takes      {number(totals['crossbars'])} crossbars, "
        f"{number(totals['memristors'])} memristors, {totals['utilization']:.1%} of the cells",
        f"  per input     {number(totals['energy_uj']['total'])} uJ, "
        f"{number(totals['latency_us'])} us; area {totals['area_mm2']['total']:.4g} mm2",
    ]
    for name, moved in report["deviation"].items():
        size = "infinite" if moved is None else f"{moved:.3g}"
        lines.append(f"  lossy         {name}: relative deviation {size}")
    for name, reason in covered["digital_reasons"].items():
        lines.append(f"  digital       {name}: {reason}")
    lines.append(f"  written to    {path}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def update_summary(before: CompiledProgram, after: CompiledProgram, path: Path) -> None:
    """What new weights change: counts of one input, energy and power."""
    was, now = before.report["totals"], after.report["totals"]
    power = ("crossbar", "peripheral", "read")
    figures = {
        "weights": (was["nonzero_weights"], now["nonzero_weights"], "that aren't zero"),
        "MACs": (was["macs"], now["macs"], ""),
        "conversions": (was["adc_conversions"], now["adc_conversions"], ""),
        "energy": (was["energy_uj"]["total"], now["energy_uj"]["total"], "uJ"),
        **{f"{p} power": (now[f"{p}_power_before_w"], now[f"{p}_power_w"], "W") for p in power},
    }
    console = _console()
    for name, (old, new, unit) in figures.items():
        moved = f" ({new / old - 1:+.1%})" if old else ""
        console.print(Text(f"{name:<16} {number(old)} -> {number(new)} {unit}".rstrip() + moved))
    console.print(Text(f"{'written to':<16} {path}"), soft_wrap=True)


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
    if activity := document.get("activity"):
        activity_summary(console, activity)
    if output is not None:
        console.print(Text(f"outputs            {output}"))


def activity_summary(console: Console, activity: Mapping[str, Any]) -> None:
    """Energy of one input: fixed an action, and following the values."""
    for part, what in (("crossbar", "by the values"), ("adc", "for the conversions needed")):
        fixed, values = (
            sum(layer["energy_pj"][part][how] or 0.0 for layer in activity.values()) * 1e-6
            for how in ("fixed", "values")
        )
        console.print(
            f"{part + ' energy':<18} {number(values)} uJ {what}, {number(fixed)} uJ fixed an action"
        )


def cost_tables(program: CompiledProgram) -> None:
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
    area, energy = totals["area_mm2"], totals["energy_uj"]
    for name in [*(k for k in {**area, **energy} if k != "total"), "total"]:
        parts.add_row(name, f"{area.get(name, 0.0):.4g}", f"{energy.get(name, 0.0):.4g}")
    console.print(parts)
    console.print()
    facts = {
        "crossbars": f"{number(totals['crossbars'])} in {number(totals['cores'])} cores, "
        f"{number(totals['nodes'])} nodes; {totals['utilization']:.1%} of the cells in use",
        "memristors": number(totals["memristors"]),
        "MACs": number(totals["macs"]),
        "conversions": number(totals["adc_conversions"]),
        "latency": f"{number(totals['latency_us'])} us, "
        + ("row by row" if totals["schedule"] == "rows" else "layer after layer"),
        "throughput": f"{number(totals['throughput_ips'])} inputs/s, layers as a pipeline",
        "bottleneck": _bottleneck(totals["bottleneck"]),
        "power": f"{totals['power_w']:.4g} W at that rate",
        "cells": _power(totals),
        "programming": f"{number(totals['programming_energy_uj'])} uJ, "
        f"{totals['programming_time_ms']:.4g} ms",
    }
    for name, text in facts.items():
        if text:
            console.print(f"{name:<12} {text}")
    if report.get("calibration", {}).get("source") == "generated":
        console.print("\nActivation ranges come from generated inputs, not from calibration data.")
    if "random_weights" in report:
        seed = report["random_weights"]["seed"]
        console.print(f"\nWeights are random (seed {seed}): cost figures only.")


def _power(totals: Mapping[str, Any]) -> str:
    """Power with the cells as they are programmed, and what it was before."""
    if "read_power_w" not in totals:
        return ""
    now = (
        f"{totals['crossbar_power_w']:.4g} W in them as they are programmed, "
        f"{totals['read_power_w']:.4g} W with all else"
    )
    if totals["read_power_ratio"] == 1:
        return now
    return (
        f"{now}; {totals['read_power_ratio']:.1%} of {totals['read_power_before_w']:.4g} W with "
        f"{totals['read_power_baseline']}"
    )


def _bottleneck(found: Mapping[str, Any] | None) -> str:
    return "none" if found is None else f"{found['resource']} of {found['layer']}"


def compare_tables(document: Mapping[str, Any]) -> None:
    """Totals, components, then energy, time and crossbars of each layer, a column a program."""
    from xbarc.report.compare import CHARTED, names
    from xbarc.report.figures import BY_COMPONENT, HEADLINES, others, title, words

    console, totals = _console(), document["totals"]
    programs, called = document["programs"], names(document)
    table = _table("", *called)
    table.columns[0].justify = "left"
    table.add_row("Model", *(Text(str(p["model"])) for p in programs))
    table.add_row("Target", *(Text(str(p["target"])) for p in programs))
    if any(p["accuracy"] is not None for p in programs):
        table.add_row("Accuracy", *_compared("accuracy", [p["accuracy"] for p in programs]))
    named = {key: name for key, name in HEADLINES.items() if key in totals}
    for key, name in (named | {key: title(key) for key in others(totals)}).items():
        table.add_row(name, *_compared(key, totals[key]))
    console.print(table)
    for kind, caption in BY_COMPONENT.items():
        parts = _table("component", *called, title=f"\n{caption}")
        for key, values in totals.items():
            if key.startswith(f"{kind}.") and not key.endswith(".total"):
                parts.add_row(words(key.removeprefix(f"{kind}.")), *_compared(key, values))
        console.print(parts)
    for kind, caption in CHARTED:
        layers = _table("layer", *called, title=f"\n{caption}")
        for layer in document["layers"]:
            if kind in layer:
                layers.add_row(Text(layer["name"]), *_compared(kind, layer[kind]))
        console.print(layers)
    console.print("\nFor one input. ×: against the first program; –: it has no such figure.")


def _compared(key: str, values: Sequence[Any]) -> list[Text]:
    """A figure a program, with how it stands to the first one."""
    from xbarc.report.compare import ratio
    from xbarc.report.figures import quantity, unit_key

    against = [ratio(value, values[0]) for value in values]
    return [
        Text(f"{quantity(unit_key(key), value)}{how and f' ({how})'}")
        for value, how in zip(values, against, strict=True)
    ]


def source_tables(document: Mapping[str, Any]) -> None:
    """Every constant with its source, then what a core, a node and a chip add up to."""
    # A source stands in one line where nobody's screen is too narrow for it: for grep.
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=1000)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("constant", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("source", overflow="fold")
    above = ""
    for row in document["constants"]:
        value, source = row["value"], row["source"]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        repeated = console.is_terminal and source == above
        table.add_row(row["key"], Text(shown), Text("" if repeated else source))
        above = source
    console.print(table)
    console.print()
    rolled = _table("level", "area mm2", "power W")
    for level, sums in document["roll_up"].items():
        rolled.add_row(level, f"{sums['area_mm2']:.6g}", f"{sums['power_w']:.6g}")
    console.print(rolled)
    console.print("\narea and power at full load of one core, one node and one chip")


def _blocks_table(console: Console, blocks: Sequence[Mapping[str, Any]]) -> None:
    """A row a squeeze-and-excitation block; nothing where there is none."""
    if not blocks:
        return
    console.print("\nsqueeze-and-excitation")
    table = _table("layers", "channels", "pool", "activation", "gate", "scale", "tiles", "xbars")
    for block in blocks:
        behind = block["scale"]["behind"]
        table.add_row(
            Text(" + ".join(block["layers"])),
            f"{block['channels']}-{block['squeezed']}-{block['channels']}",
            block["pool"]["on"],
            block["activation"],
            block["gate"],
            Text("digital" if behind is None else f"digital, behind {behind}"),
            number(block["tiles"]),
            number(block["crossbars"]),
        )
    console.print(table)


def inspect_tables(document: Mapping[str, Any], *, with_choices: bool = False) -> None:
    """A row a layer; below, where they were asked for, what was chosen from, and the tiles."""
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
    _blocks_table(console, document["blocks"])
    for row in document["layers"] if with_choices else ():
        if "choice" in row:
            _choice(console, row["choice"])
    for row in document["layers"]:
        if "tile_list" not in row:
            continue
        console.print(Text(f"\n{row['name']}: rows [begin, end), weight columns [begin, end)"))
        for r0, r1, c0, c1 in row["tile_list"]:
            console.print(f"  rows {r0:>6} {r1:>6}   columns {c0:>6} {c1:>6}")
    for row in document["layers"]:
        if "patches" in row:
            console.print(Text("\n".join(["", row["name"], *_partition_lines(row["partition"])])))
    console.print(
        "\nxbars: crossbars; cells: of one weight; in: type of the input codes\n"
        "collapsed: physical columns whose sums provably can't reach the converters' limit, "
        "computed as one exact integer product"
    )


def _partition_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A layer's patches of outputs: sizes, a drawing, and where they begin and end."""
    from xbarc.ir.analysis.output_patches import draw

    def by(sizes: Sequence[int]) -> str:
        return "x".join(map(str, sizes))

    yield (
        f"{found['patches']} patches of {by(found['outputs'])} outputs on {by(found['map'])}"
        f"{' pixels in a row' if found['flat'] else ''}, each from {by(found['window'])} inputs, "
        f"of which neighbours share {by(found['overlap'])}"
    )
    yield f"rows driven for one image {found['rows']}, weight columns read {found['columns']}"
    yield from draw(found)
    for axis, spans in enumerate(found["axes"]):
        for key in ("outputs", "window"):
            shown = [f"{begin}:{end}" for begin, end in spans[key]]
            if len(shown) > SPANS_SHOWN:
                shown[SPANS_SHOWN - 1 : -1] = ["..."]
            yield f"  axis {axis} {key:<7} {' '.join(shown)}"


def _choice(console: Console, choice: Mapping[str, Any]) -> None:
    """What a layer's mapping was chosen from: the least first, then what can't take the layer.

    `program`: the figure chosen by of all layers together, as multiples of the chosen scheme's.
    """
    from xbarc.report.inspect import ranked

    figures = ("crossbars", "cycles", "energy uJ", "latency us", "area mm2", "mm2 us")
    columns = ("scheme", *figures, "program")
    table = _table(*columns, title=f"\nchosen by {choice['by']}")
    refused = [c for c in choice["candidates"] if "refused" in c]
    least = ranked(choice)[0].get("program")
    for candidate in ranked(choice):
        if "refused" not in candidate:
            table.add_row(
                Text(candidate["scheme"]),
                number(candidate["crossbars"]),
                number(candidate["cycles"]),
                f"{candidate['energy_pj'] * 1e-6:.4g}",
                f"{candidate['latency_ns'] * 1e-3:.4g}",
                f"{candidate['area_mm2']:.4g}",
                f"{candidate['area_delay_mm2_ns'] * 1e-3:.4g}",
                f"{candidate['program'] / least:.6g}" if "program" in candidate else "no room",
            )
    console.print(table)
    for candidate in refused:
        console.print(Text(f"{candidate['scheme']} is out: {candidate['refused']}"))
