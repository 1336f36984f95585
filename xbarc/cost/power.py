"""Power of the programmed cells, V^2 (G+ + G-) of the cells that are read, and of the peripherals.

The figure follows from the program alone (model). Every driven row is at the full read voltage in
every read, so a cell of conductance G takes V^2 G for the read pulse, whatever the inputs are. With
differential encoding a pruned weight's cells are at G_off. Cells in rows that aren't driven, and in
columns that aren't converted, take nothing. A cell of a tile that holds no weight counts as a
weight of zero. `xbarc run --activity` says what real inputs drive.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.cost.components.crossbar import conductance_reads_us
from xbarc.cost.events import LayerEvents
from xbarc.hw.target import Target

UNGATED, WEIGHTS = "nothing gated", "the weights before"
"""What `read_power_baseline` says the figures `..._before_w` are of."""


def cells_pj(layer: LayerEvents, target: Target) -> float:
    """Energy in the cells of one layer for one image, in pJ: V^2 G t of each read."""
    # V^2 uS ns = 1e-15 J = 1e-3 pJ.
    pulse = target.device.read_voltage_v**2 * target.read_ns() * 1e-3
    return conductance_reads_us(layer, target) * pulse


def read_power(
    layers: Sequence[LayerEvents],
    energies: Sequence[Mapping[str, float]],
    target: Target,
    throughput_ips: float,
    leakage_mw: float,
) -> dict[str, float]:
    """Watts at a rate of inputs: of the cells (`cells_pj`), of all else, and both.

    `energies` are the layers' dynamic energies by component, in pJ; of these the crossbars' own is
    left out, since it doesn't know what they are programmed to.
    """
    # pJ x inputs/s = 1e-12 W.
    rate = throughput_ips * 1e-12
    crossbar = sum(cells_pj(layer, target) for layer in layers) * rate
    others = sum(pj for e in energies for name, pj in e.items() if name != "crossbar") * rate
    peripheral = others + leakage_mw * 1e-3
    return {"crossbar": crossbar, "peripheral": peripheral, "read": crossbar + peripheral}


def compared(
    now: Mapping[str, float], before: Mapping[str, float], baseline: str
) -> dict[str, Any]:
    """The keys of the report's totals: watts, watts before, and their ratio."""
    return {
        **{f"{name}_power_w": watts for name, watts in now.items()},
        **{f"{name}_power_before_w": watts for name, watts in before.items()},
        "read_power_ratio": now["read"] / before["read"] if before["read"] else 1.0,
        "read_power_baseline": baseline,
    }
