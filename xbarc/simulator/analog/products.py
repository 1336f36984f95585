"""Exact integer products of cells and levels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.simulator.analog.lines import LANES

Integers = npt.NDArray[Any]

EXACT = 1 << 53
"""Below this float64 holds every integer."""

PART_BITS = 11
"""Levels of 22 bits are multiplied in two parts where one is too wide."""


def integer_products(cells: Integers, levels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sums over rows [B, n, LANES] of cells [R, B * LANES] and levels [R, n], rounded once.

    By float64, since BLAS multiplies that fast. Every sum that float64 holds is exact; one beyond
    2^53 is the exact sum, rounded.
    """
    rows, width = cells.shape
    lines = cells.reshape(rows, width // LANES, LANES).swapaxes(0, 1).astype(np.float64)
    largest = int(np.abs(cells).sum(axis=0, dtype=np.int64).max(initial=0))
    if largest * int(np.abs(levels).max(initial=0)) < EXACT:
        return np.matmul(levels.T.astype(np.float64), lines)
    levels = levels.astype(np.int64)
    high, low = levels >> PART_BITS, levels & ((1 << PART_BITS) - 1)
    found = np.matmul(high.T.astype(np.float64), lines) * (1 << PART_BITS)
    return np.asarray(found + np.matmul(low.T.astype(np.float64), lines))
