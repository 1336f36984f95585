"""The page of one program: `xbarc report`. A section a file; here is their order."""

from collections.abc import Sequence
from pathlib import Path

from xbarc.artifact import CompiledProgram
from xbarc.artifact.runs import Run
from xbarc.artifact.trials import Record
from xbarc.report.html import Markup, page, tag
from xbarc.report.page import (
    activity,
    choices,
    components,
    devices,
    floorplan,
    layers,
    matrices,
    network,
    occupancy,
    overview,
    patches,
    pipeline,
    repeat,
    results,
    sources,
    trace,
)


def report_page(
    program: CompiledProgram,
    path: Path | None,
    runs: Sequence[Run] = (),
    trials: Sequence[Record] = (),
) -> Markup:
    """The whole page of the program at `path`: what its `runs` left, oldest first, and `trials`.

    Without `path` it is of a program that isn't saved.
    """
    report = program.report
    sections = [
        overview.section(report, runs),
        results.section(runs),
        trace.section(runs),
        devices.section(runs, trials),
        network.section(program),
        pipeline.section(report),
        components.section(report),
        layers.section(report),
        choices.section(report),
        floorplan.section(program),
        occupancy.section(program),
        matrices.section(program),
        patches.section(program),
        activity.section(runs),
        sources.section(program),
        repeat.section(program, path, runs, trials),
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
