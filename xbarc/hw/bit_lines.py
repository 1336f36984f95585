"""Bit lines: the physical columns that weight columns stand on, one a slice and polarity."""

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import CrossbarArray


def live_lines(
    weights: npt.NDArray[Any], bits: int, array: CrossbarArray, *, analog: bool
) -> npt.NDArray[np.int64]:
    """For each weight column of integers [R, C], the number of bit lines with a cell above level 0.

    Returns [C]. With `analog` subtraction a pair of G+ and G- lines counts as one, because they
    meet before the converter.
    """
    wide = weights.astype(np.int64)
    if array.encoding == "offset":
        parts = [wide + (1 << (bits - 1))]
    else:
        parts = [np.maximum(wide, 0), np.maximum(-wide, 0)]
    held = [np.bitwise_or.reduce(part, axis=0) for part in parts]
    if analog:
        held = [np.bitwise_or.reduce(held, axis=0)]
    shifts = np.arange(array.slices(bits))[:, None, None] * array.cell_bits
    slices = (np.stack(held) >> shifts) & ((1 << array.cell_bits) - 1)  # [S, P, C]
    return np.count_nonzero(slices, axis=(0, 1)).astype(np.int64)
