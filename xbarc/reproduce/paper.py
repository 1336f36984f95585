"""What a reproduction is: figures beside the paper's, and how each one was come by."""

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from xbarc.report.html import Child
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.units import UNITS, quantity

PAPERS = ("trannsformer", "msccnn", "ckf", "sub-image")
"""Each is a module of this package, `-` written `_`."""

Kind = Literal["reproduction", "model"]

Progress = Callable[[str], None]
"""Is told what is being done."""


@dataclass(frozen=True)
class Line:
    """A figure: what it is of, ours, the paper's (None where it has none), and its kind.

    `reproduction`: counted or trained as the paper says. `model`: by our own reconstruction of what
    it doesn't say, or on other data.
    """

    what: str
    ours: float
    paper: float | None
    kind: Kind
    unit: str = ""
    note: str = ""


def shown(value: float, unit: str) -> str:
    """A figure with its unit; physical ones as all commands write them."""
    if unit.lower() in UNITS:
        return quantity(f"figure_{unit.lower()}", value)
    text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    return f"{text} {unit}".strip()


@dataclass(frozen=True)
class Table:
    """Lines that belong together."""

    title: str
    lines: tuple[Line, ...]


@dataclass
class Result:
    """What a reproduction came to: tables, pictures for the page, and what one should know."""

    tables: list[Table] = field(default_factory=list)
    pictures: list[Child] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, title: str, lines: Sequence[Line]) -> None:
        """One more table."""
        self.tables.append(Table(title, tuple(lines)))

    def document(self) -> dict[str, Any]:
        """What `xbarc reproduce --json` prints."""
        return {"tables": [asdict(table) for table in self.tables], "notes": self.notes}


class MissingDataError(XbarcError):
    """A file that a full reproduction needs isn't there."""


class Paper(Protocol):
    """A module of this package."""

    TITLE: str
    SOURCE: str
    QUICK: str
    FULL: str

    def reproduce(self, quick: bool, progress: Progress) -> Result:
        """Train, count, compare. Raises `XbarcError` where data or an extra is missing."""


def paper(name: str) -> Paper:
    """The paper of that name. Raises `UsageError` where there is none."""
    if name not in PAPERS:
        raise UsageError(f"no paper {name!r}: {nearest(name, PAPERS)}")
    module = importlib.import_module(f"xbarc.reproduce.{name.replace('-', '_')}")
    return cast(Paper, module)


def data_file(name: str) -> Path:
    """A file below XBARC_DATA. Raises `MissingDataError` where it isn't there."""
    folder = os.environ.get("XBARC_DATA")
    if not folder or not (path := Path(folder) / name).is_file():
        raise MissingDataError(
            f"the full reproduction needs {name} in the folder that XBARC_DATA names: set it, or "
            "use --quick"
        )
    return path


def percent_less(after: float, before: float) -> float:
    """How much less `after` is than `before`, in percent, as a negative number."""
    return 100 * (after / before - 1) if before else 0.0
