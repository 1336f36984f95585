"""Random numbers that depend on what they are for, and on nothing else.

A counter-based generator (Philox: Salmon et al., SC 2011) keyed by seed, effect, layer, replica,
tile and crossbar: the same bits whatever the threads, batches and order of the work.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """The random numbers of one effect in one physical array."""

    seed: int
    effect: str
    layer: str
    replica: int
    tile: int
    crossbar: int

    def generator(self, *of: int) -> np.random.Generator:
        """A generator; `of` tells the draws of one array apart, such as a vector's number."""
        key = repr((self.seed, self.effect, self.layer, self.replica, self.tile, self.crossbar, of))
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
