"""The page of one program: `xbarc report`. Each section stands for itself, in page order."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xbarc.artifact import CompiledProgram
from xbarc.artifact.runs import Run
from xbarc.artifact.store import manifest
from xbarc.driver.compile import ALWAYS
from xbarc.hw.target import Array
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.report import charts
from xbarc.report.charts import Part, Row
from xbarc.report.figures import (
    HEADLINES,
    count,
    data,
    flatten,
    others,
    percent,
    quantity,
    si,
    title,
    words,
)
from xbarc.report.html import Child, Markup, Section, breakable, page, tag
from xbarc.report.inspect import ranked
from xbarc.report.page import floorplan
from xbarc.report.page import patches as partition
from xbarc.report.page.occupancy import Shape, picture, shapes

MOST_SHAPES = 6
"""Shapes of tiles drawn for a layer; the others are counted."""

MOST_RUNS = 10

CANDIDATE = {
    "crossbars": "Crossbars",
    "cycles": "Cycles",
    "energy_pj": "Energy",
    "latency_ns": "Latency",
    "area_mm2": "Area",
    "area_delay_mm2_ns": "Area × latency",
}
"""Figures of a scheme that a layer could be mapped by."""

ELSEWHERE = ("utilization", "start_ns", "finish_ns")
"""Figures of a layer that its charts show."""


def report_page(program: CompiledProgram, path: Path, runs: Sequence[Run] = ()) -> Markup:
    """The whole page of the program at `path`, with what its `runs` left, oldest first."""
    report = program.report
    sections = [
        overview(report, runs),
        components(report),
        layers(report),
        choices(report),
        pipeline(report),
        floorplan.section(program),
        occupancy(program),
        partition.section(program),
        results(runs),
        activity(report, runs),
        sources(program),
        repeat(program, path, runs),
    ]
    shown = [s for s in sections if s is not None]
    name, target = str(report["model"]), str(report["target"])
    head = tag(
        "header",
        tag("p", "xbarc report", class_="kind"),
        tag("h1", name, tag("span", " on ", class_="on"), target),
        tag("p", program.target.description, class_="lead"),
        contents([(s.anchor, s.heading) for s in shown]),
    )
    body = [tag("section", tag("h2", s.heading), s.body, id=s.anchor) for s in shown]
    return page(f"{name} on {target}", [head, tag("main", body)])


def contents(anchors: Sequence[tuple[str, str]]) -> Markup:
    """Links to the sections of the page."""
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading in anchors]
    return tag("nav", tag("ul", links), aria_label="Sections")


def overview(report: Mapping[str, Any], runs: Sequence[Run]) -> Section:
    """The totals: the ones that matter large, all of them in a table."""
    totals = dict(flatten(report["totals"]))
    cards = [
        card(name, data(f"totals.{key}", totals[key]))
        for key, name in HEADLINES.items()
        if key in totals
    ]
    if (run := latest(runs, "accuracy")) is not None:
        shown = data("run.accuracy", run.result.accuracy, percent(run.result.accuracy or 0))
        cards.insert(0, card(f"Accuracy, {count(run.result.samples)} samples", shown))
    rest = [
        card(title(key), data(f"totals.{key}", totals[key]))
        for key in others(totals)
        if isinstance(totals[key], int | float | str)
    ]
    figures = [tag("dl", cards, class_="cards"), tag("dl", rest, class_="facts")]
    return Section("overview", "Overview", [figures, notes(report)])


def card(name: str, figure: Child) -> Markup:
    """One figure with its name."""
    return tag("div", tag("dt", name), tag("dd", figure))


def notes(report: Mapping[str, Any]) -> Child:
    """What a reader must know before believing the figures."""
    lines: list[Child] = ["All figures are for one input (a batch of one)."]
    covered = report.get("coverage")
    if covered:
        operators = covered["crossbar_operators"] + covered["digital_operators"]
        lines.append(
            f"{covered['crossbar_operators']} of {operators} operators run on crossbars, "
            + (
                "not all multiply-accumulates can be counted."
                if covered["mac_share"] is None
                else f"with {percent(covered['mac_share'])} of the multiply-accumulates."
            )
        )
        lines += [
            ["Digital: ", breakable(name), f": {reason}"]
            for name, reason in covered.get("digital_reasons", {}).items()
        ]
    if report.get("calibration", {}).get("source") == "generated":
        lines.append(
            "Activation ranges come from generated inputs, not from calibration data: "
            "accuracy will suffer."
        )
    if "random_weights" in report:
        made_up = report["random_weights"]
        lines.append(
            f"{len(made_up['names'])} weights are random (seed {made_up['seed']}): "
            "costs mean something, results don't."
        )
    lines += [
        f"Lossy pass {name}: relative deviation {'infinite' if moved is None else f'{moved:.3g}'}."
        for name, moved in report.get("deviation", {}).items()
    ]
    return tag("ul", [tag("li", line) for line in lines], class_="notes")


def component_colors(report: Mapping[str, Any]) -> dict[str, str]:
    """One colour a component, through the whole page: the largest share of anything first."""
    shares: dict[str, float] = {}
    for kind in ("energy_uj", "area_mm2"):
        table = report["totals"][kind]
        for name, value in table.items():
            if name != "total" and table["total"]:
                shares[name] = max(shares.get(name, 0.0), value / table["total"])
            elif name != "total":
                shares.setdefault(name, 0.0)
    return charts.colors(shares)


def legend(colors: Mapping[str, str]) -> Markup:
    """The components' colours."""
    named = {words(name): color for name, color in colors.items() if color != "rest"}
    if "rest" in colors.values():
        named["others"] = "rest"
    return charts.legend(named)


