"""Matrix against the plain reference, to the last bit, in every mode."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import crossbar_matmul, dense_weights, make_target

from xbarc.simulator.exact import kernels
from xbarc.simulator.exact.matrix import Matrix
from xbarc.simulator.exact.segments import Segment


def row_blocks(rows, cols, array_rows):
    """The segments of an ordinary matrix: rows cut full first, all columns."""
    return [Segment(k, min(k + array_rows, rows), 0, cols) for k in range(0, rows, array_rows)]


def packed_groups(group_rows, group_cols, groups, array_rows):
    """The segments of a block-diagonal matrix: whole groups packed, or row blocks of one group."""
    per_tile = array_rows // group_rows
    if per_tile:
        return [
            Segment(g * group_rows, end * group_rows, g * group_cols, end * group_cols)
            for g in range(0, groups, per_tile)
            for end in [min(g + per_tile, groups)]
        ]
    return [
        Segment(g * group_rows + s.row_begin, g * group_rows + s.row_end, n, n + group_cols)
        for g, n in enumerate(range(0, groups * group_cols, group_cols))
        for s in row_blocks(group_rows, group_cols, array_rows)
    ]


def random_codes(rng, shape, bits, signed):
    """Codes over the whole range, with its ends over-represented."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    dtype = np.dtype(f"{'int' if signed else 'uint'}{8 if bits <= 8 else 16}")
    codes = rng.integers(low, high, shape)
    extreme = rng.random(shape)
    codes[extreme < 0.15] = high - 1
    codes[extreme > 0.85] = low
    return codes.astype(dtype)


def random_weights(rng, shape, bits, spread, offset=False):
    """Gaussian weights of `spread` times the largest, cut there; some columns are zero."""
    top = 2 ** (bits - 1) - 1
    q = np.clip(np.rint(rng.normal(size=shape) * top * spread), -top - offset, top)
    q[:, rng.random(shape[1]) < 0.1] = 0
    return q.astype(np.int8 if bits <= 8 else np.int16)


def check(matrix, x, q, segments, target, groups, **kwargs):
    """Matrix and reference agree in results and in statistics."""
    counts = {}
    expected = crossbar_matmul(
        x.T, dense_weights(q, groups), segments, target, counts=counts, **kwargs
    )
    out = np.empty((q.shape[1], x.shape[1]), expected.dtype)
    matrix.multiply(x, out)
    np.testing.assert_array_equal(out, expected.T)
    assert matrix.conversions.count == counts["conversions"]
    assert matrix.conversions.saturated == counts["saturated"]
    assert np.abs(out).max(initial=0) <= matrix.bound
    if matrix.lossless:
        np.testing.assert_array_equal(out.T, x.T.astype(np.int64) @ dense_weights(q, groups))


@st.composite
def cases(draw):
    """A target, weights on its crossbars, and input codes."""
    encoding = draw(st.sampled_from(["differential", "offset"]))
    mode = draw(st.sampled_from(["lossless", "saturate", "saturate", "full-scale", "calibrated"]))
    analog = encoding == "differential" and draw(st.booleans())
    dac_bits = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 8, 16]))
    signed = draw(st.booleans())
    ways = ["two-pass", *["twos-complement"] * (dac_bits == 1), *["native"] * analog]
    in_rows = analog and draw(st.booleans())
    target = make_target(
        array={
            "rows": draw(st.sampled_from([1, 7, 32, 60, 128, 200])) * (1 + in_rows),
            "cell_bits": draw(st.integers(1, 8)),
            "encoding": encoding,
            "polarity_in": "rows" if in_rows else "columns",
        },
        inputs={"dac_bits": dac_bits, "signed": draw(st.sampled_from(ways))},
        adc={
            "mode": mode,
            "bits": draw(st.sampled_from([1, 2, 4, 5, 6, 7, 8, 9, 10, 13, 24])),
            "subtract": "analog" if analog else "digital",
        },
    )
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 6]))
    limit = 300 if groups == 1 else 90
    rows, cols = draw(st.integers(1, limit)), draw(st.integers(1, 5 if groups > 1 else 12))
    weight_bits, input_bits = draw(st.integers(2, 16)), draw(st.integers(2, 16))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.02, 0.2, 0.5, 3.0]))
    q = random_weights(rng, (rows, groups * cols), weight_bits, spread, encoding == "offset")
    x = random_codes(rng, (groups * rows, draw(st.integers(1, 70))), input_bits, signed)
    array_rows = target.array.weights_per_column
    if groups == 1:
        segments = row_blocks(rows, cols, array_rows)
    else:
        segments = packed_groups(rows, cols, groups, array_rows)
    adc_range = None
    if mode == "calibrated":
        full = min(rows, array_rows) * (2**dac_bits - 1) * (2**target.array.cell_bits - 1)
        lo, width = draw(st.floats(-1, 0.5)), draw(st.floats(0.01, 1))
        adc_range = (lo * full, (lo + width) * full)
    return target, q, x, segments, groups, weight_bits, input_bits, signed, adc_range


