"""The figures of a whole program: what `report.json` says of its cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from xbarc.cost.caveats import NOTHING, caveats
from xbarc.cost.components import Parts, components, described
from xbarc.cost.events import LayerEvents, count_events
from xbarc.cost.model import array_energies_uj, energy_pj, totals
from xbarc.cost.modes import Mode, mode
from xbarc.cost.operations import achieved
from xbarc.cost.power import UNGATED, WEIGHTS, compared, read_power
from xbarc.cost.rollup import check_capacity, peak, programming_limit_w
from xbarc.cost.skipped import skipped
from xbarc.cost.time import Times, placed_hops, program_times, programming_totals
from xbarc.ir.analysis.widths import Widths
from xbarc.ir.dialect import MvmOp, weights_of

if TYPE_CHECKING:
    from xbarc.artifact import CompiledProgram
    from xbarc.hw.target import Target


def report(
    program: "CompiledProgram",
    before: "CompiledProgram | None" = None,
    driven: Mapping[str, float] | None = None,
    uncounted: Sequence[str] = (),
) -> dict[str, Any]:
    """The figures of `report.json`, all for a batch of one.

    `layers`, `totals`, `pipeline` (each layer and digital operation in time) and `components`.
    A program without a crossbar layer doesn't run on this hardware: all is 0 but the target's peak.
    Energy and power without a mode are those of a stream (`xbarc.cost.modes`).
    `before` is the program with its previous weights. Power is compared with it; without it, with
    the same program with nothing gated. `driven`: of layers, the share of rows that are driven,
    where the target skips zeros. `uncounted`: the types of digital operators whose
    multiply-accumulates can't be counted.

    Raises `XbarcError` if the layers need more crossbars than the target's chips have, or if a
    component's model doesn't cover the target.
    """
    target = program.target
    parts = components(target)
    hops = placed_hops(program.module, target)
    driven = driven or {}
    layers = skipped(
        count_events(program.module, program.weights, target, program.digital, hops), driven
    )
    check_capacity({la.name: la.crossbars for la in layers}, target)
    found = program_times(program, parts)
    times = found.by_layer()
    dynamic = [energy_pj(la, target, parts) for la in layers]
    on = _working(program, times)
    single, stream = (
        mode(layers, dynamic, [on[la.name] for la in layers], target, parts, period)
        for period in (found.latency_ns, found.interval_ns)
    )
    whole = totals(layers, target, parts)
    timed = _times(found, single, stream)
    whole |= timed
    whole |= {
        **achieved(whole),
        "peak": peak(target, parts),
        "array_energy_uj": array_energies_uj(layers, target),
    }
    # At one rate, that of the program as it stands: what differs is the energy.
    running = (target, timed["throughput_ips"], stream.leakage_w * 1e3)
    power = read_power(layers, dynamic, *running)
    other = _ungated(program) if before is None else before
    if other is program:
        was = power
    else:
        counted = count_events(other.module, other.weights, target, other.digital, hops)
        earlier = skipped(counted, driven)
        was = read_power(earlier, [energy_pj(la, target, parts) for la in earlier], *running)
    return {
        "layers": [
            _row(la, target, energy, times[la.name])
            | ({"driven_rows": driven[la.name]} if la.name in driven else {})
            for la, energy in zip(layers, stream.layers, strict=True)
        ],
        "totals": {
            **whole,
            **_programming(whole, target, parts),
            **compared(power, was, UNGATED if before is None else WEIGHTS),
        },
        "caveats": caveats(whole, target, parts, Widths.of(program.module), driven, uncounted)
        if layers
        else [NOTHING.document()],
        "pipeline": found.pipeline(),
        "components": described(parts, target),
    }


def _ungated(program: "CompiledProgram") -> "CompiledProgram":
    """The program with all rows driven and all columns converted; itself where they are."""
    if not any(isinstance(op, MvmOp) and op.gated is not None for op in program.module.walk()):
        return program
    module = program.module.clone()
    for op in module.walk():
        if isinstance(op, MvmOp):
            op.properties.pop("gated", None)
    return replace(program, module=module)


def _row(
    layer: LayerEvents, target: "Target", energy: dict[str, float], times: dict[str, float]
) -> dict[str, Any]:
    cells = layer.crossbars * target.array.rows * target.array.cols
    return {
        **asdict(layer),
        "matrix": list(layer.matrix),
        "utilization": layer.memristors / cells if cells else 0.0,
        "adc_bits": target.for_layer(layer.name).converter_bits(),
        "energy_pj": energy,
        **times,
    }


def _programming(whole: dict[str, Any], target: "Target", parts: Parts) -> dict[str, float]:
    """The time of programming under its limit of power, and the power that it then draws."""
    crossbars, energy_uj = whole["crossbars"], whole["programming_energy_uj"]
    found = programming_totals(
        crossbars,
        whole["memristors"],
        target,
        parts,
        energy_uj=energy_uj,
        limit_w=programming_limit_w(crossbars, target, parts),
    )
    time_us = found["programming_time_ms"] * 1e3
    spent_uj = energy_uj + found["programming_verify_energy_uj"]
    return {**found, "programming_power_w": spent_uj / time_us if time_us else 0.0}


def _working(
    program: "CompiledProgram", times: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """How long each layer's crossbars are in use for one input, in ns; layers on them included."""
    on = {name: row["latency_ns"] for name, row in times.items()}
    for op in program.module.walk():
        if isinstance(op, MvmOp) and op.host is not None:
            on[weights_of(op.host).symbol] += times[weights_of(op).symbol]["latency_ns"]
    return on


def _times(found: Times, single: Mode, stream: Mode) -> dict[str, Any]:
    modes = {"single": single.document("latency_us"), "stream": stream.document("interval_us")}
    return {
        "energy_uj": {**modes["stream"]["energy_uj"]},
        "modes": modes,
        **found.totals(),
        "power_w": modes["stream"]["power_w"],
    }
