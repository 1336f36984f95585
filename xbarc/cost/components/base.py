"""What a component model gives, and what it may look at."""

from collections.abc import Callable
from dataclasses import dataclass

from xbarc.hw.target import ComponentTable, Target
from xbarc.support.errors import XbarcError


@dataclass(frozen=True)
class Component:
    """One unit of a component.

    `area_um2` of one unit; `energy_pj` of one action, `leakage_mw` while it is powered,
    `latency_ns` of one action, `rate_gps` the most actions a second, in 1e9 (0: it has none that
    matters); `power_mw` the published power at full load, where leakage + energy x rate isn't it.
    `source` names the paper and table, and says "model" of what is our own reconstruction.
    """

    area_um2: float
    energy_pj: float
    leakage_mw: float = 0.0
    latency_ns: float = 0.0
    rate_gps: float = 0.0
    power_mw: float | None = None
    source: str = ""

    @property
    def full_power_mw(self) -> float:
        """Power at full load, in mW (pJ x 1e9/s = mW)."""
        if self.power_mw is not None:
            return self.power_mw
        return self.leakage_mw + self.energy_pj * self.rate_gps


@dataclass(frozen=True)
class Spec:
    """What a model is asked: the component (`adc`, `core_buffer`, ...) of a target."""

    role: str
    target: Target

    @property
    def table(self) -> ComponentTable:
        """The component's table `[cost.<role>]`."""
        found = getattr(self.target.cost, self.role)
        assert isinstance(found, ComponentTable)
        return found

    def need_node(self, nm: float, whose: str) -> None:
        """Refuse a technology node that the figures aren't of.

        Raises `XbarcError`: nothing published says how they scale.
        """
        node = self.target.technology.node_nm
        if node != nm:
            raise self.fault(
                f"{whose}'s figures are of {nm:g} nm, technology.node_nm is {node:g}: give "
                "constants, or a model that scales"
            )

    def option(self, name: str) -> float:
        """A number from the table's `options`. Raises `XbarcError` where it is missing."""
        value = self.table.options.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(f"model {self.table.model!r} needs options.{name}, a number")
        return float(value)

    def fault(self, what: str) -> XbarcError:
        """An error that names the component."""
        return XbarcError(f"cost.{self.role}: {what}")


Model = Callable[[Spec], Component]


@dataclass(frozen=True)
class ComponentModel:
    """A component model that a plug-in brings: `[cost.<role>] model = "<name>"` picks it.

    `kind` is the component's file in `xbarc/cost/components/` (`adc`, `buffer`, ...).
    """

    kind: str
    name: str
    build: Model


def constant(spec: Spec) -> Component:
    """The figures that the target's own table says."""
    table = spec.table
    return Component(
        area_um2=table.area_um2 or 0.0,
        energy_pj=table.energy_pj or 0.0,
        leakage_mw=table.leakage_mw or 0.0,
        latency_ns=table.latency_ns or 0.0,
        rate_gps=table.rate_gps or 0.0,
        power_mw=table.power_mw,
        source=table.source or "",
    )
