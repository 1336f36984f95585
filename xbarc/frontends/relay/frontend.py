"""Relay as a frontend: its text, in memory or in a file."""

from pathlib import Path
from typing import Any

from xbarc.frontends.source import Frontend, Loaded, Options, beginning, path_of
from xbarc.support.errors import XbarcError

BEGINNINGS = ("#[version", "def @")
"""Of Relay text: with its first line, and as `print` shows a module, which is refused by name."""


def recognises(source: object) -> bool:
    """Whether `source` is Relay text, or the path of a file that holds some."""
    if _is_text(source):
        return True
    path = path_of(source)
    if path is None:
        return False
    first = beginning(path, 64).decode("utf-8-sig", errors="replace")
    return path.suffix == ".relay" or _is_text(first)


def _is_text(source: object) -> bool:
    return isinstance(source, str) and source.lstrip().startswith(BEGINNINGS)


def _load(source: Any, options: Options) -> Loaded:
    from xbarc.frontends.relay.importer import load_relay

    if _is_text(source):
        return load_relay(source, "the Relay text", options)
    return load_relay(_read(Path(source)), str(source), options)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise XbarcError(f"{path}: not a text file") from None
    except OSError as error:
        raise XbarcError(f"{path} can't be read: {error.strerror}") from error


FRONTEND = Frontend(
    "relay",
    "TVM Relay",
    (".relay",),
    recognises,
    _load,
    takes=("params", "constants", "seed"),
    takes_names=True,
)