def components(report: Mapping[str, Any]) -> Section:
    """Energy and area by component."""
    colors = component_colors(report)
    parts = [
        component_chart(report["totals"], "energy_uj", "Energy of one input", colors),
        component_chart(report["totals"], "area_mm2", "Area", colors),
    ]
    return Section("components", "Energy and area by component", tag("div", parts, class_="pair"))


def component_chart(
    totals: Mapping[str, Any], key: str, caption: str, colors: Mapping[str, str]
) -> Markup:
    """A bar a component, the largest first, and the total."""
    table = {k: v for k, v in totals[key].items() if k != "total"}
    whole, most = totals[key]["total"], max(table.values(), default=0.0)

    def row(name: str, value: float) -> Row:
        text = f"{words(name)}: {quantity(key, value)}"
        drawn = charts.bar([Part(value, colors[name], text)], most, text)
        share = percent(value / whole) if whole else "–"
        swatch = tag("i", class_=f"key {colors[name]}")
        return Row([swatch, words(name)], drawn, [data(f"totals.{key}.{name}", value), share])

    rows = [row(name, table[name]) for name in sorted(table, key=lambda n: -table[n])]
    foot = Row("total", "", [data(f"totals.{key}.total", whole), ""])
    return charts.table(caption, ["Component", "", "", "share"], rows, foot=foot)


def layers(report: Mapping[str, Any]) -> Section:
    """Energy and utilisation layer by layer, and the table of everything that was counted."""
    rows, colors = report["layers"], component_colors(report)
    energies = [sum(row["energy_pj"].values()) for row in rows]
    most = max(energies, default=0.0)

    def energy(i: int, row: Mapping[str, Any]) -> Row:
        ranked = sorted(row["energy_pj"].items(), key=lambda kv: list(colors).index(kv[0]))
        parts = [Part(v, colors[c], f"{words(c)}: {quantity('energy_pj', v)}") for c, v in ranked]
        label = f"{row['name']}: {quantity('energy_pj', energies[i])}"
        figure = data(f"layers.{i}.energy_pj", energies[i])
        return Row(breakable(row["name"]), charts.bar(parts, most, label), [figure])

    def used(i: int, row: Mapping[str, Any]) -> Row:
        share = row["utilization"]
        label = f"{row['name']}: {percent(share)} of the cells"
        drawn = charts.bar([Part(share, "s0", label)], 1.0, label)
        crossbars = data(f"layers.{i}.crossbars", row["crossbars"])
        figures = [data(f"layers.{i}.utilization", share), crossbars]
        return Row(breakable(row["name"]), drawn, figures)

    pair = [
        charts.table(
            "Energy of one input", ["Layer", "", ""], [energy(*r) for r in enumerate(rows)]
        ),
        charts.table(
            "Cells in use",
            ["Layer", "", "", "crossbars"],
            [used(*r) for r in enumerate(rows)],
            kind="outof",
        ),
    ]
    return Section(
        "layers",
        "Layers",
        [legend(colors), tag("div", pair, class_="pair"), layer_table(rows)],
    )


