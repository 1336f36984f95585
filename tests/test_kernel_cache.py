"""Where compiled kernels are kept when no usual place can be written to."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xbarc
from xbarc.simulator import cache

PACKAGE = Path(xbarc.__file__).parent

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


CALLER = """
from xbarc.simulator.cache import njit
from xbarc.simulator.tables import inner

@njit(cache=True)
def outer(x):
    return inner(x)

print(outer(1), sum(outer.stats.cache_hits.values()) if hasattr(outer, "stats") else -1)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a kernel of a small package that calls another, `inner`, which returns `result`.

    Gives what it returns, and how often it was found on disk: -1 where nothing is compiled.
    """
    package = tmp_path / "xbarc"
    for name in cache.SOURCES:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    shutil.copy(cache.__file__, package / "simulator")
    (package / "simulator" / "exact" / "kernels.py").write_text(CALLER)
    tables = package / "simulator" / "tables.py"

    def run(result, **environment):
        tables.write_text(
            "from xbarc.simulator.cache import njit\n\n"
            f"@njit(cache=True)\ndef inner(x):\n    return {result}\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "xbarc.simulator.exact.kernels"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return tuple(map(int, done.stdout.split()))

    return run


@pytest.mark.parametrize("folder", ["", "kernels"])
def test_a_change_in_a_kernel_of_another_file_compiles_its_callers_anew(run, tmp_path, folder):
    asked = {"NUMBA_CACHE_DIR": str(tmp_path / folder)} if folder else {}
    assert run("x + 1", **asked) == (2, 0)
    assert run("x + 1", **asked) == (2, 1)
    kept = sorted(path.name for path in tmp_path.rglob("*.nb?"))
    assert run("x + 9", **asked) == (10, 0)
    assert sorted(path.name for path in tmp_path.rglob("*.nb?")) == kept  # nothing piles up


def test_kernels_run_as_python_too(run):
    assert run("x + 1", NUMBA_DISABLE_JIT="1") == (2, -1)


def test_every_file_that_kernels_are_compiled_from_counts():
    """Those that define kernels, and those that kernels name something of."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if "simulator.cache import njit" not in text:
            continue
        name = path.relative_to(PACKAGE).as_posix()
        found.add(name)
        module = importlib.import_module("xbarc." + name.removesuffix(".py").replace("/", "."))
        kernels = [k.py_func for k in vars(module).values() if hasattr(k, "py_func")]
        named = {name for kernel in kernels for name in kernel.__code__.co_names}
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        for node in imports:
            of_xbarc, _, rest = (node.module or "").partition("xbarc.")
            if rest and not of_xbarc and named & {a.asname or a.name for a in node.names}:
                found.add(rest.replace(".", "/") + ".py")
    assert found == set(cache.SOURCES)
