"""Input and output registers of a core, output registers of a node.

Actions: one bit that goes to a row (input_register), one value accumulated (output_register), one
finished value of a layer (node_register).
"""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec
from xbarc.cost.components.dac import shared

CYCLE_NS = 100.0


def isaac(spec: Spec) -> Component:
    """ISAAC's registers, area and power in proportion to their bytes (model).

    The table has their power only; the energy of an action is that power over what passes in a
    cycle of 100 ns (model): 8 x 128 bits to the rows, 8 x 128 conversions, and 96 finished values
    of a whole tile (12 x 8 x 128 columns, 8 a weight, 16 cycles a vector).
    """
    spec.need_node(32, "ISAAC")
    core, node = spec.target.core, spec.target.node
    name, size, known, power, area, actions = {
        "input_register": ("2 KB", core.input_register_bytes, 2048, 1.24, 2100.0, 1024),
        "output_register": ("256 B", core.output_register_bytes, 256, 0.23, 770.0, 1024),
        "node_register": ("3 KB", node.register_bytes, 3072, 1.68, 3200.0, 96),
    }[spec.role]
    share = size / known
    return Component(
        area * share,
        power * CYCLE_NS / actions,
        rate_gps=actions / CYCLE_NS,
        power_mw=power * share,
        source=f"ISAAC: {name} {power:g} mW, {area * 1e-6:g} mm2; model: {actions} actions in "
        "100 ns" + ("" if share == 1 else f", x {share:g} by the bytes"),
    )


KIND = ComponentKind(
    "register",
    (
        Role(
            "input_register",
            {"core": lambda target: target.core.input_registers},
            # Rows that share a DAC are read from the register once.
            lambda layer, target: layer.input_bits * shared(target),
        ),
        Role(
            "output_register",
            {"core": lambda target: target.core.output_registers},
            lambda layer, target: layer.output_values,
        ),
        Role(
            "node_register",
            {"node": lambda target: target.node.registers},
            lambda layer, target: layer.results,
        ),
    ),
    {"isaac": isaac},
)