def layer_table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Everything counted, a row a layer."""
    plain = (int, float, str)
    found = dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, plain))
    columns = [c for c in found if c not in ("name", "op", "mapping", *ELSEWHERE)]

    def cell(row: Mapping[str, Any], column: str) -> Child:
        return data(None, row.get(column), quantity(column, row.get(column)))

    head = ["Layer", "Op", "Mapping", "Matrix", *map(title, columns)]
    body = [
        [
            breakable(row["name"]),
            row["op"],
            row["mapping"],
            " × ".join(map(str, row["matrix"])),
            *(cell(row, c) for c in columns),
        ]
        for row in rows
    ]
    return charts.grid("What is counted, for one input", head, body, numbers=3)


def choices(report: Mapping[str, Any]) -> Section | None:
    """How the mapping of each layer was chosen, and what the others would have cost."""
    found = report.get("mapping_choices")
    if not found:
        return None
    head = ["Layer", "Scheme", "", *CANDIDATE.values()]
    rows: list[list[Child]] = []
    for name, choice in found.items():
        for candidate in ranked(choice):
            chosen = candidate["scheme"] == choice["chosen"]
            state = "chosen" if chosen else candidate.get("refused", "")
            scheme = tag("b", candidate["scheme"]) if chosen else candidate["scheme"]
            rows.append([breakable(name), scheme, state, *map(_figure(candidate), CANDIDATE)])
    by = ", ".join(dict.fromkeys(choice["by"] for choice in found.values()))
    lead = (
        f"Each layer by itself under every scheme, chosen by {by} of all layers together; the "
        "others follow from the least on, then those that can't take the layer, and why."
    )
    table = charts.grid("What each scheme would cost, for one input", head, rows, numbers=3)
    return Section("choices", "Choice of the mappings", [tag("p", lead, class_="lead"), table])


def _figure(candidate: Mapping[str, Any]) -> Callable[[str], Child]:
    def shown(key: str) -> Child:
        value = candidate.get(key)
        if value is None or key != "area_delay_mm2_ns":
            return data(None, value, quantity(key, value))
        return data(None, value, f"{value:.4g} mm² ns")

    return shown


def pipeline(report: Mapping[str, Any]) -> Section:
    """When each layer works on one input, and what bounds a stream of them."""
    found = stages(report)
    whole = max((stage["finish_ns"] for stage in found), default=0.0)
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for stage in found:
        # Digital work stands with the layer whose nodes do it.
        rows.setdefault(stage.get("layer") or stage["name"], []).append(stage)
    digital = any(stage["kind"] == "digital" for stage in found)
    body = [
        gantt_row(i, name, parts, whole, lanes=1 + digital)
        for i, (name, parts) in enumerate(rows.items())
    ]
    ticks = charts.ticks(whole)
    labels = [(t / whole if whole else 0.0, si(t * 1e-9, "s")) for t in ticks]
    chart = charts.table(
        "When each layer works, for one input",
        ["Layer", charts.axis(labels), "start", "finish"],
        body,
        kind="gantt",
        step=labels[1][0] if len(labels) > 1 else None,
    )
    key = charts.legend({"crossbars": "s0", "digital units": "s1"}) if digital else ""
    return Section("pipeline", "Pipeline", [tag("p", pace(report), class_="lead"), key, chart])


def pace(report: Mapping[str, Any]) -> str:
    """How the program runs, and what bounds its throughput, in words."""
    totals = report["totals"]
    lines = [
        "A layer starts as soon as the rows that it needs are there, as scheduled."
        if totals.get("schedule") == "rows"
        else "Layer after layer: the program has no schedule."
    ]
    if "interval_us" in totals:
        interval = quantity("interval_us", totals["interval_us"])
        lines.append(f"In a stream there is an input every {interval}.")
    if worst := totals.get("bottleneck"):
        lines.append(f"What bounds it: {worst['resource']} of {worst['layer'] or 'no layer'}.")
    return " ".join(lines)


def stages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pipeline's stages; of a report without them a layer each, one after the other."""
    if "pipeline" in report:
        return list(report["pipeline"])
    found, now = [], 0.0
    for row in report["layers"]:
        times = {"start_ns": now, "finish_ns": now + row["latency_ns"]}
        found.append({"kind": "crossbar", "name": row["name"], **times, **_own_times(row)})
        now += row["latency_ns"]
    return found


