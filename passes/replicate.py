"""replicate: copies of slow layers' crossbars, so that the pipeline is balanced."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.cost.components import components
from xbarc.cost.time import cycle_counts, cycle_ns, cycles, rates_of
from xbarc.hw.mesh import check_room, mesh_for
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import mapped_layers
from xbarc.ir.dialect import MvmOp, clear_places, clear_schedule, set_copies, weights_of
from xbarc.pipeline import XbarContext
from xbarc.support.errors import UsageError, XbarcError

NAMED = 8
"""Layers that an error names."""


@dataclass(frozen=True)
class Replicate(ModulePass):
    """Give slow layers several copies of their crossbars, which share the input vectors.

    Before:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] : !xbar.stream<1024 x 27 x ui8> -> ...
        %8 = xbar.mvm %7, @conv2 by "im2col" grid [128, 16] : !xbar.stream<256 x 144 x ui8> -> ...

    After `replicate{budget=7}`:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] copies 3 : ...      // 1 crossbar each
        %8 = xbar.mvm %7, @conv2 by "im2col" grid [128, 16] copies 2 : ...      // 2 crossbars each

    A layer with n copies takes ceil(vectors / n) x input slices cycles, each as long as in the cost
    report (a converter may be slower for inputs without a sign). Layers on the same crossbars take
    turns. The pass goes by a stream of inputs, whose interval the slowest layer sets. One input
    alone gets faster as well, layer by layer.

    `budget`, in crossbars, makes the slowest layer as fast as that many crossbars allow, with the
    fewest crossbars. This is exact: each layer's need follows from the time alone (as in the chain
    partitioning problem), and the pass bisects over the times that layers can take. Without an
    option the budget is the capacity of as many of the target's chips as one copy of every layer
    takes.

    `target_throughput`, in inputs a second, takes the fewest crossbars whose layers reach it.
    Digital units and the mesh may still be slower; the cost report says so.

    Only time changes; results stay the same to the bit. The pass removes an existing placement and
    schedule.
    """

    name = "replicate"
    tile: ClassVar[bool] = True

    budget: int | None = None
    target_throughput: float | None = None

    def __post_init__(self) -> None:
        """Raises `UsageError` where the options make no sense."""
        if self.budget is not None and self.target_throughput is not None:
            raise UsageError("give budget or target-throughput, not both")
        if self.budget is not None and self.budget < 1:
            raise UsageError("budget is a number of crossbars, at least 1")
        rate = self.target_throughput
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError("target-throughput is a number of inputs a second above 0")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `XbarcError` where the budget is below one copy each, or the rate out of reach."""
        target = XbarContext.of(ctx).target
        mvms = mapped_layers(op)
        layers = _layers(mvms, target)
        if not layers:
            return
        if self.target_throughput is not None:
            copies = for_rate(layers, self.target_throughput)
            total = sum(n * la.crossbars for n, la in zip(copies, layers, strict=True))
            check_room(target, total)
        else:
            budget = self.budget
            if budget is None:
                once = sum(la.crossbars for la in layers)
                check_room(target, once)
                budget = mesh_for(target, once).capacity
            copies = balance(layers, budget)
        by_name = {la.name: n for la, n in zip(layers, copies, strict=True)}
        clear_schedule(op)
        clear_places(op)
        for mvm in mvms:
            set_copies(mvm, by_name[_home(mvm)])


class Stream(NamedTuple):
    """What one mvm works through: input vectors, cycles of each, and the time of a cycle."""

    vectors: int
    slices: int
    cycle_ns: float

    def time(self, copies: int) -> float:
        """Time of one image in ns, counted as the cost model does."""
        return cycles(self.vectors, self.slices, copies) * self.cycle_ns


