"""Ranges of values: which part of what calibration shows the codes should cover."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xbarc.support.data import Array

BINS = 4096
"""Bins of a histogram."""

ENDS = 0.5 ** (np.arange(25) / 6)
"""Ends that are tried, as shares of the extreme: from all of it down to a sixteenth."""


@dataclass
class Histogram:
    """How often values fall between `low` and `high`: `counts` [BINS]; `zeros` are exactly 0."""

    low: float
    high: float
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    zeros: int = 0

    def add(self, values: Array) -> None:
        """Count `values` in."""
        # In float64: bins of a narrow range are less than a float32 apart.
        self.counts += np.histogram(values.astype(np.float64), BINS, (self.low, self.high))[0]
        self.zeros += int(values.size - np.count_nonzero(values))

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


RangeRule = Callable[[Histogram], tuple[float, float]]
"""What takes a range (least, greatest) from a histogram."""


def holding(percent: float) -> RangeRule:
    """The range that holds `percent` of the values.

    Half of what is cut off lies on either side; none at a minimum of exactly 0 (after a ReLU).
    """

    def choose(seen: Histogram) -> tuple[float, float]:
        low = seen.low
        share = np.cumsum(seen.counts) / max(1, seen.counts.sum())
        tail = (100 - percent) / 100 / (2 if low < 0 else 1)
        first = int(np.searchsorted(share, tail)) if low < 0 else 0
        last = int(np.searchsorted(share, 1 - tail)) + 1
        width = (seen.high - low) / BINS
        return low + first * width, low + last * width

    return choose


def least_squares(bits: int, *, symmetric: bool) -> RangeRule:
    """The range in which codes of `bits` bits miss the values least, by their squared error.

    What lies beyond the range is clipped; within it a value misses its code by step^2 / 12 in the
    mean, and a value of 0 by nothing. `symmetric`: negative values get codes with a sign, as many
    on either side; else 2^bits codes from end to end.
    """

    def choose(seen: Histogram) -> tuple[float, float]:
        low, high = min(seen.low, 0.0), max(seen.high, 0.0)
        if symmetric and low < 0:
            far = max(-low, high)
            end = far * _best(seen, bits, ENDS * -far, ENDS * far)
            return max(low, -end), min(high, end)
        least, greatest = low, high
        for _ in range(2):  # One end after the other: each barely moves the other's best.
            high = greatest * _best(seen, bits, np.full_like(ENDS, low), ENDS * greatest)
            low = least * _best(seen, bits, ENDS * least, np.full_like(ENDS, high))
        return low, high

    return choose


def _best(seen: Histogram, bits: int, lows: Array, highs: Array) -> float:
    """The share in `ENDS` of least error, for the ranges that it makes; of equals the largest."""
    ends = zip(lows.tolist(), highs.tolist(), strict=True)
    return float(ENDS[int(np.argmin([_miss(seen, low, high, bits) for low, high in ends]))])


def _miss(seen: Histogram, low: float, high: float, bits: int) -> float:
    """The squared error of codes from `low` to `high`, added up over the values."""
    step = (high - low) / ((1 << bits) - 1)
    centres = seen.centres
    beyond = np.maximum(centres - high, 0) + np.maximum(low - centres, 0)
    within = int(seen.counts[beyond == 0].sum()) - seen.zeros
    return float((seen.counts * beyond**2).sum()) + within * step**2 / 12
