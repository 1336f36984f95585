"""Where crossbars stand and when layers run: what the tile passes write on operations.

    copies 4                        an mvm's crossbars stand four times
    at [[0, 3, 2, 120], ...]        node, core, crossbar, count: consecutive crossbars from there on
    time [0.0, 117964.8]            one image: first start and last finish, ns
    stream [0.0, 117964.8]          the first of a stream of images; image k is k intervals later

Ranges stand copy by copy, in a copy tile by tile, the crossbars of a tile together. `at` counts on
the mesh that the module names; the interval of the stream stands on the module too.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntAttr,
    IntegerAttr,
    ModuleOp,
    f64,
    i64,
)
from xdsl.ir import Attribute, Operation, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.mesh import Mesh, Range
from xbarc.ir.dialect.attributes import ints, parse_ints

MESH = "xbar.mesh"
"""The module attribute that holds the mesh that `at` counts on."""

INTERVAL = "xbar.interval_ns"
"""The module attribute that holds the time between two images of a stream."""

COPIES, AT, TIME, STREAM = "copies", "at", "time", "stream"


@irdl_attr_definition
class MeshAttr(ParametrizedAttribute):
    """The mesh of nodes that crossbars are placed on (`xbarc.hw.mesh.Mesh`)."""

    name = "xbar.mesh"

    chips: IntAttr
    nodes: IntAttr
    cores: IntAttr
    crossbars: IntAttr
    width: IntAttr
    band: IntAttr

    @staticmethod
    def of(mesh: Mesh) -> "MeshAttr":
        """The attribute of a mesh."""
        fields = (mesh.chips, mesh.nodes, mesh.cores, mesh.crossbars, mesh.width, mesh.band)
        return MeshAttr(*map(IntAttr, fields))

    def mesh(self) -> Mesh:
        """The mesh."""
        return Mesh(*(cast(IntAttr, p).data for p in self.parameters))

    def verify(self) -> None:
        """At least one of everything; not wider than its nodes, a million nodes at most."""
        mesh = self.mesh()
        if min(cast(IntAttr, p).data for p in self.parameters) < 1 or mesh.width > mesh.nodes:
            raise VerifyException("a mesh has at least one of each, and is no wider than its nodes")
        if mesh.total_nodes > 1 << 20:
            raise VerifyException(f"a mesh of {mesh.total_nodes} nodes: at most {1 << 20}")

    def print_parameters(self, printer: Printer) -> None:
        """`<2 chips of 168 nodes of 12 cores of 8 crossbars, 14 wide, bands of 3>`"""
        m = self.mesh()
        printer.print_string(
            f"<{m.chips} chips of {m.nodes} nodes of {m.cores} cores of {m.crossbars} crossbars, "
            f"{m.width} wide, bands of {m.band}>"
        )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The inverse of `print_parameters`."""
        sizes = []
        with parser.in_angle_brackets():
            for unit in ("chips", "nodes", "cores"):
                sizes.append(parser.parse_integer())
                parser.parse_keyword(unit)
                parser.parse_keyword("of")
            sizes.append(parser.parse_integer())
            parser.parse_keyword("crossbars")
            parser.parse_punctuation(",")
            sizes.append(parser.parse_integer())
            parser.parse_keyword("wide")
            parser.parse_punctuation(",")
            parser.parse_keyword("bands")
            parser.parse_keyword("of")
            sizes.append(parser.parse_integer())
        return [IntAttr(size) for size in sizes]


def module_of(op: Operation) -> ModuleOp | None:
    """The module around `op`."""
    root: Operation | None = op
    while root is not None and not isinstance(root, ModuleOp):
        root = root.parent_op()
    return root


def mesh_of(op: Operation) -> Mesh | None:
    """The mesh that the module around `op` is placed on, where it says one."""
    module = module_of(op)
    found = None if module is None else module.attributes.get(MESH)
    return found.mesh() if isinstance(found, MeshAttr) else None


def interval_of(module: ModuleOp) -> float | None:
    """The time between two images of a stream in ns, where the module is scheduled."""
    found = module.attributes.get(INTERVAL)
    return float(found.value.data) if isinstance(found, FloatAttr) else None


def set_interval(module: ModuleOp, interval_ns: float) -> None:
    """Write the time between two images of a stream on the module."""
    module.attributes[INTERVAL] = FloatAttr(interval_ns, f64)


def clear_schedule(module: ModuleOp) -> None:
    """Take away all times: for a pass that changes what they follow from."""
    module.attributes.pop(INTERVAL, None)
    for op in module.walk():
        for name in (TIME, STREAM):
            op.properties.pop(name, None)


def clear_places(module: ModuleOp) -> None:
    """Take away where crossbars stand: for a pass that changes their number."""
    module.attributes.pop(MESH, None)
    for op in module.walk():
        op.properties.pop(AT, None)


def copies_of(op: Operation) -> int:
    """How often an mvm's crossbars stand there."""
    found = op.properties.get(COPIES)
    return found.value.data if isinstance(found, IntegerAttr) else 1


def set_copies(op: Operation, copies: int) -> None:
    """Write how often an mvm's crossbars stand there."""
    op.properties.pop(COPIES, None)
    if copies != 1:
        op.properties[COPIES] = IntegerAttr(copies, i64)


