"""Which vectors are looked at: as many of each input, spread over its map, whatever the blocks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbarc.simulator.sampled import looked_at


@given(
    inputs=st.integers(1, 9),
    of_input=st.integers(1, 200),
    each=st.integers(1, 40),
    cuts=st.lists(st.integers(1, 1799), max_size=6, unique=True),
)
def test_blocks_change_nothing(inputs, of_input, each, cuts):
    count = inputs * of_input
    whole = looked_at(0, count, of_input, each)
    ends = [0, *sorted(cut for cut in cuts if cut < count), count]
    parts = [a + looked_at(a, b - a, of_input, each) for a, b in itertools.pairwise(ends)]
    assert np.concatenate(parts).tolist() == whole.tolist()
    of_each = np.bincount(whole // of_input, minlength=inputs)
    assert (of_each == min(each, of_input)).all()
    assert len(set(whole.tolist())) == len(whole)


@pytest.mark.parametrize("side", [7, 8, 12, 16, 28, 32, 56])
def test_rows_and_columns_are_all_seen(side):
    """Evenly spaced numbers would meet the same column of a map in every row."""
    numbers = looked_at(0, 64 * side**2, side**2, 8) % side**2
    assert set(numbers // side) == set(numbers % side) == set(range(side))
    # Edges, which see the padding, are looked at as often as they are there.
    row, column = numbers // side, numbers % side
    share = float(np.mean((row % (side - 1) == 0) | (column % (side - 1) == 0)))
    assert math.isclose(share, 1 - (1 - 2 / side) ** 2, rel_tol=0.25)
