"""`xbarc report`."""

from pathlib import Path
from typing import Annotated

import typer

from xbarc.cli import options
from xbarc.cli.output import warn

EXAMPLES = ("xbarc report model.xbar -o report.html",)


def command(
    program: options.ProgramPath,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="REPORT.html", help="The page to write.")
    ] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page: figures, pictures, sources, how to repeat it."""
    from xbarc.api import load
    from xbarc.artifact import runs, trials
    from xbarc.report import report_page, write_page
    from xbarc.support.files import check_output

    check_output(output)
    loaded = load(program)
    kept, faults = runs.recorded(program)
    studies, others = trials.recorded(program)
    write_page(output, report_page(loaded, program, kept, studies))
    for fault in (*faults, *others):
        warn(fault)
    print(output)
