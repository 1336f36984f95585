"""update-weights: the same tiles programmed anew, and nothing else."""

import json

import numpy as np
import onnx
import pytest
from models import reference, snr_db, text_model
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.driver.optimize import optimize
from xbarc.ir import print_module
from xbarc.ir.dialect import QuantizeOp
from xbarc.lowering.fit.layers import fit_layers

# Both layers read the model's input: their scales don't depend on the weights.
PARALLEL = """g (float[N,3,8,8] x) => (float[N,8,8,8] y)
<float[8,3,3,3] a, float[8] ba, float[8] s, float[8] b, float[8] m, float[8] v, float[8,3,1,1] c> {
  f = Conv<pads=[1,1,1,1]>(x, a, ba)
  n = BatchNormalization(f, s, b, m, v)
  r = Relu(n)
  t = Conv(x, c)
  y = Add(r, t)
}"""
CHAIN = """g (float[N,3,8,8] x) => (float[N,5] y)
<float[8,3,3,3] a, float[8] b, float[8,4,2,2] u, float[4,5] f> {
  p = Conv<pads=[1,1,1,1]>(x, a, b)
  q = Relu(p)
  t = ConvTranspose<strides=[2,2]>(q, u)
  h = Relu(t)
  l = GlobalAveragePool(h)
  w = Flatten(l)
  y = MatMul(w, f)
}"""


def with_weights(text, seed=0, **values):
    variance = {"v": np.full(8, 2.0), "s": np.ones(8)} if "float[8] v" in text else {}
    return text_model(text, seed=seed, **{**variance, **values})


def images(seed=0, samples=6, shape=(3, 8, 8)):
    return np.random.default_rng(seed).standard_normal((samples, *shape)).astype(np.float32)


def arrays(program):
    return {name: np.asarray(program.weights[name]) for name in sorted(program.weights)}


def refused(program, model, *said):
    with pytest.raises(xbarc.XbarcError) as error:
        program.update_weights(model)
    line = str(error.value)
    assert "\n" not in line
    for words in said:
        assert words in line
    return line


@pytest.mark.parametrize("passes", ["", "kernel-first", "kernel-first,place,schedule"])
@pytest.mark.parametrize("mode", ["saturate", "full-scale"])
def test_it_is_the_program_of_the_new_model(passes, mode):
    """Where the scales agree, every byte but the names and the comparison of power."""
    x, old, new = images(), with_weights(PARALLEL, 0), with_weights(PARALLEL, 1)
    options = {"passes": passes, "calibration": x, "overrides": [f"adc.mode={mode}"]}
    program = xbarc.compile(old, "mca128", **options)
    before = arrays(program), print_module(program.module)
    updated, wanted = program.update_weights(new, x), xbarc.compile(new, "mca128", **options)
    assert print_module(updated.module) == print_module(wanted.module)
    assert updated.digital == wanted.digital
    assert arrays(updated).keys() == arrays(wanted).keys()
    for name, array in arrays(wanted).items():
        np.testing.assert_array_equal(updated.weights[name], array)
    assert updated.report["layers"] == wanted.report["layers"]
    moved = {k for k, v in wanted.report["totals"].items() if v != updated.report["totals"][k]}
    assert moved <= {k for k in updated.report["totals"] if "before" in k or "read_power_" in k}
    np.testing.assert_array_equal(updated.run(x)["y"], wanted.run(x)["y"])
    # The program that was updated is what it was.
    assert before[1] == print_module(program.module)
    for name, array in before[0].items():
        np.testing.assert_array_equal(program.weights[name], array)


