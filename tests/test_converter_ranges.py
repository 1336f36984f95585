"""Ranges of calibrated converters: percentiles, and least squares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import text_model

import xbarc
from xbarc.hw.converters import converter
from xbarc.hw.target import Adc, load_target
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.simulator.calibrate import Counts, column_sums, converter_range
from xbarc.support.errors import UsageError

NET = """g (float[N,60] x) => (float[N,12] y) <float[60,40] a, float[40,12] b>
{ p = MatMul(x, a) q = Relu(p) y = MatMul(q, b) }"""


def adc(bits, **keys):
    return Adc(bits=bits, mode="calibrated", **keys)


def counted(counts):
    """These sums, each of the weight 1."""
    return Counts(Counter(counts), Counter(counts))


def missed(counts, of):
    """The squared error of a converter with the range it is given for these sums."""
    values = np.array(list(counts))
    curve = converter(of, 0, converter_range(counted(counts), of))
    seen = curve.lo + curve.step * curve.codes(values)
    return float((np.array(list(counts.values())) * np.square(seen - values)).sum())


@pytest.mark.parametrize(
    ("counts", "percentile", "found"),
    [
        ({0: 50, 3: 49, 90: 1}, 100.0, (0, 90)),
        ({0: 50, 3: 49, 90: 1}, 98.0, (0, 3)),
        ({-5: 1, 0: 98, 7: 1}, 100.0, (-5, 7)),
        ({0: 4}, 99.0, (0, 1)),
    ],
)
def test_percentiles(counts, percentile, found):
    assert converter_range(counted(counts), adc(4, percentile=percentile)) == found


sums = st.dictionaries(st.integers(-200, 400), st.integers(1, 1000), min_size=1, max_size=30)


@given(counts=sums, bits=st.integers(1, 9))
def test_least_squares_is_never_worse(counts, bits):
    found = missed(counts, adc(bits, ranges="least-squares"))
    low, high = min(0, *counts), max(0, *counts)
    if high - low < 1 << bits:
        assert found == pytest.approx(0, abs=1e-12)
    every = converter(adc(bits), 0, (float(low), float(max(high, low + 1))))
    values, often = np.array(list(counts)), np.array(list(counts.values()))
    whole = float((often * np.square(every.lo + every.step * every.codes(values) - values)).sum())
    assert found <= whole * (1 + 1e-9) + 1e-12


def test_rare_large_sums_are_clipped():
    counts = counted({**dict.fromkeys(range(12), 1000), 300: 1})
    low, high = converter_range(counts, adc(3, ranges="least-squares"))
    assert low == 0 and 7 <= high < 100
    assert converter_range(counts, adc(3, percentile=100.0)) == (0, 300)


def test_sums_that_weigh_more_in_results_decide():
    """Large sums of the lowest bits, small ones of the highest: codes go where results are made."""
    often = Counter({5: 1000, 100: 1000})
    highs = []
    for weight in ({5: 1, 100: 4096}, {5: 4096, 100: 1}):
        seen = Counts(often, Counter({value: often[value] * weight[value] for value in often}))
        highs.append(converter_range(seen, adc(2, ranges="least-squares"))[1])
        assert converter_range(seen, adc(2)) == (5, 100)
    assert highs[0] == 100 and highs[1] < 20


def test_what_sums_weigh():
    """Of one weight and one input by hand: slice s and read j weigh 2^(2s + j)."""
    model = text_model("g (float[N,1] x) => (float[N,1] y) <float[1,1] w> { y = MatMul(x, w) }")
    x = np.array([[3.0], [255.0]], np.float32)
    program = xbarc.compile(model, "mca64", calibration=x)
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    assert abs(int(program.weights[weights_of(op).symbol][0, 0])) == 127
    codes = np.array([[3, 128]], np.uint8)
    found = Counts().add(column_sums(op, program.weights, codes, program.target))
    # 127 is 3, 3, 3, 1 in cells of two bits; bits 0 and 1 are set in 3, bit 7 in 128.
    reads = 2**0 + 2**1 + 2**7
    assert found.often == {0: 2 * 4 * 8 * 2 - 3 * 4, 3: 3 * 3, 1: 3}
    assert found.weight[3] == reads * (1 + 4 + 16) and found.weight[1] == reads * 64


def test_a_program_of_few_bits_comes_nearer():
    x = np.abs(np.random.default_rng(0).standard_normal((32, 60))).astype(np.float32)
    exact = xbarc.compile(text_model(NET), "mca64", calibration=x).run(x)["y"]
    errors = {}
    for ranges in ("percentile", "least-squares"):
        keys = ["adc.mode=calibrated", "adc.bits=3", f"adc.ranges={ranges}"]
        program = xbarc.compile(text_model(NET), "mca64", calibration=x, overrides=keys)
        errors[ranges] = np.square(program.run(x)["y"] - exact).sum()
    assert errors["least-squares"] < 0.75 * errors["percentile"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["adc.ranges=least-squares"], 'only "calibrated" has a range'),
        (
            ["adc.mode=calibrated", "adc.ranges=least-squares", "adc.percentile=99"],
            "adc.percentile = 99.* has no effect",
        ),
    ],
)
def test_no_silent_key(keys, said):
    with pytest.raises(UsageError, match=said):
        load_target("mca128", keys)
