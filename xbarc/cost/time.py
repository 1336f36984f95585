"""Time: of a layer, of one image through all of them, of a stream of images; and of programming.

    cycle      = crossbar read + the conversions of the columns that share an ADC
    layer      = ceil(vectors / copies) x input slices x cycle
    digital    = operations / (rate of a node's unit x nodes of its layer), the slowest unit's
    transfer   = bits on the busiest wire that a tensor takes / bandwidth of a wire
    one image  = layer after layer; scheduled: each row as soon as what it needs is there
    stream     = one image every interval; the interval is that of the busiest resource

What a stage hands on row by row is `xbarc.ir.analysis.stages`, the wires `xbarc.hw.mesh`. The model
is ours; `docs/time.md` says what it leaves out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import SSAValue

from xbarc.cost.components.base import Component
from xbarc.cost.digital import count_operations
from xbarc.cost.events import Edge, Hops, one_hop
from xbarc.cost.model import digital_unit
from xbarc.hw.mesh import Mesh, Range, Spread, WireLoads, mean_hops, mesh_for, wire_loads
from xbarc.hw.target import Target
from xbarc.ir.analysis.stages import INPUT, Stage, homes, stages_of
from xbarc.ir.dialect import (
    STREAM,
    TIME,
    MvmOp,
    StreamType,
    copies_of,
    mesh_of,
    ranges_of,
    shape_of,
    span_of,
    weights_of,
)

if TYPE_CHECKING:
    from xbarc.artifact import CompiledProgram

Floats = npt.NDArray[np.float64]
DIGITAL_UNITS = ("activation", "pooling", "vector_unit", "shift_add")
"""The components that do digital operations (`xbarc.cost.model.UNITS`)."""

WIRES_OF_ROUTER = 5
"""To four neighbours and the node's own."""

UnitWork = Sequence[Mapping[str, float]]
"""Operations of one image, a stage each: component -> count."""


@dataclass(frozen=True)
class Rates:
    """How fast what isn't a crossbar is.

    `digital_per_ns`: operations of all units of a kind in one node, a unit that isn't there takes
    no time; `wire_bits_per_ns`: one wire of the mesh, one way; `link_bits_per_ns`: one between
    chips; `adc_gsps`: one ADC, by its component's model.
    """

    digital_per_ns: Mapping[str, float] = field(default_factory=dict)
    wire_bits_per_ns: float = math.inf
    link_bits_per_ns: float = math.inf
    adc_gsps: float = math.inf


@dataclass(frozen=True)
class Work:
    """What one image asks of a stage.

    `layer` is the layer on whose nodes it is done, None where no layer is near. `busy_ns` is the
    time of its crossbars or digital units, `transfers_ns` that of each of its flows on the wires.
    """

    stage: Stage
    layer: str | None
    busy_ns: float
    transfers_ns: tuple[float, ...]


@dataclass(frozen=True)
class Span:
    """Start and finish in ns."""

    start: float
    finish: float


@dataclass(frozen=True)
class Bottleneck:
    """What one image occupies longest: a resource, and the layer that asks most of it.

    `resource` is `crossbar`, `mesh`, or a digital unit by its name.
    """

    layer: str | None
    resource: str
    ns: float


def rates_of(target: Target, parts: Mapping[str, Component]) -> Rates:
    """The rates of a target with these components (`xbarc.cost.components.components`).

    A digital unit that has a rate counts as often as it stands in a node and its cores. A router
    shares its rate among the wires to four neighbours and to its node; one that serves `n` nodes
    has one wire where their mesh has the square root of n.
    """
    units = target.units()
    digital: dict[str, float] = {}
    for unit in DIGITAL_UNITS:
        count = units["node"].get(unit, 0) + units["core"].get(unit, 0) * target.node.cores
        if unit in parts and count * parts[unit].rate_gps > 0:
            digital[unit] = count * parts[unit].rate_gps
    router, link = parts.get("router"), parts.get("link")
    wire = router.rate_gps / WIRES_OF_ROUTER if router is not None else 0.0
    wire *= min(math.sqrt(target.node.routers), 1.0)
    return Rates(
        digital,
        wire or math.inf,
        (link.rate_gps if link is not None else 0.0) or math.inf,
        adc_gsps(parts),
    )


