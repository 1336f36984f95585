"""A mapping pass: tile IR in, tile IR out."""

from dataclasses import dataclass
from math import ceil

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.ir.dialect import GridAttr, MvmOp, weights_of


@dataclass(frozen=True)
class EvenRows(ModulePass):
    """Cut a matrix into row blocks of about equal height, as many of them as before.

    A column's sum grows with the rows in use, so 72 + 72 rows need less of an ADC than 128 + 16:

        %2 = xbar.mvm %1, @conv2 grid [128, 16] : !xbar.stream<1024 x 144 x ui8> -> ...
        %2 = xbar.mvm %1, @conv2 grid [72, 16] : !xbar.stream<1024 x 144 x ui8> -> ...

    It follows the pass that cuts: `im2col,even-rows`.
    """

    name = "even-rows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Every regular grid; a list of tiles is left as it is."""
        for mvm in op.walk():
            if isinstance(mvm, MvmOp) and isinstance(mvm.tiling, GridAttr):
                rows, _ = weights_of(mvm).stored_shape
                height, width = mvm.tiling.largest()
                mvm.tiling = GridAttr.of(ceil(rows / ceil(rows / height)), width)
