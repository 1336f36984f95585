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

    `by=rows` lets a layer start as soon as the rows of its input are there that its first row of
    results needs: a layer pipeline within one image. A digital operation that mixes rows (global
    pooling, a reshape), or whose graph isn't at hand, waits for all of its input. `by=layers` runs
    one after the other. `time` is one image alone, each stage as early as can be; `stream` the
    first of a stream of images, in which no stage works on two at once: image k is k intervals
    later, and `xbar.interval_ns` of the module is what the busiest resource needs for one. The
    model is ours (`docs/time.md`). Run it last: replicate and place drop a schedule, whose times
    hold no longer.
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
        asked = demand(stages, target, digital_work(stages, files, parts), rates_of(target, parts))
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
