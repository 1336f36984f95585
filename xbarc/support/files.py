"""Files that are written: where they may go, and how they get there whole or not at all."""

import ctypes
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xbarc.support.errors import XbarcError

try:
    import fcntl
except ImportError:  # not on Windows: there, nobody clears what a killed run left
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
"""The file that makes a folder a compiled program (`xbarc.artifact.manifest`)."""

FEW = 64
"""Files that are brought to the disk one by one; more take one call for the whole file system."""

_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux's renameat2."""


def check_output(path: Path, reads: Iterable[Path | None] = ()) -> None:
    """Raises `XbarcError` where no file can be written to `path`, as far as that shows before.

    A link, an input of the same call (`reads`) and a place within a compiled program are no
    outputs: writing there would destroy something.
    """
    refuse_link(path)
    if path.exists() and not path.is_file():
        raise XbarcError(f"can't write {path}: it exists and is no file")
    if not path.parent.is_dir():
        code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise XbarcError(f"can't write {path}: {os.strerror(code)}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise XbarcError(f"can't write {path}: {os.strerror(errno.EACCES)}")
    refuse_inside(path)
    if any(read is not None and _same(path, read) for read in reads):
        raise XbarcError(f"can't write {path}: it is what is read: choose another name")


def refuse_link(path: Path) -> None:
    """Raises `XbarcError` where `path` is a link: what it leads to isn't what was named."""
    if path.is_symlink():
        raise XbarcError(
            f"can't write {path}: it is a link to {os.readlink(path)}: give the place itself"
        )


def refuse_inside(path: Path) -> None:
    """Raises `XbarcError` where `path` lies in a compiled program, which holds nothing else."""
    for folder in path.absolute().resolve().parents:
        if (folder / MANIFEST).is_file() and (folder / "program.mlir").is_file():
            raise XbarcError(
                f"can't write {path}: {folder} is a compiled program: choose a place outside"
            )


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them isn't there yet
        return a.absolute() == b.absolute()


@contextmanager
def written_whole(path: Path, reads: Iterable[Path | None] = ()) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is on the disk to its end, or leaves no trace.

    What a killed run left of the same file goes. Raises `XbarcError` as `check_output`, and where
    the disk refuses.
    """
    check_output(path, reads)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        for old in abandoned(path, ".tmp"):
            old.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            claim(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise XbarcError(f"can't write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


# --- What a killed run left ----------------------------------------------------------------------


def abandoned(path: Path, suffix: str) -> list[Path]:
    """Siblings `.NAME.PID...SUFFIX` of `path` that a run wrote to which is gone."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.\w+)?{re.escape(suffix)}")
    found = []
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match and _is_abandoned(path.with_name(name), int(match[1])):
            found.append(path.with_name(name))
    return found


def _is_abandoned(path: Path, pid: int) -> bool:
    """Whether nobody holds the lock on it, and no other process here has this number."""
    if fcntl is None or path.is_symlink():
        return False
    if pid != os.getpid():
        try:
            os.kill(pid, 0)
            return False
        except ProcessLookupError:
            pass
        except (OSError, OverflowError):
            return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def claim(descriptor: int) -> None:
    """While it is open, the file or folder isn't abandoned."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- To the disk ----------------------------------------------------------------------------------


def sync_tree(folder: Path) -> None:
    """Bring all files below a folder to the disk, and the folders. Raises `OSError`."""
    paths = [folder, *folder.rglob("*")]
    whole_system = _libc("syncfs")
    if len(paths) > FEW and whole_system is not None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _checked(whole_system(descriptor))
        finally:
            os.close(descriptor)
        return
    for path in reversed(paths):
        sync(path)


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk. Raises `OSError`."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(a: Path, b: Path) -> bool:
    """Swap what two names stand for in one step; False where the system can't. Raises `OSError`."""
    rename = _libc("renameat2")
    if rename is None:
        return False
    here = -100  # AT_FDCWD
    try:
        _checked(rename(here, os.fsencode(a), here, os.fsencode(b), _EXCHANGE))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise
    return True


def _libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of that name."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found


def _checked(status: int) -> None:
    if status:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
