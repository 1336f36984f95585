"""`wire`: the resistance of word lines and bit lines."""

from dataclasses import astuple, dataclass, field
from typing import ClassVar, Literal

from xbarc.hw.wires import Wires, transfer
from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.effect import Effect, Floats
from xbarc.support.cache import kept

VERSION = 1
"""Of the solution: another one where it gives other bits, so that none is read that was kept."""


@dataclass(frozen=True)
class Wire(Effect):
    """Wires between cells have a resistance, so far cells see less voltage and paths mix.

    Options in ohm: `row` and `col` a segment of a word line and of a bit line, from one cell to the
    next; `source` and `sense` in series with the first segment of a word line and the last one of a
    bit line; 0 is none. `drive-from`: word lines are driven at the left, or at both ends;
    `sense-at`: bit lines are read at the bottom or at the top. Defaults: rho / (width^2 x aspect
    ratio) of a 32 nm process at a pitch of 4F is 1.04 ohm a cell (MNSIM 2.0 takes 2.82, aihwkit
    0.35).

    Each cell becomes its effective conductance: the current out of its bit line for one volt on its
    word line alone, the exact solution of the grid's nodal equations (`xbarc.hw.wires`). Wires
    carry what all other effects on conductances leave.

    The array is its word lines and bit lines in use, in the corner nearest to drivers and
    converters. One that is n cells further from its drivers has n x `row` more in `source`, and
    likewise `sense`. Lines not in use are disconnected.

    Raises `UsageError` where a resistance is negative or not finite.
    """

    name: ClassVar[str] = "wire"
    order: ClassVar[int] = 100

    row: float = 1.0
    col: float = 1.0
    source: float = 0.0
    sense: float = 0.0
    drive_from: Literal["left", "both"] = "left"
    sense_at: Literal["bottom", "top"] = "bottom"

    wires: Wires = field(init=False, repr=False, compare=False)
    """The resistances as the solver takes them."""

    def __post_init__(self) -> None:
        ohm = self.row, self.col, self.source, self.sense
        object.__setattr__(self, "wires", Wires(*ohm, self.drive_from, self.sense_at))

    def effective(self, g: Floats, array: PhysicalArray) -> Floats:
        """Effective conductances [R, L], from the cache on disk where they were solved before."""
        wires = self.wires
        if wires.ideal:
            return g
        of = (VERSION, *map(str, astuple(wires)), g)
        return kept("wires", of, lambda: transfer(g, wires)).T
