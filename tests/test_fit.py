"""Weights and biases fitted to calibration data: the outputs move less, and the law stays."""

import typing
from itertools import product

import numpy as np
import pytest
from models import reference, snr_db, text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.driver.quantization import Ranges, weak_layers
from xbarc.graph.further import FurtherSample
from xbarc.hw.target import load_target
from xbarc.lowering.fit import layers
from xbarc.lowering.fit.rounding import round_to_output
from xbarc.support.errors import UsageError

OFF = {"rounding": "nearest", "bias_correction": False, "equalize": False}
LOSSLESS = ["adc.mode=lossless"]


def alike(*shape, seed=0):
    """Inputs whose neighbours go together, as those of images and hidden layers do."""
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(1, len(shape)):
        x = x + 0.8 * np.roll(x, 1, axis)
    return (x + 1).astype(np.float32)


# --- Rounding -------------------------------------------------------------------------------------


def output_error(w, scale, q, moments):
    miss = w - q * scale
    return float(np.einsum("gkn,gkj,gjn->", miss, moments, miss))


def case(groups, rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((groups, rows, columns))
    scale = np.abs(w).max(axis=1, keepdims=True) / 7
    x = rng.standard_normal((groups, rows, 3)) @ rng.standard_normal((groups, 3, 500))
    x += 0.1 * rng.standard_normal(x.shape)
    return w, scale, x @ x.transpose(0, 2, 1)


@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 80, 5), (6, 9, 1), (3, 20, 4)])
def test_outputs_move_less_than_with_the_nearest_codes(groups, rows, columns):
    w, scale, moments = case(groups, rows, columns)
    codes = round_to_output(w, scale, moments, 7)
    nearest = np.rint(w / scale)
    np.testing.assert_array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() <= 7
    assert output_error(w, scale, codes, moments) < 0.6 * output_error(w, scale, nearest, moments)


def test_of_few_rows_it_is_near_the_best_of_all_codes():
    w, scale, moments = case(1, 5, 1)
    low = np.floor(w / scale)
    tried = [low + np.array(up).reshape(1, 5, 1) for up in product((0, 1), repeat=5)]
    best = min(output_error(w, scale, q, moments) for q in tried)
    nearest = output_error(w, scale, np.rint(w / scale), moments)
    found = output_error(w, scale, round_to_output(w, scale, moments, 7), moments)
    assert best <= 1.01 * found
    assert found < 0.5 * (best + nearest)


def test_zeros_and_inputs_that_are_never_there():
    w, scale, moments = case(2, 12, 3)
    w[:, ::2] = 0
    moments[:, 3], moments[:, :, 3] = 0, 0
    codes = round_to_output(w, scale, moments, 7)
    assert not codes[:, ::2].any()
    np.testing.assert_array_equal(codes[:, 3], np.rint(w / scale)[:, 3])
    nothing = round_to_output(w, scale, np.zeros_like(moments), 7)
    np.testing.assert_array_equal(nothing, np.rint(w / scale))


def test_uncorrelated_inputs_leave_the_nearest_codes():
    w, scale, _ = case(1, 16, 4)
    codes = round_to_output(w, scale, np.eye(16)[None], 7)
    np.testing.assert_array_equal(codes, np.rint(w / scale))


# --- Layers ---------------------------------------------------------------------------------------

OPERATORS = {
    "conv": ("float[8,12,3,3] w", "Conv<pads=[1,1,1,1]>(x, w)", (12, 6, 6)),
    "grouped": ("float[8,3,3,3] w", "Conv<group=4>(x, w)", (12, 6, 6)),
    "depthwise": ("float[12,1,5,5] w", "Conv<group=12,strides=[2,2]>(x, w)", (12, 9, 9)),
    "transposed": ("float[12,5,3,3] w", "ConvTranspose<strides=[2,2]>(x, w)", (12, 5, 5)),
    "matmul": ("float[40,6] w", "MatMul(x, w)", (5, 40)),
    "left": ("float[6,40] w", "MatMul(w, x)", (40, 5)),
    "gemm": ("float[6,40] w, float[6] b", "Gemm<transB=1,alpha=0.5>(x, w, b)", (40,)),
}


