"""Random numbers that depend on what they are for, and on nothing else.

A counter-based generator (Philox: Salmon et al., SC 2011) keyed by seed, effect, layer, replica,
tile and crossbar: the same bits whatever the threads, batches and order of the work.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


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
        """A generator, which begins anew in each call; `of` tells the draws of one array apart."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._key(of), "little")))

    def words(self) -> npt.NDArray[np.uint32]:
        """The key [2] under which `xbarc.simulator.normals` draws for this array."""
        return np.frombuffer(self._key(())[:8], "<u4").astype(np.uint32)

    def _key(self, of: tuple[int, ...]) -> bytes:
        where = (self.seed, self.effect, self.layer, self.replica, self.tile, self.crossbar, of)
        key = repr((*where, self.pulse) if self.pulse else where)
        return hashlib.blake2b(key.encode(), digest_size=16).digest()