@settings(max_examples=200, deadline=None)
@given(cases())
def test_equals_the_reference(case):
    target, q, x, segments, groups, weight_bits, input_bits, signed, adc_range = case
    kwargs = {
        "weight_bits": weight_bits,
        "input_bits": input_bits,
        "input_signed": signed,
        "adc_range": adc_range,
    }
    matrix = Matrix(q, segments, target, groups=groups, **kwargs)
    check(matrix, x, q, segments, target, groups, **kwargs)


EIGHT_BITS = {"weight_bits": 8, "input_bits": 8, "input_signed": False}


@pytest.mark.parametrize("subtract", ["digital", "analog"])
@pytest.mark.parametrize("mode", ["full-scale", "saturate"])
@pytest.mark.parametrize("rows", [7, 32, 33])
def test_short_tiles(rows, mode, subtract):
    """Up to 32 rows, as a kernel offset's few channels have: summed and converted in one go."""
    rng = np.random.default_rng(rows)
    target = make_target(array={"rows": rows}, adc={"mode": mode, "bits": 4, "subtract": subtract})
    q, x = random_weights(rng, (90, 12), 8, 0.5), random_codes(rng, (90, 300), 8, False)
    segments = row_blocks(90, 12, rows)
    matrix = Matrix(q, segments, target, **EIGHT_BITS)
    check(matrix, x, q, segments, target, 1, **EIGHT_BITS)


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("groups", [1, 4])
def test_partial_collapse(encoding, groups):
    """Weak columns collapse, strong ones are converted, and some of those really clip."""
    rng = np.random.default_rng(1)
    target = make_target(
        array={"rows": 128, "encoding": encoding}, adc={"mode": "saturate", "bits": 6}
    )
    rows, cols = 128 // groups + 10 * (groups == 1), 16
    q = random_weights(rng, (rows, cols), 8, 0.02)
    q[:, ::3] = np.abs(random_weights(rng, q[:, ::3].shape, 8, 1.0))
    x = random_codes(rng, (groups * rows, 300), 8, False)
    x[:, ::7] = 255
    if groups == 1:
        segments = row_blocks(rows, cols, 128)
    else:
        segments = packed_groups(rows, cols // groups, groups, 128)
    matrix = Matrix(q, segments, target, groups=groups, **EIGHT_BITS)
    assert 0 < matrix.collapsed < 1
    assert not matrix.lossless
    check(matrix, x, q, segments, target, groups, **EIGHT_BITS)
    assert matrix.conversions.saturated > 0


def test_sixteen_bit_lossless():
    """16-bit weights times 16-bit inputs: the exact product, beyond what float32 holds."""
    rng = np.random.default_rng(2)
    target = make_target(adc={"mode": "lossless"})
    kwargs = {"weight_bits": 16, "input_bits": 16, "input_signed": True}
    q = random_weights(rng, (600, 9), 16, 3.0)
    x = random_codes(rng, (600, 40), 16, True)
    segments = row_blocks(600, 9, 128)
    matrix = Matrix(q, segments, target, **kwargs)
    assert matrix.lossless
    assert matrix.bound > 1 << 31
    check(matrix, x, q, segments, target, 1, **kwargs)


def test_depthwise_of_many_segments():
    """Hundreds of segments: 3 x 3 depthwise weights, 14 channels to an array of 128 rows."""
    rng = np.random.default_rng(3)
    q = random_weights(rng, (9, 960), 8, 1.0)
    x = random_codes(rng, (9 * 960, 33), 8, False)
    segments = packed_groups(9, 1, 960, 128)
    for mode in ("lossless", "saturate", "full-scale"):
        target = make_target(adc={"mode": mode, "bits": 4})
        matrix = Matrix(q, segments, target, groups=960, **EIGHT_BITS)
        expected = np.empty((960, 33), np.int64 if matrix.integer else np.float64)
        matrix.multiply(x, expected)
        picked = slice(14 * 9, 28 * 9), slice(14, 28)
        small = crossbar_matmul(
            x[picked[0]].T,
            dense_weights(q[:, picked[1]], 14),
            [Segment(0, 126, 0, 14)],
            target,
            **EIGHT_BITS,
        )
        np.testing.assert_array_equal(expected[picked[1]], small.T)


def test_the_saturating_adc_clips():
    """Two rows, 1-bit cells, 1-bit ADC: where both cells are on, the sum 2 is read as 1.

    Weights 3 and 1, inputs 1 and 1: slice 0 sums to 2, read as 1; slice 1 to 1. So 1 + 2*1 = 3,
    not 4.
    """
    target = make_target(array={"cell_bits": 1}, adc={"mode": "saturate", "bits": 1})
    kwargs = {"weight_bits": 3, "input_bits": 2, "input_signed": False}
    matrix = Matrix(np.array([[3], [1]], np.int8), [Segment(0, 2, 0, 1)], target, **kwargs)
    out = np.empty((1, 2), np.int32)
    matrix.multiply(np.array([[1, 2], [1, 0]], np.uint8), out)
    assert out.tolist() == [[3, 6]]
    assert matrix.conversions.saturated == 1
    # 2 vectors, 2 slices, 2 polarities, 2 activations
    assert matrix.conversions.count == 16
    # Only slice 0 of G+ can saturate.
    assert matrix.collapsed == 3 / 4


def test_the_full_scale_adc_rounds():
    """Three rows, 1-bit cells, 1-bit ADC: F = step = 3, so 0 and 1 read 0, 2 and 3 read 3."""
    target = make_target(array={"cell_bits": 1}, adc={"mode": "full-scale", "bits": 1})
    kwargs = {"weight_bits": 2, "input_bits": 2, "input_signed": False}
    matrix = Matrix(np.ones((3, 1), np.int8), [Segment(0, 3, 0, 1)], target, **kwargs)
    out = np.empty((1, 4))
    # Sums of the low bits 1, 2, 3, 0, of the high bits 0, 0, 1, 2.
    x = np.array([[1, 1, 3, 2], [0, 1, 1, 2], [0, 0, 1, 0]], np.uint8)
    matrix.multiply(x, out)
    assert out.tolist() == [[0.0, 3.0, 3.0, 6.0]]
    assert matrix.conversions.saturated == 0


def test_wide_sums_are_counted_exactly():
    """16-bit DACs and 8-bit cells: sums beyond 2^31, so BLAS in float64 instead of bit counts."""
    rng = np.random.default_rng(4)
    q = random_weights(rng, (400, 6), 16, 3.0)
    x = random_codes(rng, (400, 11), 16, False)
    kwargs = {"weight_bits": 16, "input_bits": 16, "input_signed": False}
    for adc in ({"mode": "saturate", "bits": 24}, {"mode": "full-scale", "bits": 20}):
        for subtract in ("analog", "digital"):
            target = make_target(
                array={"rows": 400, "cell_bits": 8},
                inputs={"dac_bits": 16},
                adc={**adc, "subtract": subtract},
            )
            segments = row_blocks(400, 6, 400)
            matrix = Matrix(q, segments, target, **kwargs)
            check(matrix, x, q, segments, target, 1, **kwargs)


def test_statistics_add_up_over_calls():
    target = make_target(adc={"mode": "saturate", "bits": 4})
    q = np.full((200, 3), 127, np.int8)
    matrix = Matrix(q, row_blocks(200, 3, 128), target, **EIGHT_BITS)
    x, out = np.full((200, 10), 255, np.uint8), np.empty((3, 10), np.int64)
    matrix.multiply(x, out)
    # 10 vectors, 3 columns, 2 row blocks, 4 slices, 2 polarities, 8 activations
    assert matrix.conversions.count == 10 * 3 * 2 * 4 * 2 * 8
    # Every sum of G+ is above 15.
    assert matrix.conversions.saturated == matrix.conversions.count // 2
    matrix.multiply(x, out)
    assert matrix.conversions.saturated == matrix.conversions.count // 2 == 10 * 3 * 2 * 4 * 2 * 8


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([Segment(0, 128, 0, 4)], "weight \\(128, 0\\) is held by no segment"),
        ([Segment(0, 128, 0, 4), Segment(100, 200, 0, 4)], "held by more than one segment"),
        ([Segment(0, 200, 0, 4)], "more rows than the array's 128"),
        ([Segment(0, 128, 0, 5)], "outside of the matrix"),
    ],
)
def test_segments_that_do_not_fit(segments, message):
    with pytest.raises(ValueError, match=message):
        Matrix(np.ones((200, 4), np.int8), segments, make_target(), **EIGHT_BITS)


