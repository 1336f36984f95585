"""A figure of the report unfolded: into figures that it follows from, down to counts and constants.

Each has its value, how it follows from its parts, and at the leaves where it comes from: the source
of a constant, or what is counted. `xbarc cost --explain KEY` prints it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xbarc.cost.components import Parts, components
from xbarc.cost.events import COUNTS, LayerEvents, count_events
from xbarc.cost.model import actions, at_work, digital_unit, parts_of
from xbarc.cost.rollup import occupied
from xbarc.cost.skipped import driven_rows, skipped
from xbarc.cost.standing import standing_mw
from xbarc.cost.time import placed_hops, rates_of
from xbarc.ir.analysis.zero_point import has_sign
from xbarc.support.errors import UsageError, nearest

if TYPE_CHECKING:
    from xbarc.artifact import CompiledProgram

COUNTED = "counted on the mapped program: docs/cost.md, What is counted"

BUFFERED = ("buffer_read_bits", "buffer_write_bits")

ACTIONS = {
    "adc": ("adc_conversions",),
    "dac": ("row_pulses",),
    "sample_hold": ("adc_conversions",),
    "word_line": ("adc_conversions",),
    "shift_add": ("shift_adds", "offset_adds"),
    "input_register": ("input_bits",),
    "output_register": ("output_values",),
    "core_buffer": BUFFERED,
    "buffer": BUFFERED,
    "bus": ("bus_bits",),
    "router": ("mesh_bit_hops", "partial_sum_bits"),
    "node_register": ("results",),
    "link": ("off_chip_bits",),
}
"""A layer's counts that add up to a component's actions, beside its digital operations; those of a
crossbar, a chip's buffer and a memory depend on the target."""

SHARED = ("dac", "input_register")
"""Components of which rows of several arrays may share one (`core.dacs`)."""


@dataclass(frozen=True)
class Figure:
    """A figure: `key` as the report has it (its unit is in it), and what it follows from.

    `how` says how the parts give the value; of a leaf, `source` where it comes from.
    """

    key: str
    value: float
    how: str = ""
    parts: tuple["Figure", ...] = ()
    source: str = ""

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        found: dict[str, Any] = {"key": self.key, "value": self.value}
        found |= {k: v for k, v in (("how", self.how), ("source", self.source)) if v}
        if self.parts:
            found["parts"] = [part.document() for part in self.parts]
        return found


def explain(program: "CompiledProgram", key: str) -> Figure:
    """The figure `key` of the program's report: `energy_uj.adc`, `layers.conv1.latency_ns`.

    `totals.` may be left out. Raises `UsageError` for a key that isn't a figure of the report.
    """
    return _Explainer(program).figure(key.removeprefix("totals."))


