"""What a program costs: events counted from the mapped IR, times the target's constants."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xbarc.cost.events import LayerEvents, count_events
from xbarc.cost.model import energy_pj, latency_ns, totals

if TYPE_CHECKING:
    from xbarc.program import Program
    from xbarc.target import Target


def report(program: "Program") -> dict[str, Any]:
    """The figures of `report.json`: `layers` and `totals`, all for a batch of one."""
    layers = count_events(program.module, program.weights, program.target)
    return {
        "layers": [_row(layer, program.target) for layer in layers],
        "totals": totals(layers, program.target),
    }


def _row(layer: LayerEvents, target: "Target") -> dict[str, Any]:
    cells = layer.crossbars * target.array.rows * target.array.cols
    return {
        **asdict(layer),
        "matrix": list(layer.matrix),
        "utilization": layer.memristors / cells if cells else 0.0,
        "energy_pj": energy_pj(layer, target),
        "latency_ns": latency_ns(layer, target),
    }