def test_refusals():
    segments = [Segment(0, 2, 0, 1)]
    q = np.full((2, 1), 127, np.int8)
    with pytest.raises(ValueError, match="weights -128 .. -128 don't fit 8-bit differential"):
        Matrix(np.full((2, 1), -128, np.int8), segments, make_target(), **EIGHT_BITS)
    with pytest.raises(ValueError, match="needs the range"):
        Matrix(q, segments, make_target(adc={"mode": "calibrated"}), **EIGHT_BITS)
    matrix = Matrix(q, segments, make_target(), **(EIGHT_BITS | {"input_bits": 4}))
    out = np.empty((1, 3), np.int32)
    with pytest.raises(ValueError, match="input codes 16 .. 16 don't fit 4 unsigned bits"):
        matrix.multiply(np.full((2, 3), 16, np.uint8), out)
    with pytest.raises(ValueError, match="can't take x"):
        matrix.multiply(np.ones((3, 3), np.uint8), out)
    with pytest.raises(ValueError, match="contiguous"):
        matrix.multiply(np.ones((3, 2), np.uint8).T, out)
    lossy = Matrix(q, segments, make_target(adc={"mode": "full-scale"}), **EIGHT_BITS)
    with pytest.raises(ValueError, match="gives float64, out is int32"):
        lossy.multiply(np.ones((2, 3), np.uint8), out)
    wide = {"weight_bits": 16, "input_bits": 16, "input_signed": False}
    large = Matrix(np.full((2, 1), 32767, np.int16), segments, make_target(), **wide)
    with pytest.raises(ValueError, match="don't fit out, which is int32"):
        large.multiply(np.ones((2, 3), np.uint16), out)


def test_half_a_step_beyond_the_lowest_code_rounds_into_it_and_above_the_largest_out():
    """Ties go to the even code: -0.5 to 0, which is there, 3.5 to 4, which isn't."""
    sums = np.array([0, 1, 2, 4, 5], np.int32)  # t: -0.5, 0.5, 1.5, 3.5, 4.5
    for top in (1.0, 3.0):
        fast, exact = np.zeros(5, np.float32), np.zeros(5)
        one, shift = np.float32(1), np.float32(-0.5)
        clipped = [
            kernels._convert_fast(sums, fast, one, one, shift, np.float32(top), True),
            kernels._convert_exact(sums, exact, 1.0, 0.5, 1.0, top),
        ]
        t = sums - 0.5
        assert clipped == [int((np.rint(t) != np.clip(np.rint(t), 0, top)).sum())] * 2
        assert fast.tolist() == exact.tolist() == np.clip(np.rint(t), 0, top).tolist()