def _own_times(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: row[key] for key in ("start_ns", "finish_ns") if key in row}


def gantt_row(
    i: int, name: str, parts: Sequence[Mapping[str, Any]], whole: float, lanes: int
) -> Row:
    """A layer's line of the chart: its crossbars above, its digital work below."""
    start = min(part["start_ns"] for part in parts)
    finish = max(part["finish_ns"] for part in parts)
    spans = []
    for part in parts:
        lane, color = (1, "s1") if part["kind"] == "digital" else (0, "s0")
        ends = (part["start_ns"], part["finish_ns"])
        about = f"{part['name']}: {si(ends[0] * 1e-9, 's')} to {si(ends[1] * 1e-9, 's')}"
        spans.append(charts.Span(*ends, color, about, lane, lanes))
    label = f"{name}: {si(start * 1e-9, 's')} to {si(finish * 1e-9, 's')}"
    figures = [data(f"pipeline.{i}.start_ns", start), data(f"pipeline.{i}.finish_ns", finish)]
    return Row(breakable(name), charts.spans(spans, whole, label), figures)


def occupancy(program: CompiledProgram) -> Section:
    """How each layer's tiles fill crossbars."""
    array = program.target.array
    mvms = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    lead = (
        f"Each picture is a crossbar of {array.rows} rows × {array.cols} columns; filled is what "
        "holds weights. Tiles that look alike are drawn once."
    )
    figures = [filled(op, array) for op in mvms]
    body = [tag("p", lead, class_="lead"), tag("div", figures, class_="layers")]
    return Section("occupancy", "Occupancy of the crossbars", body)


def filled(op: MvmOp, array: Array) -> Markup:
    """A layer's distinct tiles."""
    weights = weights_of(op)
    bits, found = weights.weight_bits, shapes(op)
    each = array.crossbars_per_tile(bits)
    pictures = [tile(shape, array, bits) for shape in found[:MOST_SHAPES]]
    others = found[MOST_SHAPES:]
    if others:
        left = sum(shape.count for shape in others)
        pictures.append(tag("li", f"and {count(left)} tiles of {count(len(others))} more shapes"))
    total = sum(shape.count for shape in found)
    (k, n), tiles = weights.matrix, f"{count(total)} tile{'s' * (total != 1)}"
    about = f"{k} × {n}, {tiles}" + (f", {each} crossbars a tile" if each > 1 else "")
    return tag(
        "figure",
        tag("figcaption", tag("b", breakable(weights.symbol)), tag("span", about)),
        tag("ul", pictures),
    )


def tile(shape: Shape, array: Array, bits: int) -> Markup:
    """One shape with its count."""
    columns = shape.cols * array.columns_per_weight(bits)
    share = percent(shape.occupied(array, bits))
    size = f"{shape.rows} × {columns}"
    label = f"{count(shape.count)} tiles of {size} cells, {share} of the crossbar"
    return tag(
        "li",
        picture(shape, array, bits, label),
        tag("b", f"{count(shape.count)} ×"),
        tag("span", size),
        tag("span", share),
    )


def latest(runs: Sequence[Run], field: str) -> Run | None:
    """The newest run that left this field."""
    left = (run for run in reversed(runs) if getattr(run.result, field) not in (None, {}))
    return next(left, None)


def results(runs: Sequence[Run]) -> Section:
    """Accuracy, and what the converters clipped, where a run left them."""
    heading = "Accuracy and converters"
    if not runs:
        text = "No run is kept with this program: `xbarc run` leaves its result here."
        return Section("runs", heading, tag("p", text, class_="lead"))
    newest = list(reversed(runs))[:MOST_RUNS]
    table = charts.grid(
        "Runs, the newest first" + (f" ({len(runs)} in all)" if len(runs) > MOST_RUNS else ""),
        ["When (UTC)", "Data", "Options", "Samples", "Accuracy", "Clipped at most", "Speed"],
        [run_row(i, run) for i, run in enumerate(newest)],
        numbers=3,
    )
    return Section("runs", heading, [table, saturation(newest[0])])


