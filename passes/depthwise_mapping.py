"""depthwise-mapping: how the channels of grouped convolutions share crossbars."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from xbarc.hw.target import CrossbarArray
from xbarc.ir.analysis.cut import full_cut
from xbarc.ir.dialect import (
    ConvOp,
    DenseOp,
    GatherOp,
    MvmOp,
    PackedAttr,
    ScatterOp,
    TilingAttr,
    WeightsOp,
    crossbar_of,
    element_of,
    shape_of,
    weights_of,
)
from xbarc.pipeline import MappingScheme
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class DepthwiseMapping(MappingScheme):
    """Map grouped and depthwise convolutions: channels packed on crossbars, or one on each.

    Before:

        %1 = xbar.conv %0, @dw window [5, 5] : ...                 // @dw : 25x6xi8 groups 6

    After, with `layout=separate` (MSCCNN's: pruning a channel frees a whole crossbar):

        %1 = xbar.gather %0 window [5, 5] : ... -> !xbar.stream<100 x 150 x ui8>
        %2 = xbar.mvm %1, @dw by "depthwise-mapping" packed 1 : ...           // 6 crossbars
        %3 = xbar.scatter %2 axis 1 : ...

    `layout=packed` puts as many channels on a crossbar as fit on its diagonal (`packed 5` on 128
    rows: 2 crossbars). That is also the default mapping of layers with groups. A group larger than
    a crossbar gets a grid of its own with either layout; the zeros between groups never stand on
    crossbars. If a layer is mapped already, the pass only cuts it again. `layers` names the layers;
    without it the pass takes all layers that have groups.
    """

    name = "depthwise-mapping"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv",)
    order: ClassVar[int] = 40

    layout: Literal["packed", "separate"] = "packed"
    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names one that isn't there or has no groups."""
        operations = [o for o in op.walk() if isinstance(o, ConvOp | DenseOp | MvmOp)]
        stored = {weights_of(o).symbol: weights_of(o) for o in operations}
        wanted = set(named(self.layers, stored, "layer"))
        for name in wanted.intersection(self.layers):
            if stored[name].group_count == 1:
                raise UsageError(f"layer {name!r} has no groups: depthwise-mapping can't map it")
        for operation in operations:
            weights = weights_of(operation)
            if weights.group_count == 1 or weights.symbol not in wanted:
                continue
            crossbar = crossbar_of(operation)
            if crossbar is None:
                raise XbarcError("the module doesn't say its crossbar: compile it for a target")
            tiling = self._tiling(weights, crossbar.array())
            if isinstance(operation, ConvOp):
                _map(operation, weights, tiling)
            elif isinstance(operation, MvmOp):
                operation.tiling = tiling

    def _tiling(self, weights: WeightsOp, array: CrossbarArray) -> TilingAttr:
        rows, cols = weights.stored_shape
        packed = full_cut(rows, cols // weights.group_count, weights, array)
        if self.layout == "separate" and isinstance(packed, PackedAttr):
            return PackedAttr.of(1)
        return packed


def _map(layer: ConvOp, weights: WeightsOp, tiling: TilingAttr) -> None:
    """Replace `layer` by gather, mvm and scatter: one vector an output position."""
    shape = shape_of(layer.result)
    vectors = prod(
        layer.items.value.data if size < 0 else size for i, size in enumerate(shape) if i != 1
    )
    gather = GatherOp.windows(layer.input, layer.window, vectors, layer.fill.value.data)
    product = MvmOp(gather.result, weights, "depthwise-mapping", tiling, element_of(layer.result))
    Rewriter.replace_op(layer, [gather, product, ScatterOp(product.result, 1, shape)])
