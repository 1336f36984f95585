"""What trials say together: mean, spread, and how sure the mean is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""How often an interval has the true mean in it."""


@dataclass(frozen=True)
class Summary:
    """The accuracies of n trials, each from 0 to 1.

    `std`: their standard deviation s, with n - 1 in the denominator. `interval`: the 95 %
    confidence interval of the mean by Student's t, mean -+ t s / sqrt(n), where t is the 97.5 %
    quantile of n - 1 degrees of freedom; cut to 0 .. 1. Of a single trial there is neither.
    """

    mean: float
    std: float | None
    worst: float
    best: float
    median: float
    interval: tuple[float, float] | None


def summary(accuracies: Sequence[float]) -> Summary:
    """The figures of at least one accuracy."""
    values = np.asarray(accuracies, np.float64)
    n, mean = len(values), float(values.mean())
    std = interval = None
    if n > 1:
        std = float(values.std(ddof=1))
        reach = student_t(n - 1) * std / math.sqrt(n)
        interval = max(0.0, mean - reach), min(1.0, mean + reach)
    low, high, median = float(values.min()), float(values.max()), float(np.median(values))
    return Summary(mean, std, low, high, median, interval)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that Student's variable of `freedom` degrees stays within: P(|T| <= t) = confidence.

    By bisection of `within`, to the last bit of its angle.
    """
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def within(angle: float, freedom: int) -> float:
    """P(|T| <= t) of Student's T, with t = sqrt(freedom) tan(angle).

    A finite sum for whole degrees of freedom n, with a = angle (Abramowitz and Stegun, 26.7.3 and
    26.7.4): of even n, sin a (1 + 1/2 cos^2 a + 1 3 / (2 4) cos^4 a + ... to cos^(n-2) a); of odd
    n, 2/pi (a + sin a (cos a + 2/3 cos^3 a + 2 4 / (3 5) cos^5 a + ... to cos^(n-2) a)).
    """
    odd = freedom % 2
    powers = np.arange(2 + odd, freedom, 2)  # exponents of the second term and those after it
    factors = (powers - 1) / powers * math.cos(angle) ** 2
    terms = math.cos(angle) ** odd * np.cumprod(np.concatenate([[1.0], factors]))
    total = math.sin(angle) * (float(terms.sum()) if freedom > 1 else 0.0)
    return 2 / math.pi * (angle + total) if odd else total
