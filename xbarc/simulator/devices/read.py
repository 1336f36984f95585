"""`read`: noise of conductances, fresh in each read."""

from dataclasses import dataclass
from typing import ClassVar

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.effect import Floats
from xbarc.simulator.spread import ConductanceSpread


@dataclass(frozen=True)
class Read(ConductanceSpread):
    """Each cell's conductance is off by a normal error that is new in each read of the array.

    Its standard deviation, in uS, by mode: proportional, `sigma` times g; absolute, `sigma` uS;
    polynomial, c0 + c1 g + c2 g^2 ... with `coefficients` for g in uS, or a published `curve`
    (`xbarc devices programming`); saturating, a (1 - exp(-g / b)) with `coefficients` a, b in uS.
    In the last two `sigma` is a factor (1).

    g is the conductance as it is read: programmed, aged, behind its wires. The noise of a column
    sum has the variance sum of x_r^2 s_r^2 over the rows; it is drawn once a sum, not once a cell.
    """

    name: ClassVar[str] = "read"
    order: ClassVar[int] = 30

    def read(self, g: Floats, array: PhysicalArray) -> Floats | None:
        """Each cell's standard deviation, in uS."""
        return None if self.sigma == 0 else self.spread(g)
