"""The times of a program: of every stage, of one image, and of a stream of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xbarc.cost.components import Parts
from xbarc.cost.time.pipeline import Span, in_turn
from xbarc.cost.time.rates import Rates, rates_of
from xbarc.cost.time.work import Bottleneck, UnitWork, Work, demand, digital_work
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import Stage, stages_of
from xbarc.ir.dialect import STREAM, TIME, copies_of, span_of

if TYPE_CHECKING:
    from xbarc.artifact import CompiledProgram

PARTS = ("crossbar_ns", "transfer_ns", "digital_ns")


@dataclass(frozen=True)
class StageTime:
    """A stage of the pipeline, in ns. `stream` is the first image's; `layer` where it is done."""

    name: str
    kind: Literal["crossbar", "digital"]
    layer: str | None
    copies: int
    busy_ns: float
    transfer_ns: float
    time: Span
    stream: Span


@dataclass(frozen=True)
class Times:
    """When everything happens, for one image and in a stream."""

    stages: tuple[StageTime, ...]
    schedule: Literal["rows", "layers"]
    interval_ns: float
    bottleneck: Bottleneck | None

    @property
    def latency_ns(self) -> float:
        """One image, alone."""
        return max((s.time.finish for s in self.stages), default=0.0)

    @property
    def stream_latency_ns(self) -> float:
        """One image in a stream."""
        return max((s.stream.finish for s in self.stages), default=0.0)

    def totals(self) -> dict[str, Any]:
        """What stands in the report's `totals`."""
        interval = self.interval_ns
        worst = self.bottleneck
        return {
            "latency_us": self.latency_ns * 1e-3,
            "stream_latency_us": self.stream_latency_ns * 1e-3,
            "interval_us": interval * 1e-3,
            "throughput_ips": 1e9 / interval if interval else 0.0,
            "schedule": self.schedule,
            "bottleneck": None
            if worst is None
            else {"layer": worst.layer, "resource": worst.resource},
        }

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Times of each layer in ns, by its name.

        `latency_ns` is the layer's time for one image: its crossbars, its transfers and the digital
        operations on its results (`crossbar_ns` + `transfer_ns` + `digital_ns`). A scheduled
        program also has the start and finish of its crossbars.
        """
        rows: dict[str, dict[str, float]] = {}
        for s in self.stages:
            if s.layer is None:
                continue
            row = rows.setdefault(s.layer, dict.fromkeys(PARTS, 0.0))
            if s.kind == "digital":
                row["digital_ns"] += s.busy_ns
                row["transfer_ns"] += s.transfer_ns
                continue
            # Parts of one layer work side by side.
            row["crossbar_ns"] = max(row["crossbar_ns"], s.busy_ns)
            row["transfer_ns"] = max(row["transfer_ns"], s.transfer_ns)
            if self.schedule == "rows":
                row["start_ns"] = min(row.get("start_ns", math.inf), s.time.start)
                row["finish_ns"] = max(row.get("finish_ns", 0.0), s.time.finish)
        return {n: {"latency_ns": sum(row[p] for p in PARTS), **row} for n, row in rows.items()}

    def pipeline(self) -> list[dict[str, Any]]:
        """A row a stage, as the report has it."""
        return [
            {
                "name": s.name,
                "kind": s.kind,
                "layer": s.layer,
                "copies": s.copies,
                "busy_ns": s.busy_ns,
                "transfer_ns": s.transfer_ns,
                "start_ns": s.time.start,
                "finish_ns": s.time.finish,
                "stream_start_ns": s.stream.start,
                "stream_finish_ns": s.stream.finish,
            }
            for s in self.stages
        ]


def times(stages: Sequence[Stage], target: Target, unit_work: UnitWork, rates: Rates) -> Times:
    """When everything happens.

    If the IR holds a schedule, its times are used; else one image goes layer after layer. In both
    cases the busiest resource sets the interval.
    """
    asked = demand(stages, target, unit_work, rates)
    spans, streams, rows = _written(stages)
    if not rows:
        spans = streams = in_turn(asked.works)
    rows_of = zip(asked.works, spans, streams, strict=True)
    return Times(
        tuple(_stage_time(work, time, stream) for work, time, stream in rows_of),
        "rows" if rows else "layers",
        asked.interval_ns,
        asked.bottleneck,
    )


def _written(stages: Sequence[Stage]) -> tuple[list[Span], list[Span], bool]:
    """The schedule that the IR carries, where it is whole."""
    found = [(span_of(s.op, TIME), span_of(s.op, STREAM)) for s in stages]
    spans = [Span(*time) for time, _ in found if time is not None]
    streams = [Span(*stream) for _, stream in found if stream is not None]
    return spans, streams, bool(stages) and len(spans) == len(streams) == len(stages)


def _stage_time(work: Work, time: Span, stream: Span) -> StageTime:
    return StageTime(
        work.stage.name,
        "crossbar" if work.stage.is_layer else "digital",
        work.layer,
        copies_of(work.stage.op),
        work.busy_ns,
        sum(work.transfers_ns),
        time,
        stream,
    )


def program_times(program: "CompiledProgram", parts: Parts) -> Times:
    """The times of a program on its target with these components."""
    target = program.target
    stages = stages_of(program.module)
    work = digital_work(stages, program.digital, parts, target)
    return times(stages, target, work, rates_of(target, parts))
