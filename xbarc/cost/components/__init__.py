"""Components, one file a kind, and those of a target.

A file may also bring models of several kinds that belong together, one source a file: `neurram`.

A target says `[cost.adc] model = "murmann"`: `adc` is a role of a kind (`base.ComponentKind`). The
kind's file declares how many of it stand where, when it acts, and the models that give its figures.
Plug-ins bring more, under the entry point group `xbarc.components` or in a file given by
`--plugin`: a `ComponentModel` for a kind that there is (its entry point is called `kind.name`), or
a `ComponentKind` (called as it is) with tables of its own in `[cost]`.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from xbarc.cost.components.base import (
    LEVELS,
    Component,
    ComponentKind,
    ComponentModel,
    Level,
    Model,
    OtherNodeError,
    Part,
    Parts,
    Role,
    Spec,
    adc_gsps,
    constant,
)
from xbarc.cost.components.foreign import checked_model, checked_role
from xbarc.cost.components.leakage import leaking
from xbarc.cost.components.scaling import scaled
from xbarc.hw.target import ComponentTable, Target
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.plugins import Group, Registry

ORDER = (
    "adc",
    "dac",
    "word_line",
    "crossbar",
    "sample_hold",
    "shift_add",
    "input_register",
    "output_register",
    "core_buffer",
    "vector_unit",
    "control",
    "buffer",
    "bus",
    "router",
    "node_register",
    "activation",
    "pooling",
    "multiplier",
    "chip_buffer",
    "link",
    "memory",
)
"""How reports list components; any other comes after these."""

OURS = "xbarc"


def _found(module: ModuleType) -> dict[str, ComponentKind | ComponentModel]:
    """The kinds and models that a plug-in file defines."""
    found: dict[str, ComponentKind | ComponentModel] = {}
    for model in plugins.instances(module, ComponentModel):
        found[f"{model.kind}.{model.name}"] = model
    for kind in plugins.instances(module, ComponentKind):
        found[kind.name] = kind
    return found


COMPONENTS: Group[ComponentKind | ComponentModel] = Group(
    "component", "xbarc.components", None, _found
)


@dataclass(frozen=True)
class Kinds:
    """All kinds of components: roles by name, and models by `kind.name`.

    A model of an installed package is imported when it is first asked for.
    """

    roles: Registry[tuple[ComponentKind, Role]] = field(
        default_factory=lambda: Registry("table of [cost]")
    )
    models: Registry[Any] = field(default_factory=lambda: Registry("component model"))
    names: set[str] = field(default_factory=set)

    def add(self, kind: ComponentKind, owner: str) -> None:
        """Add a kind with its roles and models.

        Raises `XbarcError` where it is declared wrong, or where a name is taken; the message then
        names both owners.
        """
        wrong = kind.fault()
        if wrong is not None:
            raise XbarcError(f"kind of component {kind.name!r} of {owner}: {wrong}")
        self.names.add(kind.name)
        self.models.add(f"{kind.name}.constant", partial(_identity, constant), OURS)
        for name, build in kind.models.items():
            self.models.add(f"{kind.name}.{name}", partial(_identity, build), owner)
        for role in kind.roles:
            if owner != OURS:
                role = checked_role(role, f"component {role.name!r} of {owner}")
            self.roles.add(role.name, partial(_identity, (kind, role)), owner)

    def ordered(self) -> list[Role]:
        """All roles in the order of reports: xbarc's own, then the others by name."""
        names = sorted(self.roles.names, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))
        return [self.roles.load(name)[1] for name in names]

    def full_name(self, role: str, model: str) -> str:
        """What `[cost.<role>] model = "<model>"` is called among `models`.

        Raises `UsageError` where there is none; the nearest is suggested.
        """
        kind = self.roles.load(role)[0].name
        known = [n.removeprefix(f"{kind}.") for n in self.models.names if n.startswith(f"{kind}.")]
        if model not in known:
            raise UsageError(f"cost.{role}.model = {model!r}: {nearest(model, known)}")
        return f"{kind}.{model}"

    def unit(self, role: str, target: Target, *, signed: bool = True) -> Component:
        """The figures of one unit, by the model that the target picks, for inputs with a sign.

        Raises:
            UsageError: there is no such model.
            XbarcError: it can't be imported, or can't say what the target asks.
        """
        full = self.full_name(role, target.cost[role].model)
        found = self.models.load(full)
        self._check_options(role, full, found, target)
        build: Model = found.build if isinstance(found, ComponentModel) else found
        if not callable(build):
            raise XbarcError(
                f"component model {full!r} of {self.models.owner(full)} is no ComponentModel"
            )
        owner = self.models.owner(full)
        if owner != OURS:
            build = checked_model(build, f"component model {full!r} of {owner}")
        try:
            return build(Spec(role, target, signed))
        except OtherNodeError as other:
            technology = target.technology
            if technology.scaling == "none":
                raise
            at = technology.model_copy(update={"node_nm": other.nm})
            there = build(Spec(role, target.model_copy(update={"technology": at}), signed))
            return scaled(there, other.nm, technology.node_nm)

    def _check_options(self, role: str, full: str, model: Any, target: Target) -> None:
        """Refuse options that a model doesn't take, the nearest suggested (`UsageError`)."""
        if isinstance(model, ComponentModel):
            takes = model.options
        else:
            kind, name = self.roles.load(role)[0], full.partition(".")[2]
            # xbarc's own list all that they take; constants may keep what a plug-in's model took.
            other = None if self.models.owner(full) != OURS or name == "constant" else ()
            takes = kind.options.get(name, other)
        if takes is None:
            return
        for given in target.cost[role].options:
            if given not in (*takes, "source"):
                raise UsageError(
                    f"target {target.name!r}: unknown key cost.{role}.options.{given}: "
                    f"{nearest(given, takes)}"
                )


