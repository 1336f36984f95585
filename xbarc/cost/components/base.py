"""What a kind of component declares, what its models give, and what becomes of both in a target."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from xbarc.cost.digital import CLASSES
from xbarc.cost.events import LayerEvents
from xbarc.hw.target import ComponentTable, Target
from xbarc.support.errors import XbarcError

Level = Literal["core", "node", "chip"]

LEVELS: tuple[Level, ...] = ("core", "node", "chip")
"""From the inside out: a node has cores, a chip has nodes."""


@dataclass(frozen=True)
class Component:
    """One unit of a component.

    `area_um2` is the area of one unit, `energy_pj` the energy of one action, `leakage_mw` is drawn
    while the unit is powered; None where the source has none, so that it isn't modelled. `clock_mw`
    is drawn while its clock runs. `rate_gps` is the highest rate of actions, in 1e9 a second (0: no
    limit); times follow from it. `power_mw` is the published power at full load, if that isn't
    leakage + clock + energy x rate. `source` names the paper and table, and says "model" for our
    own reconstructions.
    """

    area_um2: float
    energy_pj: float
    leakage_mw: float | None = None
    rate_gps: float = 0.0
    power_mw: float | None = None
    source: str = ""
    clock_mw: float = 0.0

    @property
    def full_power_mw(self) -> float:
        """Power at full load, in mW (pJ x 1e9/s = mW)."""
        if self.power_mw is not None:
            return self.power_mw
        return (self.leakage_mw or 0.0) + self.clock_mw + self.energy_pj * self.rate_gps


class OtherNodeError(XbarcError):
    """A model's figures are of another technology node, `nm`."""

    def __init__(self, message: str, nm: float):
        super().__init__(message)
        self.nm = nm