def network(name):
    weights, call, shape = OPERATORS[name]
    dims = ",".join(map(str, shape))
    result = ",".join("abc"[: len(shape)])
    text = f"g (float[N,{dims}] x) => (float[N,{result}] y) <{weights}> {{ y = {call} }}"
    return text_model(text), alike(64, *shape)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_gains(name):
    model, x = network(name)
    wide = {"calibration": x, "overrides": [*LOSSLESS, "weights.bits=4", "inputs.bits=12"]}
    want = reference(model, {"x": x})["y"]
    plain = xbarc.compile(model, **wide, **OFF).run(x)["y"]
    fitted = xbarc.compile(model, **wide).run(x)["y"]
    assert snr_db(want, fitted) > snr_db(want, plain) + 2
    test = {"x": alike(16, *x.shape[1:], seed=1)}
    want, programs = (
        reference(model, test)["y"],
        (xbarc.compile(model, **wide, **o) for o in (OFF, {})),
    )
    plain, fitted = (program.run(test["x"])["y"] for program in programs)
    assert snr_db(want, fitted) > snr_db(want, plain) + 0.5


TWO = """g (float[N,3,8,8] x) => (float[N,6,8,8] y)
<float[8,3,3,3] v, float[8] b, float[6,8,1,1] w> {
  a = Conv<pads=[1,1,1,1]>(x, v, b)
  r = Relu(a)
  y = Conv(r, w)
}"""


def test_the_report_says_how_each_layer_stands():
    """What fitting computes in float is what the simulator gives."""
    model, x = text_model(TWO), alike(20, 3, 8, 8)
    program = xbarc.compile(model, calibration=x, overrides=LOSSLESS)
    told = program.report["quantization"]
    assert told["rounding"] == "output" and told["bias_correction"] and told["samples"] == 20
    assert told["rounded"] == list(told["layers"]) == [r["name"] for r in program.report["layers"]]
    found = told["layers"]["Conv_1"]
    measured = snr_db(reference(model, {"x": x})["y"], program.run(x)["y"])
    assert found["snr_db"] == pytest.approx(measured, abs=0.01)
    assert found["inherited"] + found["inputs"] + found["weights"] == pytest.approx(1)
    first = told["layers"]["Conv"]
    assert first["inherited"] < 0.2
    assert found["inherited"] > 0.2


@pytest.mark.parametrize("asked", [{"rounding": "output"}, {"bias_correction": True}])
def test_each_way_of_fitting_runs_alone(asked):
    plain = {"rounding": "nearest", "bias_correction": False, "equalize": False}
    model, x = text_model(TWO), alike(20, 3, 8, 8)
    given = {"calibration": x, "overrides": [*LOSSLESS, "inputs.bits=3", "weights.bits=3"]}
    nearest, found = (
        xbarc.compile(model, **given, **{**plain, **more}).run(x)["y"] for more in ({}, asked)
    )
    assert not np.array_equal(nearest, found)


@pytest.mark.filterwarnings("error")
def test_a_product_that_counts_nothing_is_not_fitted():
    text = """g (float[N,6] x) => (float[N,4] y) <float[6,4] w, float[4] b> {
       y = Gemm<alpha=0.0>(x, w, b) }"""
    model, x = text_model(text), alike(20, 6)
    program = xbarc.compile(model, "mca128", calibration=x)
    np.testing.assert_allclose(program.run(x)["y"], reference(model, {"x": x})["y"], rtol=1e-6)


def test_biases_take_the_mean_error():
    model, x = text_model(TWO), alike(20, 3, 8, 8)
    options = {"calibration": x, "overrides": [*LOSSLESS, "inputs.bits=3", "weights.bits=3"]}
    want = reference(model, {"x": x})["y"]

    def mean_error(**more):
        found = xbarc.compile(model, **options, equalize=False, **more).run(x)["y"]
        return np.abs((want - found).mean(axis=(0, 2, 3))).max()

    assert mean_error() < 1e-5
    assert mean_error(bias_correction=False) > 1e-3


def test_few_weights_are_rounded_to_nearest_where_the_work_is_limited(monkeypatch):
    model, x = text_model(TWO), alike(20, 3, 8, 8)
    monkeypatch.setattr(layers, "WORK", 1e6)
    program = xbarc.compile(model, calibration=x)
    assert program.report["quantization"]["rounded"] == ["Conv_1"]


@pytest.mark.parametrize(
    ("limit", "each"),
    # What both layers read and give; their products.
    [("VALUES", 1 + 192 + 512 + 512 + 384), ("MACS", 1 + 64 * (27 * 8 + 8 * 6))],
)
def test_fewer_samples_are_looked_at_where_memory_or_work_is_limited(monkeypatch, limit, each):
    monkeypatch.setattr(layers, limit, 9 * each)
    program = xbarc.compile(text_model(TWO), calibration=alike(20, 3, 8, 8))
    assert program.report["quantization"]["samples"] == 9


@pytest.mark.parametrize(("samples", "rounding"), [(7, "nearest"), (8, "output")])
def test_of_few_samples_nothing_is_fitted_by_itself(samples, rounding):
    told = xbarc.compile(text_model(TWO), calibration=alike(samples, 3, 8, 8)).report
    assert told["quantization"]["rounding"] == rounding
    assert told["quantization"]["bias_correction"] == (samples == 8)


