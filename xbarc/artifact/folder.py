"""A program's folder: what may be replaced, and how a new one takes its place at once.

The new folder is written beside the old one under a name that begins with a dot. Then both names
are exchanged in one step, where the system can (Linux). Elsewhere there are two renames, and a run
that is killed between them leaves the old program under a name that `old_program` finds.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xbarc.artifact import runs, trials
from xbarc.artifact.manifest import FILE, MANIFEST, files_of
from xbarc.support.errors import XbarcError
from xbarc.support.files import (
    abandoned,
    claim,
    exchange,
    refuse_inside,
    refuse_link,
    sync,
    sync_tree,
)

NEW, OLD = ".new", ".old"
"""How the names of the folders end that stand beside a program while it is replaced."""

HALF_WRITTEN = re.compile(r"\.float\.data\.\w+(/float\.data)?")
"""Where onnx_ir writes weights before they take their name."""


def check_free(path: Path) -> None:
    """Raises `XbarcError` where something stands at `path` that no program may replace.

    A program of ours, by its content, may be replaced, and so may an empty folder. Whatever else
    stands in one of these is somebody's, and stays.
    """
    if path.name in ("", ".."):
        raise XbarcError(f"can't write {path}: name the folder that the program is to be")
    refuse_link(path)
    refuse_inside(path)
    if not path.exists() or (path.is_dir() and next(path.iterdir(), None) is None):
        return
    files = files_of(path) if path.is_dir() else None
    if files is None:
        raise XbarcError(
            f"{path} exists and is no xbarc program: remove it, or choose another name"
        )
    foreign = list(_foreign(path, files))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise XbarcError(
            f"{path} also holds {', '.join(foreign[:3])}{more}, which no program has and which "
            "would be lost: move that away, or choose another name"
        )


def _foreign(path: Path, files: Iterable[str]) -> Iterator[str]:
    """What stands in a program's folder and is none of its files or records."""
    ours = {*files, MANIFEST, "digital", runs.FOLDER}
    for entry in _walk(path):
        name = entry.relative_to(path).as_posix()
        if entry.is_symlink() or not (name in ours or _is_record(path, entry)):
            yield name


def _walk(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path):
        yield from (Path(folder) / name for name in sorted((*folders, *names)))


def _is_record(path: Path, entry: Path) -> bool:
    return entry.parent == path / runs.FOLDER and (runs.is_ours(entry) or trials.is_ours(entry))


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """An empty folder to write a program to; at the end of the block it stands at `path`.

    What stood there goes after that. Where the block or the disk fails, nothing has changed.
    Raises `XbarcError` as `check_free`, and `OSError`.
    """
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    check_free(path)
    prefix = f".{path.name}.{os.getpid()}."
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=NEW, dir=path.parent))
    descriptor = None
    try:
        if os.name == "posix":
            descriptor = os.open(folder, os.O_RDONLY)
            claim(descriptor)
        # mkdtemp makes it private; a program is as readable as any other output.
        folder.chmod(new_file_mode() | ((new_file_mode() & 0o444) >> 2))
        yield folder
        sync_tree(folder)
        check_free(path)
        _swap(folder, path)
        with suppress(OSError):  # both are whole; which one a crash leaves is the disk's business
            sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _swap(new: Path, path: Path) -> None:
    """Put the folder `new` at `path`; what stood there is at `new` after that, or gone."""
    if not path.exists():
        new.rename(path)
        return
    if exchange(new, path):
        return
    old = new.with_suffix(OLD)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:  # also Ctrl-C
        if not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove what runs left that were killed while they replaced `path`; an old program returns."""
    for old in abandoned(path, OLD):
        if not path.exists():
            old.rename(path)
    for left in (*abandoned(path, OLD), *abandoned(path, NEW)):
        if all(_may_be_ours(left, entry) for entry in _walk(left)):
            shutil.rmtree(left, ignore_errors=True)


def _may_be_ours(folder: Path, entry: Path) -> bool:
    """Whether it is what a program has, whole or half-written."""
    name = entry.relative_to(folder).as_posix()
    kind = entry.lstat().st_mode
    if stat.S_ISDIR(kind):
        return name in ("digital", runs.FOLDER) or bool(HALF_WRITTEN.fullmatch(name))
    known = bool(FILE.fullmatch(name) or HALF_WRITTEN.fullmatch(name)) or name == MANIFEST
    return stat.S_ISREG(kind) and (known or _is_record(folder, entry))


def old_program(path: Path) -> Path | None:
    """Where the program stands that a killed run was about to replace; None where nothing says so.

    Looked for only where `path` itself is gone.
    """
    if path.exists() or not path.parent.is_dir():
        return None
    return next((p for p in abandoned(path, OLD) if files_of(p) is not None), None)


def new_file_mode() -> int:
    """The permissions of a file that is made without any said."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
