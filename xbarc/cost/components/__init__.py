"""Component models, one file a kind, and the components of a target by them.

A target says `[cost.adc] model = "murmann"`; the models of a kind are the functions in its file's
`MODELS`, `constant`, and what plug-ins bring: a `ComponentModel` under the entry point
group `xbarc.components` (called `kind.name`), or in a file given by `--plugin`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from xbarc.cost.components.base import Component, ComponentModel, Model, Spec, constant
from xbarc.hw.target import ComponentTable, Cost, Target
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.plugins import Group

KINDS = {
    "adc": "adc",
    "dac": "dac",
    "crossbar": "crossbar",
    "sample_hold": "sample_hold",
    "shift_add": "shift_add",
    "input_register": "register",
    "output_register": "register",
    "core_buffer": "buffer",
    "vector_unit": "vector_unit",
    "control": "control",
    "buffer": "buffer",
    "bus": "bus",
    "router": "router",
    "node_register": "register",
    "activation": "activation",
    "pooling": "pooling",
    "chip_buffer": "buffer",
    "link": "link",
}
"""A component of a target (a table of `[cost]`) -> its kind, the file that has its models."""


@dataclass(frozen=True)
class _Entry:
    owner: str
    load: Callable[[], Any]


@dataclass
class Models:
    """Component models by kind and name; each is imported when it is first asked for."""

    _entries: dict[tuple[str, str], _Entry] = field(default_factory=dict)

    def add(self, kind: str, name: str, load: Callable[[], Any], owner: str) -> None:
        """Register a model that `load` gives, a function or a `ComponentModel`.

        Raises `XbarcError` where the kind is unknown or the name is taken; the message names both
        owners.
        """
        if kind not in KINDS.values():
            raise XbarcError(
                f"component model {name!r} of {owner}: unknown kind {kind!r}: "
                f"{nearest(kind, set(KINDS.values()))}"
            )
        taken = self._entries.get((kind, name))
        if taken is not None:
            raise XbarcError(
                f"{kind} model {name!r} is defined twice: by {taken.owner} and by {owner}; "
                "rename one"
            )
        self._entries[kind, name] = _Entry(owner, load)

    def names(self, kind: str) -> list[str]:
        """The models of a kind, sorted."""
        return sorted(name for known, name in self._entries if known == kind)

    def owner(self, kind: str, name: str) -> str:
        """Who brings a model: `xbarc`, a package, or a file."""
        return self._entries[kind, name].owner

    def load(self, role: str, name: str) -> Model:
        """The function behind `[cost.<role>] model = "<name>"`.

        Raises `UsageError` where there is none (the nearest is suggested), `XbarcError` where it
        can't be imported.
        """
        kind = KINDS[role]
        if (kind, name) not in self._entries:
            raise UsageError(f"cost.{role}.model = {name!r}: {nearest(name, self.names(kind))}")
        entry = self._entries[kind, name]
        try:
            found = entry.load()
        except Exception as error:
            raise XbarcError(
                f"{kind} model {name!r} of {entry.owner} can't be loaded: {error}"
            ) from error
        build: Model = found.build if isinstance(found, ComponentModel) else found
        if not callable(build):
            raise XbarcError(f"{kind} model {name!r} of {entry.owner} is no ComponentModel")
        return build


def load_models() -> Models:
    """xbarc's own models, those of installed packages, and those of the plug-in files in use.

    Raises `XbarcError` where a name is taken twice.
    """
    models = Models()
    for kind in dict.fromkeys(KINDS.values()):
        own = importlib.import_module(f"xbarc.cost.components.{kind}").MODELS
        for name, build in {"constant": constant, **own}.items():
            models.add(kind, name, partial(_identity, build), "xbarc")
    foreign = MODELS.registry()
    for full in foreign.names:
        kind, dot, name = full.partition(".")
        if not dot:
            raise XbarcError(
                f"entry point {full!r} of {MODELS.entry_points} ({foreign.owner(full)}): "
                "called kind.name, as in adc.ramp"
            )
        models.add(kind, name, partial(foreign.load, full), foreign.owner(full))
    return models


def _found(module: ModuleType) -> dict[str, ComponentModel]:
    """The component models that a plug-in file defines."""
    return {f"{m.kind}.{m.name}": m for m in plugins.instances(module, ComponentModel)}


MODELS: Group[ComponentModel] = Group("component model", "xbarc.components", None, _found)


def _identity(value: Any) -> Any:
    return value


def components(target: Target, models: Models | None = None) -> dict[str, Component]:
    """The components of a target by name, in the order of `Cost`: those that have a table.

    Raises:
        UsageError: an unknown model.
        XbarcError: a model can't say what the target asks (bits or a node outside its table).
    """
    known = models or load_models()
    return {
        role: known.load(role, table.model)(Spec(role, target))
        for role, table in tables(target).items()
    }


def tables(target: Target) -> dict[str, ComponentTable]:
    """The component tables that a target has, by name."""
    named = {role: getattr(target.cost, role) for role in Cost.model_fields}
    return {role: table for role, table in named.items() if table is not None}


def settled(target: Target, models: Models) -> Target:
    """The target with the figures of plug-in models as constants.

    So that a compiled program can be costed where the plug-in isn't.
    """
    foreign = {
        role: models.load(role, table.model)(Spec(role, target))
        for role, table in tables(target).items()
        if models.owner(KINDS[role], table.model) != "xbarc"
    }
    constants = {role: ComponentTable(**asdict(part)) for role, part in foreign.items()}
    return target.model_copy(update={"cost": target.cost.model_copy(update=constants)})


def described(parts: Mapping[str, Component], target: Target) -> dict[str, dict[str, Any]]:
    """The components as a document: each one's model, figures and source."""
    return {
        role: {
            "model": tables(target)[role].model,
            **{k: v for k, v in asdict(part).items() if v is not None},
        }
        for role, part in parts.items()
    }


__all__ = [
    "KINDS",
    "MODELS",
    "Component",
    "ComponentModel",
    "Models",
    "Spec",
    "components",
    "described",
    "load_models",
    "settled",
    "tables",
]
