"""What calibration data show of the channels of a value."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarc.support.data import Array

Real = npt.NDArray[np.float64]

HEADROOM = 4.0
"""Standard deviations, from sample to sample, that a channel is given beyond its largest value."""

ALONE = 1.5
"""What a channel may reach of its largest value where there is one sample only."""


@dataclass
class Spread:
    """What calibration shows of each channel of a value.

    `low` to `high` with 0 between them, `power` the mean square, `busy` the share that isn't 0.
    `peak` and `peak_square`: sums, over samples, of the largest magnitude and of its square.
    """

    low: Real
    high: Real
    power: Real
    busy: Real
    peak: Real
    peak_square: Real
    count: int
    samples: int

    @classmethod
    def of(cls, values: Array, axis: int) -> "Spread":
        """Of one array, channels along `axis`, samples along the first where that is another."""
        rows = np.moveaxis(values, axis, 0)
        rows = rows.reshape(len(rows), len(values) if axis else 1, -1)
        # 0 is always a code.
        low = np.minimum(rows.min(axis=2), 0).astype(np.float64)
        high = np.maximum(rows.max(axis=2), 0).astype(np.float64)
        peak = np.maximum(-low, high)
        count = rows.shape[1] * rows.shape[2]
        return cls(
            low.min(axis=1),
            high.max(axis=1),
            np.einsum("csv,csv->c", rows, rows, dtype=np.float64) / count,
            np.count_nonzero(rows, axis=(1, 2)) / count,
            peak.sum(axis=1),
            (peak**2).sum(axis=1),
            count,
            rows.shape[1],
        )

    def joined(self, other: "Spread") -> "Spread":
        """Of both."""
        count = self.count + other.count
        mine, others = self.count / count, other.count / count
        return Spread(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.power * mine + other.power * others,
            self.busy * mine + other.busy * others,
            self.peak + other.peak,
            self.peak_square + other.peak_square,
            count,
            self.samples + other.samples,
        )

    @property
    def sizes(self) -> Real:
        """What each channel may reach, other data than these too.

        Its largest magnitude, and the standard deviation of that from sample to sample: a channel
        that is the same in all samples needs no room.
        """
        largest = np.maximum(-self.low, self.high)
        if self.samples < 2:
            return ALONE * largest
        with np.errstate(invalid="ignore"):  # What isn't finite is refused by its layer.
            variance = self.peak_square / self.samples - (self.peak / self.samples) ** 2
            return largest + HEADROOM * np.sqrt(np.maximum(variance, 0))
