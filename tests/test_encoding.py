"""Weights on cells and codes on word lines: cut up, weighed and added, they are what they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarc.hw import encoding


def test_differential_levels():
    # 75 = 1 00 10 11 in 2-bit slices, little-end first
    levels = encoding.weight_levels(np.array([75, -75]), 8, 2, "differential")
    assert levels[:, :, 0].tolist() == [[3, 0], [2, 0], [0, 0], [1, 0]]
    assert levels[:, :, 1].tolist() == [[0, 3], [0, 2], [0, 0], [0, 1]]


def test_offset_levels():
    # -128, 0 and 127 stand as 0, 128 and 255
    levels = encoding.weight_levels(np.array([-128, 0, 127]), 8, 4, "offset")
    assert levels[:, 0].tolist() == [[0, 0, 15], [0, 8, 15]]


@given(
    bits=st.integers(2, 16),
    cell_bits=st.integers(1, 8),
    kind=st.sampled_from(["differential", "offset"]),
    seed=st.integers(0, 2**32),
)
def test_weight_slices_add_up(bits, cell_bits, kind, seed):
    top = 2 ** (bits - 1) - 1
    q = np.random.default_rng(seed).integers(-top, top + 1, (5, 4))
    encoding.check_weights(q, bits, kind)
    levels = encoding.weight_levels(q, bits, cell_bits, kind).astype(np.int64)
    weights = encoding.slice_weights(bits, cell_bits, kind)
    assert levels.max() < 2**cell_bits
    total = (levels * weights[:, :, None, None]).sum((0, 1))
    np.testing.assert_array_equal(total - (2 ** (bits - 1) if kind == "offset" else 0), q)


@given(
    bits=st.integers(2, 16),
    dac_bits=st.integers(1, 16),
    signed=st.booleans(),
    twos=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_activations_add_up(bits, dac_bits, signed, twos, seed):
    mode = "twos-complement" if twos else "two-pass"
    dac_bits = 1 if twos else dac_bits
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    x = np.random.default_rng(seed).integers(low, high, 20)
    x[:2] = low, high - 1
    encoding.check_inputs(x, bits, signed)
    lines = encoding.input_levels(x, bits, dac_bits, signed, mode)
    weights = encoding.input_slice_weights(bits, dac_bits, signed, mode)
    assert lines.min() >= 0
    assert lines.max() < 2**dac_bits
    np.testing.assert_array_equal(weights @ lines, x)
    passes = 2 if signed and mode == "two-pass" else 1
    assert len(weights) == passes * -(-bits // dac_bits)


@pytest.mark.parametrize(
    ("x", "bits", "signed"),
    [
        (np.array([16], np.uint8), 4, False),
        (np.array([-1], np.int8), 8, False),
        (np.array([8], np.int8), 4, True),
        (np.array([-9], np.int16), 4, True),
    ],
)
def test_codes_out_of_range(x, bits, signed):
    with pytest.raises(ValueError, match="don't fit"):
        encoding.check_inputs(x, bits, signed)


def test_no_codes_are_in_range():
    encoding.check_inputs(np.zeros((3, 0), np.int64), 8, signed=False)


def test_weights_out_of_range():
    q = np.array([-128], np.int8)
    encoding.check_weights(q, 8, "offset")
    with pytest.raises(ValueError, match="-127 .. 127"):
        encoding.check_weights(q, 8, "differential")
