"""place: crossbars to cores and nodes of the mesh, near to what they exchange values with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal

import networkx as nx
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.cost.places import in_order
from xbarc.cost.time import transfers
from xbarc.hw.mesh import Mesh, Spread, check_room, mean_hops, mesh_for
from xbarc.ir.analysis.stages import homes, stages_of
from xbarc.ir.dialect import MESH, MeshAttr, MvmOp, clear_schedule, copies_of, set_ranges
from xbarc.pipeline import XbarContext
from xbarc.support.errors import UsageError

BANDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Heights of bands that `greedy` tries."""

STEPS = 300
"""Moves that `anneal` tries."""


@dataclass(frozen=True)
class Place(ModulePass):
    """Give each layer's crossbars their places: core and node on the mesh.

    Before:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] copies 3 : ...

    After, on a module with `xbar.mesh = #xbar.mesh<1 chips of 168 nodes of 12 cores of 8
    crossbars, 14 wide, bands of 2>`:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] copies 3 at [[0, 0, 0, 3]] : ...

    A range is [node, core, crossbar, count]. Nodes are numbered along a path through the mesh
    (`xbarc.hw.mesh`). Layers stand one after the other along that path, without gaps, so each layer
    is one range. The pass minimises bits x hops of the tensors between layers:

    - `snake` keeps the program's order, along the rows.
    - `greedy` also tries the order in which each next layer exchanges most with those already
      placed, and paths through bands of several rows, which make a large layer a block instead of a
      strip. It takes the best.
    - `anneal` starts there, swaps and moves layers by simulated annealing with the random numbers
      of `seed`, and keeps the best order seen.

    So the result is never worse than the snake. The pass uses as many chips as the program needs,
    or all of `chip.chips`.
    """

    name = "place"
    tile: ClassVar[bool] = True

    algorithm: Literal["greedy", "snake", "anneal"] = "greedy"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UsageError` for a negative seed."""
        if self.seed < 0:
            raise UsageError("seed is 0 or more")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `XbarcError` where the target's chips don't hold the layers."""
        target = XbarContext.of(ctx).target
        stages = stages_of(op)
        layers = {i: s.op for i, s in enumerate(stages) if isinstance(s.op, MvmOp)}
        own = homes(stages)
        counts = {i: m.crossbars() * copies_of(m) for i, m in layers.items() if own[i] == i}
        graph = nx.Graph()
        graph.add_nodes_from(counts)
        for t in transfers(stages, target):
            a, b = own[t.source], own[t.to]
            if a != b:
                known = graph.get_edge_data(a, b, {"bits": 0})["bits"]
                graph.add_edge(a, b, bits=known + t.bits)
        total = sum(counts.values())
        check_room(target, total)
        chosen = arrange(counts, graph, mesh_for(target, total), self)
        clear_schedule(op)
        op.attributes[MESH] = MeshAttr.of(chosen.mesh)
        places = in_order(chosen.mesh, {i: counts[i] for i in chosen.order})
        for index, mvm in layers.items():
            set_ranges(mvm, places[own[index]])


@dataclass(frozen=True)
class Arrangement:
    """Layers in an order along the path of a mesh."""

    mesh: Mesh
    order: tuple[int, ...]


def arrange(
    counts: Mapping[int, int], graph: "nx.Graph[int]", mesh: Mesh, how: Place
) -> Arrangement:
    """The arrangement of layers of `counts` crossbars that the algorithm finds.

    `graph` has an edge with `bits` between layers that exchange something.
    """
    best = Arrangement(mesh, tuple(counts))
    if how.algorithm == "snake" or not graph.edges:
        return best
    bands = [b for b in BANDS if b <= mesh.height]
    orders = dict.fromkeys([best.order, by_attraction(graph)])
    tried = [Arrangement(replace(mesh, band=b), o) for o in orders for b in bands]
    best = min(tried, key=lambda a: bits_hops(a, counts, graph))
    return anneal(best, counts, graph, how.seed) if how.algorithm == "anneal" else best


def bits_hops(arrangement: Arrangement, counts: Mapping[int, int], graph: "nx.Graph[int]") -> float:
    """Bits x hops of one image."""
    mesh = arrangement.mesh
    places = in_order(mesh, {i: counts[i] for i in arrangement.order})
    spreads: dict[int, Spread] = {i: mesh.spread(r) for i, r in places.items()}
    edges = graph.edges(data="bits")
    return math.fsum(bits * mean_hops(spreads[a], spreads[b]) for a, b, bits in edges)


def by_attraction(graph: "nx.Graph[int]") -> tuple[int, ...]:
    """An order: next is whoever exchanges most bits with those before, of equals the first."""
    pulls = dict.fromkeys(graph.nodes, 0)
    order: list[int] = []
    while pulls:
        chosen = max(pulls, key=lambda i: (pulls[i], -i))
        del pulls[chosen]
        order.append(chosen)
        for other, edge in graph.adj[chosen].items():
            if other in pulls:
                pulls[other] += edge["bits"]
    return tuple(order)


def anneal(
    start: Arrangement, counts: Mapping[int, int], graph: "nx.Graph[int]", seed: int
) -> Arrangement:
    """The best arrangement seen in `STEPS` random swaps and moves, cooling down."""
    rng = Random(seed)
    now = best = start
    cost = least = bits_hops(start, counts, graph)
    # From a twentieth of the cost a layer down to a thousandth of that.
    hot = cost / max(len(start.order), 1) / 20
    for step in range(STEPS):
        tried = replace(now, order=_moved(now.order, rng))
        found = bits_hops(tried, counts, graph)
        heat = hot * 1000 ** (-step / STEPS)
        if found <= cost or (heat > 0 and rng.random() < math.exp((cost - found) / heat)):
            now, cost = tried, found
        if cost < least:
            best, least = now, cost
    return best


def _moved(order: Sequence[int], rng: Random) -> tuple[int, ...]:
    """The order with two layers swapped, or one put elsewhere."""
    moved = list(order)
    a, b = rng.randrange(len(moved)), rng.randrange(len(moved))
    if rng.random() < 0.5:
        moved[a], moved[b] = moved[b], moved[a]
    else:
        moved.insert(b, moved.pop(a))
    return tuple(moved)
