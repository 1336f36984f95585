"""Energy, power and rate in two operating modes: one input alone, and a stream of inputs.

One input alone takes the latency, a stream an input every interval. What is switched for an input
is the same in both; what leaks isn't, because everything in use leaks for the time of the mode
(`xbarc.cost.standing`). So in each mode power x time = energy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xbarc.cost.components import Parts
from xbarc.cost.events import LayerEvents
from xbarc.cost.model import at_work
from xbarc.cost.standing import standing_pj
from xbarc.hw.target import Target

LEAKAGE = "leakage"
"""What leakage and clock power are called among the components of an energy."""


@dataclass(frozen=True)
class Mode:
    """What one input costs in a mode: `period_ns` is the latency, or the interval of a stream.

    `layers` are the energies of each layer in pJ: dynamic by component, and `leakage`.
    """

    period_ns: float
    layers: tuple[dict[str, float], ...]

    def energy_uj(self) -> dict[str, float]:
        """By component, `leakage`, and their sum under `total`."""
        names = self.layers[0] if self.layers else {}
        energy = {k: sum(e[k] for e in self.layers) * 1e-6 for k in names}
        return {**energy, "total": sum(energy.values())}

    @property
    def leakage_w(self) -> float:
        """The part of the power that is leakage."""
        leaked = sum(e[LEAKAGE] for e in self.layers)
        return leaked / self.period_ns * 1e-3 if self.period_ns else 0.0

    def document(self, time: str) -> dict[str, Any]:
        """As `report.json` has it; `time` is what the period is called there."""
        energy = self.energy_uj()
        us = self.period_ns * 1e-3
        return {
            "energy_uj": energy,
            time: us,
            # uJ / us = W.
            "power_w": energy["total"] / us if us else 0.0,
            "rate_ips": 1e6 / us if us else 0.0,
        }


def mode(
    layers: Sequence[LayerEvents],
    dynamic: Sequence[Mapping[str, float]],
    on_ns: Sequence[float],
    target: Target,
    parts: Parts,
    period_ns: float,
) -> Mode:
    """One input in a mode. `dynamic` is the layers' `energy_pj`, `on_ns` how long each works."""
    working = at_work(layers, parts)
    standing = standing_pj(layers, on_ns, target, parts, period_ns, working)
    return Mode(
        period_ns,
        tuple(
            {**energy, LEAKAGE: sum(leaked.values())}
            for energy, leaked in zip(dynamic, standing, strict=True)
        ),
    )
