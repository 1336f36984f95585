"""A target's area and power, rolled up over its hierarchy, and what of it a program occupies."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from xbarc.cost.components import LEVELS, Level, Parts, adc_gsps, components
from xbarc.cost.components import described as described_parts
from xbarc.cost.operations import OPERATIONS, ratios
from xbarc.hw.target import Target, described
from xbarc.support.errors import XbarcError


def roll_up(target: Target, parts: Parts) -> dict[str, dict[str, float]]:
    """Area and full-load power of one core, one node and one chip.

    A node is its cores and its own components, a chip its nodes and its own: the published tables
    are added up the same way. `{"core": {"area_mm2": ..., "power_w": ...}, "node": ..., "chip":
    ...}`.
    """
    inner = {"core": 0, "node": target.node.cores, "chip": target.chip.nodes}
    area = power = 0.0
    rolled = {}
    for level, own in level_totals(parts).items():
        area = inner[level] * area + sum(area_um2 for area_um2, _ in own.values())
        power = inner[level] * power + sum(power_mw for _, power_mw in own.values())
        rolled[level] = {"area_mm2": area * 1e-6, "power_w": power * 1e-3}
    return rolled


def peak(target: Target, parts: Parts) -> dict[str, float]:
    """The most that one chip can do: every cell in use in every read, at the power of its roll-up.

    Inputs of `inputs.bits`, unsigned (with a sign where it is driven), and `weights.bits` a weight;
    keys as `ratios` has them.
    """
    array, bits = target.array, target.weights.bits
    tiles = target.crossbars_per_chip / array.crossbars_per_tile(bits)
    macs = tiles * array.weights_per_column * array.weights_per_row(bits)
    slices = target.input_slices(target.inputs.bits, signed=False)
    time_ns = slices * target.cycle_ns(adc_gsps(parts))
    chip = roll_up(target, parts)["chip"]
    # Operations a ns are 1e-3 TOPS.
    return ratios(OPERATIONS * macs / time_ns * 1e-3, chip["power_w"], chip["area_mm2"])


def level_totals(parts: Parts) -> dict[str, dict[str, tuple[float, float]]]:
    """Area (um2) and full-load power (mW) of all units of a component at one level, by level."""
    return {
        level: {
            name: (count * parts[name].unit.area_um2, count * parts[name].unit.full_power_mw)
            for name, count in _standing(level, parts).items()
            if parts[name].role.used_with != "operations"
        }
        for level in LEVELS
    }


def _standing(level: Level, parts: Parts) -> dict[str, float]:
    """How many of each component stand at a level, of those that do.

    Arrays first: figures are added up in this order, and so keep their last digit.
    """
    first = {"crossbar": 0, "dac": 1}
    names = sorted(parts, key=lambda name: first.get(name, len(first)))
    counts = {name: parts[name].counts.get(level, 0) for name in names}
    return {name: count for name, count in counts.items() if count}


def occupied(
    crossbars: int, target: Target, parts: Parts, working: Collection[str] = ()
) -> dict[str, float]:
    """Units of each component in use with `crossbars` crossbars, level by level.

    Cells, DACs and sample-and-holds count with each crossbar. The rest of a core counts from its
    first crossbar on, the rest of a node from its first core on, a chip's buffer from its first
    node on. Links count only between chips, units for some operations where they are `working`.
    """
    cores = math.ceil(crossbars / target.core.crossbars)
    nodes = math.ceil(cores / target.node.cores)
    chips = math.ceil(nodes / target.chip.nodes)
    whole: dict[Level, int] = {"core": cores, "node": nodes, "chip": chips}
    used: dict[str, float] = {}
    for level, in_use in whole.items():
        times = {
            "level": in_use,
            "crossbar": crossbars / target.core.crossbars,
            "other chips": in_use if chips > 1 else 0,
        }
        for name, count in _standing(level, parts).items():
            times["operations"] = in_use if name in working else 0
            used[name] = used.get(name, 0) + count * times[parts[name].role.used_with]
    return used


def area_mm2(
    crossbars: int, target: Target, parts: Parts, working: Collection[str] = ()
) -> dict[str, float]:
    """Area in use by component, in mm2, of `crossbars` crossbars in the cores that they need."""
    used = occupied(crossbars, target, parts, working)
    return {name: units * parts[name].unit.area_um2 * 1e-6 for name, units in used.items()}


def programming_limit_w(crossbars: int, target: Target, parts: Parts) -> float:
    """The most that `crossbars` crossbars may draw while they are programmed; 0: no limit.

    `chip.programming_power_w` for each chip, else what is in use draws at full load: supply and
    cooling are made for that (model).
    """
    given = target.chip.programming_power_w
    if given is not None:
        return given * chips_needed(crossbars, target)
    used = occupied(crossbars, target, parts)
    return sum(units * parts[name].unit.full_power_mw for name, units in used.items()) * 1e-3


def chips_needed(crossbars: int, target: Target) -> int:
    """Whole chips that hold `crossbars` crossbars."""
    return math.ceil(crossbars / target.crossbars_per_chip)


def has_room(crossbars: int, target: Target) -> bool:
    """Whether the target's chips have that many crossbars."""
    chips = target.chip.chips
    return chips is None or crossbars <= chips * target.crossbars_per_chip


def check_capacity(needs: Mapping[str, int], target: Target) -> None:
    """Refuse a program whose layers need more crossbars than the target's chips have.

    `needs`: crossbars by layer. Raises `XbarcError` that says what is missing, and by how much.
    """
    chips = target.chip.chips
    needed = sum(needs.values())
    if chips is None or has_room(needed, target):
        return
    has = chips * target.crossbars_per_chip
    largest = max(needs, key=needs.__getitem__)
    raise XbarcError(
        f"target {target.name!r} has {has} crossbars ({chips} x {target.chip.nodes} nodes x "
        f"{target.node.cores} cores x {target.core.crossbars}), the program needs {needed}: "
        f"{needed - has} are missing (the largest layer, {largest!r}, takes {needs[largest]}); "
        f"{chips_needed(needed, target)} chips would do: chip.chips"
    )


def document(target: Target, *, with_sources: bool = False) -> dict[str, Any]:
    """What `xbarc targets NAME --json` prints: the target, its components and its `roll_up`.

    `with_sources` adds `constants`, every figure with its source. Raises as `components` does.
    """
    parts = components(target)
    return {
        **described(target),
        "components": described_parts(parts, target),
        "roll_up": roll_up(target, parts),
        "peak": peak(target, parts),
        **({"constants": constants(target, parts)} if with_sources else {}),
    }


def constants(target: Target, parts: Parts) -> list[dict[str, Any]]:
    """Every constant of a target with its source: `{"key", "value", "source"}`, in file order.

    The tables of the target first, then the figures of its components.
    """
    rows = []
    for name in type(target).model_fields:
        table = getattr(target, name)
        if name == "cost" or not hasattr(table, "source"):
            continue
        rows += [
            {"key": f"{name}.{key}", "value": value, "source": table.source}
            for key, value in table
            if key != "source" and value is not None
        ]
    for name, part in parts.items():
        figures = ("area_um2", "energy_pj", "leakage_mw", "rate_gps")
        values = {key: getattr(part.unit, key) for key in figures}
        values["power_mw"] = part.unit.full_power_mw
        rows += [
            {"key": f"cost.{name}.{key}", "value": value, "source": part.unit.source}
            for key, value in values.items()
            if value or key in ("area_um2", "energy_pj")
        ]
    return rows
