"""Several programs side by side: the document of `xbarc compare --json`, and its page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xbarc.artifact import CompiledProgram
from xbarc.artifact.caveats import mark, stands_at
from xbarc.artifact.runs import Run, headline
from xbarc.ir.analysis.widths import Widths
from xbarc.report import charts
from xbarc.report.charts import Row, Segment
from xbarc.report.figures import (
    BY_COMPONENT,
    HEADLINES,
    component_colors,
    data,
    flatten,
    others,
    title,
    totals_of,
    words,
)
from xbarc.report.html import Child, Markup, Section, breakable, page, tag
from xbarc.support.units import digits, quantity

LAYER_FIGURES = (
    "crossbars",
    "memristors",
    "utilization",
    "vectors",
    "activations",
    "cycles",
    "macs",
    "adc_conversions",
    "energy_pj",
    "latency_ns",
)
CHARTED = (
    ("energy_pj", "Energy of an input, streaming"),
    ("latency_ns", "Time of one input alone"),
    ("crossbars", "Crossbars"),
)

AN_OPERATION = (
    *("tops", "tops_per_w", "tops_per_mm2", "energy_per_mac_pj"),
    *("peak.tops", "peak.tops_per_w", "peak.tops_per_mm2", "peak.energy_per_mac_pj"),
)
"""Figures that are of operations, which mean little beside those of other widths."""

Entry = tuple[Path, CompiledProgram, Sequence[Run]]


def compare_programs(entries: Sequence[Entry]) -> dict[str, Any]:
    """The same figures of each program; a list has one entry a program, null where it has none.

    `programs`: path, model, target, passes, technology, widths, caveats, and the accuracy of the
    run that stands for it. `differences`: {model, passes, or a key of the target: values} where the
    programs differ.
    `totals`: {dotted key: values}. `layers`: by name, in the order of the first program that has
    it; `energy_pj` is the sum over the components.
    """
    reports = [program.report for _, program, _ in entries]
    tables = [totals_of(report) for report in reports]
    figures = {
        key: [table.get(key) for table in tables]
        for key in _together(tables)
        if _plain(tables, key)
    }
    rows = [{row["name"]: row for row in report["layers"]} for report in reports]
    return {
        "programs": [_program(*entry) for entry in entries],
        "differences": _differences([program for _, program, _ in entries]),
        "totals": figures,
        "layers": [_layer(name, rows) for name in _together(rows)],
    }


def _differences(programs: Sequence[CompiledProgram]) -> dict[str, list[Any]]:
    """What the programs were made of and for, where that isn't the same for all."""
    made = [_made(program) for program in programs]
    keys = [key for key in _together(made) if len({str(m.get(key)) for m in made}) > 1]
    return {key: [m.get(key) for m in made] for key in keys}


def _made(program: CompiledProgram) -> dict[str, Any]:
    """The model, the passes, and the target key by key, but for what only describes it."""
    report = program.report
    target = program.target.model_dump(mode="json", exclude_none=True)
    told = {
        key: value
        for key, value in flatten(target)
        if key not in ("name", "description") and not key.endswith("source")
    }
    return {"model": report["model"], "passes": ", ".join(report["passes"]), **told}


