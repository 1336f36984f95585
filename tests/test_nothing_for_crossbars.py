"""Models without a product by static weights: that is said, and they run all the same."""

import json
import re

import numpy as np
import onnx
import pytest
from models import reference, text_model

import xbarc as xbarc_package
from xbarc.report import report_page
from xbarc.report.figures import flatten

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
    assert "it doesn't run on this hardware" in out and "it doesn't run on this hardware" in err
    assert "one every" not in out and " 0 J" not in out
    shape = (3, 4, 4) if text == MOVING else (3, 4)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = xbarc_package.load(tmp_path / "net.xbar").run(x)["y"]
    np.testing.assert_allclose(found, reference(model, {"x": x})["y"], rtol=1e-6)


HAS = "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`none.xbar` with nothing on crossbars, and one with a layer."""
    where = tmp_path_factory.mktemp("programs")
    xbarc_package.compile(onnx.parser.parse_model(RELU)).save(where / "none.xbar")
    xbarc_package.compile(text_model(HAS)).save(where / "some.xbar")
    return where


@pytest.mark.parametrize("passes", ["", "schedule", "schedule{by=layers}"])
@pytest.mark.parametrize("text", SAID)
def test_it_costs_nothing_and_takes_no_time(text, passes):
    report = xbarc_package.compile(onnx.parser.parse_model(text), passes=passes).report
    totals = report["totals"]
    assert totals["bottleneck"] is None
    figures = {k: v for k, v in flatten(totals) if isinstance(v, int | float)}
    some = {k: v for k, v in figures.items() if v and not k.startswith("peak.")}
    assert some == {"read_power_ratio": 1}
    assert not any(stage["busy_ns"] for stage in report["pipeline"])
    (caveat,) = report["caveats"]
    assert "doesn't run on this hardware" in caveat["text"]
    assert {"energy_uj", "throughput_ips", "area_mm2", "interval_us"} <= {*caveat["of"]}


def test_cost_says_it_in_words(folder, xbarc):
    code, out, _ = xbarc("cost", folder / "none.xbar")
    assert code == 0 and "it doesn't run on this hardware" in out
    assert not re.search(r"\d", out.replace("[1]", ""))
    _, out, _ = xbarc("cost", folder / "none.xbar", "--json")
    assert json.loads(out)["totals"]["throughput_ips"] == 0


@pytest.mark.parametrize("order", [("none", "some"), ("some", "none"), ("none", "none")])
def test_compare_has_no_ratio(order, folder, xbarc, tmp_path):
    programs = [folder / f"{name}.xbar" for name in order]
    code, out, _ = xbarc("compare", *programs, "-o", tmp_path / "c.html")
    assert code == 0 and "×" not in out.replace("×: against", "")
    assert "it doesn't run on this hardware" in out
    _, out, _ = xbarc("compare", *programs, "--json")
    rates = json.loads(out)["totals"]["throughput_ips"]
    assert [rate is None for rate in rates] == [name == "none" for name in order]


def test_the_report_shows_no_figure(folder):
    path = folder / "none.xbar"
    page = str(report_page(xbarc_package.load(path), path, []))
    assert "it doesn&#x27;t run on this hardware" in page or "it doesn't run on this" in page
    assert "inputs/s" not in page and "No stream is faster" not in page
    assert "In a stream there is an input every" not in page
