"""`xbarc reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from xbarc.cli import options
from xbarc.cli.output import console, print_json, table
from xbarc.support.errors import UsageError

EXAMPLES = (
    "xbarc reproduce --list",
    "xbarc reproduce trannsformer --quick -o page.html",
)


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[PAPER]", help="trannsformer, msccnn, ckf, sub-image")
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="The papers, and what each takes.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="In minutes, on data that comes with a package.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PAGE.html", help="Where the page is written."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Train, count and compare as a paper does: its figures beside ours."""
    from xbarc.reproduce.paper import PAPERS, paper, shown

    if listed or name is None:
        if not listed:
            raise UsageError(f"which paper? one of {', '.join(PAPERS)}; --list describes them")
        for each in PAPERS:
            found = paper(each)
            print(f"{each}: {found.TITLE}\n  source:  {found.SOURCE}")
            print(f"  --quick: {found.QUICK}\n  in full: {found.FULL}")
        return
    from xbarc.report.html import write_page
    from xbarc.reproduce.page import result_page
    from xbarc.support.files import check_output

    found = paper(name)
    path = output or Path(f"reproduce-{name}.html")
    check_output(path)
    result = found.reproduce(quick, lambda what: typer.echo(what, err=True))
    write_page(path, result_page(found, result, quick=quick))
    if as_json:
        print_json({"paper": name, "quick": quick, "page": str(path), **result.document()})
        return
    out = console()
    for part in result.tables:
        out.print(f"\n{part.title}")
        made = table("figure", "paper", "ours", "kind", "note")
        for line in part.lines:
            published = "" if line.paper is None else shown(line.paper, line.unit)
            made.add_row(line.what, published, shown(line.ours, line.unit), line.kind, line.note)
        out.print(made)
    for note in result.notes:
        out.print(f"\n{note}")
    out.print(f"\n{path}")
