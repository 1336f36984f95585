"""How fast a target's units and wires are, and how many cycles a layer takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from xbarc.cost.components import Parts, adc_gsps
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, StreamType

WIRES_OF_ROUTER = 5
"""To four neighbours and the node's own."""


@dataclass(frozen=True)
class Rates:
    """The rates of everything but crossbars.

    `digital_per_ns`: operations a ns of all units of a kind in one node; a unit that isn't listed
    takes no time. `wire_bits_per_ns`: one wire of the mesh, one way. `link_bits_per_ns`: one wire
    between chips. `adc_gsps`: one ADC, by its component's model; `unsigned_adc_gsps`: for inputs
    without a sign, where that is another.
    """

    digital_per_ns: Mapping[str, float] = field(default_factory=dict)
    wire_bits_per_ns: float = math.inf
    link_bits_per_ns: float = math.inf
    adc_gsps: float = math.inf
    unsigned_adc_gsps: float | None = None

    def adc(self, *, signed: bool) -> float:
        """Conversions of one ADC in a ns, for inputs with a sign or without."""
        if signed or self.unsigned_adc_gsps is None:
            return self.adc_gsps
        return self.unsigned_adc_gsps


def rates_of(target: Target, parts: Parts) -> Rates:
    """The rates of a target with these components (`xbarc.cost.components.components`).

    A digital unit with a rate counts once for each unit in a node and its cores. A router shares
    its rate among five wires: to four neighbours and to its node. If a router serves n nodes, one
    of its wires replaces sqrt(n) wires of their mesh.
    """
    digital: dict[str, float] = {}
    for name, part in parts.items():
        count = part.counts.get("node", 0) + part.counts.get("core", 0) * target.node.cores
        if part.role.operations and count * part.unit.rate_gps > 0:
            digital[name] = count * part.unit.rate_gps
    router, link = parts.get("router"), parts.get("link")
    wire = router.unit.rate_gps / WIRES_OF_ROUTER if router is not None else 0.0
    wire *= min(math.sqrt(target.node.routers), 1.0)
    return Rates(
        digital,
        wire or math.inf,
        (link.unit.rate_gps if link is not None else 0.0) or math.inf,
        adc_gsps(parts),
        adc_gsps(parts, signed=False),
    )


def cycle_counts(op: MvmOp, target: Target) -> tuple[int, int]:
    """Input vectors of one image, and cycles of each (its input slices)."""
    stream: Any = cast(StreamType, op.input.type)
    return stream.vectors.data, target.input_slices(stream.element.width.data, _signed(op))


def cycle_ns(op: MvmOp, target: Target, rates: Rates) -> float:
    """The time of one of its cycles."""
    return target.cycle_ns(rates.adc(signed=_signed(op)))


def _signed(op: MvmOp) -> bool:
    stream: Any = cast(StreamType, op.input.type)
    return bool(stream.element.signedness.data.name == "SIGNED")


def cycles(vectors: int, slices: int, copies: int = 1) -> int:
    """Cycles in sequence of a layer whose copies share the vectors."""
    return math.ceil(vectors / copies) * slices
