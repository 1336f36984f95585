"""Which vectors of a run are looked at, where all are too many: a choice that no batch changes."""

import math

import numpy as np
import numpy.typing as npt

GOLDEN = (math.sqrt(5) - 1) / 2


def looked_at(first: int, count: int, of_input: int, each: int) -> npt.NDArray[np.intp]:
    """The places in a block [first, first + count) of the vectors that are looked at.

    Vectors are numbered over the run, `of_input` of them an input, of which `each` are looked at.
    Steps of the golden ratio, without a common divisor, spread them over rows and columns of a map
    alike; each input goes on where the one before it ended.
    """
    step = max(1, round(GOLDEN * of_input))
    while math.gcd(step, of_input) != 1:
        step += 1
    inputs = np.arange(first // of_input, (first + count - 1) // of_input + 1)[:, None]
    each = min(each, of_input)
    numbers = inputs * of_input + step * (inputs * each + np.arange(each)) % of_input
    inside = numbers[(numbers >= first) & (numbers < first + count)]
    return np.sort(inside) - first
