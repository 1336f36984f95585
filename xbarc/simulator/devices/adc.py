"""`adc`: converters that are off."""

from dataclasses import dataclass
from typing import ClassVar

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Distortion, Effect
from xbarc.simulator.spread import not_negative
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Adc(Effect):
    """Each ADC has an offset, a gain and a bow of its own; noise is new in each conversion.

    With u the sum in LSB from the bottom of the range, 0 .. 2^bits - 1, the ADC takes

        u (1 + gain z1) + offset z2 + inl z3 4 p (1 - p),    p = u / (2^bits - 1)

    and noise of `noise` LSB. z1, z2, z3 are standard normal, one draw a converter. So `offset`,
    `inl` (the largest deviation, in the middle of the range) and `noise` are standard deviations in
    LSB, `gain` is one relative to 1. An LSB is the step of the converter (numerics: Column sums and
    the ADC); of a lossless one it is a level step, and the range is full scale.

    Bit lines side by side on a crossbar share an ADC, as many as `array.columns_per_adc`, or
    `core.adcs`, says; under analog subtraction a pair has one.
    """

    name: ClassVar[str] = "adc"
    order: ClassVar[int] = 90

    offset: float | None = None
    gain: float | None = None
    inl: float | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise UsageError("give offset, gain, inl or noise")
        for name, value in given.items():
            not_negative(name, value)

    def conversion(self, array: PhysicalArray) -> float:
        """The noise of a conversion, in level steps."""
        return (self.noise or 0.0) * array.adc.step

    def distortion(self, array: PhysicalArray, draw: Draw) -> Distortion | None:
        """The curves of the converters of these lines."""
        offset, gain, inl = self.offset or 0.0, self.gain or 0.0, self.inl or 0.0
        if not (offset or gain or inl):
            return None
        shared = array.target.columns_per_adc()
        count = -(-array.target.array.cols // shared)
        z = draw.generator().standard_normal((count, 3))[array.bit_lines // shared]  # [L, 3]
        return Distortion(gain * z[:, 0], offset * z[:, 1], inl * z[:, 2])
