"""What a checkpoint is told apart by, and where it may be written."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from models import text_model

import xbarc
from xbarc.support.errors import UsageError, XbarcError

MLP = """g (float[N,8] x) => (float[N,3] y) <float[8,12] w1, float[12] b, float[12,3] w2> {
   m = MatMul(x, w1) a = Add(m, b) r = Relu(a) y = MatMul(r, w2) }"""
X = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
Y = np.arange(60) % 3
PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from xbarc.train.method import Method

@dataclass(frozen=True)
class Weaker(Method):
    \"\"\"Makes weights smaller.\"\"\"
    name: ClassVar[str] = "weaker"

    def before_epoch(self, training):
        for layer in training.layers.values():
            layer.weight.data *= FACTOR
"""


def train(point, target="mca64", epochs=1, **options):
    given = {"threads": 1, "checkpoint": point, **options}
    return xbarc.tune(text_model(MLP), X, Y, target, epochs=epochs, **given)


def calibrated(folder, more):
    return {"calibration": X * (0.01 if more else 1)}


def taught(folder, more):
    return {"distill": 0.5, "teacher": text_model(MLP, seed=int(more))}


def targeted(folder, more):
    file = folder / "my.toml"
    file.write_text(f'base = "mca64"\n[inputs]\nbits = {4 if more else 8}\n')
    return {"target": file}


def plugged(folder, more):
    file = folder / "weaker.py"
    file.write_text(PLUGIN.replace("FACTOR", "0.5" if more else "0.9"))
    return {"plugins": [file], "method": "weaker"}


@pytest.mark.parametrize("made", [calibrated, taught, targeted, plugged])
def test_other_content_is_another_training(tmp_path, made):
    first = train(tmp_path / "m.ckpt", **made(tmp_path, more=False))
    again = train(tmp_path / "m.ckpt", **made(tmp_path, more=False))
    assert again.history == first.history
    with pytest.raises(UsageError, match="another training"):
        train(tmp_path / "m.ckpt", **made(tmp_path, more=True))


def test_it_goes_on_with_other_threads_and_patience(tmp_path):
    first = train(tmp_path / "m.ckpt", epochs=2)
    again = train(tmp_path / "m.ckpt", epochs=2, threads=2, patience=5)
    assert again.history == first.history


def test_its_place_is_tried_before_the_training(tmp_path):
    def watch(*_):
        raise AssertionError("it trains")

    with pytest.raises(XbarcError, match="No such file"):
        train(tmp_path / "none" / "m.ckpt", watch=watch)
    with pytest.raises(XbarcError, match="is no file"):
        train(tmp_path, watch=watch)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "my.toml"], "can't write my.toml"),
        (["-o", "tuned.onnx", "--checkpoint", "tuned.onnx"], "can't write tuned.onnx"),
        (["-o", "tuned.onnx", "--checkpoint", "m.onnx"], "can't write m.onnx"),
    ],
)
def test_nothing_that_is_read_or_written_is_overwritten(tmp_path, arguments, words):
    np.savez(tmp_path / "train.npz", x=X, y=Y)
    onnx.save(text_model(MLP), tmp_path / "m.onnx")
    target = targeted(tmp_path, more=False)["target"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    command = [
        *(sys.executable, "-c", "from xbarc.cli import main; main()", "tune", "m.onnx"),
        *("--data", "train.npz", "--labels", "y", "--target", target.name, "--epochs", "1"),
    ]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
