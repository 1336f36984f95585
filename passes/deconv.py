"""deconv: transposed convolutions on crossbars, three ways."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from xbarc.hw.target import CrossbarArray
from xbarc.ir.analysis.cut import full_cut
from xbarc.ir.dialect import (
    ConvTransposeOp,
    GatherOp,
    GridAttr,
    MvmOp,
    OffsetsAttr,
    PackedAttr,
    ScatterOp,
    UnrollAttr,
    WeightsOp,
    WindowAttr,
    crossbar_of,
    element_of,
    shape_of,
    vectors_of,
    weights_of,
)
from xbarc.pipeline import MappingScheme
from xbarc.support.errors import XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class Deconv(MappingScheme):
    """Map transposed convolutions (ConvTranspose, deconvolution).

    Before:

        %1 = xbar.conv_transpose %0, @up window [2, 2] strides [2, 2] : ...

    After, with `scheme=scatter` (the default; kernel first): a vector is an input pixel, and each
    kernel offset has a sub-array. Products are added where the kernel lies. No zeros are inserted.

        %1 = xbar.gather %0 axis 1 : ... -> !xbar.stream<256 x 64 x ui8>
        %2 = xbar.mvm %1, @up by "deconv-scatter" unroll [2, 2] window [1, 1] patch [2, 2]
             kernel_steps [-1, -1] offsets [1, 4] grid [128, 64] : ...
        %3 = xbar.scatter %2 window [2, 2] strides [2, 2] : ... -> tensor<?x32x32x32xsi32>

    `scheme=phases`: a vector is a window of the input. It gives all outputs between two input
    pixels at once (the s x s phases). The crossbar finishes each sum, and no zeros are inserted.

    `scheme=zero-insert` is the baseline: a convolution with the mirrored kernel over an input with
    zeros between its pixels. `layers` names the layers; without it the pass maps all transposed
    convolutions.
    """

    name = "deconv"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv_transpose",)
    variants: ClassVar[tuple[str, ...]] = (
        "deconv{scheme=scatter}",
        "deconv{scheme=phases}",
        "deconv{scheme=zero-insert}",
    )
    default: ClassVar[bool] = True
    order: ClassVar[int] = 50

    scheme: Literal["scatter", "phases", "zero-insert"] = "scatter"
    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names one that isn't there to map."""
        found = {weights_of(o).symbol: o for o in op.walk() if isinstance(o, ConvTransposeOp)}
        map_layer = {"scatter": _scatter, "phases": _phases, "zero-insert": _zero_insert}
        for name in named(self.layers, found, "unmapped transposed convolution"):
            crossbar = crossbar_of(found[name])
            if crossbar is None:
                raise XbarcError("the module doesn't say its crossbar: compile it for a target")
            operations = map_layer[self.scheme](found[name], crossbar.array())
            Rewriter.replace_op(found[name], list(operations))


Triple = tuple[GatherOp, MvmOp, ScatterOp]


def _scatter(layer: ConvTransposeOp, array: CrossbarArray) -> Triple:
    weights, shape = weights_of(layer), shape_of(layer.input)
    kernel = layer.window.lists()[0]
    vectors = vectors_of(layer, [s for i, s in enumerate(shape) if i != 1])
    gather = GatherOp.along(layer.input, 1, vectors)
    # u = 0 = p - i: column p is kernel position i.
    unroll = UnrollAttr.of(kernel, [1] * len(kernel), kernel, kernel_steps=[-1] * len(kernel))
    tiling = OffsetsAttr.of(1, layer.window.size, _sub_array(weights, layer.window.size, array))
    product = MvmOp(
        gather.result,
        weights,
        "deconv-scatter",
        tiling,
        element_of(layer.result),
        unroll=unroll,
    )
    return gather, product, ScatterOp.windows(product.result, layer.window, shape_of(layer.result))


def _phases(layer: ConvTransposeOp, array: CrossbarArray) -> Triple:
    weights, shape, out = weights_of(layer), shape_of(layer.input), shape_of(layer.result)
    kernel, strides, pads, dilations = layer.window.lists()
    rank = layer.window.rank
    first, window, shifts = [], [], []
    for k, s, pad, d in zip(kernel, strides, pads[:rank], dilations, strict=True):
        # Output s Y + p takes kernel position i of input Y + (p + pad - d i) / s.
        reach = np.arange(s)[:, None] + pad - d * np.arange(k)
        inputs = reach[reach % s == 0] // s
        first.append(int(inputs.min()))
        window.append(int(inputs.max() - inputs.min()) + 1)
        shifts.append(pad - s * first[-1])
    # s u = p - d i + shift.
    unroll = UnrollAttr.of(
        kernel,
        window,
        strides,
        input_steps=strides,
        kernel_steps=[-d for d in dilations],
        shifts=shifts,
    )
    positions = [-(-size // s) for size, s in zip(out[2:], strides, strict=True)]
    ends = [
        n - 1 + f + w - size
        for n, f, w, size in zip(positions, first, window, shape[2:], strict=True)
    ]
    gather = GatherOp.windows(
        layer.input,
        WindowAttr.of(window, pads=[-f for f in first] + ends),
        vectors_of(layer, [shape[0], *positions]),
        0,
    )
    rows, cols = unroll.stored_shape(*weights.stored_shape)
    tiling = full_cut(rows, cols // weights.group_count, weights, array)
    product = MvmOp(
        gather.result, weights, "deconv-phases", tiling, element_of(layer.result), unroll=unroll
    )
    over = [n * s - size for n, s, size in zip(positions, strides, out[2:], strict=True)]
    patches = WindowAttr.of(strides, strides, [0] * rank + over)
    return gather, product, ScatterOp.windows(product.result, patches, out)


def _zero_insert(layer: ConvTransposeOp, array: CrossbarArray) -> Triple:
    weights, out = weights_of(layer), shape_of(layer.result)
    kernel, strides, pads, dilations = layer.window.lists()
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)] * 2
    window = WindowAttr.of(
        kernel, None, [r - p for r, p in zip(reach, pads, strict=True)], dilations
    )
    vectors = vectors_of(layer, [out[0], *out[2:]])
    gather = GatherOp.windows(layer.input, window, vectors, 0, spread=strides)
    # u = size - 1 - i: the kernel mirrored.
    unroll = UnrollAttr.of(
        kernel,
        kernel,
        [1] * len(kernel),
        kernel_steps=[-1] * len(kernel),
        shifts=[k - 1 for k in kernel],
    )
    rows, cols = weights.stored_shape
    tiling = full_cut(rows, cols // weights.group_count, weights, array)
    product = MvmOp(
        gather.result,
        weights,
        "deconv-zero-insert",
        tiling,
        element_of(layer.result),
        unroll=unroll,
    )
    return gather, product, ScatterOp(product.result, 1, out)


def _sub_array(weights: WeightsOp, offsets: int, array: CrossbarArray) -> GridAttr | PackedAttr:
    """How the channels x filters of one kernel offset are cut."""
    rows, cols = weights.stored_shape
    return full_cut(rows // offsets, cols // weights.group_count, weights, array)
