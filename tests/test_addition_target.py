"""A target is one file: what differs from another, compiled for by its path from anywhere."""

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app

MODEL = "g (float[N,3,8,8] x) => (float[N,5,6,6] y) <float[5,3,3,3] w> { y = Conv(x, w) }"

MINE = """
base = "common/arrays.toml"
name = "mine"

[inputs]
bits = 6

[cost.adc]
area_um2 = 900.0
energy_pj = 1.5
source = "our own converter"
"""

ARRAYS = """
base = "mca128"
description = "small arrays"

[array]
rows = 16
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A target over a base of its own folder, seen from another working directory."""
    (tmp_path / "targets" / "common").mkdir(parents=True)
    (tmp_path / "targets" / "mine.toml").write_text(MINE)
    (tmp_path / "targets" / "common" / "arrays.toml").write_text(ARRAYS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Path("..") / "targets" / "mine.toml"


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_model_is_compiled_for_it(mine):
    onnx.save(text_model(MODEL), "m.onnx")
    run("compile", "m.onnx", "--target", mine, "-o", "m.xbar")
    report = json.loads(run("cost", "m.xbar", "--json"))
    assert report["target"] == "mine"
    assert report["layers"][0]["tiles"] == 2  # 27 rows on crossbars of 16
    assert report["layers"][0]["cycles"] % 6 == 0  # an input takes six activations
    x = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    assert xbarc.load("m.xbar").run(x)["y"].shape == (2, 5, 6, 6)


def test_the_program_has_it_resolved(mine):
    onnx.save(text_model(MODEL), "m.onnx")
    run("compile", "m.onnx", "--target", mine, "-o", "m.xbar")
    text = Path("m.xbar/target.toml").read_text()
    found = tomllib.loads(text)
    assert "base" not in found
    assert found["array"]["rows"] == 16
    assert found["array"]["cols"] == 128  # mca128's
    assert found["cost"]["adc"]["source"] == "our own converter"
    assert found["cost"]["dac"] == {"model": "isaac"}
    assert text == run("targets", mine)


def test_its_own_values_have_no_borrowed_source(mine):
    rows = json.loads(run("targets", mine, "--sources", "--json"))["constants"]
    sources = {row["key"]: row["source"] for row in rows}
    assert sources["array.rows"].startswith("rows: set in arrays.toml; the rest: ISAAC: 2-bit")
    assert sources["inputs.bits"].startswith("bits: set in mine.toml; the rest: ISAAC: 1-bit DACs")
    assert sources["cost.adc.energy_pj"] == "our own converter"
    assert sources["device.g_on_us"].startswith("ISAAC's cell")


def test_an_installed_package_brings_one(tmp_path, monkeypatch):
    """By name, over a base that lies beside it."""
    info = tmp_path / "mychip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mychip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xbarc.targets]\nmychip = my_package:MYCHIP\n")
    (tmp_path / "my_package.py").write_text(
        "from pathlib import Path\nMYCHIP = Path(__file__).with_name('mychip.toml')\n"
    )
    (tmp_path / "mychip.toml").write_text('base = "arrays.toml"\ndescription = "my chip"\n')
    (tmp_path / "arrays.toml").write_text(ARRAYS)
    monkeypatch.syspath_prepend(tmp_path)
    assert json.loads(run("targets", "--json"))["mychip"] == "my chip"
    assert json.loads(run("targets", "mychip", "--json"))["array"]["rows"] == 16
    assert run("targets", "mychip") == (tmp_path / "mychip.toml").read_text()
    (tmp_path / "mine.toml").write_text('base = "mychip"')
    assert xbarc.load_target(tmp_path / "mine.toml").array.rows == 16
