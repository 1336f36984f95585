"""A program in a notebook: its headline figures as a small table of HTML."""

from xbarc.artifact import CompiledProgram
from xbarc.report.figures import HEADLINES, flatten, unit_key
from xbarc.report.html import Markup, tag
from xbarc.support.units import quantity

CELL = "text-align:left;padding:.1em 1.5em .1em 0"
"""A notebook has no style sheet of ours."""


def card(program: CompiledProgram) -> Markup:
    """The model, the target, and the totals that matter most."""
    report = program.report
    totals = dict(flatten(report.get("totals", {})))
    rows = [
        tag("tr", tag("th", name, style=CELL), tag("td", quantity(unit_key(key), totals[key])))
        for key, name in HEADLINES.items()
        if key in totals
    ]
    head = tag("b", f"{report.get('model', 'a program')} on {program.target.name}")
    about = tag("div", program.target.description)
    return tag("div", head, about, tag("table", rows), class_="xbarc-program")
