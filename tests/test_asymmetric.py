"""Asymmetric input codes: unsigned, with a zero point, which is taken out digitally and exactly."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import reference, snr_db, text_model
from reference import transposed
from xdsl.ir import Block

import xbarc
from xbarc.hw.quantization import input_scale, quantize
from xbarc.ir import print_module
from xbarc.ir.analysis.zero_point import weight_sums
from xbarc.ir.dialect import DequantizeOp, WindowAttr, code_type, tensor

SILU = """g (float[N,6,8,8] x) => (float[N,4] y)
<float[8,6,3,3] a, float[8] ba, float[8,1,3,3] d, float[8,5,2,2] u, float[5,4] f> {
  p = Conv<pads=[1,1,1,1]>(x, a, ba)  s = Sigmoid(p)  q = Mul(p, s)
  e = Conv<group=8, pads=[1,1,1,1]>(q, d)
  t = ConvTranspose<strides=[2,2]>(e, u)
  l = GlobalAveragePool(t)  w = Flatten(l)  y = MatMul(w, f)
}"""
"""Negative inputs before every layer: an image, SiLU's -0.28 .., and sums of either sign."""


def images(samples=6, seed=0, shape=(6, 8, 8)):
    return np.random.default_rng(seed).standard_normal((samples, *shape)).astype(np.float32)


def compiled(text=SILU, *overrides, x=None, target="mca128", **options):
    x = images() if x is None else x
    return xbarc.compile(text_model(text), target, calibration=x, overrides=overrides, **options)


def kinds(program):
    return [row["input_codes"] for row in program.report["layers"]]


# --- Codes ----------------------------------------------------------------------------------------


@given(
    low=st.floats(-1e6, -1e-6),
    high=st.floats(-1e6, 1e6),
    bits=st.integers(2, 16),
    seed=st.integers(0, 99),
)
def test_the_range_is_all_that_codes_are_spent_on(low, high, bits, seed):
    assume(low <= high)
    codes = input_scale(low, high, bits, asymmetric=True)
    top = 2**bits - 1
    assert not codes.signed
    assert codes.scale == (max(high, 0) - low) / top
    assert codes.zero_point == np.rint(-low / codes.scale)
    assert quantize(np.zeros(1), codes) == codes.zero_point <= top
    x = np.random.default_rng(seed).uniform(low, max(high, low), 50)
    error = (quantize(x, codes).astype(float) - codes.zero_point) * codes.scale - x
    # Half a step of rounding; at the ends half a step that the rounded zero point cuts off.
    assert np.abs(error).max() <= codes.scale * (1 + 1e-6)


def test_a_symmetric_range_has_no_larger_step_than_with_a_sign():
    shifted, signed = (input_scale(-3.0, 3.0, 8, asymmetric=a) for a in (True, False))
    assert shifted.scale == 6 / 255 < signed.scale == 3 / 127
    assert input_scale(0.0, 3.0, 8, asymmetric=True) == input_scale(0.0, 3.0, 8)
    assert input_scale(-1e-320, 0.0, 8, asymmetric=True).scale == 1


@pytest.mark.parametrize("passes", ["", "kernel-first", "deconv{scheme=phases}", "share-crossbars"])
def test_a_program_is_as_near_to_float_as_its_steps_are_small(passes):
    """16 bits everywhere: a zero point that wasn't taken out would be far off."""
    wide = ("adc.mode=lossless", "weights.bits=16", "inputs.bits=16")
    program = compiled(SILU, *wide, passes=passes)
    assert kinds(program) == ["asymmetric"] * 4
    want = reference(text_model(SILU), {"x": images()})["y"]
    assert snr_db(want, program.run(images())["y"]) > 70


def test_half_the_reads_of_two_passes_and_no_larger_error():
    x, want = images(64), reference(text_model(SILU), {"x": images(64)})["y"]
    codes = ("asymmetric", "two-pass", "twos-complement", "auto")
    exact = ("adc.mode=lossless", "weights.bits=16")
    programs = {c: compiled(SILU, f"inputs.signed={c}", *exact, x=x) for c in codes}
    totals = {c: p.report["totals"] for c, p in programs.items()}
    for what in ("adc_conversions", "row_pulses", "cycles"):
        assert 2 * totals["asymmetric"][what] == totals["two-pass"][what]
        assert totals["asymmetric"][what] == totals["twos-complement"][what]
    assert [kinds(programs[c]) for c in codes[:3]] == [[c] * 4 for c in codes[:3]]
    assert kinds(programs["auto"]) == ["asymmetric"] * 4
    ratio = {c: snr_db(want, p.run(x)["y"]) for c, p in programs.items()}
    assert ratio["asymmetric"] == ratio["auto"] > ratio["two-pass"] == ratio["twos-complement"]