def adc_gsps(parts: Mapping[str, Component]) -> float:
    """Conversions of one ADC in a ns, by its model; no limit where the model says none."""
    return (parts["adc"].rate_gps if "adc" in parts else 0.0) or math.inf


# --- Cycles -------------------------------------------------------------------------------------


def cycle_counts(op: MvmOp, target: Target) -> tuple[int, int]:
    """Input vectors of one image, and cycles of each (its input slices)."""
    stream: Any = cast(StreamType, op.input.type)
    signed = stream.element.signedness.data.name == "SIGNED"
    return stream.vectors.data, target.input_slices(stream.element.width.data, signed)


def cycles(vectors: int, slices: int, copies: int = 1) -> int:
    """Cycles in sequence of a layer whose copies share the vectors."""
    return math.ceil(vectors / copies) * slices


# --- Where stages are ---------------------------------------------------------------------------


def placed(stages: Sequence[Stage], target: Target) -> tuple[Mesh, dict[int, list[Range]]]:
    """The mesh and each layer's ranges on it, by the index of the stage.

    Where not every layer is placed, all stand in program order along the plain snake. Raises
    `XbarcError` where they don't fit the target's chips.
    """
    layers = {i: s.op for i, s in enumerate(stages) if isinstance(s.op, MvmOp)}
    ranges = {i: ranges_of(op) for i, op in layers.items()}
    first = next(iter(layers.values()), None)
    mesh = mesh_of(first) if first is not None else None
    if mesh is not None and all(ranges.values()):
        return mesh, ranges
    own = homes(stages)
    counts = {i: op.crossbars() * copies_of(op) for i, op in layers.items() if own[i] == i}
    mesh = mesh_for(target, sum(counts.values()))
    found = in_order(mesh, counts)
    return mesh, {i: found[own[i]] for i in layers}


def in_order(mesh: Mesh, counts: Mapping[int, int]) -> dict[int, list[Range]]:
    """Ranges of `counts` crossbars each, one after the other from the first crossbar on."""
    ranges, begin = {}, 0
    for index, count in counts.items():
        ranges[index] = [(*mesh.first(begin), count)]
        begin += count
    return ranges


def hosts(stages: Sequence[Stage]) -> list[int | None]:
    """For each stage the layer (its index) on whose nodes it is done.

    A digital operation belongs to the layer whose results it takes, the last one of several; what
    only reads the model's inputs to the first layer. None where there is no layer.
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
    """What travels over the mesh for one image, between the nodes of different layers.

    A value travels once, as a code: of the bits that a layer's inputs have, or of `inputs.bits` on
    its way to a digital unit. Where the model's inputs come from isn't said, so they don't count.
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
    """Mean hops of what goes from one layer's nodes to another's, at least one.

    The model's inputs and outputs are one hop from everywhere, for where they are isn't said; in a
    program that isn't placed everything is.
    """
    mvms = [op for op in module.walk() if isinstance(op, MvmOp)]
    mesh = mesh_of(mvms[0]) if mvms else None
    if mesh is None or not all(map(ranges_of, mvms)):
        return one_hop
    by_name: dict[str | None, list[Range]] = {}
    for op in mvms:
        by_name.setdefault(weights_of(op).symbol, []).extend(ranges_of(op))
    spreads = {name: mesh.spread(found) for name, found in by_name.items()}

    def hops(edge: Edge) -> float:
        if edge.source not in spreads or edge.dest not in spreads:
            return 1.0
        return max(mean_hops(spreads[edge.source], spreads[edge.dest]), 1.0)

    return hops


# --- What one image asks ------------------------------------------------------------------------