def test_without_data_nothing_is_fitted():
    program = xbarc.compile(text_model(TWO))
    assert program.report["quantization"] == {
        "ranges": "min-max",
        "rounding": "nearest",
        "bias_correction": False,
    }
    assert "equalize" not in program.report["passes"]


QUANTISED = """g (float[N,6] x) => (float[N,4] y) <int8[6,4] w> {
  s = Constant<value_float=0.02>()
  z = Constant<value=int8 {0}>()
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  r = DequantizeLinear(w, s, z)
  y = MatMul(d, r)
}"""


def test_a_quantised_model_keeps_its_codes():
    model, x = text_model(QUANTISED), alike(20, 6)
    program = xbarc.compile(model, calibration=x, overrides=LOSSLESS)
    assert program.report["quantization"]["layers"] == {}
    np.testing.assert_allclose(program.run(x)["y"], reference(model, {"x": x})["y"], rtol=1e-5)
    assert not [name for name in program.weights if name.endswith(".bias")]


def test_pruned_weights_stay_pruned():
    model, x = text_model(TWO), alike(20, 3, 8, 8)
    passes = "prune{granularity=weight sparsity=0.5 refit=false}"
    program = xbarc.compile(model, passes=passes, calibration=x)
    layer = program.report["layers"][0]
    assert layer["nonzero_weights"] <= layer["weights"] // 2


# --- What the user sees ---------------------------------------------------------------------------


def compiled(tmp_path, *options, bits=3):
    model, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    model.write_bytes(text_model(TWO).SerializeToString())
    np.savez(data, x=alike(20, 3, 8, 8))
    arguments = ["compile", str(model), "--target", "mca128", "-o", str(tmp_path / "m.xbar")]
    arguments += ["--calibration", str(data), "--set", f"inputs.bits={bits}", *options]
    return CliRunner().invoke(app, arguments)


def test_a_weak_layer_is_warned_of(tmp_path):
    said = compiled(tmp_path, "--no-equalize").stderr.replace("\n", " ")
    assert "layer 'Conv' stands at " in said
    assert ".inputs.bits=5' would help" in said
    assert "stands at" not in compiled(tmp_path, bits=8).stderr


@pytest.mark.parametrize(
    ("options", "helps"),
    [
        (["--percentile", "60"], "a --percentile above 60"),
        (["--percentile", "60", "--ranges", "min-max", "--no-equalize"], "a --percentile above 60"),
    ],
)
def test_clipped_inputs_are_no_rounded_ones(tmp_path, options, helps):
    said = " ".join(compiled(tmp_path, *options, bits=8).stderr.split())
    assert "of the noise is its clipped inputs, beyond the range of its codes: " in said
    assert f"{helps}, or calibration on data like these, would help" in said
    assert "rounded inputs" not in said


def test_what_widens_ranges_goes_by_what_cut_them():
    row = {"snr_db": 8.0, "inherited": 0.2, "inputs": 0.7, "weights": 0.1, "clipped": 0.5}
    layers = {"layers": {"a": row}}

    def line(ranges, row=row):
        told = {**layers, "ranges": ranges, "layers": {"a": row}}
        return next(weak_layers({"quantization": told}, load_target("mca128", [])))

    assert "50% of the noise is its clipped inputs" in line("least-squares")
    assert "--ranges min-max, or calibration" in line("least-squares")
    assert "--ranges further-sample, or calibration" in line("min-max")
    assert "40% of the noise is its rounded inputs" in line("min-max", {**row, "clipped": 0.3})


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("signed", ["auto", "asymmetric"])
def test_clipping_and_rounding_are_told_apart(low, signed):
    """Of one layer, whose outputs without weights' errors miss what its inputs do."""
    dense = text_model("g (float[N,20] x) => (float[N,6] y) <float[20,6] w> { y = MatMul(x, w) }")
    x = np.random.default_rng(4).uniform(low, 1.0, (64, 20)).astype(np.float32)
    wide = [f"inputs.signed={signed}"] if signed == "asymmetric" else []

    def found(bits, percentile):
        options = {"overrides": [*LOSSLESS, *wide, f"inputs.bits={bits}"], "percentile": percentile}
        said = {"equalize": False, "bias_correction": False, "rounding": "output"}
        program = xbarc.compile(dense, calibration=x, **options, **said)
        return program.report["quantization"]["layers"]["MatMul"]

    cut, whole = found(8, 70), found(4, 100)
    assert cut["clipped"] == pytest.approx(cut["inputs"], rel=0.02)
    assert cut["inputs"] > 0.9
    assert whole["clipped"] < 0.02 < 0.9 < whole["inputs"]
    both = found(3, 90)
    assert 0.1 < both["clipped"] / both["inputs"] < 0.9


