"""Where compiled kernels are kept when no usual place can be written to."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from numba.core import caching

def refuse(self):
    raise OSError(30, "Read-only file system")

if sys.argv[1] == "read-only":
    # As the package's folder and the user's cache then do; a folder asked for is free.
    for kind in vars(caching).values():
        if isinstance(kind, type) and issubclass(kind, caching._CacheLocator):
            if kind.__name__ not in ("_CacheLocator", "UserProvidedCacheLocator"):
                kind.ensure_cache_path = refuse
import numba
from xbarc.simulator import windows
from xbarc.simulator.exact import kernels
print(numba.config.CACHE_DIR)
"""


def cache_folder(how):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_read_only_installation_without_a_home():
    folder = cache_folder("read-only")
    assert folder
    assert not Path(folder).exists()  # it goes with its process


def test_a_usual_place_is_kept():
    assert cache_folder("usual") == ""