@dataclass(frozen=True)
class Demand:
    """What one image asks of every stage, and how long it occupies the busiest resource."""

    works: tuple[Work, ...]
    bottleneck: Bottleneck | None
    bits_hops: float
    """Bits x hops over the mesh."""

    @property
    def interval_ns(self) -> float:
        """The least time between two images of a stream."""
        return self.bottleneck.ns if self.bottleneck is not None else 0.0


def digital_work(
    stages: Sequence[Stage], files: Mapping[str, bytes], target: Target
) -> list[dict[str, float]]:
    """What each stage asks of the digital units: its file's operations, and scale and bias of a
    layer's results, by the component that does them. A file that isn't there asks nothing.
    """
    found = []
    for stage in stages:
        counts: Mapping[str, float] = {}
        if isinstance(stage.op, MvmOp):
            result: Any = stage.op.result.type
            counts = {"elementwise": result.vectors.data * result.length.data}
        elif stage.name in files:
            shapes = [
                [None if s is None else tuple(max(d, 1) for d in s) for s in map(_shape, values)]
                for values in (stage.op.inputs, stage.op.outputs)
            ]
            counts = count_operations(files[stage.name], *shapes)
        work: dict[str, float] = {}
        for operation, count in counts.items():
            unit = digital_unit(operation, target)
            work[unit] = work.get(unit, 0.0) + count
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
    nodes = {i: mesh.load(r)[0] for i, r in ranges.items()}
    here = [np.zeros(1, np.int64) if h is None else nodes[h] for h in at]
    units = [
        {
            u: n / (rates.digital_per_ns[u] * len(on))
            for u, n in work.items()
            if u in rates.digital_per_ns
        }
        for work, on in zip(unit_work, here, strict=True)
    ]
    busy = [max(each.values(), default=0.0) for each in units]
    candidates = []
    own, crossbars_ns = homes(stages), dict.fromkeys(range(len(stages)), 0.0)
    for index, stage in enumerate(stages):
        if isinstance(stage.op, MvmOp):
            vectors, slices = cycle_counts(stage.op, target)
            ns = cycles(vectors, slices, copies_of(stage.op)) * target.cycle_ns(rates.adc_gsps)
            busy[index] = max(busy[index], ns)
            # Layers on the same crossbars take turns.
            crossbars_ns[own[index]] += ns
    candidates += [Bottleneck(stages[i].name, "crossbar", crossbars_ns[i]) for i in own.values()]
    names = [None if h is None else stages[h].name for h in at]
    candidates += _busiest_units(names, here, units, mesh.total_nodes)
    wires = _wires(stages, target, mesh, ranges, rates)
    candidates += wires.busiest
    works = tuple(
        Work(
            stage,
            names[index],
            busy[index],
            tuple(wires.each.get((index, f), 0.0) for f in range(len(stage.flows))),
        )
        for index, stage in enumerate(stages)
    )
    # Of equals the first: crossbars in program order, then digital units, then wires.
    return Demand(works, max(candidates, key=lambda b: b.ns, default=None), wires.bits_hops)


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


@dataclass(frozen=True)
class _Wires:
    """Time of each transfer on its own busiest wire; the busiest wire of all; bits x hops."""

    each: dict[tuple[int, int], float]
    busiest: tuple[Bottleneck, ...]
    bits_hops: float


def _wires(
    stages: Sequence[Stage],
    target: Target,
    mesh: Mesh,
    ranges: Mapping[int, list[Range]],
    rates: Rates,
) -> _Wires:
    moves = transfers(stages, target)
    spreads: dict[int, Spread] = {i: mesh.spread(r) for i, r in ranges.items()}
    pairs: dict[tuple[int, int], WireLoads] = {}
    wire_ns, link_ns = 1 / rates.wire_bits_per_ns, 1 / rates.link_bits_per_ns
    total, hops = WireLoads.none(mesh.shape), 0.0
    each: dict[tuple[int, int], float] = {}
    for move in moves:
        key = (move.source, move.to)
        if key not in pairs:
            pairs[key] = wire_loads(spreads[move.source], spreads[move.to])
        loads = pairs[key]
        slow = loads.slowness(mesh, wire_ns, link_ns).flat().max(initial=0.0)
        each[move.stage, move.flow] = float(slow) * move.bits
        total = total.plus(loads, move.bits)
        hops += loads.total() * move.bits
    times = total.slowness(mesh, wire_ns, link_ns).flat()
    if not times.max(initial=0.0) > 0:
        return _Wires(each, (), hops)
    wire = int(times.argmax())
    most = max(moves, key=lambda m: pairs[m.source, m.to].flat()[wire] * m.bits)
    return _Wires(each, (Bottleneck(stages[most.to].name, "mesh", float(times[wire])),), hops)


