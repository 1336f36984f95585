"""The array of cells itself. Action: one read of a whole crossbar.

Sources have one figure for a read of a whole array. A read that drives some rows and converts some
columns takes their share of it, unless `array.energy` says otherwise.
"""

from dataclasses import replace

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.events import LayerEvents
from xbarc.hw.target import Target

CELLS = 128 * 128
"""Cells of ISAAC's and PUMA's array."""


def isaac(spec: Spec) -> Component:
    """ISAAC's array by its cells: 0.3 mW over a 100 ns cycle, 25 um2 for 128 x 128."""
    spec.need_node(32, "ISAAC")
    return _by_cells(spec, "ISAAC: 8 crossbars of 128x128 2-bit cells 2.4 mW, 0.0002 mm2, 100 ns")


def puma(spec: Spec) -> Component:
    """PUMA's array by its cells: 0.3 mW over 100 ns, 2.5e-5 mm2 for 128 x 128."""
    spec.need_node(32, "PUMA")
    source = "PUMA's simulator: 128x128 0.3 mW, none of it leakage, 2.5e-5 mm2, 100 ns an MVM"
    return _by_cells(spec, source, leakage_mw=0.0)


def _by_cells(spec: Spec, source: str, leakage_mw: float | None = None) -> Component:
    array = spec.target.array
    share = array.rows * array.cols / CELLS
    return Component(
        25.0 * share,
        30.0 * share,
        leakage_mw=leakage_mw,
        rate_gps=0.01,
        source=source + ("" if share == 1 else f"; model: x {share:g} by the cells"),
    )


def device(spec: Spec) -> Component:
    """From the device: `rows cols V^2 G t` at the mean conductance, all rows driven (model).

    The area is `rows cols F^2` times the option `cell_area_f2`.
    """
    array, cell = spec.target.array, spec.target.device
    cells = array.rows * array.cols
    mean_us = (cell.g_on_us + cell.g_off_us) / 2
    # V^2 uS ns = 1e-15 J = 1e-3 pJ.
    energy = cells * cell.read_voltage_v**2 * mean_us * spec.target.read_ns() * 1e-3
    side_um = spec.target.technology.node_nm * 1e-3
    area_f2 = spec.option("cell_area_f2")
    return Component(
        cells * area_f2 * side_um**2,
        energy,
        rate_gps=1 / spec.target.cycle_ns(),
        source=f"model: V^2 G t, all rows at the mean conductance; cells of {area_f2:g} F^2"
        + (f" ({spec.table.options['source']})" if "source" in spec.table.options else ""),
    )


def reads(layer: LayerEvents, target: Target) -> float:
    """Reads of a whole crossbar that a layer's reads come to, by `array.energy`.

    `programmed`: reads of one cell at G_on.
    """
    array = target.array
    if array.energy == "arrays":
        return layer.crossbar_reads
    if array.energy == "cells":
        return layer.cell_reads / (array.rows * array.cols)
    return conductance_reads_us(layer, target) / target.device.g_on_us


def conductance_reads_us(layer: LayerEvents, target: Target) -> float:
    """The sum of the conductances, in uS, of all cells that are read."""
    device = target.device
    step_us = (device.g_on_us - device.g_off_us) / ((1 << target.array.cell_bits) - 1)
    return layer.cell_reads * device.g_off_us + layer.cell_level_reads * step_us


def as_programmed(unit: Component, target: Target) -> Component:
    """With `array.energy = "programmed"` the unit of energy is a cell at G_on: V^2 G t."""
    if target.array.energy != "programmed":
        return unit
    device, cells = target.device, target.array.rows * target.array.cols
    # V^2 uS ns = 1e-15 J = 1e-3 pJ.
    energy = device.read_voltage_v**2 * device.g_on_us * target.read_ns() * 1e-3
    source = f"model: V^2 G t of a cell at G_on, every row driven fully; {device.source}"
    return replace(
        unit, energy_pj=energy, rate_gps=unit.rate_gps * cells, source=f"{source}; {unit.source}"
    )


KIND = ComponentKind(
    "crossbar",
    (
        Role(
            "crossbar",
            {"core": lambda target: target.core.crossbars},
            reads,
            used_with="crossbar",
            adapted=as_programmed,
        ),
    ),
    {"device": device, "isaac": isaac, "puma": puma},
    {"device": ("cell_area_f2",)},
)