def load_kinds() -> Kinds:
    """xbarc's own kinds and models, those of installed packages, and those of plug-in files in use.

    Raises `XbarcError` where a name is taken twice, or a model is of no kind.
    """
    kinds = Kinds()
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    files = [importlib.import_module(f"{__name__}.{name}") for name in names]
    for kind in (kind for file in files for kind in plugins.instances(file, ComponentKind)):
        kinds.add(kind, OURS)
    for own in (model for file in files for model in plugins.instances(file, ComponentModel)):
        kinds.models.add(f"{own.kind}.{own.name}", partial(_identity, own), OURS)
    foreign = COMPONENTS.registry()
    models = [name for name in foreign.names if "." in name]
    for name in foreign.names:
        if name not in models:
            kinds.add(_kind(foreign.load(name), name, foreign.owner(name)), foreign.owner(name))
    for full in models:
        of, _, name = full.partition(".")
        owner = foreign.owner(full)
        if of not in kinds.names:
            raise XbarcError(
                f"component model {name!r} of {owner}: unknown kind {of!r}: "
                f"{nearest(of, kinds.names)}"
            )
        kinds.models.add(full, partial(foreign.load, full), owner)
    return kinds


def _kind(found: Any, name: str, owner: str) -> ComponentKind:
    if not isinstance(found, ComponentKind) or found.name != name:
        raise XbarcError(
            f"entry point {name!r} of {COMPONENTS.entry_points} ({owner}): a kind of component is "
            "called by its own name, a model is called kind.name, as in adc.ramp"
        )
    return found


def _identity(value: Any) -> Any:
    return value


def components(target: Target, kinds: Kinds | None = None) -> dict[str, Part]:
    """The components of a target by name, in the order of reports: those that have a table.

    Raises:
        UsageError: a table that no kind claims, or an unknown model.
        XbarcError: a component that is there has no table, or a model can't say what the target
            asks (bits or a node outside its table).
    """
    known = kinds or load_kinds()
    check_tables(target, known)
    native = target.inputs.signed == "native"

    def unit(role: Role, *, signed: bool) -> Component:
        found = known.unit(role.name, target, signed=signed)
        adapted = found if role.adapted is None else role.adapted(found, target)
        return leaking(role.name, adapted, target)

    return {
        role.name: Part(
            role,
            unit(role, signed=True),
            {level: count(target) for level, count in role.counts.items()},
            unit(role, signed=False) if native else None,
        )
        for role in known.ordered()
        if role.name in target.cost
    }