# --- When stages run ----------------------------------------------------------------------------


def serve(available: Floats, each: float) -> Floats:
    """When rows are through that are taken in order, each once it is there and those before are.

    `available`: when each is there; `each`: how long one takes, in ns.
    """
    steps = np.arange(len(available)) * each
    served: Floats = np.maximum.accumulate(available - steps) + steps + each
    return served


def row_pipeline(works: Sequence[Work], interval_ns: float = math.inf) -> list[Span]:
    """Start and finish of each stage, where a row is worked on once what it needs is there.

    Each is as early as can be. In a stream an image comes every `interval_ns`: a stage then starts
    no earlier than that before it finishes, so that it is through with one image before the next.
    It finishes as early all the same, since its work alone takes no longer than the interval.
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


# --- The report ---------------------------------------------------------------------------------

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
    bits_hops: float

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

        `latency_ns` is what it takes for one image, its transfers and the digital operations on its
        results included: `crossbar_ns` + `transfer_ns` + `digital_ns`. Where the program is
        scheduled also when its crossbars start and finish. What no layer is near to isn't in it.
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

    Where the IR carries a schedule, that is told; else one image goes layer after layer. The
    interval is what the busiest resource allows either way.
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
        asked.bits_hops,
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


# --- Programming --------------------------------------------------------------------------------


def programming_time_ms(
    crossbars: int, target: Target, adc_gsps: float = math.inf
) -> dict[str, float]:
    """Time to write all crossbars at once, each row by row: `{"write", "verify", "total"}`, ms.

    A cell takes `device.write_pulses` pulses. More than one is a verify loop: after each pulse the
    row is read, which takes a cycle.
    """
    device = target.device
    pulses = device.write_pulses * target.array.rows if crossbars else 0
    write = pulses * device.write_pulse_ns * 1e-6
    verify = pulses * target.cycle_ns(adc_gsps) * 1e-6 if device.write_pulses > 1 else 0.0
    return {"write": write, "verify": verify, "total": write + verify}


def verify_energy_uj(memristors: int, target: Target, conversion_pj: float = 0.0) -> float:
    """Energy of the reads of a verify loop that writes the cells once, in uJ.

    After each pulse each cell is read, V^2 G t at the mean conductance, and converted
    (`conversion_pj`).
    """
    device = target.device
    if device.write_pulses < 2:
        return 0.0
    mean_us = (device.g_on_us + device.g_off_us) / 2
    # V^2 * uS * ns = 1e-15 J; in uJ 1e-9.
    read = device.read_voltage_v**2 * mean_us * device.read_pulse_ns * 1e-9
    return memristors * device.write_pulses * (read + conversion_pj * 1e-6)


def programming(
    crossbars: int, memristors: int, target: Target, parts: Mapping[str, Component]
) -> dict[str, float]:
    """The lines of the totals about programming that are time, or a verify loop's."""
    time = programming_time_ms(crossbars, target, adc_gsps(parts))
    adc = parts.get("adc")
    return {
        "programming_time_ms": time["total"],
        "programming_verify_time_ms": time["verify"],
        "programming_verify_energy_uj": verify_energy_uj(
            memristors, target, 0.0 if adc is None else adc.energy_pj
        ),
    }


def program_times(program: "CompiledProgram", parts: Mapping[str, Component]) -> Times:
    """The times of a program on its target with these components."""
    target = program.target
    stages = stages_of(program.module)
    work = digital_work(stages, program.digital, target)
    return times(stages, target, work, rates_of(target, parts))
