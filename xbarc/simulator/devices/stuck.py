"""`stuck`: cells that stay on or off."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Effect, Floats, Layers
from xbarc.support.data import Array, load_npz
from xbarc.support.errors import UsageError, nearest


@dataclass(frozen=True)
class Stuck(Effect):
    """Some cells can't be written: they conduct as the highest level (on), or as level 0 (off).

    `on`, `off`: the share of the cells, drawn cell by cell. A cell that is stuck doesn't drift.

    Or `map`, an npz file with an array of integers for each layer by name, [copies, tiles,
    crossbars of a tile, array.rows, array.cols]: 1 is stuck on, -1 stuck off, 0 works. Tiles are
    numbered as in `xbarc inspect --tiles`; a tile's first word line and bit line are 0. Layers that
    the file doesn't name have no faults.
    """

    name: ClassVar[str] = "stuck"
    order: ClassVar[int] = 60

    on: float | None = None
    off: float | None = None
    map: str | None = None
    _faults: Mapping[str, Array] = field(
        default_factory=dict[str, Any], init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        rates = [rate for rate in (self.on, self.off) if rate is not None]
        if bool(rates) == (self.map is not None):
            raise UsageError("give either rates (on=0.001 off=0.001) or map=faults.npz")
        if not all(0 <= rate <= 1 for rate in rates) or sum(rates) > 1:
            raise UsageError(
                f"on = {self.on}, off = {self.off}: give shares from 0 to 1, together at most 1"
            )
        if self.map is not None:
            object.__setattr__(self, "_faults", load_npz(self.map))

    def check(self, layers: Layers) -> None:
        """Raise `UsageError` where the map's arrays aren't those of the layers."""
        for name, faults in self._faults.items():
            if name not in layers:
                raise UsageError(f"{self.map}: no layer {name!r}: {nearest(name, layers)}")
            if faults.shape != layers[name]:
                raise UsageError(
                    f"{self.map}: {name!r} is {list(faults.shape)}, the layer's crossbars are "
                    f"{list(layers[name])}: [copies, tiles, crossbars of a tile, rows, columns]"
                )
            if not (faults.dtype.kind in "iu" and np.isin(faults, (-1, 0, 1)).all()):
                raise UsageError(f"{self.map}: {name!r} holds other than integers 1, 0 and -1")

    def program(self, g: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The conductances, those of stuck cells in place."""
        state = self._state(array, draw)
        return np.select([state > 0, state < 0], [array.cell.high_us, array.cell.low_us], g)

    def age(self, g: Floats, array: PhysicalArray, draw: Draw) -> Floats:
        """The same once more: what happened to the other cells meanwhile didn't to these."""
        return self.program(g, array, draw)

    def _state(self, array: PhysicalArray, draw: Draw) -> Array:
        """1 stuck on, -1 stuck off, 0 neither: [R, L]."""
        if self.map is None:
            u = draw.once().generator().random(array.levels.shape)
            return np.where(u < (self.on or 0), 1, np.where(u >= 1 - (self.off or 0), -1, 0))
        found = np.zeros(array.levels.shape, np.int64)
        if array.layer in self._faults:
            here = self._faults[array.layer][array.replica, array.tile, array.crossbar]
            known = array.bit_lines >= 0
            found[:, known] = here[np.ix_(array.word_lines, array.bit_lines[known])]
        return found
