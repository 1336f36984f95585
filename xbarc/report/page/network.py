"""The network: what stands on crossbars, what is digital, and who reads whom.

A line a part, in the order of the program. Crossbars stand in one column of the drawing, digital
parts in another; what isn't read by the next line runs down a lane of its own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xdsl.ir import SSAValue

from xbarc.artifact import CompiledProgram
from xbarc.graph.serialize import parse
from xbarc.ir.analysis.stages import INPUT, Stage, stages_of
from xbarc.ir.dialect import MvmOp, shape_of
from xbarc.ir.interface import main_function
from xbarc.report import charts, saved
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, Section, breakable, tag
from xbarc.support.units import count, quantity

MOST_ROWS = 160
"""Lines that are drawn; of a longer program the first and the last, and one for those between."""

MOST_LANES = 8
"""Lanes beside the two columns; what finds none is counted, not drawn."""

MOST_KINDS = 4
"""Kinds of operators that are named of a digital part."""

LANE, HIGH = 22, 100
"""Units across a lane; units down a line, which stretches with its text."""

CROSSBARS, DIGITAL = "s0", "s1"
"""Their colours, as in the pipeline."""


@dataclass(frozen=True)
class Part:
    """A line: its name or operators, how the program has it, and the lines that it reads.

    `kind`: `crossbars`, `digital`, `edge` (inputs and outputs) or `folded`.
    """

    name: str
    kind: str
    about: str
    reads: tuple[int, ...]
    crossbars: int | None = None
    energy_pj: float | None = None
    layer: int | None = None
    """Its number among the report's layers."""


def section(program: CompiledProgram) -> Section | None:
    """The picture; none of a program without a stage."""
    stages = stages_of(program.module)
    if not stages:
        return None
    every = [*parts(program, stages)]
    shown = folded(every)
    lanes, left_out = lanes_of(shown)
    drawings = [*drawn(shown, lanes)]
    lead = (
        "From the inputs above to the outputs below. A square is a layer on crossbars, a dot a "
        "digital part: the operators between two layers. A line leads from what computes a value "
        "to what reads it."
    )
    if len(shown) < len(every):
        lead += (
            f" {count(len(every))} lines are too many to draw: those between the first and the "
            "last stand as one. xbarc inspect PROGRAM --onnx FILE writes the whole network."
        )
    if left_out:
        lead += f" {count(left_out)} connections that run beside many others aren't drawn."
    key = {"on crossbars": CROSSBARS, "digital": DIGITAL}
    return Section(
        "network",
        "Network",
        [
            tag("p", lead, class_="lead"),
            charts.legend(key),
            table(shown, drawings, key, width_of(lanes)),
        ],
    )


# The lines


def parts(program: CompiledProgram, stages: Sequence[Stage]) -> Iterator[Part]:
    """The inputs, each stage, the outputs. Line i + 1 is stage i."""
    rows = {str(row["name"]): (i, row) for i, row in enumerate(program.report["layers"])}
    block = main_function(program.module).body.block
    yield Part("inputs", "edge", "; ".join(map(_shape, block.args)), ())
    for stage in stages:
        reads = tuple(sorted({flow.stage - INPUT for flow in stage.flows}))
        if isinstance(stage.op, MvmOp):
            yield _layer(stage.name, reads, *rows.get(stage.name, (None, {})))
        else:
            done = operators(program.digital.get(stage.name, b""))
            yield Part(done or stage.name, "digital", stage.name, reads)
    index = {stage.op: i + 1 for i, stage in enumerate(stages)}
    returned = block.last_op
    values = [] if returned is None else [*returned.operands]
    ends = tuple(sorted({_producer(value, index) for value in values}))
    yield Part("outputs", "edge", "; ".join(map(_shape, values)), ends)


def _layer(name: str, reads: tuple[int, ...], number: int | None, row: Mapping[str, Any]) -> Part:
    if number is None:
        return Part(name, "crossbars", "", reads)
    matrix = " × ".join(map(str, row["matrix"]))
    about = f"{row['op']} {matrix}, {row['mapping']}"
    if row["copies"] > 1:
        about += f", {row['copies']} copies"
    energy = sum(row["energy_pj"].values())
    return Part(name, "crossbars", about, reads, row["crossbars"], energy, number)


def operators(content: bytes) -> str:
    """What a digital file computes: its operators, the most frequent first.

    Raises `XbarcError` where it is damaged.
    """
    kinds = Counter(node.op_type for node in parse(content, "a digital part").graph.node)
    named = [kind if n == 1 else f"{n} {kind}" for kind, n in kinds.most_common(MOST_KINDS)]
    others = len(kinds) - len(named)
    return ", ".join(named) + (f" and {others} more kind{'s' * (others > 1)}" if others > 0 else "")


def _shape(value: SSAValue) -> str:
    """The shape of one input's part of a tensor."""
    return " × ".join(str(size) for size in shape_of(value) if size > 0) or "a number"


def _producer(value: SSAValue, index: Mapping[Any, int]) -> int:
    """The line that a value comes from: 0 of an input."""
    while (op := value.owner) not in index:
        operands = getattr(op, "operands", ())
        if not operands:
            return 0
        value = operands[0]
    return index[op]