def run_row(i: int, run: Run) -> Sequence[Child]:
    """A line of the table of runs."""
    result = run.result
    worst = max((layer.saturated for layer in result.adc.values()), default=0.0)
    options = [[tag("span", o, class_="nb"), " "] for o in options_text(run.options)]
    return [
        f"{run.at:%Y-%m-%d %H:%M:%S}",
        run.input,
        options or "–",
        data(f"runs.{i}.samples", result.samples),
        data(f"runs.{i}.accuracy", result.accuracy),
        data(f"runs.{i}.saturated", worst),
        f"{result.images_per_second:.3g} /s",
    ]


def options_text(options: Mapping[str, bool | int | float | str]) -> Iterator[str]:
    """Options as they are typed."""
    for name, value in options.items():
        yield f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}"


def saturation(run: Run) -> Child:
    """What share of each layer's conversions was clipped in a run."""
    adc = run.result.adc
    most = max((layer.saturated for layer in adc.values()), default=0.0)
    lossless = sum(layer.lossless for layer in adc.values())
    about = (
        f"In the newest run. {lossless} of {len(adc)} layers can't lose anything in their "
        "converters, whatever the input: the programmed levels prove it."
    )
    lead = tag("p", about, class_="lead")
    if not most:
        return [lead, tag("p", "No conversion was clipped.")]

    def row(name: str) -> Row:
        share = adc[name].saturated
        label = f"{name}: {percent(share)} clipped"
        drawn = charts.bar([Part(share, "warn", label)], most, label)
        note = "lossless" if adc[name].lossless else ""
        return Row(breakable(name), drawn, [data(f"run.adc.{name}.saturated", share), note])

    rows = [row(name) for name in adc]
    return [lead, charts.table("Conversions that were clipped", ["Layer", "", "", ""], rows)]


def activity(report: Mapping[str, Any], runs: Sequence[Run]) -> Section | None:
    """Energy that follows the values beside the fixed one, where a run measured it."""
    run = latest(runs, "activity")
    if run is None:
        return None
    seen = run.result.activity
    sums = {
        (part, how): sum(getattr(la.energy_pj[part], how) or 0.0 for la in seen.values())
        for part in ("crossbar", "adc")
        for how in ("fixed", "values")
    }
    most = max(sums.values(), default=0.0)

    def row(part: str, how: str, name: str) -> Row:
        value = sums[part, how]
        label = f"{name}: {quantity('energy_pj', value)}"
        color = "s0" if how == "values" else "rest"
        drawn = charts.bar([Part(value, color, label)], most, label)
        return Row(name, drawn, [data(f"run.activity.{part}.{how}_pj", value)])

    names = {
        ("crossbar", "fixed"): "crossbar, fixed an action",
        ("crossbar", "values"): "crossbar, by the values",
        ("adc", "fixed"): "ADC, all conversions",
        ("adc", "values"): "ADC, those needed",
    }
    summary = charts.table(
        "Energy of one input", ["Component", "", ""], [row(*k, name=v) for k, v in names.items()]
    )
    about = (
        f"Measured on {count(run.result.samples)} samples of {run.input}. A cell takes V² G t: G "
        "is what it is programmed to, V what the input's level puts on its row. A conversion is "
        "needed where a row is driven and the column isn't all zero. Totals elsewhere are the "
        "fixed ones."
    )
    head = ["Layer", "rows driven", "conversions needed"]
    table = charts.grid(
        "Layer by layer, one input",
        [*head, *names.values()],
        [
            [
                breakable(name),
                data(f"run.activity.{name}.driven_rows", la.driven_rows, percent(la.driven_rows)),
                data(
                    f"run.activity.{name}.conversions_needed",
                    la.conversions_needed,
                    percent(la.conversions_needed),
                ),
                *(
                    data(f"run.activity.{name}.energy_pj", getattr(la.energy_pj[part], how))
                    for part, how in names
                ),
            ]
            for name, la in seen.items()
        ],
    )
    return Section(
        "activity",
        "Energy that follows the values",
        [tag("p", about, class_="lead"), summary, table],
    )


