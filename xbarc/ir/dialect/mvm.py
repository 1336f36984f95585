"""`xbar.mvm`: every vector of a stream meets a weight matrix that stands on crossbars.

What it computes is `numerics`, where it stands `placement`, when it runs `schedule`.
"""

import math
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect import placement, schedule
from xbarc.ir.dialect.assembly import Clause, Reals
from xbarc.ir.dialect.crossbar import crossbar_of
from xbarc.ir.dialect.numerics import Numerics
from xbarc.ir.dialect.selection import SelectionAttr
from xbarc.ir.dialect.tiling import OffsetsAttr, Tiles, Tiling, TilingAttr
from xbarc.ir.dialect.types import StreamType
from xbarc.ir.dialect.unroll import UnrollAttr
from xbarc.ir.dialect.weights import WeightsOp, weights_of


@irdl_op_definition
class MvmOp(IRDLOperation):
    """Multiply every vector of a stream by a weight matrix that stands on crossbars.

    `%3 = xbar.mvm %2, @conv1 by "im2col" grid [128, 16] : !xbar.stream<1024 x 27 x ui8> ->
    !xbar.stream<1024 x 16 x si32>`. `by` names the mapping that made it. The tiling is a `grid`,
    `packed` blocks of a block-diagonal matrix, or a list of `tiles`. `adc [lo, hi]` is the
    calibrated range of the converters, in units of one level step, under the target's
    `adc.mode = "calibrated"`. `copies`, `at`, `time` and `stream` say where and when
    (`xbarc.ir.dialect.placement`, `xbarc.ir.dialect.schedule`); they don't change what is computed.

    `rows @conv1.rows 300 columns @conv1.columns 48 sparse tiles [[0, 128, 0, 16], ...]`: tiles
    count the rows and columns that those arrays of the weights file list, in that order. Rows and
    columns may be permuted or left out. Weights that `sparse` tiles leave out are zero. The stream
    and the result keep their lengths: a row on no crossbar isn't driven, a column on no crossbar
    gives 0.

    `unroll ...` puts the kernel at many places of a larger matrix (`xbarc.ir.dialect.unroll`). The
    stream, the result and the tiles refer to that matrix. `offsets` cuts it by kernel offset.

    `gated`: rows of a tile with only zero weights aren't driven, bit lines with all cells at level
    0 aren't converted, a tile of zeros isn't activated. Results don't depend on it.

    `beside @first`: the tiles stand on cells that the tiles of an earlier mvm leave free
    (`xbarc.hw.sharing`). The crossbars are counted at that mvm.
    """

    name = "xbar.mvm"

    input = operand_def(StreamType)
    result = result_def(StreamType)

    # Provenance.
    by = prop_def(StringAttr)
    # Numerics.
    weights = prop_def(SymbolRefAttr)
    unroll = opt_prop_def(UnrollAttr)
    gated = opt_prop_def(UnitAttr)
    tiling = prop_def(Attribute)
    rows = opt_prop_def(SelectionAttr)
    columns = opt_prop_def(SelectionAttr)
    sparse = opt_prop_def(UnitAttr)
    adc = opt_prop_def(DenseArrayBase)
    # Placement.
    beside = opt_prop_def(SymbolRefAttr)
    copies = opt_prop_def(IntegerAttr[I64])
    at = opt_prop_def(DenseArrayBase)
    # Schedule.
    time = opt_prop_def(DenseArrayBase)
    stream = opt_prop_def(DenseArrayBase)

    traits = traits_def(Pure())

    custom_directives = (Clause, Tiling, Reals, placement.Ranges)
    assembly_format = (
        "$input `,` $weights `by` $by "
        "custom<Clause>($rows) custom<Clause>($columns) custom<Clause>($unroll) "
        "(`gated` $gated^)? (`sparse` $sparse^)? custom<Tiling>($tiling) custom<Reals>($adc) "
        "(`beside` $beside^)? (`copies` $copies^)? custom<Ranges>($at) "
        "custom<Reals>($time) custom<Reals>($stream) "
        "attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(
        self,
        value: SSAValue,
        weights: WeightsOp,
        by: str,
        tiling: TilingAttr,
        element: IntegerType,
        *,
        unroll: UnrollAttr | None = None,
        gated: bool = False,
    ):
        vectors = cast(StreamType, value.type).vectors.data
        columns = weights.matrix[1] * (1 if unroll is None else unroll.patch_size)
        sparse = isinstance(tiling, OffsetsAttr) and bool(tiling.without)
        super().__init__(
            operands=[value],
            properties={
                "weights": SymbolRefAttr(weights.symbol),
                "by": StringAttr(by),
                "tiling": tiling,
                "unroll": unroll,
                "gated": UnitAttr() if gated else None,
                "sparse": UnitAttr() if sparse else None,
            },
            result_types=[StreamType.of(vectors, columns, element)],
        )

    @property
    def numerics(self) -> Numerics:
        """The matrix that the vectors meet, and its tiles."""
        return Numerics(
            weights_of(self),
            self.unroll,
            self.tiling,
            self.rows,
            self.columns,
            self.sparse is not None,
        )

    @property
    def adc_range(self) -> tuple[float, float] | None:
        """The calibrated range, where there is one."""
        if self.adc is None:
            return None
        low, high = self.adc.get_values()
        return float(low), float(high)

    @property
    def matrix(self) -> tuple[int, int]:
        """K x N that the vectors meet, zeros between groups included, unrolled where it is."""
        return self.numerics.matrix

    @property
    def standing(self) -> tuple[int, int]:
        """Rows and columns that tiles count: the matrix's, or as many as are selected."""
        return self.numerics.standing

    def tiles(self) -> Tiles:
        """The tiles on the crossbars, [T, 4], in the rows and columns that are selected."""
        return self.numerics.tiles()

    def crossbars(self) -> int:
        """Crossbars of one copy, none of its own where it stands beside another mvm.

        Raises `VerifyException` where the module doesn't say its crossbar.
        """
        return 0 if self.beside is not None else self.numerics.crossbars(self._array())

    @property
    def host(self) -> "MvmOp | None":
        """The earlier mvm on whose crossbars it stands; None where it has its own."""
        return placement.host_of(self)

    def verify_(self) -> None:
        """Shapes fit; each weight on exactly one tile; each tile on one crossbar."""
        numerics, crossbar = self.numerics, crossbar_of(self)
        source, result = cast(StreamType, self.input.type), self.result.type
        numerics.verify_matrix(source.length.data, result.length.data)
        if source.vectors != result.vectors:
            raise VerifyException("as many vectors come out as go in")
        numerics.verify_tiling()
        if self.adc is not None:
            values = self.adc.get_values()
            if len(values) != 2 or not -math.inf < values[0] < values[1] < math.inf:
                raise VerifyException("adc is [lo, hi] with lo < hi")
        if crossbar is not None:
            numerics.verify_capacity(crossbar.array())
        if self.beside is not None:
            host = placement.verify_beside(self)
            if not numerics.fits_beside(host.numerics, self._array()):
                raise VerifyException(f"its tiles don't fit on what {self.beside} leaves free")
        elif self.copies is not None or self.at is not None:
            placement.verify_placement(self, self.crossbars())
        schedule.verify_times(self)

    def _array(self) -> CrossbarArray:
        crossbar = crossbar_of(self)
        if crossbar is None:
            raise VerifyException("the module doesn't say its xbar.crossbar")
        return crossbar.array()
