"""What can be wrong with a device: one effect a file in `devices/`, at one of four moments.

    program  writing: the conductances wanted -> those written
    age      what becomes of them until they are read
    read     noise that is fresh in each read
    convert  what the converters make of column sums

`xbarc.simulator.analog` applies them, effect by effect in the order given; those of a higher
`order` come later, whatever was given.
"""

import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.utils.arg_spec import ArgSpecConvertible

from xbarc.support import plugins
from xbarc.support.plugins import Group

if TYPE_CHECKING:
    from xbarc.simulator.arrays import PhysicalArray
    from xbarc.simulator.draws import Draw

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effect(ArgSpecConvertible):
    """An effect; the fields of the (frozen) dataclass are its options, as a pass's are.

    Each method is one moment and does nothing unless an effect says otherwise. `g` are the
    conductances of one physical array in uS, [rows, bit lines]; `draw` gives random numbers that
    belong to this effect in this array.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 0

    def program(self, g: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """The conductances as written."""
        return g

    def age(self, g: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """The conductances when they are read."""
        return g

    def read(self, g: Floats, array: "PhysicalArray") -> Floats | None:
        """The standard deviation of each cell's conductance in a read, in uS; None: no noise."""
        return None

    def convert(self, sums: Floats, array: "PhysicalArray", draw: "Draw") -> Floats:
        """Column sums [bit lines, reads] in level steps, as the converters take them."""
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
