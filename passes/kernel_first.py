"""kernel-first: a sub-array for each kernel offset, and pruned weights that cost nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from xbarc.ir.analysis.cut import full_cut
from xbarc.ir.dialect import (
    ConvOp,
    DenseOp,
    GatherOp,
    GridAttr,
    LayerOp,
    MvmOp,
    OffsetsAttr,
    PackedAttr,
    ScatterOp,
    TilingAttr,
    UnrollAttr,
    WeightsOp,
    crossbar_of,
    element_of,
    shape_of,
    vectors_of,
    weights_of,
)
from xbarc.pipeline import MappingScheme, XbarContext
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class KernelFirst(MappingScheme):
    """Map layers kernel first: k x k sub-arrays of input channels x filters; zeros cost nothing.

    Before:

        %1 = xbar.conv %0, @conv2 window [3, 3] pads [1, 1, 1, 1] : ...           // 144x16xi8

    After: the sub-array of kernel offset (i, j) reads the input shifted by (i, j), and the results
    of the sub-arrays are added. @conv2 has no weight in the middle, so 8 of 9 sub-arrays stand:

        %1 = xbar.gather %0 window [3, 3] pads [1, 1, 1, 1] : ... -> !xbar.stream<1024 x 144 x ui8>
        %2 = xbar.mvm %1, @conv2 by "kernel-first" gated sparse offsets [9, 1] without [4]
             grid [128, 16] : ... -> !xbar.stream<1024 x 16 x si32>
        %3 = xbar.scatter %2 axis 1 : ...

    A transposed convolution adds the products of each input pixel where the kernel lies on the
    result: a vector is an input pixel, and no zeros stand between pixels. A fully connected layer
    has one offset. Groups stand block by block in each sub-array; several share a crossbar if they
    fit.

    `gated`: a pruned weight has both cells at G_off and takes no operation. A row of a tile with
    pruned weights only isn't driven, a bit line with pruned weights only isn't converted. So
    operations, conversions and energy fall with the zeros, and the tiles stay. An offset whose
    weights are all zero has no tile (if the weights are at hand; `xbarc opt` on tile IR has none).
    After CKF (IEEE TNNLS 33(4), 2022); a model of what isn't published. `layers` names the layers
    to map; without it the pass maps all layers that no other pass has mapped.
    """

    name = "kernel-first"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv", "xbar.dense", "xbar.conv_transpose")
    order: ClassVar[int] = 10

    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names one that isn't there to map."""
        arrays = XbarContext.of(ctx).weights
        found = {weights_of(o).symbol: o for o in op.walk() if isinstance(o, LayerOp)}
        for name in named(self.layers, found, "unmapped layer"):
            Rewriter.replace_op(found[name], list(_map(found[name], arrays)))


def _map(layer: LayerOp, arrays: Mapping[str, Array]) -> tuple[GatherOp, MvmOp, ScatterOp]:
    shape, out = shape_of(layer.input), shape_of(layer.result)
    if isinstance(layer, DenseOp):
        axis, to = layer.axis.value.data, layer.to.value.data
        gather = GatherOp.along(layer.input, axis, vectors_of(layer, _without(out, to)))
        product = _product(layer, gather, _sub_array(layer, 1))
        return gather, product, ScatterOp(product.result, to, out)
    kernel, offsets = layer.window.lists()[0], layer.window.size
    if isinstance(layer, ConvOp):
        vectors = vectors_of(layer, _without(out, 1))
        gather = GatherOp.windows(layer.input, layer.window, vectors, layer.fill.value.data)
        product = _product(layer, gather, _tiling(layer, offsets, 1, arrays))
        return gather, product, ScatterOp(product.result, 1, out)
    gather = GatherOp.along(layer.input, 1, vectors_of(layer, _without(shape, 1)))
    # u = 0 = p - i: column p is kernel position i.
    unroll = UnrollAttr.of(kernel, [1] * len(kernel), kernel, kernel_steps=[-1] * len(kernel))
    product = _product(layer, gather, _tiling(layer, 1, offsets, arrays), unroll)
    return gather, product, ScatterOp.windows(product.result, layer.window, out)


def _product(
    layer: LayerOp, gather: GatherOp, tiling: TilingAttr, unroll: UnrollAttr | None = None
) -> MvmOp:
    weights, element = weights_of(layer), element_of(layer.result)
    by = KernelFirst.name
    return MvmOp(gather.result, weights, by, tiling, element, unroll=unroll, gated=True)


def _tiling(
    layer: LayerOp, rows: int, columns: int, arrays: Mapping[str, Array]
) -> OffsetsAttr | GridAttr | PackedAttr:
    """`rows` x `columns` sub-arrays, one an offset, those of zeros left out."""
    offsets, weights = rows * columns, weights_of(layer)
    inner = _sub_array(layer, offsets)
    if offsets == 1:
        return inner
    return OffsetsAttr.of(rows, columns, inner, _empty(weights, offsets, arrays))


def _sub_array(layer: LayerOp, offsets: int) -> GridAttr | PackedAttr:
    """How the channels x filters of one offset are cut: whole groups together where they fit."""
    crossbar, weights = crossbar_of(layer), weights_of(layer)
    if crossbar is None:
        raise XbarcError("the module doesn't say its crossbar: compile it for a target")
    rows, cols = weights.stored_shape
    return full_cut(rows // offsets, cols // weights.group_count, weights, crossbar.array())


def _empty(weights: WeightsOp, offsets: int, arrays: Mapping[str, Array]) -> list[int]:
    """The offsets of which every weight is zero; one stands at least."""
    if weights.symbol not in arrays:
        return []
    some = arrays[weights.symbol].reshape(-1, offsets, weights.stored_shape[1]).any((0, 2))
    return [int(i) for i in np.flatnonzero(~some) if i or some.any()]


def _without(shape: tuple[int, ...], axis: int) -> list[int]:
    """The sizes of the other axes."""
    return [size for i, size in enumerate(shape) if i != axis]