def ranges_of(op: Operation) -> list[Range]:
    """The ranges of crossbars that an mvm stands on; none where it isn't placed."""
    found = op.properties.get(AT)
    if not isinstance(found, DenseArrayBase):
        return []
    flat = [int(v) for v in found.get_values()]
    return list(zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True))


def set_ranges(op: Operation, ranges: Sequence[Range]) -> None:
    """Write where an mvm stands."""
    op.properties[AT] = ints([v for r in ranges for v in r])


def span_of(op: Operation, name: str) -> tuple[float, float] | None:
    """Start and finish in ns: `name` is `time` (one image) or `stream`."""
    found = op.properties.get(name)
    if not isinstance(found, DenseArrayBase):
        return None
    start, finish = found.get_values()
    return float(start), float(finish)


def set_span(op: Operation, name: str, span: tuple[float, float]) -> None:
    """Write start and finish in ns; `name` is `time` or `stream`."""
    op.properties[name] = DenseArrayBase.from_list(f64, [float(v) for v in span])


def print_clauses(printer: Printer, op: Operation) -> None:
    """` copies 2 at [[0, 0, 0, 16]] time [0.0, 8.0] stream [0.0, 8.0]`, those that are there."""
    if copies_of(op) != 1:
        printer.print_string(f" copies {copies_of(op)}")
    if ranges := ranges_of(op):
        printer.print_string(f" at [{', '.join(str(list(r)) for r in ranges)}]")
    for name in (TIME, STREAM):
        if (span := span_of(op, name)) is not None:
            printer.print_string(f" {name} [{_real(span[0])}, {_real(span[1])}]")


def _real(value: float) -> str:
    # MLIR wants a point before the exponent: 1e+16 is written 1.0e+16.
    mantissa, exp, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exp}{exponent}"


def parse_clauses(parser: Parser, *, placed: bool) -> dict[str, Attribute]:
    """The inverse of `print_clauses`; `copies` and `at` only where `placed`."""
    properties: dict[str, Attribute] = {}
    if placed and parser.parse_optional_keyword(COPIES):
        properties[COPIES] = IntegerAttr(parser.parse_integer(), i64)
    if placed and parser.parse_optional_keyword(AT):
        ranges = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parse_ints(parser)
        )
        if any(len(r) != 4 for r in ranges):
            parser.raise_error("a range of crossbars is [node, core, crossbar, count]")
        properties[AT] = ints([v for r in ranges for v in r])
    for name in (TIME, STREAM):
        if parser.parse_optional_keyword(name):
            span = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_number)
            if len(span) != 2:
                parser.raise_error(f"{name} is [start, finish] in ns")
            properties[name] = DenseArrayBase.from_list(f64, [float(v) for v in span])
    return properties


def verify_times(op: Operation) -> None:
    """No finish before its start, no start before zero."""
    for name in (TIME, STREAM):
        span = span_of(op, name)
        if span is not None and not 0 <= span[0] <= span[1] < float("inf"):
            raise VerifyException(f"{name} is [start, finish] in ns with 0 <= start <= finish")


def verify_placement(op: Operation, crossbars: int) -> None:
    """`crossbars` x copies stand on ranges of the mesh; no crossbar is taken twice.

    `crossbars` are those of one copy.
    """
    copies, ranges = copies_of(op), ranges_of(op)
    if copies < 1:
        raise VerifyException("a layer stands at least once")
    if not ranges:
        return
    mesh = mesh_of(op)
    if mesh is None:
        raise VerifyException("`at` needs a module that says its xbar.mesh")
    for r in ranges:
        _verify_range(mesh, r)
    stand = sum(count for *_, count in ranges)
    if stand != copies * crossbars:
        raise VerifyException(
            f"{stand} crossbars in its ranges, {copies} x {crossbars} in its tiles"
        )
    _verify_disjoint(op, mesh)


def _verify_range(mesh: Mesh, r: Range) -> None:
    node, core, crossbar, count = r
    within = node >= 0 and 0 <= core < mesh.cores and 0 <= crossbar < mesh.crossbars
    if not within or count < 1:
        raise VerifyException(f"range {list(r)} isn't [node, core, crossbar, count] on the mesh")
    if mesh.number(node, core, crossbar) + count > mesh.capacity:
        raise VerifyException(f"range {list(r)} reaches beyond the {mesh.capacity} crossbars")


def _verify_disjoint(op: Operation, mesh: Mesh) -> None:
    block = op.parent_block()
    if block is None:
        return
    # Where an mvm stands beside another, the crossbars are that one's.
    placed = (o for o in block.ops if ranges_of(o) and "beside" not in o.properties)
    # Once for the whole block: its first operation with a place looks at all of them.
    if next(placed) is not op:
        return
    begins, counts = zip(
        *((mesh.number(*r[:3]), r[3]) for o in (op, *placed) for r in ranges_of(o)),
        strict=True,
    )
    order = np.argsort(begins)
    begin, end = np.array(begins)[order], (np.array(begins) + counts)[order]
    twice = np.flatnonzero(begin[1:] < end[:-1])
    if len(twice):
        node, core, crossbar = mesh.first(int(begin[1:][twice[0]]))
        raise VerifyException(f"crossbar {crossbar} of core {core} of node {node} is taken twice")
