"""What travels with a graph from pass to pass and is never saved: calibration data, and figures for
the report.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

import onnx_ir as ir

from xbarc.support.data import Array, Feeds
from xbarc.support.errors import XbarcError

CALIBRATION, FIGURES = "xbarc.calibration", "xbarc.figures"
KEPT, RESTORED = "xbarc.kept", "xbarc.restored"
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


def keep(model: ir.Model, name: str, arrays: Mapping[str, Array]) -> None:
    """Store what a pass measured under its name: it stays with the compiled program.

    `update-weights` restores it, so that the pass measures nothing (`kept`).
    """
    cast(dict[str, Any], model.meta.setdefault(KEPT, {}))[name] = dict(arrays)


def kept(model: ir.Model, name: str) -> dict[str, Array] | None:
    """What the pass of this name measured before; None where it has to measure."""
    found = cast(Mapping[str, Mapping[str, Array]], model.meta.get(KEPT, {}))
    if name not in found and RESTORED not in model.meta:
        return None
    return dict(found.get(name, {}))


def all_kept(model: ir.Model) -> dict[str, Array]:
    """What all passes measured, as a program stores it: `@pass/name`."""
    found = cast(Mapping[str, Mapping[str, Array]], model.meta.get(KEPT, {}))
    return {f"@{name}/{key}": a for name, arrays in found.items() for key, a in arrays.items()}


def restore(model: ir.Model, stored: Mapping[str, Array]) -> None:
    """The reverse of `all_kept`: passes then measure nothing. Other arrays are left out."""
    found: dict[str, dict[str, Array]] = defaultdict(dict)
    for name in stored:
        pass_name, slash, key = name.removeprefix("@").partition("/")
        if name.startswith("@") and slash:
            found[pass_name][key] = stored[name]
    model.meta[KEPT], model.meta[RESTORED] = found, True
