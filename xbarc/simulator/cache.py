"""Numba's `njit`, for kernels that are kept on disk.

They are kept in the package's own folder or in the user's cache. Where neither can be written to (a
read-only installation, no home), Numba refuses to define a kernel; then it is a temporary folder,
this process's own.

Numba compiles a kernel again when its own file changes. It doesn't see a change in a kernel of
another file that it calls (`tables.py`, `normals.py`): `make clean` removes what it keeps.
"""

import atexit
import shutil
import tempfile

import numba
from numba import njit

__all__ = ["njit"]


def _ensure_folder() -> None:
    def kernel() -> None: ...

    try:
        njit(cache=True)(kernel)
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="xbarc-kernels-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        numba.config.CACHE_DIR = folder


_ensure_folder()
