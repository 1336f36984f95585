"""What a reader must know before believing a figure: the report's `caveats`, each with its figures.

They follow from the target and the totals, so that programs side by side show in what their figures
don't compare.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xbarc.cost.components import Parts, components
from xbarc.cost.components.leakage import NODE_NM
from xbarc.cost.standing import leakage_mw
from xbarc.hw.target import Target
from xbarc.ir.analysis.widths import Widths
from xbarc.support.units import si

ENERGY = (
    "energy_uj",
    *(f"modes.{mode}.{key}" for mode in ("stream", "single") for key in ("energy_uj", "power_w")),
    "power_w",
    "tops_per_w",
    "energy_per_mac_pj",
)
LEAKAGE = (
    "leakage_mw",
    "energy_uj.leakage",
    "modes.stream.energy_uj.leakage",
    "modes.single.energy_uj.leakage",
)
TIME = (
    "latency_us",
    "stream_latency_us",
    "interval_us",
    "throughput_ips",
    *(f"modes.single.{key}" for key in ("latency_us", "rate_ips")),
    *(f"modes.stream.{key}" for key in ("interval_us", "rate_ips")),
)
OPERATIONS = ("macs", "tops", "tops_per_mm2")
"""Beside those of `ENERGY`, figures of multiply-accumulates."""
AREA = ("area_mm2", "tops_per_mm2")
PEAK = ("peak.tops_per_w", "peak.tops_per_mm2", "peak.energy_per_mac_pj")
CELLS = (
    "energy_uj.crossbar",
    "modes.stream.energy_uj.crossbar",
    "modes.single.energy_uj.crossbar",
    "array_energy_uj.cells",
    "array_energy_uj.arrays",
)

CELL_BITS = 2
"""Bits of the cells that published figures of an array's read are of."""

UNPRICED = {
    "buffers": ("buffer", "core_buffer", "chip_buffer"),
    "the network between nodes": ("router",),
    "digital units": ("vector_unit", "activation", "pooling"),
}
"""What a target may have no component of, and the components that it would be."""

MOSTLY = 0.5
"""A share of the energy from which on its cause is said."""


@dataclass(frozen=True)
class Caveat:
    """A sentence about figures: `of` are keys of the totals, or tables of them.

    It stands beside each figure whose key it names, and of a table beside the total.
    """

    of: tuple[str, ...]
    text: str

    def document(self) -> dict[str, Any]:
        """As `report.json` has it."""
        return {"of": list(self.of), "text": self.text}


NOTHING = Caveat(
    tuple(dict.fromkeys((*ENERGY, *TIME, *OPERATIONS, *AREA))),
    "Nothing of this model is for crossbars, so that it doesn't run on this hardware: it has no "
    "energy, time, rate or area here",
)
"""The caveat of a program without a crossbar layer."""


