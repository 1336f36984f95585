"""Cells by name: SRAM, FeFET, PCM, flash, RRAM, with what they take, cost and endure.

A file of `targets/cells/` has the `[device]` of a target and its crossbar as a component. A target
that names one (`[device] cell = "pcm"`, `--set device.cell=pcm`) has its values, but for those that
it gives itself.
"""

import importlib.resources
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xbarc.hw.target.derive import derived
from xbarc.hw.target.schema import Target
from xbarc.support.errors import UsageError, nearest

OF_THE_CELL = ("write_energy_pj", "endurance", "max_cell_bits")
"""What another cell's file leaves out isn't the old cell's."""


def cell_names() -> list[str]:
    """The cells that `device.cell` can name."""
    return sorted(_files())


def cell_text(name: str) -> str:
    """The file of a cell, comments and sources included.

    Raises `UsageError` where there is none; the nearest is suggested.
    """
    known = _files()
    if name not in known:
        raise UsageError(f"device.cell = {name!r}: {nearest(name, known)}")
    return known[name].read_text(encoding="utf-8")


def cell_description(name: str) -> str:
    """What a cell's file says it is. Raises as `cell_text`."""
    return str(tomllib.loads(cell_text(name))["description"])


def with_cell(base: Target, own: Mapping[str, Any]) -> Target:
    """`base` with the values of the cell that the tables `own` name; as it is if they name none.

    Raises `UsageError` for an unknown cell.
    """
    tables = _named(own)
    if tables is None:
        return base
    plain = base.device.model_copy(update=dict.fromkeys(OF_THE_CELL))
    values = derived(base.model_copy(update={"device": plain}), tables, "the cell's")
    # Bits that `own` gives are checked with it.
    array = own.get("array")
    if isinstance(array, dict) and "cell_bits" in array:
        values["device"].pop("max_cell_bits", None)
        most = tables["device"].get("max_cell_bits")
        made = Target.model_validate(values)
        return made.model_copy(
            update={"device": made.device.model_copy(update={"max_cell_bits": most})}
        )
    return Target.model_validate(values)


def over_cell(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a target without a base, over those of the cell that they name.

    Raises `UsageError` for an unknown cell.
    """
    tables = _named(values)
    if tables is None:
        return dict(values)
    device = {**tables["device"], **values["device"]}
    return {**values, "device": device, "cost": {**tables["cost"], **values.get("cost", {})}}


def _files() -> dict[str, Path]:
    folder = importlib.resources.files("xbarc.targets") / "cells"
    return {Path(str(entry)).stem: Path(str(entry)) for entry in folder.iterdir()}


def _named(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The tables of the cell that a target's values name, with its name; None without one."""
    device = values.get("device")
    name = device.get("cell") if isinstance(device, dict) else None
    if not isinstance(name, str) or not name:
        return None
    tables = tomllib.loads(cell_text(name))
    tables.pop("description")
    tables["device"]["cell"] = name
    return tables