def test_outputs_follow_the_new_weights():
    x, old = images(), with_weights(CHAIN)
    program = xbarc.compile(old, "mca128", passes="kernel-first", calibration=x)
    w = {t.name: onnx.numpy_helper.to_array(t) for t in old.graph.initializer}
    pruned = {n: np.where(np.abs(a) < np.median(np.abs(a)), 0, a) for n, a in w.items()}
    new = with_weights(CHAIN, **pruned)
    updated = program.update_weights(new)
    assert snr_db(reference(new, {"x": x})["y"], updated.run(x)["y"]) > 22
    assert snr_db(reference(old, {"x": x})["y"], updated.run(x)["y"]) < 15
    was, now = program.report["totals"], updated.report["totals"]
    for same in ("tiles", "crossbars", "memristors", "vectors", "cycles", "latency_us"):
        assert was[same] == now[same], same
    assert now["macs"] < 0.6 * was["macs"]
    assert now["adc_conversions"] < was["adc_conversions"]
    assert now["energy_uj"]["total"] < was["energy_uj"]["total"]
    # The circuit's input scales stay, though these activations are smaller.
    scales = [line for line in print_module(program.module).splitlines() if "quantize" in line]
    assert scales == [
        line for line in print_module(updated.module).splitlines() if "quantize" in line
    ]
    again = xbarc.compile(new, "mca128", passes="kernel-first", calibration=x)
    assert print_module(again.module) != print_module(updated.module)


def test_back_and_forth_is_the_first_program():
    x, old, new = images(), with_weights(CHAIN, 0), with_weights(CHAIN, 1)
    program = xbarc.compile(old, "mca128", passes="kernel-first", calibration=x)
    back = program.update_weights(new).update_weights(old, x)
    for name, array in arrays(program).items():
        np.testing.assert_array_equal(back.weights[name], array)
    assert back.report["totals"]["macs"] == program.report["totals"]["macs"]


def test_calibrated_converters_keep_their_ranges():
    x, old, new = images(), with_weights(CHAIN, 0), with_weights(CHAIN, 1)
    program = xbarc.compile(
        old, "mca128", passes="kernel-first", calibration=x, overrides=["adc.mode=calibrated"]
    )
    assert " adc [" in print_module(program.module)
    assert print_module(program.update_weights(new).module) == print_module(program.module)


# --- What isn't the same network ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "instead", "said"),
    [
        ("float[8,3,3,3] a, float[8] b", "float[6,3,3,3] a, float[6] b", "27 x 8 of 8 bits with a"),
        ("pads=[1,1,1,1]", "pads=[2,2,2,2],dilations=[2,2]", "dilations"),
        ("pads=[1,1,1,1]", "pads=[2,0,1,1]", "pads"),
        ("strides=[2,2]", "strides=[2,2],output_padding=[1,1]", "pads"),
        ("Relu(p)", "Sigmoid(p)", "digital/0.onnx: Relu"),
        ("q = Relu(p)", "q1 = Relu(p)\n  q = Relu(q1)", "digital/0.onnx"),
        ("y = MatMul(w, f)", "y1 = MatMul(w, f)\n  y = Relu(y1)", "f32"),
        ("y = MatMul(w, f)", "y = Relu(w)", "no layer"),
        ("Conv<pads=[1,1,1,1]>(x, a, b)", "Conv<pads=[1,1,1,1]>(x, a)", "with a bias"),
        ("q = Relu(p)", "q = Conv<pads=[1,1,1,1]>(p, k)", "the program has no layer"),
    ],
)
def test_another_network_is_refused(there, instead, said):
    program = xbarc.compile(with_weights(CHAIN), "mca128", passes="kernel-first")
    text = CHAIN.replace(there, instead)
    assert text != CHAIN
    if "(p, k)" in instead:
        text = text.replace("float[4,5] f>", "float[4,5] f, float[8,8,3,3] k>")
    if "float[6" in instead:
        text = text.replace("float[8,4,2,2] u", "float[6,4,2,2] u")
    if instead == "y = Relu(w)":
        text = text.replace("float[N,5] y", "float[N,4] y")
    line = refused(program, with_weights(text), said)
    assert line.startswith("not the network that the program was compiled from: ")


def test_a_model_of_other_inputs_is_another_network():
    """Nobody typed the shapes and batch axes: the program has them."""
    program = xbarc.compile(with_weights(CHAIN), "mca128")
    other = CHAIN.replace(" x) =>", " z) =>").replace("(x, a", "(z, a")
    line = refused(program, with_weights(other), "no input 'x'")
    assert line.startswith("not the network that the program was compiled from: ")


