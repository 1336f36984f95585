"""drop-zeros: what is zero takes no crossbar."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.ir.analysis.compaction import Layout, best_layout, write_layout
from xbarc.ir.dialect import (
    TIME,
    GridAttr,
    MvmOp,
    PackedAttr,
    copies_of,
    crossbar_of,
    ranges_of,
    span_of,
    weights_of,
)
from xbarc.pipeline import XbarContext
from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class DropZeros(ModulePass):
    """Leave rows, columns and tiles of zeros out of the crossbars of layers that are mapped.

    Before (a third of the rows of @fc are zero):

        %3 = xbar.mvm %2, @fc by "im2col" grid [128, 16] : ...

    After:

        %3 = xbar.mvm %2, @fc by "im2col" rows @fc.rows 256 grid [128, 16] : ...

    If zeros stand in blocks, each block of columns gets only the rows that it needs:

        %3 = xbar.mvm %2, @fc by "im2col" rows @fc.rows 512 columns @fc.columns 64
             sparse tiles [[0, 128, 0, 16], [128, 256, 16, 32], ...] : ...

    The pass tries several layouts and takes the one with the fewest tiles. In a grouped layer it
    drops whole groups of zeros. With ideal devices and converters that lose nothing, the results
    stay the same to the last bit. The pass leaves a layer unchanged if its tiles are a list, or if
    another pass has compacted it, cut it by kernel offset, unrolled it or gated it. `layers` names
    the layers to look at; without it, all.
    """

    name = "drop-zeros"
    tile: ClassVar[bool] = True
    follows: ClassVar[str] = "zeros"

    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Drop what is zero.

        Raises:
            UsageError: `layers` names one that isn't mapped; a layer with zeros is replicated,
                placed or scheduled already.
        """
        arrays = XbarContext.of(ctx).weights
        mvms = [o for o in op.walk() if isinstance(o, MvmOp)]
        known = dict.fromkeys(weights_of(o).symbol for o in mvms)
        wanted = set(named(self.layers, known, "mapped layer"))
        for mvm in mvms:
            symbol = weights_of(mvm).symbol
            if symbol not in wanted:
                continue
            if mvm.rows is not None or mvm.columns is not None or mvm.sparse is not None:
                continue
            if mvm.unroll is not None or mvm.gated is not None:
                continue
            if symbol not in arrays:
                raise XbarcError(f"the weights of {symbol!r} aren't at hand: compile the model")
            layout = _layout(mvm, arrays[symbol])
            if layout is None:
                continue
            if copies_of(mvm) != 1 or ranges_of(mvm) or span_of(mvm, TIME) is not None:
                raise UsageError(
                    f"drop-zeros changes the crossbars of {symbol!r}, which stands already: put it "
                    "before replicate, place and schedule"
                )
            write_layout(mvm, layout, arrays)


def _layout(mvm: MvmOp, q: Array) -> Layout | None:
    """A better layout than the one there is, or None."""
    tiling, groups = mvm.tiling, weights_of(mvm).group_count
    if groups == 1 and isinstance(tiling, GridAttr):
        if crossbar_of(mvm) is None:
            raise XbarcError("the module doesn't say its crossbar: compile it for a target")
        layout = best_layout(q != 0, *tiling.largest())
        unchanged = layout.whole and layout.rows is None and layout.columns is None
        return None if unchanged else layout
    if groups > 1 and isinstance(tiling, GridAttr | PackedAttr):
        return _without_groups(mvm, q)
    return None


def _without_groups(mvm: MvmOp, q: Array) -> Layout | None:
    """The same tiling of the groups that aren't zero."""
    weights = weights_of(mvm)
    (kg, n), groups = weights.stored_shape, weights.group_count
    ng = n // groups
    some = np.flatnonzero((q != 0).reshape(kg, groups, ng).any((0, 2)))
    if len(some) == groups or not len(some) or not isinstance(mvm.tiling, GridAttr | PackedAttr):
        return None
    return Layout(
        mvm.tiling.tiles(len(some) * kg, len(some) * ng, len(some)),
        (some[:, None] * kg + np.arange(kg)).ravel(),
        (some[:, None] * ng + np.arange(ng)).ravel(),
        whole=False,
    )
