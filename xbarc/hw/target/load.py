"""Finding a target by name or file, reading it over its `base`, and `--set`; clear faults."""

import importlib.resources
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xbarc.hw.target import ruled
from xbarc.hw.target.cell import over_cell, with_cell
from xbarc.hw.target.derive import derived, last_of, overriding, types_in
from xbarc.hw.target.schema import Device, Target
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError, nearest

TARGETS = "xbarc.targets"
"""The entry point group of installed packages' targets; each is the path of a TOML file."""


@dataclass(frozen=True)
class _File:
    """A target file: what messages call it, where it lies, what it says."""

    label: str
    path: Path
    text: str


def target_names() -> list[str]:
    """The names that `load_target` knows: xbarc's own and those of installed packages."""
    return sorted([*_own(), *plugins.installed(TARGETS)])


def _own() -> dict[str, Path]:
    """xbarc's own target files by name."""
    folder = importlib.resources.files("xbarc.targets")
    files = [Path(str(entry)) for entry in folder.iterdir()]
    return {path.stem: path for path in files if path.suffix == ".toml"}


def target_text(name: str) -> str:
    """The target file called `name`, comments and sources included.

    Raises:
        UsageError: no such name; the nearest is suggested.
        XbarcError: a package's entry point gives no file.
    """
    return _named(name).text


def _named(name: str) -> _File:
    own, installed = _own(), plugins.installed(TARGETS)
    if name in own and name in installed:
        raise XbarcError(
            f"target {name!r} is taken twice: by xbarc and by {plugins.owner(installed[name])}"
        )
    if name in own:
        return _read(name, own[name])
    if name in installed:
        path = Path(str(installed[name].load()))
        if not path.is_file():
            owner = plugins.owner(installed[name])
            raise XbarcError(f"target {name!r} of {owner}: no such file: {path}")
        return _read(name, path)
    raise UsageError(f"unknown target {name!r}: {nearest(name, target_names())}")


def _read(label: str, path: Path) -> _File:
    try:
        return _File(label, path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise XbarcError(f"target {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise XbarcError(f"target {path}: not a text file") from None


def _find(name: str, folder: Path) -> _File:
    """A target by name, or a `.toml` file by its path from `folder`."""
    path = folder / name
    return _read(str(path), path) if path.suffix == ".toml" else _named(name)


def load_target(name: str | Path, overrides: Sequence[str] = ()) -> Target:
    """The target called `name`, or the one in a `.toml` file, with `--set` overrides applied.

    A file with `base = "mca128"` (a name, or the path of a file from the folder of this one) says
    what differs from that (`xbarc.hw.target.derive.derived`). Its name is its own, that of the file
    where it gives none. `overrides` are `key.path=value` texts, which the name then says as well.

    Raises:
        UsageError: an unknown target or key, or a value out of range in `overrides`.
        XbarcError: the file or its base isn't there, isn't TOML or isn't a target; bases go round
            in a circle.
    """
    target = _loaded(_find(str(name), Path()), ())
    if not overrides:
        return target
    own = overriding(overrides)
    # A changed target says so wherever it is named.
    own.setdefault("name", f"{target.name} + {', '.join(last_of(overrides))}")
    if target.description:
        own.setdefault("description", f"changed from {target.name}: {target.description}")
    try:
        found = Target.model_validate(derived(with_cell(target, own), own, "set by --set"))
    except ValidationError as error:
        raise UsageError(*(f"--set: {line}" for line in _faults(error))) from None
    keys = ruled.given(own)
    if wrong := [*ruled.faults(found, keys, defaults=False)]:
        raise UsageError(*(f"--set: {line}" for line in wrong))
    return ruled.settle(found, keys)


def _loaded(file: _File, outer: tuple[_File, ...]) -> Target:
    """The target in a file; `outer` are the files that it is the base of, the outermost first."""
    values = _tables(file.text, file.label)
    if "base" not in values:
        return _ruled(_valid(over_cell(values), file.label), values, file.label, defaults=True)
    base = with_cell(_base(file, values.pop("base"), outer), values)
    own = {"name": file.path.stem, "description": "", **values}
    found = _valid(derived(base, own, f"set in {file.path.name}"), file.label)
    return _ruled(found, own, file.label, defaults=False)


def _ruled(target: Target, own: dict[str, Any], where: str, *, defaults: bool) -> Target:
    """Refuse keys of `own` that have no effect on the target."""
    keys = ruled.given(own)
    if wrong := [*ruled.faults(target, keys, defaults=defaults)]:
        raise XbarcError(*(f"target {where}: {line}" for line in wrong))
    return ruled.settle(target, keys)


def _base(file: _File, name: Any, outer: tuple[_File, ...]) -> Target:
    where = f"target {file.label}: base"
    if not isinstance(name, str):
        raise XbarcError(f"{where} = {name!r}: give a target's name, or a .toml file")
    try:
        found = _find(name, file.path.parent)
    except XbarcError as error:
        raise XbarcError(f"{where}: {error}") from None
    chain = (*outer, file)
    if found.path.resolve() in [one.path.resolve() for one in chain]:
        circle = " -> ".join(one.label for one in (*chain, found))
        raise XbarcError(f"{where}: a circle: {circle}; one of them must stand by itself")
    return _loaded(found, chain)


def parse_target(text: str, where: str) -> Target:
    """A target from TOML text that has no base.

    Raises `XbarcError`, one line a fault, beginning with `where`.
    """
    return _valid(_tables(text, where), where)


def _tables(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, OverflowError) as error:  # TOMLDecodeError, or a number of 5000 digits
        raise XbarcError(f"target {where}: not TOML: {error}") from None
    except RecursionError:
        raise XbarcError(f"target {where}: nested too deeply") from None


def _valid(values: dict[str, Any], where: str) -> Target:
    try:
        return Target.model_validate(values)
    except ValidationError as error:
        raise XbarcError(*(f"target {where}: {line}" for line in _faults(error))) from None


def _faults(error: ValidationError) -> Iterator[str]:
    """Each fault of a target in one line: the key's path, what is wrong, what was given."""
    for fault in error.errors():
        path = [str(p) for p in fault["loc"]]
        where = ".".join(path) or "the target"
        if fault["type"] == "extra_forbidden":
            yield f"unknown key {where}: {nearest(path[-1], _keys(path[:-1]))}"
        elif path[:1] == ["device"] and len(path) == 2 and path[1] not in Device.model_fields:
            yield f"unknown key {where}: {nearest(path[1], Device.model_fields)}"
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
        inside = types_in(inside, name)[name]
    return list(types_in(inside, ""))
