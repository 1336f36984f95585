"""What others add to xbarc: entry points, found without importing any of them, and files."""

import hashlib
import importlib.machinery
import importlib.util
import re
import sys
import traceback
import types
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from xbarc.errors import UsageError, XbarcError

PASSES = "xbarc.passes"
TARGETS = "xbarc.targets"
COMPONENTS = "xbarc.components"


def owner(point: EntryPoint) -> str:
    """Who brings an entry point, as an error or a listing names it."""
    package = f"package {point.dist.name}" if point.dist else "an installed package"
    return f"{package} ({point.value})"


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` (`PASSES`, `TARGETS` or `COMPONENTS`) by name.

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


def brings_components(module: types.ModuleType) -> bool:
    """Whether a plug-in file defines component models of the cost model."""
    from xbarc.cost.components import models_in

    return bool(models_in(module))


def cause(error: BaseException) -> str:
    """An exception in one line, with the place in the code that raised it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {said}"
