"""share-crossbars: the second product of a squeeze-and-excitation block beside the first."""

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, SymbolRefAttr
from xdsl.passes import ModulePass

from xbarc.ir.analysis.stages import mapped_layers
from xbarc.ir.dialect import (
    MvmOp,
    SqueezeExcitationOp,
    clear_places,
    clear_schedule,
    copies_of,
    crossbar_of,
    set_copies,
    weights_of,
)
from xbarc.support.errors import XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class ShareCrossbars(ModulePass):
    """Put the two products of each squeeze-and-excitation block on the same crossbars.

    Before (48 x 12 and 12 x 48 weights, 2 columns each, of a 128 x 128 crossbar):

        %3 = xbar.mvm %2, @se1 by "im2col" grid [128, 64] : ...
        %8 = xbar.mvm %7, @se2 by "im2col" grid [128, 64] : ...

    After: one crossbar, 60 of its rows in use:

        %3 = xbar.mvm %2, @se1 by "im2col" grid [128, 64] : ...
        %8 = xbar.mvm %7, @se2 by "im2col" grid [128, 64] beside @se1 : ...

    The products work one after the other, so neither waits, and results stay the same to the bit.
    The second's tiles use the cells that the first's leave free: rows below them, or columns beside
    them. (A row that isn't driven adds nothing; a column that isn't selected isn't converted.) If
    one tile finds no place, the block stays as it is. `layers` names blocks by either of their
    layers; without it, all. The pass removes an existing placement and schedule.
    """

    name = "share-crossbars"
    tile: ClassVar[bool] = True
    follows: ClassVar[str] = "squeeze-excitation"

    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names no layer of a block."""
        blocks = [o for o in op.walk() if isinstance(o, SqueezeExcitationOp)]
        known = {name: block for block in blocks for name in block.layers}
        wanted = named(self.layers, known, "squeeze-and-excitation layer")
        mvms: dict[str, list[MvmOp]] = {}
        for mvm in mapped_layers(op):
            mvms.setdefault(weights_of(mvm).symbol, []).append(mvm)
        for block in blocks:
            if not set(wanted) & set(block.layers):
                continue
            first, second = (mvms.get(name, []) for name in block.layers)
            if len(first) == len(second) == 1 and _share(first[0], second[0]):
                clear_schedule(op)
                clear_places(op)


def _share(host: MvmOp, guest: MvmOp) -> bool:
    """Stand `guest` beside `host` where it fits; whether it does now."""
    crossbar = crossbar_of(host)
    if crossbar is None:
        raise XbarcError("the module doesn't say its crossbar: compile it for a target")
    if host.beside is not None or guest.beside is not None:
        return False
    if not guest.numerics.fits_beside(host.numerics, crossbar.array()):
        return False
    guest.beside = SymbolRefAttr(weights_of(host).symbol)
    set_copies(guest, copies_of(host))
    return True
