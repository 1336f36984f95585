"""What can be wrong with a device: one effect a file in `devices/`, at one of these moments.

    cell     what the levels of a cell conduct
    program  writing: the conductances wanted -> those written; `again`: which to write once more
    age      what becomes of them until they are read; `effective`: what wires leave of them
    drive    what word lines carry
    read     noise that is fresh in each read
    scale    one factor an array, before its converters
    convert  what the converters make of column sums; `conversion`: their own fresh noise;
             `distortion`: the same as a curve, which the simulator draws faster

`xbarc.simulator.analog` applies them in their `order`, those of one order as they were given.
"""

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.utils.arg_spec import ArgSpecConvertible

from xbarc.hw.target import Device
from xbarc.support import plugins
from xbarc.support.plugins import Group

if TYPE_CHECKING:
    from xbarc.simulator.arrays import Cell, PhysicalArray
    from xbarc.simulator.draws import Draw

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Layers = Mapping[str, tuple[int, int, int, int, int]]
"""Of each layer: copies, tiles, crossbars of a tile, rows and columns of a crossbar."""


@dataclass(frozen=True)
class Distortion:
    """How converters are off, one a line: gain relative to 1, offset and bow in LSB, each [L].

    With u the sum in LSB from the bottom of the range and p = u / (2^bits - 1), held to 0 .. 1, a
    converter takes u (1 + gain) + offset + 4 bow p (1 - p).
    """

    gain: Floats
    offset: Floats
    bow: Floats


@dataclass(frozen=True)
class Effect(ArgSpecConvertible):
    """An effect; the fields of the (frozen) dataclass are its options, as a pass's are.

    Each method is one moment and does nothing unless an effect says otherwise. `g` are the
    conductances of one physical array in uS, [rows, bit lines]; `draw` gives random numbers that
    belong to this effect in this array. `draw.generator()` begins the same numbers anew at each
    moment, so that an effect can meet at one what it drew at another; `draw.generator(1)` has
    others.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 0

    @property
    def writes(self) -> bool:
        """Whether it acts when cells are written."""
        return type(self).program is not Effect.program or self.verifies

    @property
    def ages(self) -> bool:
        """Whether it acts on what cells conduct after they were written."""
        return type(self).age is not Effect.age

    @property
    def verifies(self) -> bool:
        """Whether it reads cells after a pulse, and may ask for another one."""
        return type(self).again is not Effect.again

    def check(self, layers: Layers) -> None:
        """Raise `UsageError` where the options don't fit the program; nothing has run yet."""

    def cell(self, cell: "Cell", device: Device) -> "Cell":
        """What cells conduct, of a target with this `device`."""
        return cell

    def program(self, g: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """The conductances as written by one pulse (`draw.pulse`)."""
        return g

    def again(self, g: Floats, array: "PhysicalArray", pulses: int) -> Flags | None:
        """Which cells get another pulse after so many, [R, L]; None: none."""
        return None

    def age(self, g: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """The conductances when they are read."""
        return g

    def effective(self, g: Floats, array: "PhysicalArray") -> Floats:
        """What cells conduct as seen from the ends of their lines, through wires."""
        return g

    def drive(self, levels: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """What word lines carry at each input level, in level steps: [R or 1, levels]."""
        return levels

    def read(self, g: Floats, array: "PhysicalArray") -> Floats | None:
        """The standard deviation of each cell's conductance in a read, in uS; None: no noise."""
        return None

    def scale(self, written: Floats, g: Floats) -> float:
        """The factor of all sums before they are converted; `g`: what ageing left of `written`."""
        return 1.0

    def conversion(self, array: "PhysicalArray") -> float:
        """The standard deviation of a sum in each conversion, in level steps."""
        return 0.0

    def distortion(self, array: "PhysicalArray", draw: "Draw") -> Distortion | None:
        """How converters are off, where a curve says it; those of several effects add up.

        Curves act behind whatever `convert` does.

        `array` has the lines that are converted, one a pair under analog subtraction.
        """
        return None

    def convert(self, sums: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """Sums [bit lines, reads] in level steps, as the converters take them: any function.

        `array` as for `distortion`.
        """
        return sums


def in_order(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """The effects as they act one after the other: by `order`, and among equals as given."""
    return tuple(sorted(effects, key=lambda effect: effect.order))


def _found(module: types.ModuleType) -> dict[str, type[Effect]]:
    found = plugins.classes(module, Effect)
    return {cls.name: cls for cls in found if issubclass(cls, Effect) and cls is not Effect}


EFFECTS: Group[type[Effect]] = Group(
    "device effect", "xbarc.devices", "xbarc.simulator.devices", _found
)
