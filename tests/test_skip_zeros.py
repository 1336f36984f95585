"""Rows at level 0 that aren't driven: what calibration inputs leave of the totals."""

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc.cost.explain import explain
from xbarc.simulator.activity import ActivityCounter
from xbarc.simulator.interpreter import Simulator

NET = """g (float[N,40] x) => (float[N,6] y) <float[40,30] a, float[30,6] b>
{ p = MatMul(x, a) q = Relu(p) y = MatMul(q, b) }"""


def compiled(x, *overrides):
    return xbarc.compile(text_model(NET), "mca64", overrides=overrides, calibration=x)


@pytest.fixture
def x():
    x = np.random.default_rng(0).random((6, 40), dtype=np.float32)
    x[:, ::2] = 0  # every other row is never driven
    return x


def test_pulses_that_are_not_there(x):
    plain, skips = compiled(x), compiled(x, "inputs.skip_zeros=true")
    counter = ActivityCounter(plain)
    Simulator(plain, observe=counter.observe).run({"x": x})
    seen = counter.statistics()
    for was, now in zip(plain.report["layers"], skips.report["layers"], strict=True):
        counts = seen[was["name"]]
        share = counts["driven_row_pulses"] / counts["row_pulses"]
        assert now["driven_rows"] == pytest.approx(share) and share < 0.6
        assert now["row_pulses"] == round(was["row_pulses"] * share)
        for part in ("dac", "crossbar", "input_register"):
            wanted = was["energy_pj"][part] * now["row_pulses"] / was["row_pulses"]
            assert now["energy_pj"][part] == pytest.approx(wanted, rel=1e-2)
        assert now["energy_pj"]["adc"] == was["energy_pj"]["adc"]
        assert "driven_rows" not in was
    assert (
        skips.report["totals"]["energy_uj"]["total"] < plain.report["totals"]["energy_uj"]["total"]
    )
    assert any("skip_zeros" in c["text"] for c in skips.report["caveats"])
    assert np.array_equal(plain.run(x)["y"], skips.run(x)["y"])


@pytest.mark.parametrize("shape", [(), (12, 3)])
def test_an_input_that_all_samples_share(x, shape):
    """A number, or a fixed matrix: it is whole where rows are counted."""
    side = f"float[{','.join(map(str, shape))}] s" if shape else "float s"
    text = f"g (float[N,40] x, {side}) => (float[N,6] y) <float[40,6] w> {{"
    model = text_model(text + " p = MatMul(x, w) t = ReduceSum<keepdims=0>(s) y = Add(p, t) }")
    feeds = {"x": np.tile(x, (4, 1)), "s": np.ones(shape, np.float32)}
    keys = ["inputs.skip_zeros=true"]
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=keys)
    assert 0.1 < program.report["layers"][0]["driven_rows"] < 0.6


def test_it_lasts(x, tmp_path):
    """Explained, saved, and given new weights."""
    skips = compiled(x, "inputs.skip_zeros=true")
    value = skips.report["totals"]["energy_uj"]["dac"]
    figure = explain(skips, "energy_uj.dac")
    assert figure.value == value == pytest.approx(sum(p.value for p in figure.parts) * 1e-6)
    skips.save(tmp_path / "m.xbar")
    again = xbarc.load(tmp_path / "m.xbar").update_weights(text_model(NET, seed=1))
    rows = [program.report["layers"] for program in (skips, again)]
    assert [r["driven_rows"] for r in rows[0]] == [r["driven_rows"] for r in rows[1]]
