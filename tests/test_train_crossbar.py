"""The crossbar as a torch module: what the simulator gives, to the bit, with gradients."""

import numpy as np
import pytest
import torch
from models import text_model

from xbarc.driver.compile import Settings, decide
from xbarc.driver.stages import import_model
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import effects_of
from xbarc.train.network import as_tensors, build

CNN = """g (float[N,3,8,8] x) => (float[N,5] y)
   <float[8,3,3,3] w1, float[8] b1, float[8,1,3,3] w2, float[8,6,2,2] w3, float[216,5] w4> {
    c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv <group=8, strides=[2,2], pads=[1,1,1,1]> (r1, w2)
    c3 = ConvTranspose <strides=[2,2], pads=[1,1,1,1]> (c2, w3)
    r3 = Relu(c3)
    f = Flatten(r3)
    y = MatMul(f, w4)
}"""

PAIRS = ["array.polarity_in=rows", "adc.subtract=analog", "inputs.signed=native"]

IDEAL = [
    ("mca128", [], ""),
    ("mca64", ["adc.bits=5"], ""),
    ("mca64", ["adc.mode=full-scale", "adc.bits=6"], ""),
    ("mca64", ["adc.mode=calibrated", "adc.bits=5"], ""),
    ("mca64", ["adc.mode=full-scale", "adc.bits=6", "adc.subtract=analog"], ""),
    ("mca64", ["array.encoding=offset", "adc.mode=full-scale", "adc.bits=6"], ""),
    ("mca64", ["inputs.dac_bits=8", "adc.mode=full-scale", "adc.bits=8"], ""),
    ("mca64", ["inputs.signed=twos-complement", "adc.bits=5"], ""),
    ("mca64", [*PAIRS, "inputs.dac_bits=8", "adc.mode=full-scale", "adc.bits=8"], ""),
    ("mca128", ["adc.bits=6"], "kernel-first"),
    ("mca128", ["adc.bits=6"], "sub-image"),
    ("mca64", ["adc.mode=lossless"], ""),
]

NOISE = [
    "programming{sigma=0.1}",
    "programming{sigma=0.1},read{sigma=0.05}",
    "ratio,programming{sigma=0.05}",
    "stuck{on=0.01 off=0.01},drift{time=1000 nu=0.05}",
    "adc{gain=0.02 offset=0.5 noise=0.3}",
]


