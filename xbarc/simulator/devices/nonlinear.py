"""`nonlinear`: cells that aren't ohmic."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Effect, Floats
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Nonlinear(Effect):
    """I = g V (1 + k V^2), V in read voltages: V = level / (2^dac_bits - 1).

    The current is then that of the input level x (1 + k V^2). A 1-bit DAC drives at the read
    voltage only: every sum grows by the factor 1 + k, which scales the whole result unless a
    converter clips or rounds. With more levels the low ones count too little beside the high ones.
    Nothing corrects it, and with offset encoding the digital correction of the inputs doesn't know
    of it.
    """

    name: ClassVar[str] = "nonlinear"
    order: ClassVar[int] = 80

    k: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.k) and self.k > -1):
            raise UsageError(f"k = {self.k}: give a number above -1")

    def drive(self, levels: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The input levels that an ohmic cell would need for the same current."""
        voltage = levels / ((1 << array.target.inputs.dac_bits) - 1)
        return np.asarray(levels * (1 + self.k * voltage**2))