def test_other_constants_of_digital_parts_are_refused():
    text = CHAIN.replace("Relu(p)", "PRelu(p, s)").replace(
        "float[4,5] f>", "float[4,5] f, float[8,1,1] s>"
    )
    slopes = np.full((8, 1, 1), 0.1)
    program = xbarc.compile(with_weights(text, s=slopes), "mca128", passes="kernel-first")
    assert program.update_weights(with_weights(text, 3, s=slopes))
    line = refused(program, with_weights(text, s=2 * slopes), "digital/0.onnx: the constant")
    assert "only weights on crossbars can be written anew" in line


def test_a_bias_that_a_digital_part_adds_is_a_weight():
    """MatMul has no bias of its own: the Add behind it is part of what is trained."""
    text = """g (float[N,6] x) => (float[N,4] y) <float[6,4] w, float[4] b> {
      s = MatMul(x, w)
      t = Add(b, s)
      y = Relu(t)
    }"""
    x, old, new = images(shape=(6,)), text_model(text), text_model(text, seed=1)
    options = {"passes": "kernel-first", "calibration": x, "bias_correction": False}
    program = xbarc.compile(old, "mca128", **options)
    assert "MatMul.bias" not in program.weights
    updated = program.update_weights(new, x)
    assert snr_db(reference(new, {"x": x})["y"], updated.run(x)["y"]) > 22
    wanted = xbarc.compile(new, "mca128", **options)
    np.testing.assert_array_equal(updated.run(x)["y"], wanted.run(x)["y"])
    assert snr_db(reference(old, {"x": x})["y"], program.run(x)["y"]) > 22


def test_so_is_one_behind_a_scale_that_was_moved():
    text = """g (float[N,8,6,6] x) => (float[N,8,6,6] z)
    <float[4,8,1,1] w, float[8,4,1,1] v, float[8,1,3,3] d, float[8] b> {
      p = GlobalAveragePool(x)
      q = Conv(p, w)
      r = Relu(q)
      e = Conv(r, v)
      s = Sigmoid(e)
      y = Mul(x, s)
      z = Conv<group=8,pads=[1,1,1,1]>(y, d, b)
    }"""
    x, old, new = images(shape=(8, 6, 6)), text_model(text), text_model(text, seed=1)
    program = xbarc.compile(old, "mca128", passes="squeeze-excitation", calibration=x)
    assert program.report["pass_figures"]["squeeze-excitation"]["folded"] == 1
    updated = program.update_weights(new)
    assert snr_db(reference(new, {"x": x})["z"], updated.run(x)["z"]) > 22


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("Add(b, s)", "Mul(b, s)"),  # a factor
        ("y = Relu(t)", "u = Relu(t)\n  y = Add(u, b)"),  # read twice
        # not all that is read of the sums
        ("y = Relu(t)", "u = Relu(s)\n  y = Add(u, t)"),
        ("y = Relu(t)", "u = MatMul(s, v)\n  y = Add(u, t)"),
        ("float[4] b", "float b"),  # not one a column
    ],
)
def test_no_other_constant_is_a_bias(there, instead):
    text = """g (float[N,6] x) => (float[N,4] y) <float[6,4] w, float[4] b, float[4,4] v> {
      s = MatMul(x, w)
      t = Add(b, s)
      y = Relu(t)
    }""".replace(there, instead)
    assert instead in text
    program = xbarc.compile(text_model(text), "mca128")
    refused(program, text_model(text, seed=1), "the constant 'b' differs")