def check_tables(target: Target, kinds: Kinds | None = None) -> None:
    """Refuse a target whose tables of `[cost]` aren't those of its components.

    Raises:
        UsageError: a table that no kind claims; the nearest is suggested.
        XbarcError: one of xbarc's own components stands in the target and has no table.
    """
    known = kinds or load_kinds()
    where = f"target {target.name!r}"
    for name in target.cost:
        if name not in known.roles.names:
            raise UsageError(
                f"{where}: unknown key cost.{name}: {nearest(name, known.roles.names)}; "
                "one that a plug-in brings needs --plugin"
            )
    own = [role for role in known.ordered() if known.roles.owner(role.name) == OURS]
    for level in LEVELS:
        for role in own:
            count = role.counts[level](target) if level in role.counts else 0
            if count and role.name not in target.cost:
                raise XbarcError(
                    f"{where}: cost.{role.name} is missing: a {level} has {count:g} of it"
                )


def check_given(parts: Parts, target: Target, keys: Iterable[str]) -> None:
    """Refuse keys, given by `--set`, that this target's components rule out (`UsageError`)."""
    for key in keys:
        table, _, rest = key.partition(".")
        role = rest.partition(".")[0]
        if table == "cost" and role in parts and not parts[role].is_there:
            raise UsageError(f"--set: {key} has no effect: the target has no {role}")
        of_model = table == "cost" and ".options." in f".{rest}."
        if of_model and role in parts and target.cost[role].model == "constant":
            raise UsageError(f"--set: {key} has no effect: cost.{role} has constants, no model")
        rate = adc_gsps(parts)
        if key == "adc.rate_gsps" and target.adc.rate_gsps > rate:
            raise UsageError(
                f"--set: adc.rate_gsps = {target.adc.rate_gsps:g} has no effect: cost.adc rules, "
                f"whose converter makes {rate:g} GS/s"
            )


def settled(target: Target, kinds: Kinds) -> Target:
    """The target with the figures of plug-in models as constants.

    So that a compiled program can be costed where the model isn't. A kind that a plug-in brings
    still needs it: the kind says how many there are, and when they act.

    Raises `UsageError` where a layer's own widths would need other figures of such a model.
    """
    tables = {
        role.name: target.cost[role.name] for role in kinds.ordered() if role.name in target.cost
    }
    for role, table in tables.items():
        if kinds.models.owner(kinds.full_name(role, table.model)) != OURS:
            unit = kinds.unit(role, target)
            for pattern in target.layers:
                if kinds.unit(role, target.for_layer(pattern)) != unit:
                    raise UsageError(
                        f'layers."{pattern}": cost.{role} has a plug-in\'s model, which is costed '
                        "at one width: give the width for all layers"
                    )
            figures = asdict(unit)
            tables[role] = ComponentTable(**figures, options=table.options)
    return target.model_copy(update={"cost": tables})


def described(parts: Parts, target: Target) -> dict[str, dict[str, Any]]:
    """The components as a document: each one's model, figures and source."""
    return {
        name: {
            "model": target.cost[name].model,
            **{k: v for k, v in asdict(part.unit).items() if v is not None},
        }
        for name, part in parts.items()
    }


__all__ = [
    "COMPONENTS",
    "LEVELS",
    "Component",
    "ComponentKind",
    "ComponentModel",
    "Kinds",
    "Level",
    "Part",
    "Parts",
    "Role",
    "Spec",
    "adc_gsps",
    "check_given",
    "check_tables",
    "components",
    "described",
    "load_kinds",
    "settled",
]
