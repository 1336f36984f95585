"""Clusters: a layer's matrix before and after its rows and columns were put in order."""

from xbarc.artifact import CompiledProgram
from xbarc.ir.dialect import MvmOp
from xbarc.report import saved
from xbarc.report.html import Section, breakable, tag
from xbarc.report.matrix import drawable, matrix_picture, svg
from xbarc.report.saved import Figure
from xbarc.support.units import count, percent

HEADING = "Weight matrices in order"

MOST_LAYERS = 8
"""Layers that are drawn; others `xbarc inspect` draws."""

SIZE = 96
"""Cells of a picture's side."""


def section(program: CompiledProgram) -> Section | None:
    """A pair of pictures a layer; none of a program that leaves no row or column out of order."""
    mvms = [op for op in program.module.walk() if isinstance(op, MvmOp) and drawable(op)]
    if not mvms:
        return None
    clusters = program.report.get("clusters", {})
    figures, several = [], []
    for op in mvms[:MOST_LAYERS]:
        picture = matrix_picture(program, op, SIZE)
        about = f"{picture.shape[0]} × {picture.shape[1]}, {count(picture.tiles)} tiles"
        if (found := clusters.get(picture.name)) is not None:
            held = found["clustered_weights"] / max(1, found["nonzero_weights"])
            dense, without = count(found["tiles_dense"]), count(found["tiles_unclustered"])
            about += (
                f" ({dense} of the whole matrix, {without} without clustering), {percent(held)} of "
                "the nonzero weights in dense tiles"
            )
        caption = tag("figcaption", tag("b", breakable(picture.name)), tag("span", about))
        drawn = svg(picture)
        figures.append(tag("figure", caption, drawn))
        sides = zip(saved.pictures(drawn), ("as it is", "in order"), strict=True)
        several.append(Figure(f"{picture.name}: {about}", [(side, [told]) for side, told in sides]))
    lead = (
        "A point is a weight that isn't zero; darker where there are more. Left: the matrix as it "
        "is. Right: its rows and columns in the order in which tiles hold them first. A frame is a "
        "tile on rows and columns that no tile before it has."
    )
    link = saved.link(HEADING, saved.gallery(HEADING, several, (240, 240), columns=2))
    body = [tag("p", lead, " ", link, class_="lead")]
    body.append(tag("div", figures, class_="layers wide"))
    if len(mvms) > MOST_LAYERS:
        others = f"{len(mvms) - MOST_LAYERS} more layers: xbarc inspect PROGRAM --matrix --svg FILE"
        body.append(tag("p", others, class_="lead"))
    return Section("matrices", HEADING, body)
