"""Arrays that take long to compute, kept on disk by what they are computed from.

Where: `XBARC_CACHE`, else `xbarc` in `XDG_CACHE_HOME` or `~/.cache`. `XBARC_CACHE=` (empty) keeps
nothing. A file is a plain `.npy` and the hash of its bytes; nothing in it is executed. Where the
folder can't be written to, or a file is damaged, the array is computed as if there were no cache.
Any number of processes may use it at once: a file appears whole or not at all.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from xbarc.support.cache_folder import VARIABLE, folder
from xbarc.support.data import Array

__all__ = ["VARIABLE", "folder", "kept"]

LIMIT = 1 << 30
"""Bytes that arrays of one kind may take."""

SHELVES = 256
"""Folders that they are spread over, so that a write looks at few files to find the oldest."""

HASH_BYTES = 16


def kept(kind: str, of: Sequence[object], compute: Callable[[], Array]) -> Array:
    """What `compute` gives, from disk where it was kept before.

    `of` is all that the array depends on: arrays by their bytes, other things by their repr.
    """
    root = folder()
    if root is None:
        return compute()
    name = _digest(of)
    path = root / kind / name[:2] / f"{name[2:]}.npy"
    found = _read(path)
    if found is None:
        found = compute()
        with suppress(OSError):
            _write(path, found)
            _trim(path)
    return found


def _digest(of: Sequence[object]) -> str:
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for part in of:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.dtype.str, part.shape)).encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _check(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def _read(path: Path) -> Array | None:
    """The array of a file; None where there is none, or it is damaged."""
    try:
        data = path.read_bytes()
        os.utime(path)  # the oldest is the one that nobody asked for the longest
    except OSError:
        return None
    array, check = data[:-HASH_BYTES], data[-HASH_BYTES:]
    if _check(array) != check:
        return None
    return np.lib.format.read_array(io.BytesIO(array), allow_pickle=False)


def _write(path: Path, array: Array) -> None:
    """Raises `OSError` where the file can't be written; then nothing of it is left."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue() + _check(buffer.getvalue()))
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _trim(newest: Path) -> None:
    """Remove the oldest files of a shelf beyond its share of the limit; the newest stays."""
    files = []
    for path in newest.parent.iterdir():
        with suppress(OSError):  # another process removed it
            status = path.stat()
            files.append((path == newest, status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, _, size, _ in files)
    for last, _, size, path in sorted(files):
        if last or total <= LIMIT // SHELVES:
            return
        with suppress(OSError):
            path.unlink()
        total -= size
