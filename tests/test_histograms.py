"""Ranges from histograms: the least squared error of codes, and percentiles."""

import numpy as np
import pytest

from xbarc.graph.histograms import Histogram, holding, least_squares
from xbarc.hw.quantization import input_scale, quantize


def seen(values):
    histogram = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values, 3):
        histogram.add(part)
    return histogram


def error(values, low, high, bits):
    """The squared error of xbarc's own codes."""
    scale = input_scale(low, high, bits)
    return float(np.square(values - quantize(values, scale) * scale.scale).sum())


SAMPLES = {
    "normal": lambda rng: rng.standard_normal(40_000),
    "heavy tails": lambda rng: rng.standard_t(3, 40_000),
    "after a ReLU": lambda rng: np.maximum(rng.standard_t(3, 40_000), 0),
    "one outlier": lambda rng: np.append(rng.uniform(0, 1, 40_000), 30.0),
    "uniform": lambda rng: rng.uniform(-1, 1, 40_000),
}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_other_range_has_much_less_error(name, bits):
    values = SAMPLES[name](np.random.default_rng(0))
    low, high = least_squares(bits, symmetric=True)(seen(values))
    found = error(values, low, high, bits)
    shares = np.linspace(0.05, 1, 96)
    best = min(error(values, values.min() * s, values.max() * s, bits) for s in shares)
    assert found <= 1.1 * best
    assert found <= 1.001 * error(values, values.min(), values.max(), bits)


def test_without_a_sign_each_end_has_its_own_place():
    rng = np.random.default_rng(0)
    # Like SiLU: a short dense side, a long thin one.
    values = np.concatenate([rng.uniform(-0.28, 0, 20_000), rng.exponential(0.5, 20_000)])
    low, high = least_squares(4, symmetric=False)(seen(values))
    step = (high - low) / 15
    assert high < 0.8 * values.max()
    assert low < -0.2

    def missed(a, b):
        return np.square(
            values - (np.rint((values.clip(a, b) - a) / ((b - a) / 15)) * ((b - a) / 15) + a)
        ).sum()

    grid = np.linspace(0.1, 1, 19)
    best = min(missed(a * values.min(), b * values.max()) for a in grid for b in grid)
    assert missed(low, high) <= 1.15 * best
    assert step > 0


def test_parts_add_up_and_memory_does_not():
    values = np.random.default_rng(0).standard_normal(10_000)
    whole = Histogram(-5.0, 5.0)
    whole.add(values)
    parts = Histogram(-5.0, 5.0)
    for part in np.array_split(values, 7):
        parts.add(part)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert parts.counts.size == whole.counts.size == 4096
    assert whole.counts.sum() == 10_000


def test_a_percentile_holds_its_share():
    values = np.random.default_rng(0).standard_normal(100_000)
    low, high = holding(99.0)(seen(values))
    assert np.mean((values >= low) & (values <= high)) == pytest.approx(0.99, abs=1e-3)
    assert holding(90.0)(seen(np.abs(values)))[0] == pytest.approx(0, abs=1e-3)