@dataclass(frozen=True)
class Layer:
    """A layer: the crossbars of one copy, and the streams of each of its mvms.

    These are the mvm's own stream and those of the mvms beside it, which wait for each other.
    """

    name: str
    crossbars: int
    turns: tuple[tuple[Stream, ...], ...]

    def time(self, copies: int) -> float:
        """Time of one image in ns."""
        return max(sum(stream.time(copies) for stream in turn) for turn in self.turns)

    @cached_property
    def steps(self) -> tuple[tuple[int, float], ...]:
        """Rising numbers of copies with their times: all at which the time falls, and some more."""
        found = {n for turn in self.turns for stream in turn for n in _steps(stream.vectors)}
        return tuple((n, self.time(n)) for n in sorted(found))

    def copies(self, time: float) -> int:
        """The fewest copies that take at most `time`, which is at least `least`."""
        return self.steps[bisect_left(self.steps, -time, key=lambda step: -step[1])][0]

    @property
    def least(self) -> float:
        """Time with a copy for every vector."""
        return self.steps[-1][1]


def _steps(vectors: int) -> set[int]:
    """Copies at which ceil(vectors / copies) falls, which are ceil(vectors / k), and some more.

    From k = sqrt(vectors) on they are at most that many: so all numbers up to there are taken.
    """
    root = math.isqrt(vectors) + 1
    return {*range(1, root + 1), *(math.ceil(vectors / k) for k in range(1, root + 1))}


def _layers(mvms: Sequence[MvmOp], target: Target) -> list[Layer]:
    """A layer each symbol: all its mvms, and those that stand beside them, are copied together."""
    rates = rates_of(target, components(target))
    crossbars: dict[str, int] = {}
    turns: dict[str, dict[MvmOp, tuple[Stream, ...]]] = {}
    for op in mvms:
        name, own = _home(op), op.host or op
        stream = Stream(*cycle_counts(op, target), cycle_ns(op, target, rates))
        crossbars[name] = crossbars.get(name, 0) + op.crossbars()
        found = turns.setdefault(name, {})
        found[own] = (*found.get(own, ()), stream)
    # Many mvms of a layer work through streams alike: one of each is enough.
    return [Layer(n, crossbars[n], tuple(dict.fromkeys(f.values()))) for n, f in turns.items()]


def _home(op: MvmOp) -> str:
    """The layer whose crossbars it stands on: with that one it is copied."""
    return weights_of(op.host or op).symbol


def balance(layers: Sequence[Layer], budget: int) -> list[int]:
    """Copies of each layer: the slowest as fast as `budget` crossbars allow, with the fewest.

    What a time needs falls as the time grows, and at the least feasible time some layer takes
    exactly that long; so bisection over the times of all layers finds the optimum. Raises
    `XbarcError` where one copy of each is too much.
    """
    _need_one_each(layers, budget)
    times = _times(layers)
    fits = bisect_left(
        times,
        True,
        key=lambda time: sum(la.copies(time) * la.crossbars for la in layers) <= budget,
    )
    return [la.copies(times[fits]) for la in layers]


def for_rate(layers: Sequence[Layer], inputs_per_second: float) -> list[int]:
    """The fewest copies of each layer that take so many inputs a second.

    Raises `XbarcError` where a copy for every vector isn't enough.
    """
    # The report divides as well: a rate that it shows can be asked for.
    reached = [time for time in _times(layers) if 1e9 / time >= inputs_per_second]
    if not reached:
        slowest = max(layers, key=lambda la: la.least)
        raise XbarcError(
            f"{inputs_per_second:g} inputs/s leave {1e9 / inputs_per_second:g} ns, with a copy for "
            f"every input vector {slowest.name} still takes {slowest.least:g} ns: at most "
            f"{1e9 / slowest.least:g} inputs/s"
        )
    return [la.copies(reached[-1]) for la in layers]


def _times(layers: Sequence[Layer]) -> list[float]:
    """All times that the slowest layer can take, rising."""
    least = max(la.least for la in layers)
    return sorted({time for la in layers for _, time in la.steps if time >= least})


def _need_one_each(layers: Sequence[Layer], budget: int) -> None:
    total, homeless = 0, []
    for la in layers:
        total += la.crossbars
        if total > budget:
            homeless.append(f"{la.name} ({la.crossbars})")
    if homeless:
        more = f" and {len(homeless) - NAMED} more" if len(homeless) > NAMED else ""
        raise XbarcError(
            f"one copy of each layer takes {total} crossbars, the budget is {budget}: "
            f"{total - budget} are missing, for {', '.join(homeless[:NAMED])}{more}"
        )
