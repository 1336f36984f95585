"""`xbarc trace`: each layer against float, alone and in the network, and what would help."""

import dataclasses
import json

import numpy as np
import pytest
from models import text_model
from pages import CHROMIUM, Page, laid_out

from xbarc.api import compile, load
from xbarc.artifact.runs import recorded
from xbarc.driver.evaluate import Samples
from xbarc.driver.trace import Error, LayerTrace, advice, trace
from xbarc.hw.target import load_target
from xbarc.report import report_page
from xbarc.report.html import join
from xbarc.report.page.limits import accuracy
from xbarc.support.errors import XbarcError

# A layer's codes then don't depend on the layers before it.
PLAIN = {"rounding": "nearest", "bias_correction": False, "equalize": False}
X = np.random.default_rng(3).standard_normal((24, 20)).astype(np.float32)
TWO = text_model(
    """g (float[N,20] x) => (float[N,6] y) <float[20,12] v, float[12,6] w> {
  a = MatMul(x, v) r = Relu(a) y = MatMul(r, w) }"""
)
TWO.graph.node[0].name, TWO.graph.node[2].name = "first", "second"
V, W = (np.frombuffer(t.raw_data, np.float32).reshape(t.dims) for t in TWO.graph.initializer)


def of(program, x=X, **options):
    return trace(program, Samples({"x": x}, None, len(x), len(x)), **options)


def snr(wanted, got):
    wanted = wanted.astype(np.float64)
    return 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())


@pytest.fixture(scope="module")
def program():
    return compile(TWO, "mca128", calibration=X, **PLAIN)


def test_alone_a_layer_reads_float_and_in_the_network_what_was_before(program):
    first, second = of(program).layers
    assert (first.name, second.name) == ("first", "second")
    out = program.run(X)["y"]
    wanted = np.maximum(X @ V, 0) @ W
    assert second.snr_db == pytest.approx(snr(wanted, out), abs=1e-3)
    assert second.max_error == pytest.approx(np.abs(wanted - out).max(), rel=1e-3)
    # The first layer inherits nothing.
    assert first.own_snr_db == first.snr_db
    # The second alone: a program of it, calibrated on what the first gives in float.
    hidden = np.maximum(X @ V, 0)
    only = text_model(
        "g (float[N,12] r) => (float[N,6] y) <float[12,6] w> { y = MatMul(r, w) }", w=W
    )
    alone = compile(only, "mca128", calibration=hidden, **PLAIN).run(hidden)["y"]
    assert second.own_snr_db == pytest.approx(snr(wanted, alone), abs=1e-3)
    assert second.own_snr_db > second.snr_db


def test_the_figures_depend_on_no_thread(program):
    x = np.tile(X, (30, 1))
    once = of(program, x, threads=1).document()
    assert once == of(program, x, threads=3).document()


def test_clipped_inputs_are_shares():
    target = load_target("mca128", ["inputs.signed=two-pass"])
    program = compile(TWO, target, calibration=X)
    calibrated = np.abs(X).max()
    step = calibrated / 127
    scaled = X * np.float32(2)
    first = of(program, scaled).layers[0]
    assert first.clipped_inputs == (np.abs(scaled) > calibrated + step / 2).mean()
    assert "inputs are clipped" in first.advice
    small = of(program, X / np.float32(100)).layers[0]
    assert small.used_inputs < 0.02
    assert "use few codes" in small.advice


def test_the_layer_whose_converters_round_is_told():
    rough = compile(
        TWO, load_target("mca128", ["adc.bits=3", "adc.mode=full-scale"]), calibration=X
    )
    found = of(rough)
    assert all("converters round: adc.bits above 3, or adc.mode" in a.advice for a in found.layers)
    assert of(rough, ideal=True).layers[0].snr_db > found.layers[0].snr_db + 10


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"own_snr_db": 45.0, "clipped_inputs": 0.5}, ""),
        ({"clipped_conversions": 0.5, "clipped_inputs": 0.0}, "adc.bits above 8, or fewer rows"),
        ({"clipped_inputs": 0.5}, "inputs are clipped"),
        ({"used_inputs": 0.1}, "use few codes"),
        ({"lossless": False}, "converters round"),
        ({"clipped_inputs": None, "used_inputs": None}, 'more bits: layers."'),
        ({"own_snr_db": None, "snr_db": 50.0}, ""),
    ],
)
def test_advice(changed, said):
    plain = {
        **{"name": "a", "snr_db": 10.0, "own_snr_db": 12.0, "max_error": 1.0},
        **{"clipped_inputs": 0.0, "used_inputs": 0.9, "clipped_conversions": 0.0},
        **{"lossless": True, "advice": ""},
    }
    told = advice(LayerTrace(**{**plain, **changed}), load_target("mca128", []), err=False)
    assert said in told
    assert bool(told) == bool(said)


