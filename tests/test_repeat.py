"""The commands of a report's page, under "How to repeat it": they make the same program again."""

import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import text_model
from pages import Page
from typer.testing import CliRunner

import xbarc
from xbarc.cli.app import app
from xbarc.report import report_page
from xbarc.report.page.repeat import commands

MODEL = """g (float[N,H,8,8] x) => (float[N,5] y) <float[6,2,3,3] w1, float[6] b1, float[96,5] w2> {
   c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1) r = Relu(c)
   f = Flatten(r) y = MatMul(f, w2) }"""

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
from xbarc.pipeline import GraphPass

@dataclass(frozen=True)
class Nothing(GraphPass):
    """Does nothing."""

    name: ClassVar[str] = "nothing"
    preserves: ClassVar[bool] = True

    def apply(self, model, target):
        return False
'''


def called(*arguments):
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output or done.exception


def files(folder):
    """What the program is made of, without what says when and how."""
    found = Path(folder).rglob("*")
    kept = {".mlir", ".safetensors", ".onnx"}
    return {f.relative_to(folder): f.read_bytes() for f in found if f.suffix in kept}


def repeat(path):
    for line in commands(xbarc.load(path), Path(path), [], []):
        words = shlex.split(line)
        assert words[0] == "xbarc"
        called(*words[1:])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("calibration.npz", x=rng.standard_normal((300, 2, 8, 8)).astype(np.float32))
    onnx.save(text_model(MODEL), "m.onnx")
    onnx.save(text_model(MODEL, seed=1), "other.onnx")
    Path("nothing.py").write_text(PLUGIN)
    return tmp_path


GIVEN = ("compile", "m.onnx", "--target", "mca128", "--input-shape", "x=1,2,8,8")


@pytest.mark.parametrize(
    "options",
    [
        ["--calibration", "calibration.npz"],
        [
            *("--calibration", "calibration.npz", "--ranges", "least-squares"),
            *("--rounding", "nearest", "--no-bias-correction", "--no-equalize"),
        ],
        ["--calibration", "calibration.npz", "--ranges", "further-sample", "--equalize"],
        ["--bias-correction", "--set", "inputs.bits=6", "--set", 'layers."*".weights.bits=5'],
        ["--plugin", "nothing.py", "--passes", "nothing,kernel-first"],
    ],
    ids=["calibrated", "nothing fitted", "further sample", "generated", "plug-in"],
)
def test_a_compiled_program(folder, options):
    called(*GIVEN, *options, "-o", "p.xbar")
    repeat("p.xbar")
    assert files("again.xbar") == files("p.xbar")


def test_the_page_says_how_codes_were_found_and_what_layers_have(folder):
    Path("my.toml").write_text('base = "mca128"\n[layers."Con*".weights]\nbits = 4\n')
    called(*GIVEN[:2], "--target", "my.toml", *GIVEN[4:], "--ranges", "further-sample",
           "--calibration", "calibration.npz", "-o", "p.xbar")  # fmt: skip
    text = Page(report_page(xbarc.load("p.xbar"), Path("p.xbar"))).text
    assert "ranges further-sample, rounding output, biases corrected" in text
    assert 'layers."Con*".weights.bits = 4' in text


def test_new_weights_that_were_fitted(folder):
    called(*GIVEN, "--calibration", "calibration.npz", "-o", "p.xbar")
    called("update-weights", "p.xbar", "other.onnx", "--calibration", "calibration.npz")
    repeat("p.xbar")
    assert files("again.xbar") == files("p.xbar")
