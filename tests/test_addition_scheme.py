"""A mapping scheme is one file, and `map` considers it by itself."""

import json

import numpy as np
import onnx
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app

TALL = """
from dataclasses import dataclass, replace
from typing import ClassVar

from xbarc.ir.dialect import GridAttr, MvmOp, weights_of
from xbarc.passes.im2col import Im2col
from xbarc.pipeline import MappingScheme


@dataclass(frozen=True)
class Tall(MappingScheme):
    '''Rows cut in halves: never better than im2col, but of equal crossbars the first in order.'''

    name = "tall"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv",)
    order: ClassVar[int] = -1

    layers: tuple[str, ...] = ()

    def apply(self, ctx, op):
        mapped = {m for m in op.walk() if isinstance(m, MvmOp)}
        Im2col(self.layers).apply(ctx, op)
        for mvm in op.walk():
            if isinstance(mvm, MvmOp) and mvm not in mapped:
                mvm.by = type(mvm.by)("tall")
"""

MODEL = """g (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w, float[144,5] v, int64[2] s = {-1, 144}>
{ c = Conv(x, w) r = Relu(c) f = Reshape(r, s) y = MatMul(f, v) }"""


def test_map_considers_a_plugins_scheme(tmp_path):
    (tmp_path / "tall.py").write_text(TALL)
    x = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    plain = xbarc.compile(text_model(MODEL), "mca128", passes="map", calibration=x)
    program = xbarc.compile(
        text_model(MODEL), "mca128", passes="map", calibration=x, plugins=[tmp_path / "tall.py"]
    )
    conv, dense = program.report["mapping_choices"].values()
    assert conv["chosen"] == "tall"
    # It isn't for fully connected layers, so it isn't tried there.
    assert "tall" not in [c["scheme"] for c in dense["candidates"]]
    assert [row["mapping"] for row in program.report["layers"]] == ["tall", "im2col"]
    np.testing.assert_array_equal(program.run(x)["y"], plain.run(x)["y"])


def test_through_the_command_line(tmp_path):
    (tmp_path / "tall.py").write_text(TALL)
    onnx.save(text_model(MODEL), tmp_path / "m.onnx")
    plugin = ["--plugin", str(tmp_path / "tall.py")]
    out = tmp_path / "m.xbar"
    arguments = ["--target", "mca128", "--passes", "map", "-o", str(out), "--json"]
    done = CliRunner().invoke(app, ["compile", str(tmp_path / "m.onnx"), *plugin, *arguments])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"][0]["mapping"] == "tall"
    assert "tall" in CliRunner().invoke(app, ["passes", *plugin]).stdout
    assert "tall" not in CliRunner().invoke(app, ["passes"]).stdout
