"""Exact integer products of cells and levels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.simulator.byte_products import available, byte_product

Integers = npt.NDArray[Any]

EXACT = 1 << 53
"""Below this float64 holds every integer."""

PART_BITS = 11
"""Levels of 22 bits are multiplied in two parts where one is too wide."""


def integer_products(cells: Integers, levels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sums over rows [L, n] of cells [R, L] and levels [R, n], integers both.

    Bytes are multiplied by onnxruntime, all else in float64 by BLAS. Every sum below 2^53 is exact;
    one beyond is the exact sum, rounded.
    """
    if levels.dtype == np.uint8 and available(len(cells)):
        return _by_planes(cells, levels)
    lines = cells.T.astype(np.float64)
    largest = int(np.abs(cells).sum(axis=0, dtype=np.int64).max(initial=0))
    if largest * max(-int(levels.min(initial=0)), int(levels.max(initial=0))) < EXACT:
        return np.matmul(lines, levels.astype(np.float64))
    levels = levels.astype(np.int64)
    high, low = levels >> PART_BITS, levels & ((1 << PART_BITS) - 1)
    found = np.matmul(lines, high.astype(np.float64)) * (1 << PART_BITS)
    return np.asarray(found + np.matmul(lines, low.astype(np.float64)))


def _by_planes(cells: Integers, levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Cells cut into bytes, -128 .. 127, little end first, each multiplied by itself."""
    from xbarc.simulator.analog.kernels import add_planes

    planes: list[npt.NDArray[np.int8]] = []
    rest = cells.T.astype(np.int64)
    while not planes or rest.any():
        low = rest.astype(np.int8)
        planes.append(low)
        rest = (rest - low) >> 8
    out = np.empty((cells.shape[1], levels.shape[1]))
    found = byte_product(np.concatenate(planes), np.ascontiguousarray(levels))
    add_planes(found.reshape(len(planes), *out.shape), out)
    return out
