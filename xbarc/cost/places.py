"""Where layers stand: ranges of crossbars on the mesh."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xbarc.hw.mesh import Mesh, Range, mesh_for
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, copies_of, mesh_of, ranges_of, weights_of

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Places:
    """The mesh, and the ranges of crossbars on it that each mvm stands on.

    `written`: by the pass `place`; else all stand in program order along the plain snake (model).
    """

    mesh: Mesh
    ranges: Mapping[MvmOp, list[Range]]
    written: bool

    def by_layer(self) -> dict[str, list[Range]]:
        """The ranges of all mvms of each layer, by its name."""
        found: dict[str, list[Range]] = {}
        for op, ranges in self.ranges.items():
            found.setdefault(weights_of(op).symbol, []).extend(ranges)
        return found

    def chips(self) -> dict[str, list[int]]:
        """The chips that each layer stands on, in order."""
        return {
            name: sorted({*(self.mesh.load(ranges)[0] // self.mesh.nodes).tolist()})
            for name, ranges in self.by_layer().items()
        }


def places_of(mvms: Sequence[MvmOp], target: Target) -> Places:
    """Where the mvms of a program stand. Where not all are placed, none is.

    One that stands beside another has that one's ranges. Whether the target has so many chips isn't
    asked here (`xbarc.hw.mesh.check_room`).
    """
    mesh = mesh_of(mvms[0]) if mvms else None
    if mesh is not None and all(map(ranges_of, mvms)):
        return Places(mesh, {op: ranges_of(op) for op in mvms}, written=True)
    hosts = {op: op.host or op for op in mvms}
    counts = {op: op.crossbars() * copies_of(op) for op in mvms if hosts[op] is op}
    mesh = mesh_for(target, sum(counts.values()))
    found = in_order(mesh, counts)
    return Places(mesh, {op: found[host] for op, host in hosts.items()}, written=False)


def in_order(mesh: Mesh, counts: Mapping[Key, int]) -> dict[Key, list[Range]]:
    """Ranges of `counts` crossbars each, one after the other from the first crossbar on."""
    ranges, begin = {}, 0
    for key, count in counts.items():
        ranges[key] = [(*mesh.first(begin), count)]
        begin += count
    return ranges
