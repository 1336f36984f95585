"""The ADC: from a column sum to an integer code, and what the code stands for.

numerics: Column sums and the ADC.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import Adc

# Column sums are exact in float32 below 2^24; a verification longer than this isn't worth its time.
MAX_VERIFIED_SUMS = 1 << 22
# Adding and taking away 1.5 * 2^23 rounds a float32 to an integer, half to even, up to 2^22.
FLOAT32_ROUNDER = np.float32(1.5 * 2**23)
MAX_FLOAT32_CODE = 1 << 22


@dataclass(frozen=True)
class Converter:
    """One ADC's transfer curve: codes 0 .. `top`, code `c` stands for the sum `lo + c*step`.

    `integer` says that `lo` and `step` are whole by the mode's definition, so that shift-and-add
    works in integers.
    """

    lo: float
    step: float
    top: int
    integer: bool

    def unclipped(self, sums: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """`rint((a - lo)/step)`, half to even, before clipping."""
        return np.rint((sums - self.lo) / self.step)

    def codes(self, sums: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The codes of column sums: `clip(rint((a - lo)/step), 0, top)`."""
        return np.clip(self.unclipped(sums), 0, self.top).astype(np.int64)

    def clipped(self, sums: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which column sums lie outside the range, so that the ADC clips them."""
        codes = self.unclipped(sums)
        return (codes < 0) | (codes > self.top)

    def is_exact(
        self, lowest: npt.NDArray[Any], highest: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Where every integer sum in `lowest .. highest` comes out as itself."""
        if not self.integer:
            return np.zeros(np.broadcast(lowest, highest).shape, bool)
        return (lowest >= self.lo) & (highest <= self.lo + self.top)


def full_scale(rows: int, dac_bits: int, cell_bits: int) -> int:
    """F, the largest sum a column of `rows` cells can reach, in level steps."""
    return int(rows * ((1 << dac_bits) - 1) * ((1 << cell_bits) - 1))


def converter(adc: Adc, full: int, adc_range: tuple[float, float] | None) -> Converter | None:
    """The converter that a target's `[adc]` table describes; None when it is lossless.

    Args:
        full: F of the columns it reads (`full_scale`).
        adc_range: `(lo, hi)` in level steps, for mode `calibrated`.

    Raises:
        ValueError: mode `calibrated` without a range, or with an empty one.
    """
    top = (1 << adc.bits) - 1
    analog = adc.subtract == "analog"
    if adc.mode == "lossless":
        return None
    if adc.mode == "saturate":
        return Converter(float(-(1 << (adc.bits - 1))) if analog else 0.0, 1.0, top, integer=True)
    if adc.mode == "full-scale":
        lo, hi = float(-full if analog else 0), float(full)
    elif adc_range is None:
        raise ValueError('adc.mode = "calibrated" needs the range (lo, hi) of this matrix')
    else:
        lo, hi = float(adc_range[0]), float(adc_range[1])
        if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
            raise ValueError(f"the calibrated ADC range ({lo}, {hi}) is empty")
    return Converter(lo, (hi - lo) / top, top, integer=False)


@dataclass(frozen=True)
class FastCurve:
    """A float32 stand-in for a converter: `clip(a*scale + shift, 0, top)`, rounded half to even.

    Only ever made by `fast_curve`, which has tried it on every sum that can occur.
    """

    scale: np.float32
    shift: np.float32


def fast_curve(exact: Converter, lowest: int, highest: int) -> FastCurve | None:
    """A float32 curve that gives the codes, and the clipping, of `exact` for every integer sum.

    Multiplying by 1/step isn't dividing by step: a sum halfway between two codes may fall on the
    other side. So scale and shift are tried with the neighbouring float32 values too, each
    candidate on all of `lowest .. highest`. None when no candidate agrees everywhere, or the range
    is too wide to try.
    """
    if highest - lowest >= MAX_VERIFIED_SUMS or exact.top > MAX_FLOAT32_CODE:
        return None
    sums = np.arange(lowest, highest + 1)
    codes, clipped = exact.codes(sums), exact.clipped(sums)
    single = sums.astype(np.float32)
    top = np.float32(exact.top)
    one, eps = np.float32(1), np.finfo(np.float32).eps
    nudges = (0, 1, -1, 2, -2)
    with np.errstate(over="ignore", invalid="ignore"):
        for scale_ulps, shift_ulps in itertools.product(nudges, nudges):
            scale = np.float32(1 / exact.step) * (one + np.float32(scale_ulps) * eps)
            shift = np.float32(-exact.lo / exact.step) * (one + np.float32(shift_ulps) * eps)
            if not (np.isfinite(scale) and np.isfinite(shift)):
                continue
            t = single * scale + shift
            outside = (t < np.float32(-0.5)) | (t >= top + np.float32(0.5))
            r = (np.clip(t, np.float32(0), top) + FLOAT32_ROUNDER) - FLOAT32_ROUNDER
            if np.array_equal(r, codes) and np.array_equal(outside, clipped):
                return FastCurve(scale, shift)
    return None