def test_advice_names_the_layers_own_key_and_what_cant_be_told_apart():
    rounding = LayerTrace("a", 10.0, 12.0, 1.0, 0.0, 0.9, 0.0, False, "")
    target = load_target("mca128", ['layers."a".adc.bits=4'])
    assert 'layers."a".adc.bits above 4' in advice(rounding, target, err=False)
    assert advice(rounding, target, err=True).startswith("devices err: --ideal")
    well = dataclasses.replace(rounding, own_snr_db=50.0)
    assert advice(well, target, err=True) == ""


def test_an_error_adds_up():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6, 3)).astype(np.float32)
    parts = Error.sum([Error.of(a[:2], b[:2]), Error.of(a[2:], b[2:])])
    whole = Error.of(a, b)
    assert (parts.power, parts.error) == pytest.approx((whole.power, whole.error))
    assert parts.largest == whole.largest
    assert Error.of(a, a).snr_db == np.inf


@pytest.mark.parametrize("layer", [None, "first"])
def test_a_program_without_layers_on_crossbars_is_one_line(layer, tmp_path, xbarc):
    relu = compile(text_model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), "mca128")
    x = np.ones((2, 4), np.float32)
    with pytest.raises(XbarcError, match="no layer on crossbars: there is nothing to trace"):
        relu.trace(x, layer=layer)
    relu.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=x)
    code, out, err = xbarc("trace", tmp_path / "m.xbar", "--input", tmp_path / "x.npz")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no layer on crossbars" in err


def test_the_overview_blames_a_layer_by_a_trace_as_compiled_or_names_the_devices(
    program, tmp_path, xbarc
):
    program.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=X)
    run = ("trace", tmp_path / "m.xbar", "--input", tmp_path / "x.npz")

    def blamed():
        return Page(join(*accuracy(recorded(tmp_path / "m.xbar")[0]))).text

    def worst(**options):
        found = of(program, **options).worst
        return f"The layer that misses most by itself is {found.name} ({found.own_snr_db:.1f}\xa0dB"

    noise = "programming{sigma=0.4}"
    xbarc(*run, "--noise", noise)
    assert blamed() == f"{worst(noise=noise)}, with {noise})."
    xbarc(*run, "--ideal")
    assert blamed() == f"{worst(ideal=True)}, with ideal devices and converters)."
    xbarc(*run)
    xbarc(*run, "--noise", noise)
    assert blamed() == f"{worst()})."


def test_the_command_and_the_report(program, tmp_path, xbarc):
    program.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=X)
    code, out, _ = xbarc("trace", tmp_path / "m.xbar", "--input", tmp_path / "x.npz", "--json")
    told = json.loads(out)
    assert code == 0
    assert told == of(program).document()
    contract = {"name", "snr_db", "max_error", "clipped_inputs", "clipped_conversions"}
    assert all(contract <= set(layer) for layer in told["layers"])
    runs, faults = recorded(tmp_path / "m.xbar")
    assert not faults
    page = report_page(load(tmp_path / "m.xbar"), tmp_path / "m.xbar", runs)
    assert "xbarc trace m.xbar --input x.npz" in page
    assert 'id="trace"' not in report_page(load(tmp_path / "m.xbar"), tmp_path / "m.xbar", [])
    if CHROMIUM is not None:
        seen = laid_out(page, 400, "light")
        assert seen["scroll"] <= 400
        assert seen["wide"] == []
    shown = {a.get("data-key"): a.get("value") for t, a in Page(page).elements if t == "data"}
    for layer in told["layers"]:
        assert float(shown[f"trace.{layer['name']}.own_snr_db"]) == layer["own_snr_db"]
    code, out, _ = xbarc("trace", tmp_path / "m.xbar", "--input", tmp_path / "x.npz")
    assert code == 0
    assert out.splitlines()[1].split()[:2] == ["first", f"{told['layers'][0]['snr_db']:.1f}"]


def test_histograms_of_a_layer(program, tmp_path, xbarc):
    program.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=X)
    command = ["trace", tmp_path / "m.xbar", "--input", tmp_path / "x.npz", "--layer", "second"]
    code, out, _ = xbarc(*command, "--json")
    told = json.loads(out)
    assert code == 0
    assert [layer["name"] for layer in told["layers"]] == ["second"]
    q = np.asarray(program.weights["second"])
    found = told["histograms"]["weights"]
    edges = found["low"] + found["step"] * np.arange(len(found["counts"]) + 1)
    assert found["counts"] == np.histogram(q, edges - 0.5)[0].tolist()
    assert sum(told["histograms"]["codes"]["counts"]) == 24 * 12
    assert max(found["counts"]) > 0
    code, out, _ = xbarc(*command)
    assert "column sums" in out
    code, _, err = xbarc(*command[:-1], "third")
    assert code == 1
    assert "no layer 'third'" in err


def test_a_program_without_a_float_network():
    program = compile(TWO, "mca128", calibration=X)
    program.network = None
    with pytest.raises(XbarcError, match="no float network"):
        of(program)
