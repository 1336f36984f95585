"""How the standard deviation of a conductance depends on the conductance."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xbarc.simulator.effect import Effect, Floats
from xbarc.support.errors import UsageError

Mode = Literal["proportional", "absolute", "polynomial", "saturating"]

Published = Literal["wan-2022", "wan-2022-1s", "wan-2022-1d", "milo-2021", "joshi-2020"]


@dataclass(frozen=True)
class Polynomial:
    """Standard deviation in uS of conductance in uS, ascending powers, up to `limit_us`."""

    coefficients: tuple[float, ...]
    limit_us: float


def _of_range(coefficients: tuple[float, ...], largest_us: float) -> Polynomial:
    """A polynomial that is published of g / g_max."""
    powers = (c / largest_us**i for i, c in enumerate(coefficients))
    return Polynomial(tuple(powers), largest_us)


PUBLISHED: dict[str, Polynomial] = {
    # RRAM: Wan et al., Nature 608, 2022, conductance after programming.
    "wan-2022": Polynomial((1.053, 0.2374, -1.167e-2, 1.536e-4), 39.26),
    # The same, read from its figures after 1 s and 1 day, as fitted in aihwkit (ReRamWan2022).
    "wan-2022-1s": _of_range((0.348, 16.03, -43.853, 45.393, -16.815), 40.0),
    "wan-2022-1d": _of_range((0.701, 22.086, -50.773, 47.095, -16.458), 40.0),
    # RRAM: Milo et al., IRPS 2021, Fig. 4 (IGVVA-100), as fitted in CrossSim.
    "milo-2021": Polynomial((4.782321, -0.009107), 225.0),
    # PCM: Joshi et al., Nature Communications 11, 2020, Fig. 3b, as fitted in CrossSim.
    "joshi-2020": Polynomial((0.28638599, 0.07585724, -0.00178767), 25.0),
}
"""Polynomials of g by name."""


@dataclass(frozen=True)
class ConductanceSpread(Effect):
    """An effect with a standard deviation of each cell's conductance, in uS, by `mode`:

    - proportional: `sigma` times g;
    - absolute: `sigma` uS;
    - polynomial: a `curve` by name or `coefficients` c0, c1, ... in uS: c0 + c1 g + c2 g^2 ...;
    - saturating: `coefficients` a, b in uS: a (1 - exp(-g / b)).

    In the last two `sigma` is a factor, 1 where none is given. Raises `UsageError` where these
    don't go together.
    """

    mode: Mode = "proportional"
    sigma: float | None = None
    coefficients: tuple[float, ...] = ()
    curve: Published | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            not_negative("sigma", self.sigma)
        if self.mode in ("proportional", "absolute"):
            if self.sigma is None:
                raise UsageError(f"mode = {self.mode} needs sigma")
            if self.coefficients or self.curve:
                raise UsageError("coefficients and curve go with mode=polynomial or saturating")
        elif self.mode == "saturating":
            if self.curve or len(self.coefficients) != 2 or min(self.coefficients) <= 0:
                raise UsageError("mode = saturating needs coefficients=a,b, both above 0")
        elif bool(self.coefficients) == (self.curve is not None):
            raise UsageError("mode = polynomial needs either coefficients or curve")
        if not all(map(math.isfinite, self.coefficients)):
            raise UsageError(f"coefficients = {self.coefficients}: give finite numbers")

    def spread(self, g: Floats) -> Floats:
        """The standard deviation of conductances g, in uS."""
        sigma = 1.0 if self.sigma is None else self.sigma
        if self.mode == "proportional":
            return sigma * g
        if self.mode == "absolute":
            return np.full(g.shape, sigma)
        if self.mode == "saturating":
            a, b = self.coefficients
            return np.asarray(sigma * a * (1 - np.exp(-g / b)))
        named = PUBLISHED[self.curve] if self.curve else Polynomial(self.coefficients, math.inf)
        found = np.polynomial.polynomial.polyval(np.minimum(g, named.limit_us), named.coefficients)
        return np.asarray(sigma * np.maximum(found, 0.0))


def not_negative(name: str, value: float) -> None:
    """Raise `UsageError` where an option is below 0, or no number."""
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{name} = {value}: give a number of 0 or more")
