"""schedule: when each layer starts and finishes, for one image and in a stream."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.cost.components import components
from xbarc.cost.time import demand, digital_work, in_turn, rates_of, row_pipeline
from xbarc.graph.analysis.rows import row_needs
from xbarc.graph.serialize import to_proto
from xbarc.ir.analysis.stages import stages_of
from xbarc.ir.dialect import STREAM, TIME, clear_schedule, set_interval, set_span
from xbarc.pipeline import XbarContext


@dataclass(frozen=True)
class Schedule(ModulePass):
    """Write start and finish of each layer and digital operation, in ns.

    Before:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] : ...

    After:

        %3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] time [0.0, 1742.0] stream [0.0, 1742.0]

    `by=rows` makes a layer pipeline within one image: a layer starts as soon as it has the input
    rows that its first row of results needs. A digital operation that mixes rows (global pooling, a
    reshape), or whose graph isn't at hand, waits for all of its input. `by=layers` runs layers one
    after the other.

    `time` is for one image alone, with each stage as early as possible. `stream` is for the first
    image of a stream, in which no stage works on two images at once. Image k comes k intervals
    later. The module's `xbar.interval_ns` is the time that the busiest resource needs for one
    image. The model is ours (`docs/time.md`). Run this pass last: replicate and place remove a
    schedule, because its times no longer hold.
    """

    name = "schedule"
    tile: ClassVar[bool] = True

    by: Literal["rows", "layers"] = "rows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `XbarcError` where the layers don't fit the target's chips."""
        context = XbarContext.of(ctx)
        target = context.target
        needs = {path: row_needs(graph) for path, graph in context.digital.items()}
        stages = stages_of(op, needs)
        parts = components(target)
        files = {path: to_proto(g).SerializeToString() for path, g in context.digital.items()}
        work = digital_work(stages, files, parts, target)
        asked = demand(stages, target, work, rates_of(target, parts))
        if self.by == "layers":
            once = stream = in_turn(asked.works)
        else:
            once = row_pipeline(asked.works)
            stream = row_pipeline(asked.works, asked.interval_ns)
        clear_schedule(op)
        for stage, first, streamed in zip(stages, once, stream, strict=True):
            set_span(stage.op, TIME, (first.start, first.finish))
            set_span(stage.op, STREAM, (streamed.start, streamed.finish))
        set_interval(op, asked.interval_ns)
