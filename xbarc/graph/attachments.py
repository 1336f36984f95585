"""What travels with a graph from pass to pass and is never saved: calibration data, and figures for
the report.
"""

from collections.abc import Mapping
from typing import Any, cast

import onnx_ir as ir

from xbarc.support.data import Array, Feeds
from xbarc.support.errors import XbarcError

CALIBRATION, FIGURES = "xbarc.calibration", "xbarc.figures"
"""Their keys in `model.meta`."""


def attach(model: ir.Model, feeds: Feeds) -> None:
    """Let passes find `feeds` (input name -> array, axis 0 counts samples); never saved."""
    model.meta[CALIBRATION] = dict(feeds)


def feeds_of(model: ir.Model) -> dict[str, Array]:
    """What `attach` left. Raises `XbarcError` where nothing was attached."""
    feeds = model.meta.get(CALIBRATION)
    if feeds is None:
        raise XbarcError("this pass fits weights to activations: give --calibration")
    return dict(cast(Mapping[str, Array], feeds))


def leave(model: ir.Model, name: str, figures: Mapping[str, Any]) -> None:
    """Store figures of a pass (JSON: numbers, texts, lists, dicts) under its name.

    They appear in `report.json` under `pass_figures`. The second run of a pass is `name (2)`.
    """
    left = cast(dict[str, Any], model.meta.setdefault(FIGURES, {}))
    count, key = 1, name
    while key in left:
        count += 1
        key = f"{name} ({count})"
    left[key] = dict(figures)


def figures_of(model: ir.Model) -> dict[str, Any]:
    """All that passes left, by pass."""
    return dict(cast(Mapping[str, Any], model.meta.get(FIGURES, {})))