@dataclass
class _Explainer:
    program: "CompiledProgram"
    parts: Parts = field(init=False)
    layers: list[LayerEvents] = field(init=False)

    def __post_init__(self) -> None:
        program = self.program
        self.target = program.target
        self.parts = components(self.target)
        hops = placed_hops(program.module, self.target)
        self.totals: Mapping[str, Any] = program.report["totals"]
        self.rows = {row["name"]: row for row in program.report["layers"]}
        counted = count_events(program.module, program.weights, self.target, program.digital, hops)
        self.layers = skipped(counted, driven_rows(program.report))

    def figure(self, key: str) -> Figure:
        """Raises `UsageError` for a key that there isn't."""
        if key.startswith("layers."):
            return self._layer(key)
        if key in ("energy_uj", "area_mm2", "modes.stream.energy_uj", "modes.single.energy_uj"):
            key = f"{key}.total"
        known = dict(_plain(self.totals))
        if key not in known:
            raise UsageError(f"--explain {key}: {nearest(key, [*known, 'layers.NAME.KEY'])}")
        if ".energy_uj." in f".{key}":
            return self._energy(key)
        if key.startswith("area_mm2."):
            return self._area(key)
        if key == "leakage_mw":
            return self._standing()
        return self._derived(key, float(known[key]))

    # --- Energy

    def _energy(self, key: str) -> Figure:
        mode = "single" if key.startswith("modes.single") else "stream"
        table = self.totals["modes"][mode]["energy_uj"]
        name = key.rpartition(".")[2]
        if name == "total":
            place = key.rpartition(".")[0]
            inner = [self._energy(f"{place}.{n}") for n in table if n != "total"]
            return Figure(key, table[name], "sum over the components", tuple(inner))
        if name == "leakage":
            return self._leakage(key, mode)
        rows = tuple(self._action_energy(layer, name) for layer in self.layers)
        return Figure(key, table[name], "sum over the layers, in pJ x 1e-6", rows)

    def _action_energy(self, layer: LayerEvents, name: str) -> Figure:
        count = actions(layer, self.target, self.parts)[name]
        unit = parts_of(layer, self.target, self.parts)[name].unit
        one = f"components.{name}.energy_pj"
        if unit.energy_pj != self.parts[name].unit.energy_pj:
            # The layer's own widths, or inputs without a sign.
            one = f"in this layer, {one}"
        return Figure(
            f"layers.{layer.name}.energy_pj.{name}",
            count * unit.energy_pj,
            "actions x energy of one",
            (
                self._actions(layer, name, count),
                Figure(one, unit.energy_pj, source=unit.source),
            ),
        )

    def _actions(self, layer: LayerEvents, name: str, count: float) -> Figure:
        """How often a component acts for a layer: one of the layer's counts, or what comes of some.

        A count stands under its key in the report only where it is the value of that key.
        """
        terms = [term for term in self._terms(layer, name) if term.value]
        whole, called = sum(term.value for term in terms), f"actions of {name}"
        array = self.target.array
        if len(terms) == 1 and whole == count:
            return terms[0]
        if terms and math.isclose(whole, count, rel_tol=1e-12):
            return Figure(called, count, "sum over what it does", tuple(terms))
        if name == "crossbar" and array.energy == "cells" and whole:
            cells = Figure("cells of a crossbar", array.rows * array.cols, source=array.source)
            how = "cells that are read / cells of a crossbar"
            return Figure(called, count, how, (*terms, cells))
        if name in SHARED and len(terms) == 1:
            share = Figure(
                "of rows that share a DAC, one", count / whole, source="docs/cost.md: core.dacs"
            )
            return Figure(called, count, "count x share of it", (*terms, share))
        return Figure(called, count, source=f"{COUNTED}, and what an action of {name} is")

    def _terms(self, layer: LayerEvents, name: str) -> Iterator[Figure]:
        """The layer's counts that make a component act, each under its key in the report."""
        place = f"layers.{layer.name}"
        for key in self._counts(name):
            how = ""
            if name == "adc" and layer.vectors and layer.cycles:
                slices = layer.cycles // math.ceil(layer.vectors / layer.copies)
                lines = layer.adc_conversions / (layer.vectors * slices)
                how = f"{layer.vectors} vectors x {slices} input slices x {lines:g} bit lines"
            yield Figure(f"{place}.{key}", getattr(layer, key), how, source=COUNTED)
        for operation, number in layer.digital.items():
            if digital_unit(operation, self.parts) != name:
                continue
            done = Figure(f"{place}.digital.{operation}", number, source=COUNTED)
            steps = self.parts[name].steps(operation, self.target)
            if steps == 1:
                yield done
                continue
            each = Figure(f"actions of {name} for one", steps, source="docs/cost.md, a model")
            yield Figure(f"{operation} by {name}", number * steps, "count x steps", (done, each))

    def _counts(self, name: str) -> tuple[str, ...]:
        target = self.target
        if name == "crossbar":
            ways = {"arrays": ("crossbar_reads",), "cells": ("cell_reads",)}
            return ways.get(target.array.energy, ())
        if name == "chip_buffer":
            return ("spill_bits",) if target.node.buffers or target.core.buffers else BUFFERED
        if name == "memory":
            spills = () if target.chip.buffers else ("spill_bits",)
            return ("io_bits", *spills, *(() if target.chip.links else ("off_chip_bits",)))
        return ACTIONS.get(name, ())

    def _leakage(self, key: str, mode: str) -> Figure:
        figures = self.totals["modes"][mode]
        time = "latency_us" if mode == "single" else "interval_us"
        value = figures["energy_uj"]["leakage"]
        whole = self._standing()
        parts = [whole, self.figure(time)]
        gating = self.target.technology.gating
        if gating == "none":
            return Figure(key, value, "leakage x time, in mW us x 1e-3", tuple(parts))
        always = whole.value * parts[1].value * 1e-3
        share = Figure(
            "share of the time that parts are powered",
            value / always if always else 0.0,
            source=f'technology.gating = "{gating}": docs/cost.md, Gating',
        )
        how = "leakage x time x share of it, in mW us x 1e-3"
        return Figure(key, value, how, (*parts, share))

    def _standing(self) -> Figure:
        """Leakage and clock power of all in use."""
        used = self._used()
        powers = standing_mw(
            self.totals["crossbars"], self.target, self.parts, at_work(self.layers, self.parts)
        )
        leaks = tuple(
            Figure(
                f"leakage_mw.{name}",
                sum(both),
                f"{used[name]:g} units x (leakage {self.parts[name].unit.leakage_mw or 0:g} mW + "
                f"clock {self.parts[name].unit.clock_mw:g} mW)",
                source=self.parts[name].unit.source,
            )
            for name, both in powers.items()
            if sum(both)
        )
        value = self.totals["leakage_mw"]
        if not leaks:
            return Figure("leakage_mw", value, source="no part in use has any that is known")
        return Figure("leakage_mw", value, "sum over the components", leaks)

    # --- Area

    def _used(self) -> Mapping[str, float]:
        working = at_work(self.layers, self.parts)
        return occupied(self.totals["crossbars"], self.target, self.parts, working)

    def _area(self, key: str) -> Figure:
        table, name = self.totals["area_mm2"], key.rpartition(".")[2]
        if name == "total":
            inner = tuple(self._area(f"area_mm2.{n}") for n in table if n != "total")
            return Figure(key, table[name], "sum over the components", inner)
        unit = self.parts[name].unit
        units = Figure(f"{name} in use", self._used()[name], source="docs/cost.md, Area, chips")
        one = Figure(f"components.{name}.area_um2", unit.area_um2, source=unit.source)
        return Figure(key, table[name], "units in use x area of one, in um2 x 1e-6", (units, one))

    # --- Times and rates

    def _derived(self, key: str, value: float) -> Figure:
        mode, _, name = key.removeprefix("modes.").rpartition(".")
        at = f"modes.{mode}." if mode in ("single", "stream") else ""
        time = "latency_us" if mode == "single" else "interval_us"
        energy = f"{at or 'modes.stream.'}energy_uj.total"
        if name == "power_w":
            return self._of(key, value, "energy / time, in uJ / us", energy, time)
        if name in ("throughput_ips", "rate_ips"):
            return self._of(key, value, "1e6 / time", time)
        if name == "latency_us":
            rows = tuple(self._layer(f"layers.{n}.latency_ns") for n in self.rows)
            how = "sum over the layers, in ns x 1e-3"
            if self.totals["schedule"] == "rows":
                how = "as scheduled, row by row; the layers' own times, in ns"
            return Figure(key, value, how, rows)
        if name == "interval_us":
            return self._interval(key, value)
        ratios = {
            "tops": ("2 x macs x inputs a second x 1e-12", "macs", "throughput_ips"),
            "tops_per_w": ("operations a second / power", "tops", "power_w"),
            "tops_per_mm2": ("operations a second / area in use", "tops", "area_mm2.total"),
            "energy_per_mac_pj": ("energy / products, in uJ x 1e6", "energy_uj.total", "macs"),
        }
        if key in ratios:
            how, *of = ratios[key]
            return self._of(key, value, how, *of)
        if key == "programming_energy_uj":
            device = self.target.device
            pulse = Figure(
                "energy of a write pulse, pJ", device.pulse_energy_pj, source=device.source
            )
            how = "write pulses x energy of one, in pJ x 1e-6"
            return Figure(key, value, how, (self.figure("write_pulses"), pulse))
        if key == "read_power_w":
            how = "sum over cells and all else"
            return self._of(key, value, how, "crossbar_power_w", "peripheral_power_w")
        if key in COUNTS:
            leaves = tuple(
                Figure(f"layers.{la.name}.{key}", getattr(la, key), source=COUNTED)
                for la in self.layers
            )
            return Figure(key, value, "sum over the layers", leaves)
        return Figure(key, value, source="docs/report_json.md says what it is")

    def _of(self, key: str, value: float, how: str, *of: str) -> Figure:
        return Figure(key, value, how, tuple(self.figure(one) for one in of))

    def _interval(self, key: str, value: float) -> Figure:
        worst = self.totals["bottleneck"]
        if worst is None:
            return Figure(key, value, source="nothing takes time")
        how = f"what one input occupies longest: {worst['resource']} of {worst['layer']}"
        if worst["resource"] == "crossbar" and worst["layer"] in self.rows:
            inner = self._layer(f"layers.{worst['layer']}.crossbar_ns")
            return Figure(key, value, f"{how}, in ns x 1e-3", (inner,))
        return Figure(key, value, how, source="docs/time.md")

    # --- Layers

    def _layer(self, key: str) -> Figure:
        """Raises `UsageError` for a layer or a figure that there isn't."""
        path = key.removeprefix("layers.")
        name = max((n for n in self.rows if path.startswith(f"{n}.")), key=len, default="")
        if not name:
            raise UsageError(f"--explain {key}: no such layer: {nearest(path, [*self.rows])}")
        row, of = self.rows[name], path.removeprefix(f"{name}.")
        known = dict(_plain(row))
        if of not in known:
            raise UsageError(
                f"--explain {key}: {nearest(key, (f'layers.{name}.{one}' for one in known))}"
            )
        layer = next(la for la in self.layers if la.name == name)
        table, _, part = of.partition(".")
        if table == "energy_pj" and part in self.parts:
            return self._action_energy(layer, part)
        if of == "latency_ns":
            three = ("crossbar_ns", "transfer_ns", "digital_ns")
            inner = tuple(self._layer(f"layers.{name}.{one}") for one in three)
            return Figure(key, row[of], "crossbars + transfers + digital operations", inner)
        if of == "crossbar_ns":
            return self._crossbar_ns(key, layer, row[of])
        source = "docs/time.md" if of.endswith("_ns") else COUNTED
        if of == "energy_pj.leakage":
            source = "docs/cost.md: a layer bears the leakage of its share of the crossbars"
        return Figure(key, known[of], source=source)

    def _crossbar_ns(self, key: str, layer: LayerEvents, value: float) -> Figure:
        target = self.target
        rate = rates_of(target, self.parts).adc(signed=has_sign(layer.input_codes))
        columns = target.columns_per_adc()
        made, says = target.adc.rate_gsps, target.adc.source
        if rate < made:
            made = rate
            says = self.parts["adc"].of(signed=has_sign(layer.input_codes)).source
        leaves = (
            Figure("device.read_pulse_ns", target.read_ns(), source=target.device.source),
            Figure("columns that share an ADC", columns, source=target.array.source),
            Figure("adc.rate_gsps", made, source=says),
        )
        how = "the longer of a read and its conversions, pipelined"
        if target.core.cycle == "sequential":
            how = "a read, then its conversions"
        cycle = Figure("cycle_ns", target.cycle_ns(rate), how, leaves)
        cycles = Figure(f"layers.{layer.name}.cycles", layer.cycles, source=COUNTED)
        return Figure(key, value, "cycles x time of a cycle", (cycles, cycle))


def _plain(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a table, by its dotted key."""
    for key, value in values.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _plain(value, place)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield place, value


def leaves(figure: Figure) -> Sequence[Figure]:
    """The figures that a figure ends in, in order."""
    if not figure.parts:
        return [figure]
    return [leaf for part in figure.parts for leaf in leaves(part)]