def network(text, target, overrides=(), passes="", noise="", **options):
    decided = decide(Settings(target, overrides, passes))
    model = text_model(text)
    shape = [d.dim_value or 4 for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    imported = import_model(model, x)
    effects = effects_of(decided.target, noise)
    return build(imported, decided, effects=effects, **options), x


def simulated(found, x, seed=0):
    engine = found.engine if found.effects else None
    return Simulator(found.program, engine=engine, seed=seed).run({"x": x})["y"]


def run(found, x, seed=0, exact=True):
    found.program_arrays(seed, exact=exact)
    with torch.no_grad():
        return found.module(as_tensors({"x": x}, "cpu"))["y"].numpy()


@pytest.mark.parametrize(("target", "overrides", "passes"), IDEAL)
def test_what_is_not_random_is_the_simulators_to_the_bit(target, overrides, passes):
    found, x = network(CNN, target, overrides, passes)
    wanted = simulated(found, x)
    assert np.array_equal(run(found, x), wanted)
    assert np.abs(wanted).max() > 0


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize(
    "overrides", [[], ["adc.mode=lossless"], [*PAIRS, "adc.mode=lossless"]], ids=len
)
def test_devices_are_the_simulators_to_the_bit(noise, overrides):
    found, x = network(CNN, "mca64", overrides, noise=noise)
    assert np.array_equal(run(found, x, seed=3), simulated(found, x, seed=3))
    assert not np.array_equal(run(found, x, seed=4), simulated(found, x, seed=3))


@pytest.mark.parametrize("keys", [[], PAIRS], ids=["pairs in columns", "pairs in rows"])
def test_linear_arrays_are_a_matrix_for_training(keys):
    """The same cells, without the simulator's steps: as near as float32 is."""
    keys = [*keys, "adc.mode=lossless"]
    found, x = network(CNN, "mca64", keys, noise="ratio,programming{sigma=0.1}")
    exact, fast = run(found, x, seed=2), run(found, x, seed=2, exact=False)
    # Errors between the blocks of a depthwise layer's tiles belong to no weight, and those of an
    # unrolled kernel (of the transposed convolution) to several places of one.
    taken = [crossbar.errors is not None for crossbar in found.crossbars]
    assert taken == [True, False, False, True]
    assert np.abs(exact - fast).max() < 1e-4 * np.abs(exact).max()


WHOLE = ["array.cell_bits=7", "inputs.dac_bits=8", "inputs.signed=asymmetric"]


@pytest.mark.parametrize("lines", ["adc.subtract=analog", "adc.subtract=digital", "pairs"])
@pytest.mark.parametrize(("mode", "bits"), [("calibrated", 5), ("full-scale", 9), ("saturate", 16)])
def test_converters_of_whole_weights_are_the_simulators_in_products_of_torch(mode, bits, lines):
    text = """g (float[N,20,6,6] x) => (float[N,5] y)
       <float[9,20,3,3] w1, float[9] b1, float[324,5] w2> {
        c = Conv <pads=[1,1,1,1]> (x, w1, b1)
        r = Relu(c)
        f = Flatten(r)
        y = MatMul(f, w2)
    }"""
    keys = [*WHOLE, f"adc.mode={mode}", f"adc.bits={bits}"]
    keys += PAIRS if lines == "pairs" else [lines]
    found, x = network(text, "mca64", keys)
    wanted, fast = run(found, x), run(found, x, exact=False)
    blocks = [crossbar.blocks for crossbar in found.crossbars]
    assert all(b is not None and len(b.blocks) > 1 for b in blocks)
    assert not any(crossbar.arrays for crossbar in found.crossbars)
    assert np.abs(wanted).max() > 0
    assert np.allclose(fast, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    found.program_arrays(0, exact=False)
    found.module(as_tensors({"x": x}, "cpu"))["y"].sum().backward()
    assert all(float(w.grad.abs().max()) > 0 for w in found.weights.values())


def test_other_converters_are_run_by_the_simulators_steps():
    for keys in (
        [], [*WHOLE, "array.cell_bits=2"], [*WHOLE, "inputs.dac_bits=4"],
        [*WHOLE, "array.encoding=offset"], [*WHOLE, "inputs.signed=two-pass"],
    ):  # fmt: skip
        found, _ = network(CNN, "mca64", [*keys, "adc.mode=full-scale", "adc.bits=5"])
        found.program_arrays(0, exact=False)
        assert found.crossbars[0].blocks is None
        assert found.crossbars[0].arrays is not None


def test_read_noise_of_linear_arrays_has_the_spread_of_the_simulators():
    text = "g (float[N,40] x) => (float[N,30] y) <float[40,30] w> { y = MatMul(x, w) }"
    noise = "read{sigma=0.2}"
    found, x = network(text, "mca64", ["adc.mode=lossless"], noise=noise)
    many = np.repeat(x, 500, axis=0)
    torch.manual_seed(0)
    exact, fast = run(found, many), run(found, many, exact=False)
    assert found.crossbars[0].errors is not None
    spreads = [np.std(y.reshape(len(x), 500, 30), axis=1) for y in (exact, fast)]
    assert np.allclose(spreads[0].mean(axis=0), spreads[1].mean(axis=0), rtol=0.1)


def test_gradients_pass_straight_through():
    """Of codes and weights that are rounded the gradient is that of the product."""
    text = "g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }"
    found, x = network(text, "mca64", ["adc.mode=full-scale", "adc.bits=4"])
    found.program_arrays(0, exact=True)
    tensor = torch.from_numpy(x).requires_grad_()
    y = found.module({"x": tensor})["y"]
    assert np.array_equal(y.detach().numpy(), simulated(found, x))
    up = torch.from_numpy(np.random.default_rng(2).standard_normal(y.shape).astype(np.float32))
    y.backward(up)
    crossbar = found.crossbars[0]
    q, scale = crossbar.integers(found.weights["w"])
    s_x = float(crossbar.quantiser.scale)
    codes = np.clip(np.rint(x / s_x), -127, 127)
    weights = (q * scale).detach().numpy()
    assert np.allclose(found.weights["w"].grad, (codes * s_x).T @ up.numpy(), rtol=1e-5)
    assert np.allclose(tensor.grad, up.numpy() @ weights.T, rtol=1e-5)


def test_activations_beyond_the_range_have_no_gradient_but_a_learned_scale_has():
    text = "g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }"
    found, x = network(text, "mca64", ["adc.mode=lossless"], learned=True)
    tensor = torch.from_numpy(2 * x).requires_grad_()
    found.module({"x": tensor})["y"].sum().backward()
    quantiser = found.crossbars[0].quantiser
    beyond = np.abs(2 * x) > quantiser.range[1]
    assert beyond.any() and not tensor.grad.numpy()[beyond].any()
    assert quantiser.factor.grad != 0


def test_biases_are_a_layers_own_or_added_to_it():
    text = """g (float[N,6] x) => (float[N,4] y)
       <float[6,5] w, float[5] b, float[5,4] v, float[4] c, float[4] d> {
        h = MatMul(x, w)
        a = Add(h, b)
        r = Relu(a)
        g = Gemm(r, v, c)
        y = Mul(g, d)
    }"""
    found, _ = network(text, "mca64")
    assert set(found.weights) == {"w", "b", "v", "c"}


def test_zeros_of_the_network_are_masked():
    text = "g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }"
    weights = np.arange(24).reshape(6, 4) % 3
    decided = decide(Settings("mca64"))
    model = text_model(text, w=weights)
    found = build(import_model(model, np.ones((2, 6), np.float32)), decided)
    (layer,) = found.layers.values()
    assert np.array_equal(layer.mask, weights != 0)
    with torch.no_grad():
        layer.weight.add_(1)
    found.apply_masks()
    assert np.array_equal(layer.weight.detach() != 0, weights != 0)
    assert np.array_equal(layer.stored(layer.matrix()), layer.weight.detach())
