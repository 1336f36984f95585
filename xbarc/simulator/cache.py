"""Numba's `njit`, for kernels that are kept on disk.

They are kept in the package's own folder or in the user's cache. Where neither can be written to (a
read-only installation, no home), Numba refuses to define a kernel; then it is a temporary folder,
this process's own.

Numba compiles a kernel again when its own file changes. It doesn't see a change in another file
that a kernel calls or takes a constant from. So the kernels here are compiled again when any of
`SOURCES` changes, and what was kept before is overwritten.
"""

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

__all__ = ["SOURCES", "njit"]

SOURCES = (
    "hw/converters.py",
    "simulator/analog/kernels.py",
    "simulator/exact/kernels.py",
    "simulator/normals.py",
    "simulator/tables.py",
    "simulator/windows.py",
)
"""Files of the package with kernels, or with constants that kernels take."""


def _hash() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in SOURCES:
        digest.update(hashlib.blake2b((Path(__file__).parents[1] / name).read_bytes()).digest())
    return digest.hexdigest()


STAMP = _hash()


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with these options; what is kept holds as long as `SOURCES` stay as they are."""

    def compiled(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(**options)(function)
        # Numba has no public way to say what else a kernel depends on: its index has one stamp, of
        # the kernel's file. There is none with NUMBA_DISABLE_JIT.
        index = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
        if index is not None:
            index._source_stamp = (index._source_stamp, STAMP)
        return kernel

    return compiled


def _ensure_folder() -> None:
    """Keep kernels in a temporary folder where no usual place can be written to."""

    def kernel() -> None: ...

    try:
        numba.njit(cache=True)(kernel)
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="xbarc-kernels-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        numba.config.CACHE_DIR = folder


_ensure_folder()