def folded(every: Sequence[Part]) -> list[Part]:
    """The lines that are drawn: all, or the first and the last with one in place of the others."""
    if len(every) <= MOST_ROWS:
        return list(every)
    first, last = MOST_ROWS // 2, len(every) - (MOST_ROWS - MOST_ROWS // 2 - 1)
    inner = every[first:last]
    layers = [part for part in inner if part.kind == "crossbars"]
    digital = sum(part.kind == "digital" for part in inner)

    def place(line: int) -> int:
        if line < first:
            return line
        return first if line < last else line - last + first + 1

    def moved(part: Part) -> tuple[int, ...]:
        return tuple(sorted({place(line) for line in part.reads}))

    reads = {place(line) for part in inner for line in part.reads} - {first}
    middle = Part(
        f"{count(len(inner))} lines between",
        "folded",
        f"{count(len(layers))} layers on crossbars, {count(digital)} digital parts",
        tuple(sorted(reads)),
        sum(part.crossbars or 0 for part in layers),
        sum(part.energy_pj or 0.0 for part in layers),
    )
    ends = [replace(part, reads=moved(part)) for part in every[last:]]
    return [*every[:first], middle, *ends]


# The drawing


Lanes = dict[int, tuple[int, int]]
"""Of a line whose result is read further down: its lane, and the last line that reads it there."""


def lanes_of(shown: Sequence[Part]) -> tuple[Lanes, int]:
    """A lane for each result that isn't read by the next line only, and how many connections none.

    A result takes the first lane that is free as far down as it is read.
    """
    last: dict[int, list[int]] = {}
    for line, part in enumerate(shown):
        for read in part.reads:
            if read < line - 1:
                last.setdefault(read, []).append(line)
    free_from = [0] * MOST_LANES
    lanes: Lanes = {}
    left_out = 0
    for line, readers in last.items():
        lane = next((i for i, end in enumerate(free_from) if end <= line), None)
        if lane is None:
            left_out += len(readers)
            continue
        lanes[line] = lane, max(readers)
        free_from[lane] = max(readers)
    return dict(sorted(lanes.items())), left_out


def width_of(lanes: Lanes) -> int:
    """Units across the drawing: two columns, and the lanes in use."""
    return LANE * (2 + max((lane + 1 for lane, _ in lanes.values()), default=0))


def drawn(shown: Sequence[Part], lanes: Lanes) -> Iterator[Markup]:
    """The drawing of each line; one upon the other they are the picture."""
    width = width_of(lanes)
    middle = HIGH // 2

    def column(part: Part) -> float:
        return LANE * (1.5 if part.kind == "digital" else 0.5)

    def beside(lane: int) -> float:
        return LANE * (2.5 + lane)

    for line, part in enumerate(shown):
        x, path = column(part), ""
        if line and line - 1 in part.reads:
            path += f"M{(column(shown[line - 1]) + x) / 2:g} 0L{x:g} {middle}"
        if line + 1 < len(shown) and line in shown[line + 1].reads:
            path += f"M{x:g} {middle}L{(column(shown[line + 1]) + x) / 2:g} {HIGH}"
        for start, (lane, end) in lanes.items():
            at = beside(lane)
            if start == line:
                path += f"M{x:g} {middle}L{at:g} {HIGH}"
            elif start < line <= end:
                if start in part.reads and start < line - 1:
                    path += f"M{at:g} 0L{x:g} {middle}"
                if line < end:
                    path += f"M{at:g} 0L{at:g} {HIGH}"
        marks = {
            "crossbars": f"dots part square line-{CROSSBARS}",
            "digital": f"dots part line-{DIGITAL}",
            "edge": "dots part line-ink",
            "folded": "dots part line-rest",
        }
        yield tag(
            "svg",
            tag("path", d=path, class_="line line-rest") if path else "",
            tag("path", d=f"M{x:g} {middle}h0", class_=marks[part.kind]),
            viewBox=f"0 0 {width} {HIGH}",
            preserveAspectRatio="none",
            role="img",
            aria_label=_told(part, shown),
        )


def _told(part: Part, shown: Sequence[Part]) -> str:
    """A line of the picture in words."""
    reads = ", ".join(shown[line].name for line in part.reads[:MOST_KINDS])
    more = len(part.reads) - MOST_KINDS
    others = f" and {more} more" if more > 0 else ""
    return f"{part.name}: {part.kind}" + (f", reads {reads}{others}" if reads else "")


def table(
    shown: Sequence[Part], drawings: Sequence[Markup], key: Mapping[str, str], width: int
) -> Markup:
    """A row a line: its part of the picture, its name, what it does, its crossbars and energy."""
    head = ["", "Layer or operators", "As", "Crossbars", "Energy of an input"]

    def row(part: Part, drawing: Markup) -> Markup:
        figures: list[Child] = ["", ""]
        if part.energy_pj is not None:
            at = None if part.layer is None else f"network.{part.layer}"
            figures = [
                data(at and f"{at}.crossbars", part.crossbars, count(part.crossbars or 0)),
                data(
                    at and f"{at}.energy_pj", part.energy_pj, quantity("energy_pj", part.energy_pj)
                ),
            ]
        return tag(
            "tr",
            tag("td", drawing, class_="graph"),
            tag("th", breakable(part.name), scope="row"),
            tag("td", part.about),
            [tag("td", figure, class_="n") for figure in figures],
        )

    title = "The network, line by line"
    rows = [
        saved.Row(f"{part.name}: {part.about}" if part.about else part.name, drawing, [])
        for part, drawing in zip(shown, drawings, strict=True)
    ]
    link = saved.link("network", saved.graph(title, rows, width, key))
    return tag(
        "table",
        tag("caption", title, " ", link),
        tag(
            "thead",
            tag(
                "tr",
                [
                    tag("th", h, scope="col", class_="n" if i > 2 else None)
                    for i, h in enumerate(head)
                ],
            ),
        ),
        tag("tbody", [row(*each) for each in zip(shown, drawings, strict=True)]),
        class_="network",
        style=f"--graph:{width}px",
    )
