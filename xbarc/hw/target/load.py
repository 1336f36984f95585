"""Finding a target by name, file or plug-in, and reading it.

`base`, `--set` overrides, clear faults.
"""

import importlib.resources
import tomllib
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)

from xbarc.hw.target.schema import CONSTANTS, Section, Target
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError, nearest

TARGETS = "xbarc.targets"
"""The entry point group of installed packages' targets; each is the path of a TOML file."""


def target_names() -> list[str]:
    """The names that `load_target` knows: xbarc's own and those of installed packages."""
    return sorted([*_own(), *plugins.installed(TARGETS)])


def _own() -> dict[str, Any]:
    """xbarc's own target files by name."""
    folder = importlib.resources.files("xbarc.targets")
    return {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}


def target_text(name: str) -> str:
    """The target file called `name`, comments and sources included.

    Raises:
        UsageError: no such name; the nearest is suggested.
        XbarcError: a package's entry point gives no file.
    """
    own, installed = _own(), plugins.installed(TARGETS)
    if name in own and name in installed:
        raise XbarcError(
            f"target {name!r} is taken twice: by xbarc and by {plugins.owner(installed[name])}"
        )
    if name in own:
        return str(own[name].read_text(encoding="utf-8"))
    if name in installed:
        path = Path(str(installed[name].load()))
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            owner = plugins.owner(installed[name])
            raise XbarcError(f"target {name!r} of {owner}: {error.strerror}: {path}") from None
    raise UsageError(f"unknown target {name!r}: {nearest(name, target_names())}")


def load_target(name: str | Path, overrides: Sequence[str] = ()) -> Target:
    """The target called `name`, or the one in a `.toml` file, with `--set` overrides applied.

    `overrides` are `key.path=value` texts; a value is written as in TOML, words may stand bare.

    Raises:
        UsageError: an unknown target or key, or a value out of range in `overrides`.
        XbarcError: the file isn't there, isn't TOML or isn't a target.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise XbarcError(f"target {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise XbarcError(f"target {path}: not a text file") from None
    else:
        text = target_text(str(name))
    target = parse_target(text, str(name))
    if not overrides:
        return target
    values = target.model_dump()
    for override in overrides:
        _override(values, override)
    _drop_constants(values, overrides)
    try:
        return Target.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(f"--set: {line}" for line in _faults(error))) from None


def parse_target(text: str, where: str) -> Target:
    """A target from TOML text. Raises `XbarcError`, one line a fault, beginning with `where`."""
    try:
        return Target.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise XbarcError(f"target {where}: not TOML: {error}") from None
    except ValidationError as error:
        raise XbarcError("\n".join(f"target {where}: {line}" for line in _faults(error))) from None


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override}: written key.path=value, such as array.rows=64")
    *path, last = key.strip().split(".")
    table: dict[str, Any] = values
    inside: Any = Target
    for depth, name in enumerate([*path, last]):
        known = _types(inside, name)
        if name not in known:
            place = ".".join(path[:depth]) or "a target"
            raise UsageError(
                f"--set {override}: {place} has no key {name!r}: {nearest(name, known)}"
            )
        if name is last and depth == len(path):
            break
        inside = known[name]
        if not _types(inside, name):
            if path[depth:] == ["options"]:
                table = table[name]
                break
            raise UsageError(f"--set {override}: {name!r} is a value, not a table")
        if table.get(name) is None:
            table[name] = {"model": "constant"}
        table = table[name]
    if isinstance(table.get(last), dict):
        raise UsageError(f"--set {override}: {key} is a table; name a key of it")
    try:
        table[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = text.strip()


def _drop_constants(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """`--set cost.adc.model=murmann` puts a model in the place of the file's constants."""
    keys = [o.partition("=")[0].strip().split(".") for o in overrides]
    for key in keys:
        if len(key) == 3 and key[0] == "cost" and key[2] == "model":
            table = values["cost"][key[1]]
            for name in CONSTANTS if table["model"] != "constant" else ():
                if [*key[:2], name] not in keys:
                    table.pop(name, None)


def _types(table: Any, name: str) -> dict[str, Any]:
    """The types of a table's keys, by its own (`Core`, `Core | None`); none if it is a value.

    A table of tables (`cost`) has any key: it has `name`.
    """
    if typing.get_origin(table) is dict:
        inner = typing.get_args(table)[1]
        return {name: inner} if _types(inner, name) else {}
    for option in (table, *typing.get_args(table)):
        if isinstance(option, type) and issubclass(option, Section):
            return {key: field.annotation for key, field in option.model_fields.items()}
    return {}


def _faults(error: ValidationError) -> Iterator[str]:
    """Each fault of a target in one line: the key's path, what is wrong, what was given."""
    for fault in error.errors():
        path = [str(p) for p in fault["loc"]]
        where = ".".join(path) or "the target"
        if fault["type"] == "extra_forbidden":
            yield f"unknown key {where}: {nearest(path[-1], _keys(path[:-1]))}"
        elif fault["type"] == "missing":
            yield f"{where} is missing"
        elif fault["type"] == "value_error":
            said = str(fault["msg"]).removeprefix("Value error, ")
            yield f"{where}: {said}" if path[:1] == ["cost"] else said
        else:
            yield f"{where} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys(path: Sequence[str]) -> list[str]:
    inside: Any = Target
    for name in path:
        inside = _types(inside, name)[name]
    return list(_types(inside, ""))
