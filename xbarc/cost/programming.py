"""What programming took in a run, by the pulses that its devices needed.

A report takes the same number of pulses for every cell, `device.write_pulses`. With the effect
`verify` a run counts them. The constants and formulas are the report's (`docs/time.md`), so both
figures agree where each cell took one pulse.
"""

from collections.abc import Mapping
from typing import Any

from xbarc.cost.components import components
from xbarc.cost.model import programming_energy_uj
from xbarc.cost.rollup import programming_limit_w
from xbarc.cost.time import Writing, programming_totals
from xbarc.hw.target import Target

SUMS = ("cells", "pulses", "energy_uj", "verify_energy_uj")
TIMES = ("time_us", "verify_time_us")


def programming(
    layers: Mapping[str, Mapping[str, Any]],
    counted: Mapping[str, tuple[int, int]],
    target: Target,
    *,
    verified: bool,
) -> dict[str, Any]:
    """The document's `programming`: `{"layers": {name: figures}, "total": figures}`.

    `layers` are the report's rows by name; `counted` has of each layer the cells of its arrays and
    the pulses that wrote them. `verified`: a read follows each pulse, and the pulses are those
    counted; else each cell takes the target's `device.write_pulses`.

    A layer's `cells` are the report's `memristors`. Arrays also have cells at which no weight
    stands, and reference lines, whose first pulse no report counts; what they took beyond it is
    charged. All crossbars are written at once, so the whole takes as long as its slowest layer, or
    as the limit of power allows (`xbarc.cost.rollup.programming_limit_w`).
    """
    parts = components(target)
    found = {}
    for name, (arrays_cells, arrays_pulses) in counted.items():
        if name not in layers:
            continue
        row = layers[name]
        cells = row["memristors"]
        pulses = cells + arrays_pulses - arrays_cells
        if not verified:
            pulses = cells * target.device.write_pulses
        writing = Writing(pulses / cells, verified=True) if verified and cells else None
        more = programming_totals(row["crossbars"], cells, target, parts, writing)
        found[name] = {
            "cells": cells,
            "pulses": pulses,
            "pulses_per_cell": pulses / cells if cells else 0.0,
            "energy_uj": programming_energy_uj(pulses, target),
            "verify_energy_uj": more["programming_verify_energy_uj"],
            "time_us": more["programming_time_ms"] * 1e3,
            "verify_time_us": more["programming_verify_time_ms"] * 1e3,
        }
    crossbars = sum(layers[name]["crossbars"] for name in found)
    limit_w = programming_limit_w(crossbars, target, parts)
    return {"layers": found, "total": _total(found, limit_w)}


def _total(layers: Mapping[str, Mapping[str, Any]], limit_w: float) -> dict[str, Any]:
    sums = {key: sum(layer[key] for layer in layers.values()) for key in SUMS}
    slowest = max(layers.values(), key=lambda layer: layer["time_us"], default={})
    # uJ / W = us.
    allowed = (sums["energy_uj"] + sums["verify_energy_uj"]) / limit_w if limit_w else 0.0
    time = slowest.get("time_us", 0.0)
    longer = max(allowed / time, 1.0) if time else 1.0
    return {
        **sums,
        "pulses_per_cell": sums["pulses"] / sums["cells"] if sums["cells"] else 0.0,
        **{key: slowest.get(key, 0.0) * longer for key in TIMES},
    }
