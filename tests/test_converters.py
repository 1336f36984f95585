"""The ADC's transfer curve, and its float32 stand-in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarc.hw.converters import FLOAT32_ROUNDER, Converter, converter, fast_curve, full_scale
from xbarc.hw.target import Adc
from xbarc.simulator.exact.kernels import _convert_exact, _convert_fast


def test_full_scale_is_rows_times_levels():
    assert full_scale(128, 1, 2) == 384
    assert full_scale(128, 2, 2) == 1152


@pytest.mark.parametrize(
    ("adc", "expected"),
    [
        (Adc(bits=3, mode="saturate"), (0.0, 1.0, 7, True)),
        (Adc(bits=3, mode="saturate", subtract="analog"), (-4.0, 1.0, 7, True)),
        (Adc(bits=3, mode="full-scale"), (0.0, 2.0, 7, False)),
        (Adc(bits=3, mode="full-scale", subtract="analog"), (-14.0, 4.0, 7, False)),
        (Adc(bits=3, mode="calibrated"), (-1.0, 0.5, 7, False)),
    ],
)
def test_ranges(adc, expected):
    assert converter(adc, 14, (-1.0, 2.5)) == Converter(*expected)


def test_lossless_is_no_converter():
    assert converter(Adc(mode="lossless"), 14, None) is None


@pytest.mark.parametrize("adc_range", [None, (1.0, 1.0), (0.0, float("nan"))])
def test_calibrated_needs_a_range(adc_range):
    with pytest.raises(ValueError, match="range"):
        converter(Adc(mode="calibrated"), 14, adc_range)


def test_codes_round_half_to_even_and_clip():
    adc = Converter(lo=-1.0, step=2.0, top=3, integer=False)
    sums = np.arange(-4, 9)
    # (a + 1)/2 = -1.5 -1 -0.5 0 0.5 1 1.5 2 2.5 3 3.5 4 4.5
    assert adc.codes(sums).tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3]
    assert adc.clipped(sums).tolist() == [True] * 2 + [False] * 8 + [True] * 3


def test_kernels_round_and_count_alike():
    adc = Converter(lo=-1.0, step=2.0, top=3, integer=False)
    sums = np.arange(-4, 9, dtype=np.int32)
    once, top = np.float32(1), np.float32(adc.top)
    fast, exact, unclipped = (np.zeros(len(sums), np.float32) for _ in range(3))
    scale = shift = np.float32(0.5)  # t = (sum + 1) / 2
    clipped = int(adc.clipped(sums).sum())
    assert _convert_fast(sums, fast, once, scale, shift, top, True) == clipped
    assert _convert_exact(sums, exact, 1.0, adc.lo, adc.step, adc.top) == clipped
    assert fast.tolist() == exact.tolist() == adc.codes(sums).tolist()
    inside = sums[~adc.clipped(sums)]
    assert _convert_fast(inside, unclipped, once, scale, shift, top, False) == 0
    assert unclipped[: len(inside)].tolist() == adc.codes(inside).tolist()


def test_exact_where_the_range_holds_every_sum():
    adc = Converter(lo=-4.0, step=1.0, top=7, integer=True)
    low, high = np.array([-4, -5, 0]), np.array([3, 3, 4])
    assert adc.is_exact(low, high).tolist() == [True, False, False]


@given(
    rows=st.integers(1, 600),
    cell_bits=st.integers(1, 4),
    bits=st.integers(1, 12),
    mode=st.sampled_from(["saturate", "full-scale", "calibrated"]),
    analog=st.booleans(),
    lo=st.floats(-1, 0.5),
    width=st.floats(0.01, 1),
)
def test_fast_curve_is_the_curve(rows, cell_bits, bits, mode, analog, lo, width):
    full = full_scale(rows, 1, cell_bits)
    adc = Adc(bits=bits, mode=mode, subtract="analog" if analog else "digital")
    exact = converter(adc, full, (lo * full, (lo + width) * full))
    assert exact is not None
    lowest = -full if analog else 0
    fast = fast_curve(exact, lowest, full)
    if fast is None:
        assert mode != "saturate"
        return
    sums = np.arange(lowest, full + 1)
    t = np.clip(sums.astype(np.float32) * fast.scale + fast.shift, 0, np.float32(exact.top))
    np.testing.assert_array_equal((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER, exact.codes(sums))


def test_no_fast_curve_where_float32_cannot_follow():
    adc = Converter(lo=0.0, step=1.0, top=(1 << 24) - 1, integer=True)
    assert fast_curve(adc, 0, 100) is None
    narrow = Converter(lo=0.0, step=1.0, top=255, integer=True)
    assert fast_curve(narrow, 0, 1 << 24) is None
