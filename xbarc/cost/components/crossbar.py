"""The array of cells itself. Action: one read of a whole crossbar."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec

CELLS = 128 * 128
"""Cells of ISAAC's and PUMA's array."""


def isaac(spec: Spec) -> Component:
    """ISAAC's array by its cells: 0.3 mW over a 100 ns cycle, 25 um2 for 128 x 128."""
    spec.need_node(32, "ISAAC")
    return _by_cells(spec, "ISAAC: 8 crossbars of 128x128 2-bit cells 2.4 mW, 0.0002 mm2, 100 ns")


def puma(spec: Spec) -> Component:
    """PUMA's array by its cells: 0.3 mW over 100 ns, 2.5e-5 mm2 for 128 x 128."""
    spec.need_node(32, "PUMA")
    return _by_cells(spec, "PUMA's simulator: 128x128 0.3 mW, 2.5e-5 mm2, 100 ns an MVM")


def _by_cells(spec: Spec, source: str) -> Component:
    array = spec.target.array
    share = array.rows * array.cols / CELLS
    return Component(
        25.0 * share,
        30.0 * share,
        latency_ns=spec.target.device.read_pulse_ns,
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
    energy = cells * cell.read_voltage_v**2 * mean_us * cell.read_pulse_ns * 1e-3
    side_um = spec.target.technology.node_nm * 1e-3
    area_f2 = spec.option("cell_area_f2")
    return Component(
        cells * area_f2 * side_um**2,
        energy,
        latency_ns=cell.read_pulse_ns,
        rate_gps=1 / spec.target.cycle_ns(),
        source=f"model: V^2 G t, all rows at the mean conductance; cells of {area_f2:g} F^2"
        + (f" ({spec.table.options['source']})" if "source" in spec.table.options else ""),
    )


KIND = ComponentKind(
    "crossbar",
    (
        Role(
            "crossbar",
            {"core": lambda target: target.core.crossbars},
            lambda layer, target: layer.crossbar_reads,
            used_with="crossbar",
        ),
    ),
    {"device": device, "isaac": isaac, "puma": puma},
)
