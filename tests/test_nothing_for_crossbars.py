"""Models without a product by static weights: that is said, and they run all the same."""

import numpy as np
import onnx
import pytest
from models import reference

import xbarc as xbarc_package

TREE = """<ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
g (float[N,4] x) => (float[N,1] y) {
    y = ai.onnx.ml.TreeEnsembleRegressor<
        n_targets=1, nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0],
        nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_values=[0.5,0.0,0.0],
        nodes_truenodeids=[1,0,0], nodes_falsenodeids=[2,0,0], target_treeids=[0,0],
        target_nodeids=[1,2], target_ids=[0,0], target_weights=[1.0,2.0]>(x) }"""

RELU = """<ir_version: 8, opset_import: ["": 18]>
g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"""

MOVING = """<ir_version: 8, opset_import: ["": 18]>
g (float[N,4,4] x) => (float[N,4,4] y) { y = MatMul(x, x) }"""

SAID = {
    TREE: "none of its 1 operators multiplies by static weights",
    RELU: "none of its 1 operators multiplies by static weights",
    MOVING: "none of the products of 1 operators can",
}


@pytest.mark.parametrize("text", SAID)
def test_that_nothing_is_for_crossbars_is_said(text, tmp_path, xbarc):
    model = onnx.parser.parse_model(text)
    onnx.save(model, tmp_path / "net.onnx")
    code, out, err = xbarc(
        "compile", tmp_path / "net.onnx", "--target", "mca128", "-o", tmp_path / "net.xbar"
    )
    assert code == 0
    assert f"on crossbars  nothing: {SAID[text]}" in out
    assert "warning: nothing of this model is for crossbars" in err
    shape = (3, 4, 4) if text == MOVING else (3, 4)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = xbarc_package.load(tmp_path / "net.xbar").run(x)["y"]
    np.testing.assert_allclose(found, reference(model, {"x": x})["y"], rtol=1e-6)
