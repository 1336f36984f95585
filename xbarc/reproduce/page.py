"""The page of a reproduction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xbarc.artifact import CompiledProgram
from xbarc.report.charts import Segment, bar
from xbarc.report.html import Markup, page, tag
from xbarc.report.matrix import matrix_pictures, svg
from xbarc.reproduce.paper import Line, Paper, Result, shown
from xbarc.support.errors import XbarcError


@dataclass(frozen=True)
class Bar:
    """A row of a picture: its length, what is written behind it, its colour (`s0` ..)."""

    name: str
    value: float
    text: str
    color: str = "s0"


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """Bars below each other, on one scale."""
    most = max(row.value for row in rows)
    drawn = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", bar([Segment(row.value, row.color, row.name)], most, row.name)),
            tag("td", row.text),
        )
        for row in rows
    ]
    return tag("figure", tag("figcaption", tag("b", title)), tag("table", drawn, class_="grid"))


def matrices(name: str, program: CompiledProgram) -> Iterator[Markup]:
    """The matrices of a network before and after their rows and columns were put in order."""
    try:
        found = matrix_pictures(program, None, 96)
    except XbarcError:  # Each matrix stands on one tile: it has one order only.
        return
    for p in found:
        title = tag("figcaption", tag("b", f"{name}: {p.name}"), tag("span", p.caption))
        yield tag("figure", title, svg(p))


def result_page(paper: Paper, result: Result, *, quick: bool) -> Markup:
    """Tables of the paper's figures beside ours, pictures, and notes."""
    scope = paper.QUICK if quick else paper.FULL
    head = tag(
        "header",
        tag("p", "xbarc reproduce", class_="kind"),
        tag("h1", paper.TITLE),
        tag("p", f"{paper.SOURCE}. Here: {scope}.", class_="lead"),
    )
    about = (
        "reproduction: counted or trained as the paper says. model: by our own reconstruction of "
        "what it doesn't say, or on other data."
    )
    body = [tag("section", tag("h2", "Notes"), tag("p", about, class_="lead"), _notes(result))]
    tables = [tag("section", tag("h2", part.title), _table(part.lines)) for part in result.tables]
    pictures = [tag("section", tag("h2", "Pictures"), result.pictures)] if result.pictures else []
    return page(f"{paper.TITLE} reproduced", [head, tag("main", [*tables, *pictures, *body])])


def _notes(result: Result) -> list[Markup]:
    return [tag("p", note) for note in result.notes]


def _table(lines: tuple[Line, ...]) -> Markup:
    head = tag("tr", [tag("th", text) for text in ("figure", "paper", "ours", "kind", "note")])
    rows = [
        tag(
            "tr",
            tag("th", line.what, scope="row"),
            tag("td", "" if line.paper is None else shown(line.paper, line.unit), class_="nb"),
            tag("td", shown(line.ours, line.unit), class_="nb"),
            tag("td", line.kind),
            tag("td", line.note),
        )
        for line in lines
    ]
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", rows), class_="grid"), class_="scroll"
    )
