"""A core's control: it has no action that is counted, and draws its power while clocked."""

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec


def puma(spec: Spec) -> Component:
    """PUMA's control unit as PIMCOMP restates it: 8.00 mW, 0.11 mm2, while clocked (model)."""
    spec.need_node(32, "PUMA")
    source = "PIMCOMP Table I: control 8.00 mW, 0.11 mm2; model: drawn while its clock runs"
    return Component(110000.0, 0.0, leakage_mw=0.0, clock_mw=8.0, source=source)


KIND = ComponentKind(
    "control",
    (Role("control", {"core": lambda target: target.core.controls}),),
    {"puma": puma},
)
