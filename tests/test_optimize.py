"""`xbarc opt` on ONNX files: plain ONNX in, plain ONNX out, written whole or not at all."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import reference, text_model

from xbarc import cli
from xbarc.driver import optimize
from xbarc.passes.depthwise import Depthwise

MODEL = """
g (float[N,5,6,6] x) => (float[N,3] y) <float[4,5,3,3] w, float[4] b, float[64,3] f> {
    c = Conv(x, w, b) r = Relu(c) i = Identity(r) flat = Flatten(i) y = MatMul(flat, f)
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(text_model(MODEL), "model.onnx")
    x = np.random.default_rng(0).standard_normal((40, 5, 6, 6)).astype(np.float32)
    np.savez("x.npz", x=x)
    return tmp_path


@pytest.fixture
def opt(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xbarc", "opt", *map(str, arguments)])
        try:
            cli.call()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_an_exact_pass(folder, opt):
    code, out, err = opt("model.onnx", "--passes", "fc-to-1x1", "-o", "small.onnx")
    assert (code, err) == (0, "")
    assert "written  small.onnx" in out
    assert "lossy" not in out
    small = onnx.load("small.onnx")
    onnx.checker.check_model(small, full_check=True)
    assert [n.op_type for n in small.graph.node] == ["Conv", "Relu", "Conv", "Flatten"]
    x = np.load("x.npz")["x"]
    wanted = reference("model.onnx", {"x": x})["y"]
    assert np.allclose(reference("small.onnx", {"x": x})["y"], wanted, atol=1e-5)
    assert sorted(p.name for p in folder.iterdir()) == ["model.onnx", "small.onnx", "x.npz"]


def test_a_lossy_pass_says_how_much(folder, opt):
    code, out, _ = opt(
        "model.onnx", "--passes", "depthwise{rank=2}", "--calibration", "x.npz", "-o", "small.onnx"
    )
    assert code == 0
    # 180 + 4 + 192 weights; the convolution's 180 become 2 * (5 * 9 + 5 * 4).
    assert "weights  376 -> 326" in out
    assert "lossy    depthwise: relative deviation" in out
    assert "on 16 samples" in out


def test_a_fit_without_calibration_data_is_warned_of(folder, opt):
    code, _, err = opt("model.onnx", "--passes", "depthwise", "-o", "small.onnx")
    assert code == 0
    assert "what depthwise may fit, is fitted to generated inputs" in err


def test_nothing_runs_that_wasnt_asked_for(folder, opt):
    """Not even what `xbarc compile` always does; the importer's normal form aside."""
    text = """g (float[N,4,5,5] x) => (float[N,4,5,5] y)
    <float[4,4,1,1] w, float[4] s, float[4] t, float[4] m, float[4] v = {1.0, 1.0, 2.0, 3.0}> {
      c = Conv(x, w) i = Identity(c) y = BatchNormalization(i, s, t, m, v) }"""
    onnx.save(text_model(text), "bn.onnx")
    assert opt("bn.onnx", "-o", "out.onnx")[0] == 0
    ops = [n.op_type for n in onnx.load("out.onnx").graph.node]
    assert ops == ["Conv", "BatchNormalization"]


def test_weights_in_another_file_come_along(folder, opt):
    model = onnx.load("model.onnx")
    onnx.save(model, "beside.onnx", save_as_external_data=True, size_threshold=0)
    Path("elsewhere").mkdir()
    assert opt("beside.onnx", "--passes", "fc-to-1x1", "-o", "elsewhere/small.onnx")[0] == 0
    assert [p.name for p in Path("elsewhere").iterdir()] == ["small.onnx"]
    x = np.load("x.npz")["x"]
    wanted = reference("model.onnx", {"x": x})["y"]
    assert np.allclose(reference("elsewhere/small.onnx", {"x": x})["y"], wanted, atol=1e-5)


def test_large_weights_stand_beside(folder, opt, monkeypatch):
    monkeypatch.setattr(optimize, "INLINE_BYTES", 100)
    assert opt("model.onnx", "--passes", "fc-to-1x1", "-o", "small.onnx")[0] == 0
    assert sorted(p.name for p in folder.glob("small*")) == ["small.onnx", "small.onnx.data"]
    x = np.load("x.npz")["x"]
    wanted = reference("model.onnx", {"x": x})["y"]
    assert np.allclose(reference("small.onnx", {"x": x})["y"], wanted, atol=1e-5)


def test_dynamic_dimensions(folder, opt):
    onnx.save(text_model(MODEL.replace("N,5,6,6", "N,5,H,6")), "open.onnx")
    assert opt("open.onnx", "--passes", "fc-to-1x1", "-o", "small.onnx")[0] == 1
    arguments = ("--input-shape", "x=1,5,6,6", "-o", "small.onnx")
    assert opt("open.onnx", "--passes", "fc-to-1x1", *arguments)[0] == 0


OUT = ("-o", "small.onnx")


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "xbarc opt model.onnx -o smaller.onnx", []),
        (2, "written to a file", ["-o", "small.mlir"]),
        (2, "'im2col' works on tile IR, not on ONNX", ["--passes", "im2col", *OUT]),
        (2, "did you mean 'Conv'", ["--passes", "depthwise{layers=conv}", *OUT]),
        (2, "rank 5 is out of range", ["--passes", "depthwise{rank=5}", *OUT]),
        (2, "did you mean 'depthwise'", ["--passes", "dephtwise", *OUT]),
        (2, "--set needs --target", ["--set", "array.rows=64", *OUT]),
        (1, "none.npz", ["--calibration", "none.npz", *OUT]),
    ],
)
def test_it_refuses(folder, opt, code, message, arguments):
    before = sorted(folder.iterdir())
    found, out, err = opt("model.onnx", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(folder.iterdir()) == before


def test_tile_ir_refuses_what_is_for_models(folder, opt):
    Path("a.mlir").write_text("builtin.module {}")
    code, _, err = opt("a.mlir", "--calibration", "x.npz")
    assert code == 2
    assert "--calibration is for models" in err
    code, _, err = opt("a.mlir", "--passes", "fc-to-1x1")
    assert code == 2
    assert "'fc-to-1x1' works on ONNX graphs" in err


def test_an_invalid_result_leaves_nothing(folder, opt, monkeypatch):
    def spoil(self, model, target):
        next(iter(model.graph)).op_type = "Conf"
        return True

    monkeypatch.setattr(Depthwise, "apply", spoil)
    code, _, err = opt("model.onnx", "--passes", "depthwise", "-o", "small.onnx")
    assert code == 1
    assert "left no valid ONNX model" in err
    assert not list(folder.glob("*small*"))


def test_a_pass_that_wants_the_hardware_says_so(folder, opt):
    Path("p.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from xbarc.pipeline import GraphPass\n"
        "@dataclass(frozen=True)\n"
        "class Wants(GraphPass):\n"
        '    """Read the rows."""\n'
        "    name: ClassVar[str] = 'wants'\n"
        "    preserves: ClassVar[bool] = True\n"
        "    needs_target: ClassVar[bool] = True\n"
        "    def apply(self, model, target):\n"
        "        return target.array.rows < 0\n"
    )
    arguments = ("none.onnx", "--plugin", "p.py", "--passes", "wants", "-o", "small.onnx")
    code, _, err = opt(*arguments)  # before the model is read
    assert code == 2
    assert err == "xbarc: pass 'wants': this pass asks for the hardware: give --target\n"
    assert opt("model.onnx", *arguments[1:], "--target", "mca128")[0] == 0


@pytest.mark.parametrize(
    ("passes", "code"),
    [
        ("prune", 0),
        ("prune{granularity=row}", 0),
        ("prune{granularity=crossbar}", 2),
        ("kernel-2d1d{ratio=1}", 0),
        ("kernel-2d1d{crossbars=99}", 2),
    ],
)
def test_the_options_decide_whether_a_pass_wants_the_hardware(folder, opt, passes, code):
    arguments = ("model.onnx", "--passes", passes, "--calibration", "x.npz", "-o", "small.onnx")
    found, _, err = opt(*arguments)
    assert found == code, err
    assert ("give --target" in err) == (code == 2)
    assert opt(*arguments, "--target", "mca128", "--set", "array.rows=9")[0] == 0


def test_a_pass_that_never_looks_at_the_hardware_needs_none(folder, opt):
    """Also where it is written for a `Target`."""
    Path("p.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "import onnx_ir as ir\n"
        "from xbarc.hw.target import Target\n"
        "from xbarc.pipeline import GraphPass\n"
        "@dataclass(frozen=True)\n"
        "class Nothing(GraphPass):\n"
        '    """Do nothing."""\n'
        "    name: ClassVar[str] = 'nothing'\n"
        "    preserves: ClassVar[bool] = True\n"
        "    def apply(self, model: ir.Model, target: Target) -> bool:\n"
        "        return False\n"
    )
    assert opt("model.onnx", "--plugin", "p.py", "--passes", "nothing", *OUT)[0] == 0
