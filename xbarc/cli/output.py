"""What commands print with: tables, figures and JSON on stdout, warnings on stderr."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xbarc.support.errors import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

LONGEST_LINE = 300
"""Characters of an error or a warning."""

PIPE_WIDTH = 160
"""Columns of a file or a pipe: nothing is shortened to the width of a screen that isn't there."""

WRAPPED = ("layer", "figure", "note")
"""Columns of long text: a narrow screen breaks their lines, and figures stay whole."""

LEFT = (*WRAPPED, "op", "mapping", "component", "in", "kind")
"""Columns of text; the others are figures, at the right."""


def warn(text: str) -> None:
    """A warning: the command goes on."""
    print(shortened(f"xbarc: warning: {visible(text)}"), file=sys.stderr)


def shortened(line: str, longest: int = LONGEST_LINE) -> str:
    """A line of at most that many characters: where it is longer, its middle goes."""
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def shown(document: Any) -> Any:
    """A copy of a document whose texts, which are somebody's names, can be printed."""
    if isinstance(document, str):
        return visible(document)
    if isinstance(document, Mapping):
        return {shown(key): shown(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [shown(value) for value in document]
    return document


def print_json(document: Any) -> None:
    """One JSON document."""
    from xbarc.support.document import to_json

    print(to_json(document))


def console(pipe_width: int = PIPE_WIDTH) -> "Console":
    """Stdout, `pipe_width` wide where it is no terminal; text is printed as it is."""
    from rich.console import Console

    class Plain(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(
                *(visible(o, "\n\t") if isinstance(o, str) else o for o in objects), **options
            )

    # A layer may be called [red] or :x:, which Rich would read as colours and signs.
    found = Plain(highlight=False, markup=False, emoji=False)
    if found.is_terminal:
        return found
    return Plain(highlight=False, markup=False, emoji=False, width=pipe_width)


def progress_bar() -> "Progress":
    """Bars on stderr, where that is a terminal; they are gone at the end."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def table(*columns: str, title: str | None = None) -> "Table":
    """An empty table of these columns."""
    from rich.table import Table

    class Plain(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(visible(c) if isinstance(c, str) else c for c in cells), **options)

    made = Plain(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="left" if name in LEFT else "right",
            overflow="fold" if name in WRAPPED else "ellipsis",
            no_wrap=name not in WRAPPED,
        )
    return made


def number(value: float) -> str:
    """A figure in four digits at most, with an SI letter from ten thousand up: 9999, 31.7M."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (1e4 if letter == "k" else scale):
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"