# --- Sums of weights ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_what_an_output_of_a_transposed_convolution_adds_up(data):
    rank, groups = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))

    def sizes(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, strides, dilations, inputs = sizes(1, 3), sizes(1, 3), sizes(1, 2), sizes(1, 4)
    begins, ends = sizes(0, 2), sizes(-2, 2)
    axes = zip(inputs, strides, kernel, dilations, begins, ends, strict=True)
    size = [(n - 1) * s + d * (k - 1) + 1 - b - e for n, s, k, d, b, e in axes]
    assume(min(size) > 0)
    rng = np.random.default_rng(0)
    channels, filters = 2, 3
    w = rng.integers(-9, 10, (groups * channels, filters, *kernel))
    window = WindowAttr.of(kernel, strides, begins + ends, dilations)
    assume(window.output_size(size) == inputs)
    sums = Block(arg_types=[tensor([-1, groups * filters, *size], code_type(32, signed=True))])
    op = DequantizeOp(sums.args[0], "w", 1.0, 1, 5, window)
    # Rows (channel of a group, kernel position), columns (group, filter).
    taps = int(np.prod(kernel))
    q = w.reshape(groups, channels, filters, taps).transpose(1, 3, 0, 2)
    q = q.reshape(channels * taps, groups * filters)
    ones = np.ones((1, groups * channels, *inputs), np.int64)
    axes = {"strides": strides, "pads": begins + ends, "dilations": dilations}
    np.testing.assert_array_equal(
        weight_sums(op, q), transposed(ones, w, size, **axes, groups=groups)[0]
    )


# --- A quantised model's own codes ----------------------------------------------------------------

QDQ = """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
<float xs = {0.03}, int8 xz, float ws = {0.01}, int8[5,4,3,3] w> {
  c = QuantizeLinear(x, xs, xz)  r = DequantizeLinear(c, xs, xz)  v = DequantizeLinear(w, ws)
  y = Conv<pads=[1,1,1,1]>(r, v) }"""


@pytest.mark.parametrize("zero", [-128, -5, 0, 127])
def test_signed_codes_of_a_quantised_model_lose_their_sign_and_nothing_else(zero):
    model, x = text_model(QDQ, xz=zero), images(3, shape=(4, 6, 6))
    kept, shifted = (
        xbarc.compile(model, "mca64", calibration=x, overrides=[f"inputs.signed={codes}"])
        for codes in ("two-pass", "auto")
    )
    np.testing.assert_array_equal(kept.run(x)["y"], shifted.run(x)["y"])
    two, one = kept.report["layers"][0], shifted.report["layers"][0]
    assert two["adc_conversions"] == 2 * one["adc_conversions"]
    assert (two["zero_point"], one["zero_point"]) == (zero, zero + 128)
    assert (two["input_codes"], one["input_codes"]) == (
        "two-pass",
        "asymmetric" if zero > -128 else "unsigned",
    )


# --- New weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["asymmetric", "two-pass"])
def test_new_weights_keep_the_circuits_codes(codes):
    x, key = images(4), f"inputs.signed={codes}"
    program = compiled(SILU, key, x=x)
    updated = program.update_weights(text_model(SILU, seed=1))
    assert print_module(updated.module) == print_module(program.module)
    want = reference(text_model(SILU, seed=1), {"x": x})["y"]
    assert snr_db(want, updated.run(x)["y"]) > 20
    back = updated.update_weights(text_model(SILU), x)
    np.testing.assert_array_equal(back.run(x)["y"], program.run(x)["y"])


# --- The choice -----------------------------------------------------------------------------------

WIDE = "g (float[N,6,200] x) => (float[N,6,40] y) <float[200,40] w> { y = MatMul(x, w) }"


def gauss(seed):
    return images(64, seed, (6, 200))


def mostly_positive(seed):
    return np.maximum(gauss(seed), np.float32(-0.02))


CLIPPING = ["array.rows=256", "array.cell_bits=4", "adc.bits=8"]
"""Sums of up to 200 x 15 in a converter that ends at 255."""
VARIED = ["adc.mode=lossless", "device.programming.sigma=0.05"]


@pytest.mark.parametrize(
    ("hardware", "data", "chosen"),
    [
        ([], gauss, "asymmetric"),
        (["adc.mode=lossless"], gauss, "asymmetric"),
        (["adc.mode=full-scale"], gauss, "two-pass"),
        (["adc.mode=full-scale"], mostly_positive, "asymmetric"),
        (["adc.mode=calibrated"], gauss, "two-pass"),
        (CLIPPING, gauss, "two-pass"),
        (VARIED, gauss, "two-pass"),
        (VARIED, mostly_positive, "asymmetric"),
    ],
    ids=lambda value: value.__name__ if callable(value) else " ".join(value) or "as it is",
)
def test_the_cheaper_codes_unless_their_error_is_larger(hardware, data, chosen):
    """The choice is what both, compiled and run on other data, come out as."""
    x, other = data(0), data(1)
    want = reference(text_model(WIDE), {"x": other})["y"]
    programs = {
        codes: compiled(WIDE, *hardware, f"inputs.signed={codes}", x=x)
        for codes in ("asymmetric", "two-pass", "auto")
    }
    asymmetric, two = (
        np.mean([snr_db(want, programs[c].run(other, seed=s)["y"]) for s in range(2)])
        for c in ("asymmetric", "two-pass")
    )
    assert (asymmetric < two - 0.2) == (chosen == "two-pass")
    assert kinds(programs["auto"]) == [chosen]