def test_the_scales_of_a_quantised_model_stay():
    text = """g (float[N,4] x) => (float[N,3] y) <float s, int8 z, int8[4,3] w, float t, int8 u> {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      e = DequantizeLinear(w, t, u)
      y = MatMul(d, e)
    }"""
    values = {"s": 0.1, "z": 0, "t": 0.02, "u": 0}
    program = xbarc.compile(text_model(text, **values), "mca128")
    new = program.update_weights(text_model(text, seed=1, **values))
    assert (np.asarray(new.weights["MatMul"]) != np.asarray(program.weights["MatMul"])).any()
    refused(program, text_model(text, **{**values, "s": 0.2}), "not the network")


def test_weights_without_a_tile_are_refused():
    dense = with_weights(CHAIN)
    kernel = onnx.numpy_helper.to_array(dense.graph.initializer[0]).copy()
    assert kernel.shape == (8, 3, 3, 3)
    kernel[:, :, 1, 1] = 0
    pruned = with_weights(CHAIN, a=kernel)
    program = xbarc.compile(pruned, "mca128", passes="kernel-first")
    assert "without [4]" in print_module(program.module)
    refused(program, dense, "'Conv'", "stands on no tile", "compile the new model")
    assert (
        program.update_weights(pruned).report["totals"]["macs"] == program.report["totals"]["macs"]
    )


def test_selected_rows_stay():
    w = np.random.default_rng(0).standard_normal((300, 20))
    w[::2] = 0
    text = "g (float[N,300] x) => (float[N,20] y) <float[300,20] w> { y = MatMul(x, w) }"
    program = xbarc.compile(text_model(text, w=w), "mca128", passes="im2col,drop-zeros")
    assert " rows @MatMul.rows 150" in print_module(program.module)
    x = np.random.default_rng(1).standard_normal((2, 300)).astype(np.float32)
    updated = program.update_weights(text_model(text, w=-w))
    np.testing.assert_array_equal(updated.run(x)["y"], -program.run(x)["y"])
    refused(program, text_model(text), "stands on no tile")


def test_new_weights_are_fitted_to_the_codes_of_the_circuit(monkeypatch):
    """What stands on crossbars doesn't change its input scales, whatever the new data reach to."""
    x, scales = images(samples=12), {}
    program = xbarc.compile(with_weights(CHAIN), "mca128", calibration=x, rounding="output")

    def spy(model, planned, shown, feeds, target, codes, fitting):
        scales.update({layer.name: codes(layer).scale for layer in planned.layers.values()})
        return fit_layers(model, planned, shown, feeds, target, codes, fitting)

    monkeypatch.setattr("xbarc.driver.refit.fit_layers", spy)
    program.update_weights(with_weights(CHAIN, seed=1), 10 * x)
    quantised = [op for op in program.module.walk() if isinstance(op, QuantizeOp)]
    assert sorted(scales.values()) == sorted(op.scale.value.data for op in quantised)


@pytest.mark.parametrize("rounding", ["nearest", "output"])
@pytest.mark.parametrize("bias_correction", [False, True])
def test_new_weights_are_fitted_as_those_before(rounding, bias_correction):
    x, new = images(samples=12), with_weights(PARALLEL, seed=1)
    options = {"rounding": rounding, "bias_correction": bias_correction, "equalize": False}
    before, wanted = (
        xbarc.compile(model, "mca128", calibration=x, **options)
        for model in (with_weights(PARALLEL), new)
    )
    updated, wanted = arrays(before.update_weights(new, x)), arrays(wanted)
    assert updated.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(updated[name], array)


# --- Passes ---------------------------------------------------------------------------------------


def test_lossy_passes_are_not_run_again():
    """A pruned program takes dense weights, where it has tiles for them."""
    dense, x = with_weights(CHAIN), images()
    options = {"calibration": x, "equalize": False}
    pruning = "prune{granularity=weight sparsity=0.5 refit=false}"
    program = xbarc.compile(dense, "mca128", passes=f"{pruning},kernel-first", **options)
    updated = program.update_weights(dense, x)
    wanted = xbarc.compile(dense, "mca128", passes="kernel-first", **options)
    assert updated.report["totals"]["macs"] == wanted.report["totals"]["macs"]
    assert updated.report["deviation"] == {}


