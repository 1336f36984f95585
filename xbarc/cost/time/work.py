"""What one image asks of crossbars, digital units and wires, and which of them is busiest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from xbarc.cost.components import Parts
from xbarc.cost.digital import count_operations
from xbarc.cost.model import digital_unit
from xbarc.cost.time.rates import Rates, cycle_counts, cycle_ns, cycles
from xbarc.cost.time.traffic import hosts, placed, wires_of
from xbarc.graph.operators import load_operators
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import Stage, homes
from xbarc.ir.dialect import MvmOp, copies_of, shape_of

Floats = npt.NDArray[np.float64]

UnitWork = Sequence[Mapping[str, float]]
"""Operations of one image, a stage each: component -> count."""


@dataclass(frozen=True)
class Work:
    """The work of a stage for one image.

    `layer` is the layer on whose nodes the stage runs; None if the program has no layer. `busy_ns`
    is the time of its crossbars or digital units, `transfers_ns` the time of each of its flows on
    the wires.
    """

    stage: Stage
    layer: str | None
    busy_ns: float
    transfers_ns: tuple[float, ...]


@dataclass(frozen=True)
class Bottleneck:
    """The resource that one image occupies longest, and the layer that uses it most.

    `resource` is `crossbar`, `mesh`, or a digital unit by its name.
    """

    layer: str | None
    resource: str
    ns: float


@dataclass(frozen=True)
class Demand:
    """What one image asks of every stage, and how long it occupies the busiest resource."""

    works: tuple[Work, ...]
    bottleneck: Bottleneck | None

    @property
    def interval_ns(self) -> float:
        """The least time between two images of a stream."""
        return self.bottleneck.ns if self.bottleneck is not None else 0.0


def digital_work(
    stages: Sequence[Stage], files: Mapping[str, bytes], parts: Parts, target: Target
) -> list[dict[str, float]]:
    """The actions for digital operations of each stage, by the component that does them.

    They are the operations of its file, and scale and bias of a layer's results. A file that isn't
    at hand counts as no operations. Where there is no layer, nothing runs on this hardware: there
    is no node that would do them.
    """
    if not any(stage.is_layer for stage in stages):
        return [{} for _ in stages]
    found = []
    operators = load_operators() if files else None
    for stage in stages:
        counts: Mapping[str, float] = {}
        if isinstance(stage.op, MvmOp):
            result: Any = stage.op.result.type
            counts = {"elementwise": result.vectors.data * result.length.data}
        elif stage.name in files:
            inputs, outputs = (
                [None if s is None else tuple(max(d, 1) for d in s) for s in map(_shape, values)]
                for values in (stage.op.inputs, stage.op.outputs)
            )
            counts = count_operations(files[stage.name], inputs, outputs, operators)
        work: dict[str, float] = {}
        for operation, count in counts.items():
            unit = digital_unit(operation, parts)
            steps = parts[unit].steps(operation, target)
            work[unit] = work.get(unit, 0.0) + count * steps
        found.append(work)
    return found


def _shape(value: SSAValue) -> tuple[int, ...] | None:
    return shape_of(value) if isinstance(value.type, TensorType) else None


def demand(stages: Sequence[Stage], target: Target, unit_work: UnitWork, rates: Rates) -> Demand:
    """What one image asks of the hardware.

    Raises `XbarcError` where the layers don't fit the target's chips.
    """
    mesh, ranges = placed(stages, target)
    at = hosts(stages)
    names = [None if h is None else stages[h].name for h in at]
    nodes = {i: mesh.load(r)[0] for i, r in ranges.items()}
    here = [np.zeros(1, np.int64) if h is None else nodes[h] for h in at]
    units = [
        {
            unit: count / (rates.digital_per_ns[unit] * len(on))
            for unit, count in work.items()
            if unit in rates.digital_per_ns
        }
        for work, on in zip(unit_work, here, strict=True)
    ]
    arrays = _crossbar_ns(stages, target, rates)
    wires = wires_of(stages, target, mesh, ranges, rates)
    works = tuple(
        Work(
            stage,
            names[index],
            max([*units[index].values(), arrays.get(index, 0.0)]),
            tuple(wires.each.get((index, f), 0.0) for f in range(len(stage.flows))),
        )
        for index, stage in enumerate(stages)
    )
    # Of equals the first: crossbars in program order, then digital units, then wires.
    candidates = [
        *_busiest_crossbars(stages, arrays),
        *_busiest_units(names, here, units, mesh.total_nodes),
    ]
    if wires.most is not None:
        candidates.append(Bottleneck(stages[wires.most].name, "mesh", wires.busiest_ns))
    return Demand(works, max(candidates, key=lambda b: b.ns, default=None))


def _crossbar_ns(stages: Sequence[Stage], target: Target, rates: Rates) -> dict[int, float]:
    """How long each layer's crossbars work, by the index of its stage."""
    found = {}
    for index, stage in enumerate(stages):
        if isinstance(stage.op, MvmOp):
            vectors, slices = cycle_counts(stage.op, target)
            count = cycles(vectors, slices, copies_of(stage.op))
            found[index] = count * cycle_ns(stage.op, target, rates)
    return found


def _busiest_crossbars(stages: Sequence[Stage], arrays: Mapping[int, float]) -> list[Bottleneck]:
    """For each layer's crossbars how long they work: layers on the same ones take turns."""
    own, sums = homes(stages), dict.fromkeys(range(len(stages)), 0.0)
    for index, ns in arrays.items():
        sums[own[index]] += ns
    return [Bottleneck(stages[i].name, "crossbar", sums[i]) for i in own.values()]


def _busiest_units(
    names: Sequence[str | None],
    here: Sequence[npt.NDArray[np.int64]],
    units: Sequence[Mapping[str, float]],
    node_count: int,
) -> list[Bottleneck]:
    """For each kind of digital unit its busiest node, and the layer that asks most of it there.

    `units` are ns by unit, a stage each, on each of its nodes (`here`).
    """
    loads: dict[str, Floats] = {}
    for each, nodes in zip(units, here, strict=True):
        for unit, ns in each.items():
            loads.setdefault(unit, np.zeros(node_count))[nodes] += ns
    found = []
    for unit, load in loads.items():
        node = int(load.argmax())
        there = [i for i, nodes in enumerate(here) if unit in units[i] and node in nodes]
        most = max(there, key=lambda i: units[i][unit])
        found.append(Bottleneck(names[most], unit, float(load[node])))
    return found
