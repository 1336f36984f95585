"""Where stages stand on the mesh, and what travels between them over its wires."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp

from xbarc.cost.events import Edge, Hops, one_hop
from xbarc.cost.places import places_of
from xbarc.cost.time.rates import Rates
from xbarc.hw.mesh import Mesh, Range, Spread, WireLoads, check_room, mean_hops, wire_loads
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import INPUT, Stage
from xbarc.ir.dialect import MvmOp, StreamType, copies_of


def placed(stages: Sequence[Stage], target: Target) -> tuple[Mesh, dict[int, list[Range]]]:
    """The mesh and each layer's ranges on it, by the index of the stage.

    Raises `XbarcError` where the layers don't fit the target's chips.
    """
    layers = {i: s.op for i, s in enumerate(stages) if isinstance(s.op, MvmOp)}
    check_room(target, sum(op.crossbars() * copies_of(op) for op in layers.values()))
    found = places_of([*layers.values()], target)
    return found.mesh, {i: found.ranges[op] for i, op in layers.items()}


def hosts(stages: Sequence[Stage]) -> list[int | None]:
    """For each stage the layer (its index) on whose nodes it runs; None if there is no layer.

    A digital operation runs on the nodes of the layer whose results it takes; if there are several,
    of the last one. An operation that reads only the model's inputs runs at the first layer.
    """
    first = next((i for i, s in enumerate(stages) if s.is_layer), None)
    found: list[int | None] = []
    for index, stage in enumerate(stages):
        if stage.is_layer:
            found.append(index)
            continue
        behind = [found[f.stage] for f in stage.flows if f.stage != INPUT]
        found.append(max((h for h in behind if h is not None), default=first))
    return found


@dataclass(frozen=True)
class Transfer:
    """Values that leave the nodes of one layer for another's: `flow` of stage `stage`."""

    stage: int
    flow: int
    source: int
    to: int
    bits: int


def transfers(stages: Sequence[Stage], target: Target) -> list[Transfer]:
    """The tensors that travel between the nodes of different layers for one image.

    A value travels once, as a code of the reading layer's input width, or of `inputs.bits` on its
    way to a digital unit. The model's inputs don't count, because the program doesn't say where
    they come from.
    """
    at = hosts(stages)
    found = []
    for index, stage in enumerate(stages):
        bits = target.inputs.bits
        if isinstance(stage.op, MvmOp):
            stream: Any = cast(StreamType, stage.op.input.type)
            bits = stream.element.width.data
        for number, flow in enumerate(stage.flows):
            source, to = None if flow.stage == INPUT else at[flow.stage], at[index]
            if source is not None and to is not None and source != to and flow.elements:
                found.append(Transfer(index, number, source, to, flow.elements * bits))
    return found


def placed_hops(module: ModuleOp, target: Target) -> Hops:
    """Mean hops from one layer's nodes to another's, at least one.

    The model's inputs and outputs count as one hop from everywhere, because the program doesn't say
    where they are. In a program that isn't placed, every distance is one hop.
    """
    places = places_of([op for op in module.walk() if isinstance(op, MvmOp)], target)
    if not places.written:
        return one_hop
    spreads: dict[str | None, Spread] = {
        name: places.mesh.spread(found) for name, found in places.by_layer().items()
    }

    def hops(edge: Edge) -> float:
        if edge.source not in spreads or edge.dest not in spreads:
            return 1.0
        return max(mean_hops(spreads[edge.source], spreads[edge.dest]), 1.0)

    return hops


@dataclass(frozen=True)
class Wires:
    """What one image's transfers ask of the wires.

    `each`: by stage and flow, the time of a transfer on the busiest wire that it takes, in ns;
    `busiest_ns`: the time of all transfers on the wire that is busiest with them; `most`: the stage
    whose transfer asks most of that wire, None where there is none.
    """

    each: dict[tuple[int, int], float]
    busiest_ns: float
    most: int | None


def wires_of(
    stages: Sequence[Stage],
    target: Target,
    mesh: Mesh,
    ranges: Mapping[int, list[Range]],
    rates: Rates,
) -> Wires:
    """The wires under one image's transfers, layers standing in `ranges` of the mesh."""
    moves = transfers(stages, target)
    spreads: dict[int, Spread] = {i: mesh.spread(r) for i, r in ranges.items()}
    pairs: dict[tuple[int, int], WireLoads] = {}
    wire_ns, link_ns = 1 / rates.wire_bits_per_ns, 1 / rates.link_bits_per_ns
    total = WireLoads.none(mesh.shape)
    each: dict[tuple[int, int], float] = {}
    for move in moves:
        key = (move.source, move.to)
        if key not in pairs:
            pairs[key] = wire_loads(spreads[move.source], spreads[move.to])
        loads = pairs[key]
        slow = loads.slowness(mesh, wire_ns, link_ns).flat().max(initial=0.0)
        each[move.stage, move.flow] = float(slow) * move.bits
        total = total.plus(loads, move.bits)
    times = total.slowness(mesh, wire_ns, link_ns).flat()
    if not times.max(initial=0.0) > 0:
        return Wires(each, 0.0, None)
    wire = int(times.argmax())
    most = max(moves, key=lambda m: pairs[m.source, m.to].flat()[wire] * m.bits)
    return Wires(each, float(times[wire]), most.to)