def test_a_shape_that_a_lossy_pass_made_is_named():
    dense, x = with_weights(CHAIN), images()
    program = xbarc.compile(dense, "mca128", passes="prune,kernel-first", calibration=x)
    line = refused(program, dense, "compiled with prune:", "been through the same")
    assert "is 27 x" in line


def test_the_users_way(tmp_path):
    """compile, prune elsewhere, update-weights; then the figures side by side."""
    model, program, pruned = (tmp_path / n for n in ("m.onnx", "m.xbar", "pruned.onnx"))
    x = images()
    onnx.save(with_weights(CHAIN), model)
    np.savez(tmp_path / "x.npz", x=x)
    run = CliRunner().invoke
    said = run(
        app,
        [
            *("compile", str(model), "--target", "mca128", "--passes", "kernel-first"),
            *("--calibration", str(tmp_path / "x.npz"), "-o", str(program)),
        ],
    )
    assert said.exit_code == 0, said.output
    passes = "prune{granularity=weight sparsity=0.5 refit=false}"
    optimize(model, pruned, passes, target="mca128", calibration=tmp_path / "x.npz")
    said = run(app, ["update-weights", str(program), str(pruned), "-o", str(tmp_path / "n.xbar")])
    assert said.exit_code == 0, said.output
    assert "crossbar power" in said.output and "(-" in said.output
    new = xbarc.load(tmp_path / "n.xbar")
    assert snr_db(reference(onnx.load(pruned), {"x": x})["y"], new.run(x)["y"]) > 22
    manifest = json.loads((tmp_path / "n.xbar" / "manifest.json").read_text())
    assert manifest["model"]["name"] == "m.onnx"
    assert manifest["weights"]["name"] == "pruned.onnx"
    assert manifest["weights"]["sha256"] != manifest["model"]["sha256"]
    assert json.loads((tmp_path / "n.xbar" / "report.json").read_text())["weights"] == "pruned.onnx"
    # In place, whole or not at all.
    old = (program / "manifest.json").read_bytes()
    onnx.save(with_weights(CHAIN.replace("Relu(p)", "Sigmoid(p)")), pruned)
    said = run(app, ["update-weights", str(program), str(pruned)])
    assert isinstance(said.exception, xbarc.XbarcError)
    assert (program / "manifest.json").read_bytes() == old
    assert run(app, ["update-weights", str(program), str(model), "--json"]).exit_code == 0
    assert (program / "manifest.json").read_bytes() != old
    said = run(app, ["report", str(tmp_path / "n.xbar"), "-o", str(tmp_path / "r.html")])
    assert said.exit_code == 0, said.output
    assert "xbarc update-weights again.xbar pruned.onnx" in (tmp_path / "r.html").read_text()


def test_arguments_the_wrong_way_round(tmp_path):
    """Nobody is told to remove the model."""
    model, program = tmp_path / "m.onnx", tmp_path / "m.xbar"
    onnx.save(with_weights(CHAIN), model)
    xbarc.compile(model, "mca128").save(program)
    said = CliRunner().invoke(app, ["update-weights", str(model), str(program)])
    assert isinstance(said.exception, xbarc.XbarcError)
    assert str(said.exception) == f"{model}: not a directory"


@pytest.mark.parametrize("key", ["lowered", "passes"])
@pytest.mark.parametrize("found", [None, 3, ["im2col", 4]])
def test_a_program_that_does_not_say_what_it_is_of(key, found):
    program = xbarc.compile(with_weights(CHAIN), "mca128")
    program.origin[key] = found
    refused(program, with_weights(CHAIN), f"doesn't say its '{key}'", "compile it again")


def test_a_missing_model_and_an_unknown_pass():
    program = xbarc.compile(with_weights(CHAIN), "mca128")
    refused(program, "missing.onnx", "missing.onnx")
    program.origin["passes"] = ["canonicalize", "my-own"]
    with pytest.raises(xbarc.UsageError, match="compiled with other passes: unknown pass 'my-own'"):
        program.update_weights(with_weights(CHAIN))