def sources(program: CompiledProgram) -> Section:
    """Every constant that names its source: the components', then the target's other tables."""
    components = program.report.get("components", {})
    target = program.target.model_dump(exclude_none=True)
    if components:
        target.pop("cost")
    found = [*sourced(components), *sourced(target)]
    rows = [[words(path), [source, pairs(constants)]] for path, constants, source in found]
    table = charts.grid("Constants and where they come from", ["Of", "Source"], rows, numbers=9)
    return Section("sources", "Sources of the constants", table)


def pairs(constants: Mapping[str, Any]) -> Markup:
    """Constants by the names that the target file has for them."""
    entries = [tag("div", tag("dt", k), tag("dd", shown(v))) for k, v in constants.items()]
    return tag("dl", entries)


def sourced(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each table with a source: its path, its constants, the source."""
    if values.get("source"):
        plain = {k: v for k, v in flatten(values) if k != "source" and v not in ("", None)}
        yield path, plain, str(values["source"])
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from sourced(value, f"{path}.{key}" if path else key)


def shown(value: Any) -> str:
    """A constant, in six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def repeat(program: CompiledProgram, path: Path, runs: Sequence[Run]) -> Section:
    """How to get this program again: commands, pipeline, versions, hashes."""
    origin = program.origin
    model, versions = origin.get("model", {}), origin.get("versions", {})
    files = manifest(path)["files"]
    own = [(name, digest) for name, digest in files.items() if "/" not in name]
    digital = sorted((f for f in files.items() if "/" in f[0]), key=lambda f: (len(f[0]), f[0]))
    if model.get("sha256"):
        own.insert(0, (f"{model['name']} (the model)", model["sha256"]))
    if (weights := origin.get("weights", {})).get("sha256"):
        own.insert(1, (f"{weights['name']} (the weights)", weights["sha256"]))
    built = [["xbarc", origin.get("xbarc", "unknown")], *([n, v] for n, v in versions.items())]
    body = [
        tag("pre", tag("code", "\n".join(commands(program, path, runs)))),
        tag("p", "Passes, in order: ", tag("code", ", ".join(program.report["passes"])), "."),
        tag(
            "div",
            charts.grid("Versions", ["Package", "Version"], built, numbers=9),
            hash_table("SHA-256 of the model and of the program's files", own),
            class_="pair",
        ),
    ]
    if digital:
        summary = tag("summary", f"and of its {count(len(digital))} digital parts")
        body.append(tag("details", summary, hash_table("SHA-256 of the digital parts", digital)))
    return Section("repeat", "How to repeat it", body)


def hash_table(caption: str, hashes: Sequence[tuple[str, str]]) -> Markup:
    """Files and their hashes."""
    rows = [[breakable(name), tag("code", digest)] for name, digest in hashes]
    return charts.grid(caption, ["File", "Hash"], rows, numbers=9)


def commands(program: CompiledProgram, path: Path, runs: Sequence[Run]) -> Iterator[str]:
    """The commands that make this program, and the runs on this page."""
    report, name = program.report, shlex.quote(path.name)
    compiled = ["xbarc compile", shlex.quote(str(report["model"]))]
    compiled += ["--target", shlex.quote(f"{path.name}/target.toml")]
    always, passes = ALWAYS.split(","), list(report["passes"])
    # These run by themselves, first.
    passes = passes[len(always) :] if passes[: len(always)] == always else passes
    if passes:
        compiled += ["--passes", shlex.quote(",".join(passes))]
    calibration = report.get("calibration", {})
    if calibration.get("source", "generated") not in ("generated", "arrays"):
        compiled += ["--calibration", shlex.quote(calibration["source"])]
    if calibration.get("percentile", 100) != 100:
        compiled += ["--percentile", str(calibration["percentile"])]
    for option, file in report.get("weight_files", {}).items():
        compiled += [f"--{option}", shlex.quote(file)]
    if "random_weights" in report:
        compiled += ["--random-weights", str(report["random_weights"]["seed"])]
    yield " ".join([*compiled, "-o", "again.xbar"])
    if updated := program.origin.get("weights"):
        yield f"xbarc update-weights again.xbar {shlex.quote(updated['name'])}"
    seen = set()
    for run in list(reversed(runs))[:MOST_RUNS]:
        line = f"xbarc run {name} --input {shlex.quote(run.input)}"
        line = " ".join([line, *options_text(run.options)])
        if line not in seen:
            yield line
        seen.add(line)
    yield f"xbarc report {name} -o report.html"
