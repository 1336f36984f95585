"""The package: what is in it, and what importing it costs."""

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from xbarc.pipeline import load_registry

ROOT = Path(__file__).parents[1]
REGISTRY = load_registry()
SLOW = ("tvm", "torch", "numba", "onnxruntime", "plotly", "sklearn")


def test_the_table_of_passes_is_the_folder():
    files = {path.stem for path in (ROOT / "passes").glob("*.py")} - {"__init__"}
    own = [n for n in REGISTRY.names if REGISTRY.owner(n) == "xbarc"]
    assert {name.replace("-", "_") for name in own} == files


@pytest.mark.parametrize("name", REGISTRY.names)
def test_a_pass_is_in_the_file_named_after_it(name):
    cls = REGISTRY.load(name)
    assert cls.name == name
    assert cls.__module__ == "xbarc.passes." + name.replace("-", "_")
    assert cls.__doc__


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "xbarc").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert {*found, "xbarc.passes", "xbarc.targets"} == set(
        project["tool"]["setuptools"]["packages"]
    )
    for package in project["tool"]["setuptools"]["packages"]:
        importlib.import_module(package)


def test_the_layers_of_the_docs_are_those_that_are_checked():
    """docs/design.md draws the import contract of pyproject.toml, a line a layer."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        c for c in project["tool"]["importlinter"]["contracts"] if c.get("containers") == ["xbarc"]
    )
    _, _, section = (ROOT / "docs" / "design.md").read_text().partition("## Layers")
    drawn = [line.partition("  ")[0] for line in section.split("```")[1].strip().splitlines()]
    assert [set(line.split(" | ")) for line in drawn] == [
        set(layer.split(" | ")) for layer in contract["layers"]
    ]


def test_targets_lie_beside_their_package():
    import xbarc.targets

    names = {path.stem for path in Path(xbarc.targets.__file__).parent.glob("*.toml")}
    assert {"mca64", "mca128", "mca256"} <= names


@pytest.mark.parametrize("module", ["xbarc", "xbarc.pipeline", "xbarc.passes", "xbarc.cli"])
def test_import_is_light(module):
    code = f"import sys, {module}; print([m for m in {SLOW!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="xbarc")
    assert callable(command.load())
