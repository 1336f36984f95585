"""An operation of the tile IR that the simulator runs is one file."""

import numpy as np
import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli.app import app
from xbarc.driver import extensions
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import XbarcError

CLAMP = """
import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Dialect
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, result_def

from xbarc.simulator.step import StepKind


@irdl_op_definition
class ClampOp(IRDLOperation):
    '''Sums below zero are zero.'''

    name = "mine.clamp"

    input = operand_def(TensorType)
    result = result_def(TensorType)


MINE = Dialect("mine", [ClampOp])
STEP = StepKind(ClampOp.name, lambda op, at: lambda batch, sums: [np.maximum(sums, 0)])
"""


def test_a_plugins_step(tmp_path, monkeypatch):
    path = tmp_path / "clamp.py"
    path.write_text(CLAMP)
    model = text_model("g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }")
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    program = xbarc.compile(
        model, "mca128", calibration=x, bias_correction=False, overrides=["inputs.signed=two-pass"]
    )
    before = program.run(x)["y"]
    assert (before < 0).any()
    with extensions.using([path]):
        from xbarc.support.plugins import import_file

        clamp = import_file(path).ClampOp
        (real,) = (op for op in program.module.walk() if op.name == "xbar.dequantize")
        added = clamp.create(operands=[real.input], result_types=[real.input.type])
        real.parent_block().insert_op_before(added, real)
        real.operands[0] = added.result
        found = Simulator(program).run({"x": x})["y"]
        program.save(tmp_path / "clamped.xbar")
        again = xbarc.load(tmp_path / "clamped.xbar")
        np.testing.assert_array_equal(again.run(x)["y"], np.maximum(before, 0))
    np.testing.assert_array_equal(found, np.maximum(before, 0))
    np.savez(tmp_path / "x.npz", x=x)
    command = ["run", "clamped.xbar", "--input", "x.npz", "--output", "y.npz", "--plugin", path]
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    np.testing.assert_array_equal(np.load("y.npz")["y"], np.maximum(before, 0))
    with pytest.raises(XbarcError, match="the simulator doesn't know mine.clamp"):
        Simulator(program)
    with pytest.raises(XbarcError, match="mine.clamp"):
        xbarc.load(tmp_path / "clamped.xbar")
