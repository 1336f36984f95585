"""A copy of the working tree to break things in: installed as a package is, compiled once.

`passes/` and `targets/` are linked into the package, so that the copy stands on `PYTHONPATH` alone.
"""

import compileall
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make(folder: Path) -> Path:
    """Copy what git knows, and new files that it doesn't ignore, to `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in ("passes", "targets"):
        (folder / "xbarc" / name).symlink_to(Path("..", name))
    compileall.compile_dir(folder, quiet=2, force=True)
    return folder


def environment(tree: Path, kernels: Path) -> dict[str, str]:
    """Variables for a process that imports xbarc from `tree`, and keeps its kernels in a folder."""
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(kernels),
        "CI": "1",  # hypothesis takes the same examples each time
    }