def caveats(
    totals: Mapping[str, Any],
    target: Target,
    parts: Parts,
    widths: Widths,
    driven: Mapping[str, float] | None = None,
    uncounted: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The caveats of a program's totals, as documents; `widths` are its layers'.

    `driven` and `uncounted` are as in `xbarc.cost.report`.
    """
    found = [
        *_uncounted(uncounted),
        *_energies(totals, target, parts),
        *_areas(totals, target),
        *_widths(widths, target),
    ]
    if driven:
        shares = [driven[name] for name in driven]
        text = (
            f"Rows at 0 aren't driven (inputs.skip_zeros): {min(shares):.0%} to {max(shares):.0%} "
            "of a layer's are, for the calibration inputs"
        )
        found.append(Caveat(ENERGY, text))
    return [caveat.document() for caveat in found]


def _uncounted(operators: Sequence[str]) -> Iterator[Caveat]:
    """That some digital work is left out, which may be most of the model's."""
    if operators:
        text = (
            f"Multiply-accumulates of {' and '.join(operators)} can't be counted: they are charged "
            "as one digital operation a value of their results, so energy and time are too low, "
            "and rates too high"
        )
        yield Caveat((*ENERGY, *TIME, *OPERATIONS), text)


def _energies(totals: Mapping[str, Any], target: Target, parts: Parts) -> Iterator[Caveat]:
    there = [name for name, part in parts.items() if part.is_there]
    missing = [what for what, names in UNPRICED.items() if not {*names} & {*there}]
    if missing:
        text = f"{_list(missing)}: no figure is known, so they count as nothing"
        yield Caveat((*ENERGY, *AREA, *PEAK), text[0].upper() + text[1:])
    if unknown := totals["leakage_not_modelled"]:
        text = _leakage(unknown, [name for name in there if name not in unknown])
        yield Caveat((*ENERGY, *LEAKAGE), text + _assumed(totals, target))
    yield from _cells(target, parts)
    priced, needed = target.converter_bits(), replaced(target).converter_bits()
    if priced != needed:
        yield Caveat(
            (*ENERGY, *AREA, *PEAK),
            f"Converters are priced at {priced} bits, lossless ones need {needed} "
            '(adc.price = "as-configured")',
        )
    energy = totals["energy_uj"]
    share = energy.get("leakage", 0.0) / energy["total"] if energy["total"] else 0.0
    if share > MOSTLY:
        chips = totals["chips"]
        what = f"links of {chips} chips" if chips > 1 and target.chip.links else "all in use"
        yield Caveat(
            ENERGY,
            f"{share:.0%} is leakage and clock power, {what}, idle or not "
            f'(technology.gating = "{target.technology.gating}"){_waiting(totals)}',
        )


def _waiting(totals: Mapping[str, Any]) -> str:
    """What a stream waits for, where copies of it would help."""
    worst = totals["bottleneck"]
    if worst is None or worst["resource"] != "crossbar":
        return ""
    return f", while all wait for {worst['layer']}: the pass replicate gives it copies"


def _leakage(unknown: list[str], known: list[str]) -> str:
    """Of which components leakage isn't modelled, the shorter way."""
    if not known:
        return "Leakage isn't modelled: no source has it"
    if len(known) < len(unknown):
        return f"Leakage is modelled of {_list(known)} only: the other sources don't have it"
    return f"Leakage isn't modelled of {_list(unknown)}: no source has it"


def _assumed(totals: Mapping[str, Any], target: Target) -> str:
    """How much the leakage that isn't modelled may be, where a named model says it."""
    technology = target.technology
    if technology.leakage != "published":
        return ""
    if technology.node_nm != NODE_NM:
        return " (assume a share of the power: technology.leakage_share)"
    asked = technology.model_copy(update={"leakage": "puma"})
    other = target.model_copy(update={"technology": asked})
    more_mw = leakage_mw(totals["crossbars"], other, components(other)) - totals["leakage_mw"]
    if more_mw <= 0:
        return ""
    more = si(more_mw * 1e-3, "W")
    text = f'; by PUMA\'s simulator (technology.leakage = "puma") it would be {more}'
    if technology.gating != "none":
        return f"{text}, nothing gated"
    stream, single = (
        si(more_mw * totals[time] * 1e-9, "J") for time in ("interval_us", "latency_us")
    )
    return f"{text}, for an input {stream} streaming and {single} alone"


def _cells(target: Target, parts: Parts) -> Iterator[Caveat]:
    """What the figure of the arrays doesn't say of their cells."""
    cells, bits = parts.get("crossbar"), target.array.cell_bits
    if cells is None or target.array.energy == "programmed":
        return
    if not cells.unit.energy_pj:
        yield Caveat(CELLS, f"Cells take nothing by themselves: {cells.unit.source}")
    elif bits > CELL_BITS and target.cost["crossbar"].model in ("isaac", "puma"):
        yield Caveat(
            (*ENERGY, *CELLS),
            f"A read of cells of {bits} bits is priced as one of {CELL_BITS} bits, as PUMA's "
            "simulator has it: both conduct between G_off and G_on",
        )


def _areas(totals: Mapping[str, Any], target: Target) -> Iterator[Caveat]:
    if totals["chips"] > 1 and not target.chip.links:
        text = "Chips have no links: what they exchange goes through the memory off the chip"
        text = text if target.chip.memories else "Links between chips have no figure"
        yield Caveat(("throughput_ips", *AREA), text)


def _widths(widths: Widths, target: Target) -> Iterator[Caveat]:
    """That the peak is at other widths than the layers have."""
    for what, found, bits in (
        ("weights", widths.weights, target.weights.bits),
        ("inputs", widths.inputs, target.inputs.bits),
    ):
        if {*found} - {bits}:
            have = _list([str(width) for width in found])
            text = f"The peak is at {what} of {bits} bits ({what}.bits); layers have {have}"
            yield Caveat(("peak.tops", *PEAK), text)


def replaced(target: Target) -> Target:
    """The target with converters priced as needed."""
    adc = target.adc.model_copy(update={"price": "as-needed"})
    return target.model_copy(update={"adc": adc})


def _list(names: list[str]) -> str:
    words = [name.replace("_", " ") for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
