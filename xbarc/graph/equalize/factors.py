"""By how much to scale channels: what quantising adds to a layer's outputs, before and after."""

import numpy as np

from xbarc.graph.equalize.sites import Site
from xbarc.graph.equalize.spread import Real, Spread

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
"""Powers of the channels' sizes that are tried."""

SMALLEST = 1 / 256
"""No channel counts as smaller than this share of the largest: nearly dead ones prove nothing."""


def best_factors(
    site: Site, spread: Spread, bits: tuple[int, int], *, symmetric: bool
) -> tuple[Real, float]:
    """What to divide each channel by, and what that leaves of the site's noise, as a share.

    The noise is what rounding inputs and weights to `bits` adds to the layers' outputs: step^2 / 12
    a weight, or an input, times the power of what it is multiplied by. Tried are powers of the
    channels' sizes, and sqrt(size of the channel / size of its weights) (Nagel and others, ICCV
    2019). In a depthwise layer the sizes themselves are best: each column has a scale of its own,
    so its weights lose nothing.
    """
    size = spread.sizes
    size = np.maximum(size / size.max(), SMALLEST)
    rows = np.zeros(len(size))
    for w in site.weights(len(size)):
        largest = np.abs(w).max(axis=(1, 2), keepdims=True)
        share = np.abs(w) / np.where(largest > 0, largest, 1)
        rows = np.maximum(rows, share.max(axis=(2, 3)).reshape(-1))
    balanced = np.sqrt(size / np.maximum(rows, SMALLEST))
    tried = [size**e for e in EXPONENTS] + [balanced / balanced.max()]
    plain = _noise(site, spread, np.ones(len(size)), bits, symmetric)
    noises = [_noise(site, spread, f, bits, symmetric) for f in tried]
    best = int(np.argmin(noises))
    return tried[best], noises[best] / plain if plain > 0 else 1.0


def _noise(
    site: Site, spread: Spread, factors: Real, bits: tuple[int, int], symmetric: bool
) -> float:
    """What rounding adds to the layers' outputs with channels divided by `factors`, squared."""
    low, high = (spread.low / factors).min(), (spread.high / factors).max()
    if symmetric and low < 0:
        step = max(-low, high) / ((1 << (bits[0] - 1)) - 1)
    else:
        step = (high - low) / ((1 << bits[0]) - 1)
    power = spread.power / factors**2
    # A value of 0 has no error, and one below half a step has itself.
    missed = np.minimum(spread.busy * step**2 / 12, power)
    total = 0.0
    for w in site.weights(len(factors)):
        groups, each, places, _ = w.shape
        scaled = w * factors.reshape(groups, each, 1, 1)
        steps = np.abs(scaled).max(axis=(1, 2)) / ((1 << (bits[1] - 1)) - 1)  # [groups, columns]
        seen = power.reshape(groups, each).sum(axis=1) * places
        inputs = (scaled**2).sum(axis=(2, 3)).reshape(-1) @ missed
        total += float(inputs + (steps**2).sum(axis=1) @ seen / 12)
    return total
