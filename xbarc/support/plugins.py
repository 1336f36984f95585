"""What can be added to xbarc: by a file of its own, an installed package, or `--plugin FILE.py`.

Each kind of addition is a `Group`. A group finds its members in three places:

- its own folder, one member a file;
- entry points of installed packages, imported when first needed;
- the plug-in files of the surrounding `using` block.
"""

import hashlib
import importlib
import importlib.machinery
import importlib.util
import pkgutil
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Generic, TypeVar

from xbarc.support.errors import UsageError, XbarcError, nearest

T = TypeVar("T")

_files: ContextVar[tuple[types.ModuleType, ...]] = ContextVar("plug-in files", default=())
# A plug-in is for one run, not for the process: scoped like numpy.errstate, not registered.

_importing = threading.RLock()
# A file's module stands in sys.modules while it is made; no other thread may find half of it.


@contextmanager
def using(files: Iterable[str | Path]) -> Iterator[None]:
    """Run plug-in `files`; within the block every group has what they define as well.

    Raises:
        UsageError: no such file.
        XbarcError: a file fails; the message names the line.
    """
    modules = dict.fromkeys((*_files.get(), *map(import_file, files)))
    token = _files.set(tuple(modules))
    try:
        yield
    finally:
        _files.reset(token)


@dataclass(frozen=True)
class Group(Generic[T]):
    """A kind of addition.

    `noun` is the word for a member in messages. `entry_points` is the entry point group of
    installed packages. `folder` is the package with xbarc's own members, one a file; the member
    `my-thing` is in `my_thing.py` (None: they aren't files). `found` returns the members that a
    module defines, by name.
    """

    noun: str
    entry_points: str
    folder: str | None
    found: Callable[[types.ModuleType], Mapping[str, T]]
    built_in: Callable[[], Mapping[str, T]] = dict

    def registry(self) -> "Registry[T]":
        """All that there is: xbarc's own, installed packages', and the files' in use.

        Raises `XbarcError` where a name is taken twice; it names both owners.
        """
        registry: Registry[T] = Registry(self.noun)
        self.fill(registry)
        return registry

    def fill(self, registry: "Registry[T]") -> None:
        """Add all that there is to a registry. Raises as `registry`."""
        for name in self._own():
            registry.add(name, partial(self._load_own, name), "xbarc")
        for name, thing in self.built_in().items():
            registry.add(name, partial(_identity, thing), "xbarc")
        for name, point in installed(self.entry_points).items():
            registry.add(name, point.load, owner(point))
        for module in _files.get():
            for name, thing in self.found(module).items():
                registry.add(name, partial(_identity, thing), str(module.__file__))

    def _own(self) -> list[str]:
        if self.folder is None:
            return []
        path = importlib.import_module(self.folder).__path__
        stems = (m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))
        return [stem.replace("_", "-") for stem in stems]

    def _load_own(self, name: str) -> T:
        module = importlib.import_module(f"{self.folder}.{name.replace('-', '_')}")
        found = self.found(module)
        if name not in found:
            raise XbarcError(f"{module.__name__} defines no {self.noun} called {name!r}")
        return found[name]


class Registry(Generic[T]):
    """Additions of one kind by name; each is imported when it is first asked for."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, tuple[Callable[[], T], str]] = {}

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def owner(self, name: str) -> str:
        """Who brings it: `xbarc`, a package, or a file. Raises `UsageError` if unknown."""
        return self._entry(name)[1]

    def add(self, name: str, load: Callable[[], T], owner: str) -> None:
        """Register what `load` gives. Raises `XbarcError` where the name is taken."""
        taken = self._entries.get(name)
        if taken is not None:
            raise XbarcError(
                f"{self.noun} {name!r} is defined twice: by {taken[1]} and by {owner}; rename one"
            )
        self._entries[name] = load, owner

    def load(self, name: str) -> T:
        """What is called `name`.

        Raises:
            UsageError: unknown name; the nearest one is suggested.
            XbarcError: it can't be imported.
        """
        load, owner = self._entry(name)
        try:
            return load()
        except Exception as error:
            raise XbarcError(f"{self.noun} {name!r} of {owner} can't be loaded: {error}") from error

    def all(self) -> dict[str, T]:
        """Everything by name, imported. Raises as `load`."""
        return {name: self.load(name) for name in self._entries}

    def _entry(self, name: str) -> tuple[Callable[[], T], str]:
        if name not in self._entries:
            raise UsageError(f"unknown {self.noun} {name!r}: {nearest(name, self._entries)}")
        return self._entries[name]


def instances(module: types.ModuleType, kind: type[T]) -> list[T]:
    """The objects of `kind` that a module defines, each once."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    return list(found.values())


def classes(module: types.ModuleType, *bases: type) -> list[type]:
    """The classes derived from `bases` that a module itself defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, bases)
        and value.__module__ == module.__name__
    ]


def owner(point: EntryPoint) -> str:
    """Who brings an entry point, as an error or a listing names it."""
    package = f"package {point.dist.name}" if point.dist else "an installed package"
    return f"{package} ({point.value})"


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    return metadata.entry_points(group=group)


def entry_points(group: str) -> EntryPoints:
    """The entry points of a group; the packages' metadata are read once for each `sys.path`."""
    return _entry_points(group, tuple(sys.path))


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name.

    Raises:
        XbarcError: two packages bring the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other is not point:
            raise XbarcError(
                f"entry point {point.name!r} of {group} is taken twice: by {owner(other)} and by "
                f"{owner(point)}; uninstall one"
            )
    return found


def import_file(path: str | Path) -> types.ModuleType:
    """The module that a plug-in file makes; the same content is run only once.

    Raises:
        UsageError: no such file.
        XbarcError: it fails; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"--plugin {path}: no such file")
    # The hash keeps two files of one name apart, and a file from what it was before a change.
    digest = hashlib.sha256(str(path.resolve()).encode() + b"\0" + path.read_bytes())
    stem = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
    name = f"xbarc_plugin_{stem}_{digest.hexdigest()[:8]}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        loader = importlib.machinery.SourceFileLoader(name, str(path))
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there
        try:
            loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise XbarcError(f"--plugin {path}: {cause(error)}") from error
    return module


def cause(error: BaseException) -> str:
    """An exception in one line, with the place in the code that raised it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {said}"


def _identity(value: T) -> T:
    return value
