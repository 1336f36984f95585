"""Passes by name: where they are found, what they say of themselves."""

import inspect
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdsl.passes import ModulePass

from xbarc.pipeline.options import default_text, options_of, type_text
from xbarc.pipeline.passes import GraphPass, Kind, PassClass
from xbarc.support import plugins
from xbarc.support.errors import XbarcError
from xbarc.support.plugins import Group


@dataclass(frozen=True)
class Option:
    """One option of a pass, as text: `default` is None where the option must be given."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class PassInfo:
    """What `xbarc passes NAME` says. `preserves` is None for a mapping pass.

    `by_options`: whether that depends on the options; `preserves` then holds for the defaults.
    """

    name: str
    kind: Kind
    owner: str
    preserves: bool | None
    doc: str
    options: tuple[Option, ...]
    by_options: bool = False

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.partition("\n")[0]

    def __str__(self) -> str:
        keeps = {True: ", keeps the function", False: ", lossy", None: ""}[self.preserves]
        if self.preserves is not None and self.by_options:
            keeps += " unless its options say otherwise"
        lines = [f"{self.name}: {self.kind} pass{keeps}; from {self.owner}", "", self.doc]
        if self.options:
            lines += ["", "options:"]
        for option in self.options:
            default = "required" if option.default is None else f"default {option.default}"
            lines.append(f"  {option.name}: {option.type} ({default})")
        return "\n".join(lines)


class Registry(plugins.Registry[PassClass]):
    """Passes by name; a pass is imported when it is first asked for."""

    def __init__(self) -> None:
        super().__init__("pass")

    def load(self, name: str) -> PassClass:
        """The class of a pass.

        Raises:
            UsageError: unknown name; the nearest one is suggested.
            XbarcError: what is registered can't be imported or is no sound pass.
        """
        cls = super().load(name)
        who = self.owner(name)
        if not _is_pass(cls):
            raise XbarcError(f"{name!r} of {who} is no GraphPass and no ModulePass")
        wrong = _unsound(cls, name)
        if wrong:
            raise XbarcError(f"pass {name!r} of {who}: {wrong}")
        return cls

    def describe(self, name: str) -> PassInfo:
        """What a pass does and takes. Raises as `load`."""
        cls = self.load(name)
        hints = typing.get_type_hints(cls)
        graph = issubclass(cls, GraphPass)
        return PassInfo(
            name=name,
            kind="graph" if graph else "mapping",
            owner=self.owner(name),
            preserves=cls.preserves if issubclass(cls, GraphPass) else None,
            doc=inspect.cleandoc(cls.__doc__ or ""),
            options=tuple(
                Option(f.name, type_text(hints[f.name]), default_text(f)) for f in options_of(cls)
            ),
            by_options=issubclass(cls, GraphPass)
            and cls.keeps_function is not GraphPass.keeps_function,
        )


def _found(module: types.ModuleType) -> dict[str, PassClass]:
    """The passes that a module defines, by name. Raises `XbarcError` where one has none."""
    found: dict[str, PassClass] = {}
    for cls in plugins.classes(module, GraphPass, ModulePass):
        if inspect.isabstract(cls):
            continue
        name = getattr(cls, "name", None)
        if not isinstance(name, str):
            raise XbarcError(f"{module.__file__}: class {cls.__name__} has no `name`")
        found[name] = typing.cast(PassClass, cls)
    return found


PASSES: Group[PassClass] = Group("pass", "xbarc.passes", "xbarc.passes", _found)


def load_registry(plugin_files: Iterable[str | Path] = ()) -> Registry:
    """xbarc's own passes, those of installed packages, and those of plug-in files.

    Raises:
        UsageError: a plug-in file is missing.
        XbarcError: a plug-in file fails, or a name is taken twice.
    """
    registry = Registry()
    with plugins.using(plugin_files):
        PASSES.fill(registry)
    return registry


def _is_pass(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, GraphPass | ModulePass)


def _unsound(cls: type, name: str) -> str | None:
    """What keeps a registered class from being a pass."""
    if getattr(cls, "name", None) != name:
        return f"the class {cls.__name__} says its name is {getattr(cls, 'name', None)!r}"
    if inspect.isabstract(cls):
        return f"the class {cls.__name__} has no `apply`"
    if issubclass(cls, GraphPass) and not isinstance(getattr(cls, "preserves", None), bool):
        return f"the class {cls.__name__} doesn't say `preserves: ClassVar[bool]`"
    own = {n for n, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)}
    if own and "__dataclass_fields__" not in vars(cls):
        return f"the class {cls.__name__} has options but no @dataclass(frozen=True)"
    return None
