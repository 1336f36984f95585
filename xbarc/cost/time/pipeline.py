"""When stages start and finish: row by row, or one after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarc.cost.time.work import Work
from xbarc.ir.analysis.stages import INPUT

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """Start and finish in ns."""

    start: float
    finish: float


def serve(available: Floats, each: float) -> Floats:
    """When each row is done, if rows are processed one after the other, as they become available.

    `available`: when each row is there, in ns. `each`: the time of one row, in ns.
    """
    steps = np.arange(len(available)) * each
    served: Floats = np.maximum.accumulate(available - steps) + steps + each
    return served


def row_pipeline(works: Sequence[Work], interval_ns: float = math.inf) -> list[Span]:
    """Start and finish of each stage, if it works on a row as soon as that row's inputs are there.

    Each stage starts as early as possible. In a stream an image comes every `interval_ns`. Then a
    stage starts no earlier than one interval before it finishes, so it is done with one image
    before the next one. It doesn't finish later for that, since its own work takes no longer than
    the interval.
    """
    ready: list[Floats] = []
    spans: list[Span] = []
    for work in works:
        stage = work.stage
        available = np.zeros(stage.rows)
        for flow, transfer_ns in zip(stage.flows, work.transfers_ns, strict=True):
            if flow.stage != INPUT:
                there = serve(ready[flow.stage], transfer_ns / flow.rows)
                available = np.maximum(available, np.concatenate([[0.0], there])[flow.needs])
        each = work.busy_ns / stage.rows
        finish = float(serve(available, each)[-1])
        ready.append(serve(np.maximum(available, finish - interval_ns), each))
        spans.append(Span(max(float(ready[-1][0]) - each, 0.0), float(ready[-1][-1])))
    return spans


def in_turn(works: Sequence[Work]) -> list[Span]:
    """Start and finish of each stage, one after the other: transfers, then the work.

    The parts of one layer work side by side.
    """
    spans: list[Span] = []
    starts: dict[str, float] = {}
    now = 0.0
    for work in works:
        start = now + sum(work.transfers_ns)
        if work.stage.is_layer:
            start = starts.setdefault(work.stage.name, start)
        spans.append(Span(start, start + work.busy_ns))
        now = max(now, start + work.busy_ns)
    return spans
