"""How much of a network landed on crossbars, and why the rest didn't."""

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from xbarc.driver.stages import Calibrated
from xbarc.graph.query import inner_nodes


@dataclass(frozen=True)
class CrossbarShare:
    """What landed on crossbars: operators, and multiply-accumulates for a batch of one.

    `reasons`: why linear operators stay digital, by node name. `uncounted`: the types of those that
    `digital_macs` doesn't count, because nothing tells how often they multiply: operators in the
    body of an If, Loop or Scan (the data decide how often it runs), Einsum, LSTM, GRU, RNN, and
    operators without a shape.
    """

    crossbar_operators: int
    digital_operators: int
    crossbar_macs: int
    digital_macs: int
    reasons: dict[str, str]
    uncounted: tuple[str, ...] = ()

    @property
    def mac_share(self) -> float | None:
        """The crossbars' share of the multiply-accumulates, 0 to 1; None where it isn't known."""
        if self.uncounted:
            return None
        total = self.crossbar_macs + self.digital_macs
        return self.crossbar_macs / total if total else 0.0

    def document(self) -> dict[str, Any]:
        """As `report.json` has it, under `coverage`."""
        found: dict[str, Any] = {
            "crossbar_operators": self.crossbar_operators,
            "digital_operators": self.digital_operators,
            "mac_share": self.mac_share,
            "digital_reasons": self.reasons,
        }
        return found | ({"uncounted": list(self.uncounted)} if self.uncounted else {})


def crossbar_share(calibrated: Calibrated) -> CrossbarShare:
    """Count what landed on crossbars; digital operators count by the shapes that were measured."""
    planned, shapes = calibrated.planned, calibrated.shown.first
    crossbar = digital = 0
    uncounted: set[str] = set()
    reasons = dict(planned.reasons)

    def shape_of(value: ir.Value | None) -> tuple[int, ...] | None:
        return None if value is None else shapes.get(value.name or "")

    for node in planned.nodes:
        if node in planned.layers:
            layer = planned.layers[node]
            source, result = (shapes[v.name or ""] for v in (layer.source, layer.output))
            crossbar += layer.kind.multiply_accumulates(layer.product, source, result)
        elif planned.kinds.multiplies(node):
            products = planned.kinds.operators.of(node).products
            counted = products and products(
                [shape_of(v) for v in node.inputs], shape_of(node.outputs[0])
            )
            if counted is None:
                uncounted.add(node.op_type)
            else:
                digital += counted
        article = "an" if node.op_type[:1] in "AEIOU" else "a"
        for inner in inner_nodes(node):
            if planned.kinds.multiplies(inner):
                uncounted.add(f"{inner.op_type} in the body of {article} {node.op_type}")
                reasons[inner.name or ""] = (
                    f"{inner.op_type}: in the body of {article} {node.op_type}"
                )
    return CrossbarShare(
        len(planned.layers),
        len(planned.nodes) - len(planned.layers),
        crossbar,
        digital,
        reasons,
        tuple(sorted(uncounted)),
    )
