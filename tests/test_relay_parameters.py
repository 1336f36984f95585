"""Which parameters of a Relay program are inputs, and which are weights."""

import numpy as np
import onnx_ir as ir
from relay_programs import problem_of, program

from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs, SideWeights

X = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)


def test_inputs_can_be_named():
    text = program("add(nn.relu(%x), %mask)", {"x": X, "mask": X})
    loaded = load(text, Inputs(names=["mask", "x"]))
    assert [v.name for v in loaded.model.graph.inputs] == ["x", "mask"]
    random = load(text, Inputs(names=["%mask"]), SideWeights(seed=0))
    assert [v.name for v in random.model.graph.inputs] == ["mask"]
    assert random.random == ("x",)
    assert "%x" in problem_of(load, text, Inputs(names=["mask"]))
    problem = problem_of(load, text, Inputs(names=["x", "mash"]))
    assert "it has no parameter 'mash'; did you mean 'mask'?" in problem


def test_inputs_on_the_command_line(tmp_path, xbarc):
    (tmp_path / "net.relay").write_text(program("add(nn.relu(%x), %mask)", {"x": X, "mask": X}))
    for names, left in (("mask", ["mask"]), ("x, mask", ["x", "mask"])):
        given = ["--random-weights", "0", "--inputs", names, "-o", tmp_path / "net.onnx"]
        assert xbarc("opt", tmp_path / "net.relay", *given)[0] == 0
        assert [v.name for v in ir.load(tmp_path / "net.onnx").graph.inputs] == left
    code, _, said = xbarc("opt", tmp_path / "net.onnx", "--inputs", "x", "-o", tmp_path / "o.onnx")
    assert code == 2 and "names of inputs are for TVM Relay, not for ONNX" in said
