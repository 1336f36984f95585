"""`programming`: variation of conductances when they are written."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Floats
from xbarc.simulator.spread import ConductanceSpread


@dataclass(frozen=True)
class Programming(ConductanceSpread):
    """Each cell misses its conductance when it is written; the error stays until the next writing.

    model: normal, g + s z, never below 0; or lognormal with the mean g and the standard deviation
    s: g exp(t z - t^2 / 2), t^2 = ln(1 + s^2 / g^2), where a cell that conducts nothing stays so. z
    is standard normal, one draw a cell and pulse.

    s in uS, by mode: proportional, `sigma` times g; absolute, `sigma` uS; polynomial, c0 + c1 g +
    c2 g^2 ... with `coefficients` for g in uS, or a published `curve`; saturating, a (1 - exp(-g /
    b)) with `coefficients` a, b in uS. In the last two `sigma` is a factor (1).

    Curves: wan-2022 (RRAM, Wan et al., Nature 608, 2022, to 39.26 uS), wan-2022-1s and wan-2022-1d
    (the same after a second and a day, as fitted in aihwkit, to 40 uS), milo-2021 (RRAM, IRPS 2021,
    as fitted in CrossSim, to 225 uS), joshi-2020 (PCM, Nature Communications 11, 2020, as fitted in
    CrossSim, to 25 uS). Beyond its range a curve stays as it is at the end.
    """

    name: ClassVar[str] = "programming"
    order: ClassVar[int] = 10

    model: Literal["normal", "lognormal"] = "normal"

    def program(self, g: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The conductances that one pulse writes."""
        s, z = self.spread(g), draw.generator().standard_normal(g.shape)
        if self.model == "normal":
            return np.maximum(g + s * z, 0.0)
        relative = np.divide(s, g, out=np.zeros_like(g), where=g > 0)
        t2 = np.log1p(relative**2)
        return np.asarray(g * np.exp(np.sqrt(t2) * z - t2 / 2))
