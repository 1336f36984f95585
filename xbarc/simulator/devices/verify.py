"""`verify`: cells are written again until they are near enough."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.effect import Effect, Flags, Floats
from xbarc.simulator.spread import not_negative
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Verify(Effect):
    """Write and verify: a cell outside the tolerance gets another pulse, `max_pulses` at most.

    Each pulse writes anew, with an error of its own (the effect `programming`). A cell is left as
    it is once |g - wanted| <= tolerance: times the wanted conductance (mode proportional), or in uS
    (absolute). What misses it with the last pulse stays wrong; so does a stuck cell, which takes
    all pulses. Reads for verifying are exact.
    """

    name: ClassVar[str] = "verify"
    order: ClassVar[int] = 20

    tolerance: float
    mode: Literal["proportional", "absolute"] = "proportional"
    max_pulses: int = 10

    def __post_init__(self) -> None:
        not_negative("tolerance", self.tolerance)
        if self.max_pulses < 1:
            raise UsageError(f"max_pulses = {self.max_pulses}: give 1 or more")

    def again(self, g: Floats, array: PhysicalArray, pulses: int) -> Flags | None:
        """The cells outside the tolerance, while there are pulses left."""
        if pulses >= self.max_pulses:
            return None
        wanted = array.wanted()
        allowed = self.tolerance * wanted if self.mode == "proportional" else self.tolerance
        # A rounding in the last place is no error.
        return np.abs(g - wanted) > allowed + math.ulp(array.cell.high_us)
