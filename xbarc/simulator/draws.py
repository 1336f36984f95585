"""Random numbers that depend on what they are for, and on nothing else.

A counter-based generator (Philox: Salmon et al., SC 2011) keyed by seed, effect, layer, replica,
tile and crossbar: the same bits whatever the threads, batches and order of the work.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Draw:
    """The random numbers of one effect in one physical array.

    `pulse`: which of the pulses that write the array these are for; each has its own.
    """

    seed: int
    effect: str
    layer: str
    replica: int
    tile: int
    crossbar: int
    pulse: int = 0

    def once(self) -> "Draw":
        """The same numbers whichever pulse writes: for what cells are, not how they are written."""
        return replace(self, pulse=0)

    def generator(self, *of: int) -> np.random.Generator:
        """A generator; `of` tells the draws of one array apart, such as a vector's number."""
        where = (self.seed, self.effect, self.layer, self.replica, self.tile, self.crossbar, of)
        key = repr((*where, self.pulse) if self.pulse else where)
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
