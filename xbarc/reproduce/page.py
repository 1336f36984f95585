"""The page of a reproduction."""

from xbarc.report.html import Markup, page, tag
from xbarc.reproduce.paper import Line, Paper, Result, shown


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
