"""`drift`: conductances fall with time."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Effect, Floats
from xbarc.simulator.spread import not_negative
from xbarc.support.errors import UsageError

BOLTZMANN_EV = 8.617333262e-5
"""eV / K (CODATA 2018)."""


@dataclass(frozen=True)
class Drift(Effect):
    """g(t) = g0 (t / t0)^-nu, `time` seconds after writing; before `t0` nothing has drifted.

    Each cell has its own nu, normal with the mean `nu` and the standard deviation `nu_sigma`, never
    below 0. PCM has a nu of about 0.05 (aihwkit).

    `temperature` in K: time passes exp(Ea / k (1 / T0 - 1 / T)) times as fast as at `reference`,
    T0, where nu was measured; Ea is `activation` in eV (Arrhenius' law). It must be given with the
    temperature: no value suits all devices.

    compensation=global: the range of an array's converters is scaled by one factor: what all its
    cells together conduct now over what they did when written (Joshi et al., Nature Communications
    11, 2020).
    """

    name: ClassVar[str] = "drift"
    order: ClassVar[int] = 40

    time: float = 86400.0
    t0: float = 1.0
    nu: float = 0.05
    nu_sigma: float = 0.0
    temperature: float | None = None
    reference: float = 300.0
    activation: float | None = None
    compensation: Literal["none", "global"] = "none"

    def __post_init__(self) -> None:
        for name in ("time", "nu", "nu_sigma"):
            not_negative(name, getattr(self, name))
        for name in ("t0", "temperature", "reference"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} = {value}: give a number above 0")
        if (self.temperature is None) != (self.activation is None):
            raise UsageError("temperature and activation go together: give both or neither")
        if self.activation is not None:
            not_negative("activation", self.activation)

    def elapsed(self) -> float:
        """Seconds at the reference temperature that do what `time` did."""
        if self.temperature is None or self.activation is None:
            return self.time
        inverse = 1 / self.reference - 1 / self.temperature
        return self.time * math.exp(self.activation / BOLTZMANN_EV * inverse)

    def age(self, g: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The conductances after that time."""
        nu = self.nu + self.nu_sigma * draw.generator().standard_normal(g.shape)
        past = math.log(max(self.elapsed() / self.t0, 1.0))
        return np.asarray(g * np.exp(-past * np.maximum(nu, 0.0)))

    def scale(self, written: Floats, g: Floats) -> float:
        """With compensation, what was written over what is left."""
        total = float(g.sum())
        return float(written.sum()) / total if self.compensation == "global" and total else 1.0
