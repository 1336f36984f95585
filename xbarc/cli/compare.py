"""`xbarc compare`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, print_json, shown, table
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from xbarc.report.compare import Notes


DIFFERENCES = 12
"""Keys that are printed of those in which programs differ; --json has all."""


EXAMPLES = (
    "xbarc compare a.xbar b.xbar",
    "xbarc compare a.xbar b.xbar c.xbar -o compare.html",
)


def command(
    programs: Annotated[
        list[Path], typer.Argument(metavar="A.xbar B.xbar...", help="Compiled programs.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="COMPARE.html", help="A page as well.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the same figures of several programs side by side; layers match by name."""
    from xbarc.api import load
    from xbarc.artifact.runs import recorded
    from xbarc.report import compare_page, compare_programs, write_page
    from xbarc.report.compare import caveats
    from xbarc.support.files import check_output

    if output is not None:
        check_output(output)
    if len(programs) < 2:
        raise UsageError("compare takes two programs at least")
    document = compare_programs([(path, load(path), recorded(path)[0]) for path in programs])
    if output is not None:
        write_page(output, compare_page(document))
    if as_json:
        print_json(document)
        return
    out = console()
    for made in _tables(shown(document)):
        out.print(made)
    out.print("\nFor one input. ×: against the first program; –: it has no such figure.")
    for i, text in enumerate(caveats(document)[0]):
        out.print(f"[{i + 1}] {text}.")
    if output is not None:
        print(f"\nwritten to {output}")


def _tables(document: Mapping[str, Any]) -> Iterator["Table"]:
    """Totals, components, then energy, time and crossbars of each layer, a column a program."""
    from xbarc.report.compare import CHARTED, caveats, names
    from xbarc.report.figures import BY_COMPONENT, words

    called, totals = names(document), document["totals"]
    notes = caveats(document)[1]
    if document["differences"]:
        yield _differences(document, called)
    yield _totals(document, called)
    for kind, caption in BY_COMPONENT.items():
        parts = table("component", *called, title=f"\n{caption}")
        for key, values in totals.items():
            if key.startswith(f"{kind}.") and not key.endswith(".total"):
                parts.add_row(words(key.removeprefix(f"{kind}.")), *_compared(key, values, notes))
        yield parts
    for kind, caption in CHARTED:
        layers = table("layer", *called, title=f"\n{caption}")
        for layer in document["layers"]:
            if kind in layer:
                layers.add_row(layer["name"], *_compared(kind, layer[kind]))
        yield layers


def _differences(document: Mapping[str, Any], called: Sequence[str]) -> "Table":
    """What the programs were made of and for, where they differ; the first rows."""
    made = table("what differs", *called)
    made.columns[0].justify = "left"
    found = list(document["differences"].items())
    for key, values in found[:DIFFERENCES]:
        made.add_row(key, *("-" if value is None else str(value) for value in values))
    if len(found) > DIFFERENCES:
        made.add_row(f"and {len(found) - DIFFERENCES} more: --json", *[""] * len(called))
    made.add_section()
    return made


def _totals(document: Mapping[str, Any], called: Sequence[str]) -> "Table":
    from xbarc.report.compare import caveats, unlike, widths
    from xbarc.report.figures import HEADLINES, others, title, unit_key
    from xbarc.support.units import quantity

    programs, totals = document["programs"], document["totals"]
    made = table("", *called)
    made.columns[0].justify = "left"
    made.add_row("Model", *(str(p["model"]) for p in programs))
    made.add_row("Target", *(str(p["target"]) for p in programs))
    made.add_row("Weights x inputs", *map(widths, programs))
    if any(p["accuracy"] is not None for p in programs):
        apart, accuracies = unlike(programs), [p["accuracy"] for p in programs]
        plain = [quantity(unit_key("accuracy"), a) for a in accuracies]
        made.add_row("Accuracy", *(plain if apart else _compared("accuracy", accuracies)))
        made.add_row("with", *(p["devices"] or "-" for p in programs))
        made.add_row("over samples", *(str(p["samples"] or "-") for p in programs))
        if apart:
            made.add_row("not comparable", *[f"{', '.join(apart)} differ"] * len(programs))
    named = {key: name for key, name in HEADLINES.items() if key in totals}
    notes = caveats(document)[1]
    for key, name in (named | {key: title(key) for key in others(totals)}).items():
        made.add_row(name, *_compared(key, totals[key], notes))
    return made


def _compared(key: str, values: Sequence[Any], notes: "Notes | None" = None) -> list[str]:
    """A figure a program, with how it stands to the first one, and its caveats."""
    from xbarc.report.compare import marks, ratio
    from xbarc.report.figures import unit_key
    from xbarc.support.units import quantity

    cells = []
    for i, value in enumerate(values):
        how = ratio(value, values[0])
        parts = [quantity(unit_key(key), value), how and f"({how})", marks(notes or {}, key, i)]
        cells.append(" ".join(part for part in parts if part))
    return cells
