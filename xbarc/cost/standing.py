"""What parts draw whether they work or not: leakage, and the power of their clocks.

`technology.gating` says what an idle part draws (`docs/cost.md`, Two modes). Leakage in the report
is both together.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from xbarc.cost.components import Part, Parts
from xbarc.cost.rollup import occupied
from xbarc.hw.target import Target


class Occupant(Protocol):
    """What stands on crossbars: a layer's counts, or its cost."""

    @property
    def crossbars(self) -> int:
        """Crossbars that it occupies."""

    @property
    def off_chip_bits(self) -> int:
        """Bits that it sends to another chip for one input."""


def standing_mw(
    crossbars: int, target: Target, parts: Parts, working: Collection[str] = ()
) -> dict[str, tuple[float, float]]:
    """Leakage and clock power of what `crossbars` crossbars have in use, by component, in mW."""
    used = occupied(crossbars, target, parts, working)
    return {
        name: (units * (parts[name].unit.leakage_mw or 0.0), units * parts[name].unit.clock_mw)
        for name, units in used.items()
    }


def leakage_mw(
    crossbars: int, target: Target, parts: Parts, working: Collection[str] = ()
) -> float:
    """Both together of what `crossbars` crossbars have in use, nothing gated, in mW."""
    return sum(sum(both) for both in standing_mw(crossbars, target, parts, working).values())


def not_modelled(parts: Parts) -> list[str]:
    """The components of a target whose leakage isn't known."""
    return [n for n, part in parts.items() if part.is_there and part.unit.leakage_mw is None]


def standing_pj(
    layers: Sequence[Occupant],
    on_ns: Sequence[float],
    target: Target,
    parts: Parts,
    period_ns: float,
    working: Collection[str] = (),
) -> list[dict[str, float]]:
    """Energy of what stands powered for `period_ns`, in pJ (mW ns): a layer each, by component.

    A layer bears the share of its crossbars. What isn't gated draws its power all the time; what is
    gated, while its layer works (`on_ns`), and a link while it sends. `working`: as `occupied`.
    """
    whole = sum(la.crossbars for la in layers)
    if not whole:
        return [{} for _ in layers]
    powers = standing_mw(whole, target, parts, working)
    gating = target.technology.gating
    used = occupied(whole, target, parts, working)
    found: list[dict[str, float]] = []
    for layer, on in zip(layers, on_ns, strict=True):
        share, energy = layer.crossbars / whole, {}
        for name, (leakage, clock) in powers.items():
            if not leakage and not clock:
                continue
            all_the_time = share * period_ns
            busy = _working_ns(layer, on, share, parts[name], used[name], period_ns)
            energy[name] = leakage * (busy if gating == "power" else all_the_time) + clock * (
                all_the_time if gating == "none" else busy
            )
        found.append(energy)
    return found


def _working_ns(
    layer: Occupant, on_ns: float, share: float, part: Part, units: float, period_ns: float
) -> float:
    """For how long a layer keeps all of a component powered, where it is gated."""
    if part.role.used_with == "other chips":
        rate = units * part.unit.rate_gps
        return min(layer.off_chip_bits / rate, period_ns) if rate else share * period_ns
    return share * min(on_ns, period_ns)
