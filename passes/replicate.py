"""replicate: copies of slow layers' crossbars, so that the pipeline is balanced."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.cost.components import adc_gsps, components
from xbarc.cost.time import cycle_counts, cycles
from xbarc.hw.mesh import mesh_for
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

    A layer with n copies takes ceil(vectors / n) x input slices cycles. The pass goes by a stream
    of inputs, whose interval the slowest layer sets. One input alone gets faster as well, layer by
    layer.

    `budget`, in crossbars, makes the slowest layer as fast as that many crossbars allow, with the
    fewest crossbars. This is exact: each layer's need follows from the time alone (as in the chain
    partitioning problem), and the pass bisects over that time. Without an option the budget is the
    capacity of as many of the target's chips as one copy of every layer takes.

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
        layers = _layers(mvms, {o: cycle_counts(o, target) for o in mvms})
        if not layers:
            return
        if self.target_throughput is not None:
            cycle_ns = target.cycle_ns(adc_gsps(components(target)))
            copies = for_rate(layers, self.target_throughput, cycle_ns)
            total = sum(n * la.crossbars for n, la in zip(copies, layers, strict=True))
            mesh_for(target, total)  # which refuses what the target's chips don't hold
        else:
            once = sum(la.crossbars for la in layers)
            budget = self.budget or mesh_for(target, once).capacity
            copies = balance(layers, budget)
        by_name = {la.name: n for la, n in zip(layers, copies, strict=True)}
        clear_schedule(op)
        clear_places(op)
        for mvm in mvms:
            set_copies(mvm, by_name[_home(mvm)])


@dataclass(frozen=True)
class Layer:
    """A layer: crossbars of one copy, and input vectors and input slices of each of its mvms."""

    name: str
    crossbars: int
    streams: tuple[tuple[int, int], ...]

    def time(self, copies: int) -> int:
        """Cycles of one image."""
        return max(cycles(vectors, slices, copies) for vectors, slices in self.streams)

    def copies(self, time: int) -> int:
        """The fewest copies that take at most `time` cycles, which one vector must fit into."""
        return max(math.ceil(vectors / (time // slices)) for vectors, slices in self.streams)

    @property
    def least(self) -> int:
        """Cycles with a copy for every vector."""
        return max(slices for _, slices in self.streams)


def _layers(mvms: Sequence[MvmOp], counts: Mapping[MvmOp, tuple[int, int]]) -> list[Layer]:
    """A layer each symbol: all its mvms, and those that stand beside them, are copied together."""
    layers: dict[str, Layer] = {}
    for op in mvms:
        name = _home(op)
        old = layers.get(name, Layer(name, 0, ()))
        layers[name] = replace(
            old,
            crossbars=old.crossbars + op.crossbars(),
            streams=(*old.streams, counts[op]),
        )
    return list(layers.values())


def _home(op: MvmOp) -> str:
    """The layer whose crossbars it stands on: with that one it is copied."""
    return weights_of(op.host or op).symbol


def balance(layers: Sequence[Layer], budget: int) -> list[int]:
    """Copies of each layer: the slowest as fast as `budget` crossbars allow, with the fewest.

    What a time needs falls as the time grows, and at the least feasible time some layer takes
    exactly that long; so bisection over whole cycles finds the optimum. Raises `XbarcError` where
    one copy of each is too much.
    """
    _need_one_each(layers, budget)
    low = max(la.least for la in layers)
    high = max(la.time(1) for la in layers)
    while low < high:
        middle = (low + high) // 2
        if sum(la.copies(middle) * la.crossbars for la in layers) <= budget:
            high = middle
        else:
            low = middle + 1
    return [la.copies(high) for la in layers]


def for_rate(layers: Sequence[Layer], inputs_per_second: float, cycle_ns: float) -> list[int]:
    """The fewest copies of each layer that take so many inputs a second.

    Raises `XbarcError` where one vector alone takes longer than that allows.
    """
    time = math.floor(1e9 / inputs_per_second / cycle_ns)
    slowest = max(layers, key=lambda la: la.least)
    if time < slowest.least:
        raise XbarcError(
            f"{inputs_per_second:g} inputs/s leave {time} cycles of {cycle_ns:g} ns, one vector of "
            f"{slowest.name} alone takes {slowest.least}: at most "
            f"{1e9 / (slowest.least * cycle_ns):g} inputs/s"
        )
    return [la.copies(time) for la in layers]


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
