"""Real numbers to integer codes and back: scales of inputs and weights (numerics: Quantisation)."""

import math
import sys
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

CHUNK = 1 << 22
"""Weights quantised at a time: what bounds the float64 temporaries."""


SignedCodes = Literal["asymmetric", "two-pass"]
"""What becomes of negative inputs: codes with a zero point, or codes with a sign."""


@dataclass(frozen=True)
class InputScale:
    """How real activations become integer codes.

    `bits` of a code with its sign, `zero_point` the code that means 0.
    """

    scale: float
    bits: int
    signed: bool
    zero_point: int = 0

    @property
    def largest_code(self) -> int:
        """The largest magnitude of a code that `quantize` gives."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


def input_scale(low: float, high: float, bits: int, *, asymmetric: bool = False) -> InputScale:
    """The scale for activations within [low, high]: unsigned where none is negative.

    Else the codes are signed and symmetric, or `asymmetric`: unsigned, from low to high, 0
    included. Raises `XbarcError` where the range isn't finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise XbarcError(f"activations reach from {low} to {high}: not finite")
    shifted = asymmetric and low < 0
    signed = low < 0 and not asymmetric
    codes = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    reach = max(high, 0.0) - low if shifted else max(abs(low), abs(high))
    scale = reach / codes
    # Of zeros alone, or what float64 itself can't tell from them, nothing but zeros is left.
    if scale < sys.float_info.min:
        return InputScale(1.0, bits, signed)
    return InputScale(scale, bits, signed, round(-low / scale) if shifted else 0)


def without_sign(scale: InputScale) -> InputScale:
    """The same codes as unsigned ones: each, and the zero point, larger by 2^(bits - 1)."""
    return replace(scale, signed=False, zero_point=scale.zero_point + (1 << (scale.bits - 1)))


def quantize(x: Array, scale: InputScale) -> Array:
    """`clip(rint(x / scale) + zero_point)` in float64, as the integer type that holds the codes."""
    low = -scale.largest_code if scale.signed else 0
    codes = np.divide(x, scale.scale, dtype=np.float64)
    np.rint(codes, out=codes)
    if scale.zero_point:
        codes += scale.zero_point
    if not math.isfinite(codes.max(initial=0)) or not math.isfinite(codes.min(initial=0)):
        raise XbarcError(
            "an activation is NaN or infinite: the input has such values, or the model makes them"
        )
    np.clip(codes, low, scale.largest_code, out=codes)
    return codes.astype(code_dtype(scale.bits, scale.signed))


def code_dtype(bits: int, signed: bool) -> np.dtype[np.generic]:
    """The numpy type that holds codes of `bits` bits: int8, uint8, int16 or uint16."""
    return np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")


def quantize_weights(w: Array, bits: int) -> tuple[Array, npt.NDArray[np.float64]]:
    """Integer weights and the scale of each column (numerics: Quantisation).

    `w` [K, N] real; gives q [K, N] int8 or int16 within +-(2^(bits-1) - 1), and scale [N]. Raises
    `XbarcError` where a weight isn't finite.
    """
    largest = (1 << (bits - 1)) - 1
    k, n = w.shape
    step = max(1, CHUNK // n)
    peak = np.zeros(n)
    for start in range(0, k, step):
        np.maximum(peak, np.abs(w[start : start + step]).max(axis=0), out=peak)
    if not np.isfinite(peak).all():
        raise XbarcError("a weight is NaN or infinite")
    scale = np.where(peak > 0, peak / largest, 1.0)
    q = np.empty((k, n), dtype=np.int8 if bits <= 8 else np.int16)
    for start in range(0, k, step):
        block = w[start : start + step] / scale
        np.rint(block, out=block)
        np.clip(block, -largest, largest, out=block)
        q[start : start + step] = block
    return q, scale
