"""`dac`: input levels that are off."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Effect, Floats
from xbarc.simulator.spread import not_negative


@dataclass(frozen=True)
class Dac(Effect):
    """Each word line's DAC misses each of its levels by an error of its own, the same in each read.

    Normal with the standard deviation `sigma` in level steps (LSB), never below 0. Level 0 is
    exact: the word line is grounded. With offset encoding the digital correction doesn't know of
    it.
    """

    name: ClassVar[str] = "dac"
    order: ClassVar[int] = 70

    sigma: float

    def __post_init__(self) -> None:
        not_negative("sigma", self.sigma)

    def drive(self, levels: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The levels of each word line's DAC, [R, levels]."""
        shape = len(array.levels), levels.shape[1] - 1
        off = self.sigma * draw.generator().standard_normal(shape)
        moved = np.repeat(levels, shape[0], axis=0) if len(levels) == 1 else levels.copy()
        moved[:, 1:] = np.maximum(moved[:, 1:] + off, 0.0)
        return moved