def test_the_worst_layers_are_named_and_the_rest_counted():
    cause = {"inputs": 0.2, "weights": 0.7, "inherited": 0.1}
    layers = {f"l{i}": {"snr_db": 8.0 + i, **cause} for i in range(7)}
    layers |= {"at the limit": {"snr_db": 15.0, **cause}, "unknown": {"snr_db": None, **cause}}
    target = load_target("mca128", ["layers.l1.weights.bits=12"])
    lines = list(weak_layers({"quantization": {"layers": layers}}, target))
    assert ".weights.bits=9' would" in lines[0] and ".weights.bits=13' would" in lines[1]
    assert [line.split("'")[1] for line in lines[:-1]] == ["l0", "l1", "l2", "l3", "l4"]
    assert "70% of the noise is its rounded weights" in lines[0]
    assert lines[-1] == "2 more layers stand below 15 dB: see `xbarc trace`"
    few = {"quantization": {"layers": dict(list(layers.items())[:5])}}
    assert len(list(weak_layers(few, target))) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ranges", "minmax"], "min-max"),
        (["--rounding", "outputs"], "output"),
        (["--ranges", "least-squares", "--percentile", "99"], "give one of them"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, said):
    result = compiled(tmp_path, *options)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_ranges_for_a_further_sample():
    rule = FurtherSample()
    # Student's t at 97.5 % with 2 degrees of freedom is 4.3027 (tables).
    low, high = rule.range_of([-1.0, -2.0, -3.0], [1.0, 2.0, 3.0])
    assert high == pytest.approx(2 + 4.3027 * np.sqrt(4 / 3), rel=1e-4)
    assert low == -high
    assert rule.range_of([0.0, 0.5], [1.0, 9.0])[0] == 0.0
    assert rule.range_of([-2.0, -1.0], [-0.5, 0.0])[1] == 0.0
    assert rule.range_of([-1.0], [2.0]) == (-1.0, 2.0)
    # Samples that are all alike have shown it all; a rare one isn't lost.
    assert rule.range_of([0.0] * 5, [3.0] * 5) == (0.0, 3.0)
    assert rule.range_of([0.0] * 100, [1.0] * 99 + [9.0])[1] == 9.0


def test_a_further_sample_is_clipped_less():
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((40, 3, 8, 8)) * rng.lognormal(0, 0.7, (40, 1, 1, 1))).astype("f4")
    model = text_model(TWO)
    want = reference(model, {"x": x[4:]})["y"]
    found = {}
    for ranges in ("min-max", "further-sample"):
        program = xbarc.compile(model, calibration=x[:4], ranges=ranges)
        assert program.report["quantization"]["ranges"] == ranges
        found[ranges] = snr_db(want, program.run(x[4:])["y"])
    assert found["further-sample"] > found["min-max"] + 3


@pytest.mark.parametrize("ranges", typing.get_args(Ranges))
def test_a_program_of_any_ranges_is_loaded_again(tmp_path, ranges):
    xbarc.compile(text_model(TWO), calibration=alike(4, 3, 8, 8), ranges=ranges).save(
        tmp_path / "p"
    )
    assert xbarc.load(tmp_path / "p").report["quantization"]["ranges"] == ranges


def test_ranges_of_least_squares_are_narrower():
    x = alike(20, 3, 8, 8)
    x[0, 0, 0, 0] = 50
    model, four_bits = text_model(TWO), ["inputs.bits=4"]
    want = reference(model, {"x": x[1:]})["y"]
    found = {}
    for ranges in ("min-max", "least-squares"):
        program = xbarc.compile(model, calibration=x, ranges=ranges, overrides=four_bits)
        found[ranges] = snr_db(want, program.run(x[1:])["y"])
    assert found["least-squares"] > found["min-max"] + 6


def test_the_mean_miss_of_each_column():
    """Over all vectors of all parts, whichever axis has the columns; of one vector, its own."""
    y = [np.array([[[1.0, 2.0]], [[3.0, 6.0]]]), np.array([[[5.0, 1.0]]])]  # [n, 1, columns]
    got = [np.zeros_like(part) for part in y]
    assert layers._mean_miss(y, got, -1).tolist() == [3, 3]
    assert layers._mean_miss(
        [p.swapaxes(1, 2) for p in y], [g.swapaxes(1, 2) for g in got], 1
    ).tolist() == [3, 3]
    assert layers._mean_miss(y[1:], got[1:], -1).tolist() == [5, 1]
    assert layers._mean_miss([], [], -1) == 0
