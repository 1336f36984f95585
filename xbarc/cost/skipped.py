"""Rows that an input slice leaves at level 0, where the target doesn't drive them.

How many there are depends on the data: the share of rows driven is measured on calibration inputs
(`xbarc.driver.compile`) and kept in the report, a layer each (`driven_rows`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xbarc.cost.events import LayerEvents

SCALED = ("row_pulses", "input_bits", "cell_reads", "cell_level_reads")
"""Counts that fall with the rows driven: pulses, bits to rows, cells on driven rows (model)."""


def skipped(layers: Sequence[LayerEvents], driven: Mapping[str, float]) -> list[LayerEvents]:
    """The events of layers with only these shares of their rows driven; others as they are."""
    return [
        replace(layer, **{k: round(getattr(layer, k) * driven[layer.name]) for k in SCALED})
        if layer.name in driven
        else layer
        for layer in layers
    ]


def driven_rows(report: Mapping[str, Any]) -> dict[str, float]:
    """Of the layers of a report, the share of rows that are driven, where zeros are skipped."""
    return {row["name"]: row["driven_rows"] for row in report["layers"] if "driven_rows" in row}
