"""The figures of a whole program: what `report.json` says of its cost."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from xbarc.cost.components import Parts, components, described
from xbarc.cost.events import LayerEvents, count_events
from xbarc.cost.model import energy_pj, leakage_pj, totals
from xbarc.cost.power import UNGATED, WEIGHTS, compared, read_power
from xbarc.cost.rollup import check_capacity
from xbarc.cost.time import Times, placed_hops, program_times, programming_totals
from xbarc.ir.dialect import MvmOp

if TYPE_CHECKING:
    from xbarc.artifact import CompiledProgram
    from xbarc.hw.target import Target


def report(program: "CompiledProgram", before: "CompiledProgram | None" = None) -> dict[str, Any]:
    """The figures of `report.json`, all for a batch of one.

    `layers`, `totals`, `pipeline` (each layer and digital operation in time) and `components`.
    `before` is the program with its previous weights. Power is compared with it; without it, with
    the same program with nothing gated.

    Raises `XbarcError` if the layers need more crossbars than the target's chips have, or if a
    component's model doesn't cover the target.
    """
    target = program.target
    parts = components(target)
    hops = placed_hops(program.module, target)
    layers = count_events(program.module, program.weights, target, program.digital, hops)
    check_capacity({la.name: la.crossbars for la in layers}, target)
    found = program_times(program, parts)
    times = found.by_layer()
    shares = [times[la.name]["latency_ns"] for la in layers]
    leaked = leakage_pj(layers, target, parts, found.latency_ns, shares)
    dynamic = [energy_pj(la, target, parts) for la in layers]
    energies = [{**e, "leakage": pj} for e, pj in zip(dynamic, leaked, strict=True)]
    whole = totals(layers, energies, target, parts)
    timed = _times(found, whole, target, parts)
    # At one rate, that of the program as it stands: what differs is the energy.
    running = (target, timed["throughput_ips"], whole["leakage_mw"])
    power = read_power(layers, dynamic, *running)
    other = _ungated(program) if before is None else before
    if other is program:
        was = power
    else:
        earlier = count_events(other.module, other.weights, target, other.digital, hops)
        was = read_power(earlier, [energy_pj(la, target, parts) for la in earlier], *running)
    return {
        "layers": [
            _row(la, target, energy, times[la.name])
            for la, energy in zip(layers, energies, strict=True)
        ],
        "totals": {
            **whole,
            **timed,
            **compared(power, was, UNGATED if before is None else WEIGHTS),
        },
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
        "energy_pj": energy,
        **times,
    }


def _times(found: Times, whole: dict[str, Any], target: "Target", parts: Parts) -> dict[str, Any]:
    times = found.totals()
    dynamic_uj = whole["energy_uj"]["total"] - whole["energy_uj"].get("leakage", 0.0)
    return {
        **times,
        "power_w": dynamic_uj * 1e-6 * times["throughput_ips"] + whole["leakage_mw"] * 1e-3,
        **programming_totals(whole["crossbars"], whole["memristors"], target, parts),
    }
