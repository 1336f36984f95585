"""`examples/plugin/` as a user would have it: installed by pip, or one file by `--plugin`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from xbarc.ir import parse_module, print_module
from xbarc.pipeline import (
    Instrumentation,
    XbarContext,
    load_registry,
    parse_passes,
    run_graph_passes,
    run_module_passes,
)
from xbarc.support.errors import UsageError

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"

CROSSBAR = "128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns"
MODULE = f"""
builtin.module attributes {{xbar.crossbar = #xbar.crossbar<{CROSSBAR}>}} {{
  xbar.weights @fc : 144x20xi8
  func.func @main(%0: tensor<?x144xui8>) -> tensor<?x20xsi32> {{
    %1 = xbar.dense %0, @fc axis 1 to 1 : tensor<?x144xui8> -> tensor<?x20xsi32>
    func.return %1 : tensor<?x20xsi32>
  }}
}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the example package is installed to, from a copy (a build writes files)."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PLUGIN, folder / "source")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--target", folder / "site"),
            source,
        ],
        check=True,
    )
    return folder / "site"


def test_both_passes_are_in_the_registry(installed):
    code = """
import json, sys
from xbarc.pipeline import load_registry
registry = load_registry()
early = [m for m in sys.modules if m.startswith("xbarc_example")]
infos = [registry.describe(n) for n in ("round-weights", "even-rows")]
print(json.dumps([early, [[i.name, i.kind, i.owner, i.preserves] for i in infos]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    owner = "package xbarc-example-plugin (xbarc_example.{})"
    assert json.loads(done.stdout) == [
        [],  # found without being imported
        [
            ["round-weights", "graph", owner.format("round_weights:RoundWeights"), False],
            ["even-rows", "mapping", owner.format("even_rows:EvenRows"), None],
        ],
    ]


def test_round_weights():
    registry = load_registry([PLUGIN / "xbarc_example" / "round_weights.py"])
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18]>'
        "g (float[N,3] x) => (float[N,1] y) <float[3,1] w = {0.7, -0.26, 0.1}> { y = MatMul(x, w) }"
    )
    seen = Instrumentation(feeds={"x": np.eye(3, dtype=np.float32)})
    passes = parse_passes("round-weights{bits=3}", registry)
    deviations = run_graph_passes(passes.graph, model, None, seen)
    weights = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_allclose(weights.ravel(), [0.7, -0.7 / 3, 0.0], atol=1e-6)
    moved = np.hypot(0.26 - 0.7 / 3, 0.1) / np.linalg.norm([0.7, 0.26, 0.1])
    assert deviations == {"round-weights": pytest.approx(moved, rel=1e-5)}


def test_round_weights_refuses_one_bit():
    registry = load_registry([PLUGIN / "xbarc_example" / "round_weights.py"])
    with pytest.raises(UsageError, match=r"pass 'round-weights': bits = 1"):
        parse_passes("round-weights{bits=1}", registry)


def test_even_rows():
    registry = load_registry([PLUGIN / "xbarc_example" / "even_rows.py"])
    module = parse_module(MODULE)
    passes = parse_passes("im2col,even-rows", registry)
    run_module_passes(passes.mapping, XbarContext(), module)
    text = print_module(module)
    assert "grid [72, 16]" in text
    assert print_module(parse_module(text)) == text
