"""Figures that a pass leaves behind, for the report."""

from collections.abc import Mapping
from typing import Any, cast

import onnx_ir as ir

KEY = "xbarc.figures"


def leave(model: ir.Model, name: str, figures: Mapping[str, Any]) -> None:
    """Leave what a pass counted (JSON: numbers, texts, lists, dicts) under its name.

    They stand in `report.json` under `pass_figures`; the second run of a pass is `name (2)`.
    """
    left = cast(dict[str, Any], model.meta.setdefault(KEY, {}))
    count, key = 1, name
    while key in left:
        count += 1
        key = f"{name} ({count})"
    left[key] = dict(figures)


def figures_of(model: ir.Model) -> dict[str, Any]:
    """All that passes left, by pass."""
    return dict(cast(Mapping[str, Any], model.meta.get(KEY, {})))
