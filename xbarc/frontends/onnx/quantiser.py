"""What QONNX's Quant and BipolarQuant compute."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xbarc.support.data import Array

Rounding = Callable[[Array], Array]

ROUNDINGS: dict[str, Rounding] = {
    "ROUND": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


@dataclass(frozen=True)
class Quantiser:
    """`(round(clip(x / scale + zero, low, high)) - zero) * scale`.

    Binary ones have codes -1 and 1 by the sign of `x / scale + zero`.
    """

    scale: Array
    zero: Array
    bits: int
    signed: bool
    narrow: bool = False
    rounding: str = "ROUND"

    @property
    def binary(self) -> bool:
        """Codes are -1 and 1."""
        return self.signed and self.bits == 1

    @property
    def low(self) -> int:
        """The least code."""
        if self.binary:
            return -1
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def high(self) -> int:
        """The greatest code."""
        if self.binary:
            return 1
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1 - self.narrow

    @property
    def width(self) -> int:
        """Bits that hold codes of both signs alike: one more where the least is a power of 2."""
        return max(-self.low, self.high).bit_length() + self.signed

    @property
    def along(self) -> tuple[Array, Array, int | None] | None:
        """Scale and zero point as DequantizeLinear has them, and which axis from the last they go.

        Scalars have no axis. None where they can't be written so, or aren't a positive scale and
        whole zero points within the codes.
        """
        scale, zero = self.scale.astype(np.float32), self.zero
        if (scale <= 0).any() or not np.isfinite(scale).all() or (zero != np.rint(zero)).any():
            return None
        if (zero < self.low).any() or (zero > self.high).any():
            return None
        shape = np.broadcast_shapes(scale.shape, zero.shape)
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        if len(wide) > 1:
            return None
        scale, zero = (np.broadcast_to(array, shape).reshape(-1) for array in (scale, zero))
        if not wide:
            return scale.reshape(()), zero.reshape(()), None
        return scale, zero, wide[0] - len(shape)

    def codes(self, x: Array) -> Array:
        """The codes of an array, in float64."""
        y = x.astype(np.float64) / self.scale.astype(np.float64) + self.zero
        if self.binary:
            return np.where(y >= 0, 1.0, -1.0)
        return ROUNDINGS[self.rounding](np.clip(y, self.low, self.high))

    def values(self, x: Array) -> Array:
        """What the operator gives."""
        return ((self.codes(x) - self.zero) * self.scale).astype(np.float32)