def _together(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """All keys, those of the first table first, each of a later one after its forerunner there."""
    keys: list[str] = []
    for table in tables:
        place = 0
        for key in table:
            if key in keys:
                place = keys.index(key) + 1
            else:
                keys.insert(place, key)
                place += 1
    return keys


def _plain(tables: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(isinstance(t.get(key), int | float | str | None) for t in tables)


def _program(path: Path, program: CompiledProgram, runs: Sequence[Run]) -> dict[str, Any]:
    report, target = program.report, program.target
    found, shown = Widths.of(program.module), headline(runs)
    return {
        "path": str(path),
        "model": report["model"],
        "target": report["target"],
        "passes": report["passes"],
        "node_nm": target.technology.node_nm,
        "weight_bits": list(found.weights) or [target.weights.bits],
        "input_bits": list(found.inputs) or [target.inputs.bits],
        "caveats": report["caveats"],
        "accuracy": None if shown is None else shown.result.accuracy,
        "metric": None if shown is None else shown.result.metric,
        "samples": None if shown is None else shown.result.samples,
        "input": None if shown is None else shown.input,
        "devices": None if shown is None else shown.devices,
    }


def unlike(programs: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what the runs behind the accuracies differ, so that these can't be compared."""
    known = [program for program in programs if program["accuracy"] is not None]
    differing = {"metric": "metric", "input": "data", "samples": "samples", "devices": "devices"}
    return [word for key, word in differing.items() if len({str(p[key]) for p in known}) > 1]


def _layer(name: str, rows: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    found = [table.get(name) for table in rows]
    known = [key for key in LAYER_FIGURES if any(row and key in row for row in found)]
    return {
        "name": name,
        "mapping": [row and row["mapping"] for row in found],
        **{key: [_figure(row, key) for row in found] for key in known},
    }


def _figure(row: Mapping[str, Any] | None, key: str) -> Any:
    if row is None:
        return None
    return sum(row[key].values()) if key == "energy_pj" else row.get(key)


def ratio(value: Any, first: Any) -> str:
    """`value` against the first program's: `×0.5`; nothing where that says nothing."""
    numbers = isinstance(value, int | float) and isinstance(first, int | float)
    if not numbers or not first or value == first:
        return ""
    return f"×{digits(float(f'{value / first:.3g}'))}"


def names(document: Mapping[str, Any]) -> list[str]:
    """What the programs are called: their folders' names where these differ, else their paths."""
    paths = [Path(p["path"]) for p in document["programs"]]
    short = [path.name or str(path) for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


Notes = dict[str, dict[int, list[int]]]
"""Of a figure's key, for the programs whose figure has caveats, their numbers."""


def caveats(document: Mapping[str, Any]) -> tuple[list[str], Notes]:
    """The caveats of all programs, each once, and where they stand: beside which figures."""
    texts: list[str] = []
    notes: Notes = {}
    for i, program in enumerate(document["programs"]):
        for caveat in program["caveats"]:
            if caveat["text"] not in texts:
                texts.append(caveat["text"])
            number = texts.index(caveat["text"]) + 1
            for key in document["totals"]:
                if stands_at(caveat["of"], key):
                    notes.setdefault(key, {}).setdefault(i, []).append(number)
    if len({widths(program) for program in document["programs"]}) > 1:
        texts.append("An operation is another in each: see weights x inputs, and the node")
        for key in (key for key in AN_OPERATION if key in document["totals"]):
            for i, _ in enumerate(document["programs"]):
                notes.setdefault(key, {}).setdefault(i, []).append(len(texts))
    return texts, notes


def marks(notes: Notes, key: str, program: int) -> str:
    """The numbers of a figure's caveats: `[1, 3]`; nothing where it has none."""
    return mark(notes.get(key, {}).get(program, []))


def widths(program: Mapping[str, Any]) -> str:
    """What a program's figures are at: `8 x 8 bits, 32 nm`; `4/8 x 8` where layers differ."""
    weights, inputs = ("/".join(map(str, program[f"{of}_bits"])) for of in ("weight", "input"))
    return f"{weights} x {inputs} bits, {program['node_nm']:g} nm"


def compare_page(document: Mapping[str, Any]) -> Markup:
    """The comparison as a page."""
    called = names(document)
    sections = [
        Section("programs", "Programs", _programs(document, called)),
        Section("totals", "Totals", _totals(document, called)),
        Section("components", "Energy and area by component", _components(document, called)),
        Section("layers", "Layers", _layers(document, called)),
    ]
    between = tag("span", " and ", class_="on")
    head = tag(
        "header",
        tag("p", "xbarc compare", class_="kind"),
        tag("h1", [name if i == 0 else [between, name] for i, name in enumerate(called)]),
        tag(
            "p",
            "All figures are for one input; × is against the first program; [ ] are the notes "
            "below.",
            class_="lead",
        ),
    )
    body = [tag("section", tag("h2", s.heading), s.body, id=s.anchor) for s in sections]
    return page("xbarc compare: " + ", ".join(called), [head, tag("main", body)])


def _cells(key: str, values: Sequence[Any], notes: Notes | None = None) -> list[Child]:
    """A cell a program: the figure, how it stands to the first one, and its caveats."""
    cells: list[Child] = []
    for i, value in enumerate(values):
        more = [ratio(value, values[0]) if i else ""]
        more.append(marks(notes or {}, key.removeprefix("totals."), i))
        small = [tag("small", text) for text in more if text]
        cells.append([data(key, value), *small])
    return cells


def _programs(document: Mapping[str, Any], called: Sequence[str]) -> Child:
    rows = [
        [
            breakable(name),
            breakable(str(program["model"])),
            str(program["target"]),
            widths(program),
            ", ".join(program["passes"]),
        ]
        for name, program in zip(called, document["programs"], strict=True)
    ]
    compared = charts.grid(
        "What is compared",
        ["Program", "Model", "Target", "Weights x inputs", "Passes"],
        rows,
        numbers=9,
    )
    differing = [
        [key, *("–" if value is None else breakable(str(value)) for value in values)]
        for key, values in document["differences"].items()
    ]
    if not differing:
        return [compared, tag("p", "They were made of the same model, for the same target.")]
    head = ["", *map(breakable, called)]
    return [compared, charts.grid("What differs", head, differing, numbers=9)]


def _totals(document: Mapping[str, Any], called: Sequence[str]) -> Child:
    totals, head = document["totals"], ["", *map(breakable, called)]
    rows: list[Sequence[Child]] = []
    accuracies = [program["accuracy"] for program in document["programs"]]
    if any(accuracy is not None for accuracy in accuracies):
        apart = unlike(document["programs"])
        cells = [[data("accuracy", a)] for a in accuracies] if apart else None
        rows.append(["Accuracy", *(cells or _cells("accuracy", accuracies))])
        rows.append(["with", *(program["devices"] or "–" for program in document["programs"])])
        rows.append(["over samples", *(str(p["samples"] or "–") for p in document["programs"])])
        if apart:
            rows.append([f"Not comparable: {', '.join(apart)} differ", *[""] * len(accuracies)])
    texts, notes = caveats(document)
    rows += [
        [name, *_cells(f"totals.{key}", totals[key], notes)]
        for key, name in HEADLINES.items()
        if key in totals
    ]
    more = [[title(key), *_cells(f"totals.{key}", totals[key], notes)] for key in others(totals)]
    listed = [tag("li", f"[{i + 1}] {text}.") for i, text in enumerate(texts)]
    below = [tag("ul", listed, class_="notes")] if listed else []
    return [
        charts.grid("Figures side by side", head, rows),
        *below,
        tag(
            "details",
            tag("summary", "All other totals and counters"),
            charts.grid("Counts", head, more),
        ),
    ]


def _components(document: Mapping[str, Any], called: Sequence[str]) -> Child:
    tables = {
        kind: {
            key.removeprefix(f"{kind}."): [v or 0.0 for v in values]
            for key, values in document["totals"].items()
            if key.startswith(f"{kind}.") and not key.endswith(".total")
        }
        for kind in BY_COMPONENT
    }
    colors = component_colors({name for table in tables.values() for name in table})
    notes, pair = caveats(document)[1], []
    for kind, caption in BY_COMPONENT.items():
        table = tables[kind]
        wholes = [sum(values[i] for values in table.values()) for i in range(len(called))]
        rows = []
        for i, name in enumerate(called):
            segments = [
                Segment(table[c][i], colors[c], f"{words(c)}: {quantity(kind, table[c][i])}")
                for c in colors
                if c in table
            ]
            label = f"{name}: {quantity(kind, wholes[i])}"
            figure = data(f"totals.{kind}.total", document["totals"][f"{kind}.total"][i])
            drawn = charts.bar(segments, max(wholes, default=0.0), label)
            rows.append(Row(breakable(name), drawn, [figure]))
        chart = charts.table(caption, ["Program", "", ""], rows, key=charts.families(colors))
        cells = [
            [words(c), *_cells(f"totals.{kind}.{c}", document["totals"][f"{kind}.{c}"], notes)]
            for c in colors
            if c in table
        ]
        detail = charts.grid(
            f"{caption}, by component", ["Component", *map(breakable, called)], cells
        )
        pair.append(tag("div", chart, detail))
    return [charts.component_legend(colors), tag("div", pair, class_="pair")]


def _layers(document: Mapping[str, Any], called: Sequence[str]) -> Child:
    colors = [f"s{i}" if i < charts.COLORS else "rest" for i in range(len(called))]
    legend = charts.legend(dict(zip(called, colors, strict=True)))
    found = [_chart(document, called, colors, *entry) for entry in CHARTED]
    return [legend, tag("div", found, class_="triple")]


def _chart(
    document: Mapping[str, Any],
    called: Sequence[str],
    colors: Sequence[str],
    key: str,
    caption: str,
) -> Markup:
    """A bar a program for each layer."""
    layers = [layer for layer in document["layers"] if key in layer]
    most = max((v for layer in layers for v in layer[key] if v is not None), default=0.0)

    def row(i: int, layer: Mapping[str, Any]) -> Row:
        bars, figures = [], []
        for name, color, value in zip(called, colors, layer[key], strict=True):
            label = f"{layer['name']}, {name}: {quantity(key, value)}"
            bars.append(charts.bar([Segment(value or 0.0, color, label)], most, label))
            figures.append(tag("div", data(f"layers.{i}.{key}", value)))
        return Row(breakable(layer["name"]), bars, [figures])

    rows = [row(i, layer) for i, layer in enumerate(layers)]
    names = dict(zip(called, colors, strict=True))
    return charts.table(f"{caption}, by layer", ["Layer", "", ""], rows, kind="several", key=names)
