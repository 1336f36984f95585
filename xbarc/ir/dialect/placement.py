"""On which crossbars an mvm stands: what `replicate`, `place` and `share-crossbars` write.

    copies 4                        its crossbars stand four times
    at [[0, 3, 2, 120], ...]        node, core, crossbar, count: consecutive crossbars from there on
    beside @first                   on cells that an earlier mvm's tiles leave free

Ranges stand copy by copy, in a copy tile by tile, the crossbars of a tile together. `at` counts on
the mesh that the module names.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp
from xdsl.ir import Operation
from xdsl.irdl import IRDLOperation
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    irdl_custom_directive,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.mesh import Mesh, Range
from xbarc.ir.dialect.assembly import integer, ints, parse_lists
from xbarc.ir.dialect.mesh import MESH, mesh_of

COPIES, AT, BESIDE = "copies", "at", "beside"

Op = TypeVar("Op", bound=Operation)


def clear_places(module: ModuleOp) -> None:
    """Remove all places: for a pass that changes the number of crossbars."""
    module.attributes.pop(MESH, None)
    for op in module.walk():
        op.properties.pop(AT, None)


def copies_of(op: Operation) -> int:
    """The number of copies of an mvm's crossbars."""
    found = op.properties.get(COPIES)
    return found.value.data if isinstance(found, IntegerAttr) else 1


def set_copies(op: Operation, copies: int) -> None:
    """Set the number of copies of an mvm's crossbars."""
    op.properties.pop(COPIES, None)
    if copies != 1:
        op.properties[COPIES] = integer(copies)


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


@irdl_custom_directive
class Ranges(CustomDirective):
    """`at [[0, 3, 2, 120], ...]`, fours that are stored as one list."""

    ranges: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Nothing, where another word comes."""
        if not parser.parse_optional_keyword(AT):
            return
        ranges = parse_lists(parser)
        if any(len(r) != 4 for r in ranges):
            parser.raise_error("a range of crossbars is [node, core, crossbar, count]")
        self.ranges.set(state, ints([v for r in ranges for v in r]))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """` at [[0, 3, 2, 120]]`"""
        if ranges := ranges_of(op):
            printer.print_string(f" at [{', '.join(str(list(r)) for r in ranges)}]")


def host_of(op: Op) -> Op | None:
    """The mvm on whose crossbars `op` stands, the nearest one of that name before it.

    None where it stands on its own, or where there is no such.
    """
    beside, other = op.properties.get(BESIDE), op.prev_op
    while beside is not None and other is not None:
        if isinstance(other, type(op)) and other.properties.get("weights") == beside:
            return other
        other = other.prev_op
    return None


def verify_beside(op: Op) -> Op:
    """The one that `op` stands beside: an earlier one in the same place, with no other guest.

    Raises `VerifyException` where there is no such.
    """
    name, host = op.properties[BESIDE], host_of(op)
    if host is None:
        raise VerifyException(f"{name} is no earlier mvm to stand beside")
    if BESIDE in host.properties:
        raise VerifyException(f"{name} itself stands beside another")
    if copies_of(host) != copies_of(op):
        raise VerifyException(f"it stands {copies_of(op)} times, {name} doesn't")
    if ranges_of(host) != ranges_of(op):
        raise VerifyException(f"it stands elsewhere than {name}")
    between = op.prev_op
    while between is not None and between is not host:
        if between.properties.get(BESIDE) == name:
            raise VerifyException(f"another mvm stands beside {name} already")
        between = between.prev_op
    return host


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
    placed = (o for o in block.ops if ranges_of(o) and BESIDE not in o.properties)
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