@dataclass(frozen=True)
class Spec:
    """What a model is asked: the component (`adc`, `core_buffer`, ...) of a target.

    `signed`: whether the codes of its inputs have a sign. It matters where they are driven with it
    (`inputs.signed = "native"`): a code without one has a bit more of magnitude.
    """

    role: str
    target: Target
    signed: bool = True

    @property
    def table(self) -> ComponentTable:
        """The component's table `[cost.<role>]`."""
        return self.target.cost[self.role]

    def need_node(self, nm: float, whose: str) -> None:
        """Refuse a technology node that the figures aren't of.

        Raises `OtherNodeError`; with `technology.scaling` the figures of `nm` are scaled instead.
        """
        node = self.target.technology.node_nm
        if node != nm:
            fault = self.fault(
                f"{whose}'s figures are of {nm:g} nm, technology.node_nm is {node:g}: give "
                'constants, a model that scales, or technology.scaling = "stillmaker-baas"'
            )
            raise OtherNodeError(str(fault), nm)

    def adc_bits(self) -> int:
        """Bits that converters are priced at."""
        return self.target.converter_bits()

    def why_bits(self) -> str:
        """The bits, and the key that they follow from."""
        adc, bits = self.target.adc, self.adc_bits()
        if adc.mode != "lossless" or adc.price == "as-configured":
            return f"adc.bits is {bits}"
        return (
            f'adc.mode = "lossless" needs {bits} (a column of {self.target.array.rows} cells of '
            f"{self.target.array.cell_bits} bits, driven by {self.target.inputs.dac_bits}); "
            'adc.price = "as-configured" prices adc.bits instead'
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


Count = Callable[[Target], float]
"""How many of a component a target has."""

Actions = Callable[[LayerEvents, Target], float]
"""How often a component acts for one image in a layer with these events."""


def no_actions(layer: LayerEvents, target: Target) -> float:
    """Of a component that never acts, or does digital operations and nothing else."""
    return 0


@dataclass(frozen=True)
class Role:
    """A component of a target: one table `[cost.<name>]`, where it stands and what it does.

    `counts`: by level, how many stand in one core, in one node beside its cores, on one chip beside
    its nodes. `actions`: how often it acts for one image, digital operations apart. `operations`:
    the classes of digital operations (`xbarc.cost.digital.CLASSES`) that it can do; of several
    components that can do one, that with the fewest classes does it, and a `spare` one only where
    no other is there. `used_with`: whether it is in use, and leaks, with its core, node or chip;
    with each crossbar (its share of those in a core); only where a program takes several chips; or
    only where it has operations of its classes, and then it is no part of a chip's roll-up.
    `steps`: of a class of operations, how many actions one takes, where that isn't one.
    `adapted`: what other keys of the target make of a model's unit.
    """

    name: str
    counts: Mapping[Level, Count]
    actions: Actions = no_actions
    operations: tuple[str, ...] = ()
    spare: bool = False
    used_with: Literal["level", "crossbar", "other chips", "operations"] = "level"
    steps: Mapping[str, Count] = field(default_factory=dict)
    adapted: Callable[[Component, Target], Component] | None = None


@dataclass(frozen=True)
class ComponentKind:
    """A kind of component: the components that it is, and its models by name.

    A file of `xbarc/cost/components/` has one, and so may a plug-in. Every kind also has the model
    `constant`. xbarc's own components stand where the target's keys say so (`core.adcs`); those of
    a plug-in in each target that has their table. `options`: by model, the options that it takes,
    so that others are refused by name; a model that isn't listed takes any.
    """

    name: str
    roles: tuple[Role, ...]
    models: Mapping[str, Model] = field(default_factory=dict)
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fault(self) -> str | None:
        """What is wrong with the declaration, None where nothing is."""
        for role in self.roles:
            wrong = sorted({*role.counts} - {*LEVELS})
            if wrong or not role.counts:
                return (
                    f"{role.name}: counts are by {', '.join(LEVELS)}, not by {wrong or 'nothing'}"
                )
            unknown = sorted({*role.operations} - {*CLASSES})
            if unknown:
                return f"{role.name}: operations are of {', '.join(CLASSES)}, not {unknown}"
        if strange := sorted({*self.options} - {*self.models}):
            return f"options of {strange}, which are no models of it"
        return None if self.roles else "it has no roles"


@dataclass(frozen=True)
class ComponentModel:
    """One more model of a kind that there is: `[cost.<role>] model = "<name>"` picks it.

    `kind` is the component's file in `xbarc/cost/components/` (`adc`, `buffer`, ...). `options`:
    those that it takes, so that others are refused by name; None: any.
    """

    kind: str
    name: str
    build: Model
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """A component as it stands in a target.

    `unit` has the figures of one, `counts` how many stand in one core, one node beside its cores
    and one chip beside its nodes. `unsigned`: the figures for inputs without a sign, where they are
    others.
    """

    role: Role
    unit: Component
    counts: Mapping[Level, float]
    unsigned: Component | None = None

    def of(self, *, signed: bool) -> Component:
        """The figures of one for inputs with a sign, or without."""
        return self.unit if signed or self.unsigned is None else self.unsigned

    def steps(self, operation: str, target: Target) -> float:
        """How many of its actions an operation of a class takes."""
        return self.role.steps[operation](target) if operation in self.role.steps else 1

    @property
    def is_there(self) -> bool:
        """Whether the target has any of it: a table alone makes none."""
        return any(self.counts.values())


Parts = Mapping[str, Part]
"""The components of a target by name (`xbarc.cost.components.components`)."""


def adc_gsps(parts: Parts, *, signed: bool = True) -> float:
    """Conversions of one ADC in a ns, by its model; no limit where the model says none."""
    return (parts["adc"].of(signed=signed).rate_gps if "adc" in parts else 0.0) or math.inf


def constant(spec: Spec) -> Component:
    """The figures that the target's own table says."""
    table = spec.table
    return Component(
        area_um2=table.area_um2 or 0.0,
        energy_pj=table.energy_pj or 0.0,
        leakage_mw=table.leakage_mw,
        clock_mw=table.clock_mw or 0.0,
        rate_gps=table.rate_gps or 0.0,
        power_mw=table.power_mw,
        source=table.source or "",
    )
