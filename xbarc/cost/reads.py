"""What the cells that are read are programmed to."""

import numpy as np

from xbarc.hw.encoding import level_sums
from xbarc.hw.target import CrossbarArray
from xbarc.ir.analysis.visits import Visits
from xbarc.support.data import Array

CHUNK = 1 << 22
"""Weights looked up at a time."""


def level_reads(seen: Visits, q: Array, bits: int, array: CrossbarArray) -> int:
    """The sum of the levels of all cells read for one input slice; weights q [Kg, N]."""
    first, levels = level_sums(bits, array.cell_bits, array.encoding)
    zero = int(levels[-first])
    total = zero * int(seen.use.places.sum())
    step = max(1, CHUNK // q.shape[1])
    for begin in range(0, len(q), step):
        held = levels[q[begin : begin + step].astype(np.int32) - first].sum(axis=1, dtype=np.int64)
        above = held - zero * q.shape[1]
        total += int(above @ seen.read[begin : begin + step, 0])
    return total
