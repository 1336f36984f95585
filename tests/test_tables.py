"""Sums by table: what each entry adds up, of which lines."""

import numpy as np
import pytest

from xbarc.simulator.tables import DAC_BITS, ENTRIES, groups_of, make_tables


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("dac_bits", [1, 2, 4])
@pytest.mark.parametrize(("first", "last"), [(0, 12), (7, 18), (19, 20)])
def test_an_entry_is_the_sum_of_what_its_levels_drive(first, last, dac_bits, squared):
    lanes, cells = 4, np.random.default_rng(0).integers(0, 9, (5, 20)).astype(np.int32)
    found = make_tables(cells, first, last, lanes, dac_bits, squared)
    together = DAC_BITS // dac_bits
    assert found.shape == (-(-(last - first) // lanes), -(-5 // together), ENTRIES, lanes)
    assert found.shape[1] == groups_of(5, dac_bits)
    for group in range(found.shape[1]):
        rows = cells[group * together : (group + 1) * together, first:last].astype(int)
        for entry in range(1 << (dac_bits * together)):
            levels = [entry >> (i * dac_bits) & ((1 << dac_bits) - 1) for i in range(len(rows))]
            wanted = sum(
                level ** (1 + squared) * row for level, row in zip(levels, rows, strict=True)
            )
            lines = found[:, group, entry].ravel()
            assert lines[: last - first].tolist() == np.broadcast_to(wanted, last - first).tolist()
            assert not lines[last - first :].any()
