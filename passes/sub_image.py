"""sub-image: all outputs of a part of the image in one shot, from the part that they see."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from xbarc.hw.target import CrossbarArray
from xbarc.ir.analysis.patches import Fit, Patches, array_of, convolutions, patch_sizes
from xbarc.ir.dialect import ConvOp, GridAttr, PackedAttr, set_copies, weights_of
from xbarc.pipeline import MappingScheme
from xbarc.support.errors import XbarcError

INSTEAD = "im2col, kernel-first, window"
"""Schemes that cut a window's rows, and so fit any crossbar."""


@dataclass(frozen=True)
class SubImage(MappingScheme):
    """Map convolutions as Oh, An and Min do: the image cut into sub-images whose borders overlap.

    Before, on crossbars of 128 x 128 and two columns a weight:

        %1 = xbar.conv %0, @conv1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x3x32x32xui8> -> ...

    After: 8 x 8 outputs of a filter at once, from 10 x 10 inputs of a channel (Toeplitz):

        %1 = xbar.gather %0 window [10, 10] strides [8, 8] pads [1, 1, 1, 1] :
             ... -> !xbar.stream<16 x 300 x ui8>
        %2 = xbar.mvm %1, @conv1 by "sub-image" unroll [3, 3] window [10, 10] patch [8, 8]
             grid [100, 64] copies 16 : ... -> !xbar.stream<16 x 1024 x si32>
        %3 = xbar.scatter %2 window [8, 8] strides [8, 8] : ... -> tensor<?x16x32x32xsi32>

    Every sub-image has crossbars of its own (`copies`), so one shot computes the whole image.

    `patch` is the size of a sub-image's output. `auto` takes the largest square that fits; for a
    pointwise kernel, as many pixels as fit with all channels. `fewest` takes the square, or the
    number of pixels, that needs the fewest crossbars. One number for each axis (or one for all)
    sets the size; it is clipped to the output.

    `pack=none` puts one channel and one filter on a crossbar; partial sums are added outside.
    `pack=channels` puts as many channels and filters on a crossbar as fit, depthwise channels on
    its diagonal. Pointwise kernels always get as many as fit. `layers` names the layers to map;
    without it the pass maps all convolutions that no other pass has mapped.
    """

    name = "sub-image"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv",)
    variants: ClassVar[tuple[str, ...]] = (
        "sub-image{patch=fewest pack=channels}",
        "sub-image{pack=channels}",
        "sub-image",
    )
    order: ClassVar[int] = 20

    patch: tuple[int, ...] | Literal["auto", "fewest"] = "auto"
    pack: Literal["none", "channels"] = "none"
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `ValueError` where sizes make no sense."""
        if isinstance(self.patch, tuple) and (not self.patch or min(self.patch) < 1):
            raise ValueError("patch is auto, fewest, or at least 1 an axis")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` for `layers` that aren't there, `XbarcError` where one can't fit."""
        cuts: list[Cut] = []
        refused: list[str] = []
        for layer in convolutions(op, self.layers):
            try:
                cuts.append(self._cut(layer, array_of(layer)))
            except XbarcError as error:
                refused.append(str(error))
        if refused:
            raise XbarcError(*refused)
        for patches, tiling in cuts:
            gather, product, scatter = patches.mapped(self.name, tiling)
            set_copies(product, patches.count)
            Rewriter.replace_op(patches.layer, [gather, product, scatter])

    def _cut(self, layer: ConvOp, array: CrossbarArray) -> "Cut":
        """The sub-images of a layer and what stands on a crossbar. Raises `XbarcError`."""
        fitting = list(_pixels(layer, array) if _pointwise(layer) else _squares(layer, array))
        if isinstance(self.patch, tuple):
            asked = _asked(layer, self.patch)
            if not Fit.of(asked, array).fits:
                raise XbarcError(_refusal(asked, array, fitting))
            return self._tiled(asked, array)
        if not fitting:
            raise XbarcError(_refusal(Patches(layer, (1,) * layer.window.rank), array, []))
        ways = [self._tiled(patches, array) for patches in fitting]
        if self.patch == "fewest":
            return min(ways, key=lambda way: way[0].count * Fit.of(way[0], array).tiles(way[1]))
        if _pointwise(layer):
            # The pixels that fit with all their channels; of a pixel too large for that, one.
            whole = [way for way in ways if Fit.of(way[0], array).tiles(way[1]) == 1]
            return [ways[0], *whole][-1]
        return ways[-1]

    def _tiled(self, patches: Patches, array: CrossbarArray) -> "Cut":
        fit = Fit.of(patches, array)
        if self.pack == "channels" or _pointwise(patches.layer):
            return patches, fit.whole()
        return patches, fit.one_each()


Cut = tuple[Patches, GridAttr | PackedAttr]
"""Sub-images, and the tiles of the matrix of one."""


def _pointwise(layer: ConvOp) -> bool:
    """Whether it is a 1x1 convolution of all channels: 1D in the paper's words."""
    return layer.window.size == 1 and weights_of(layer).group_count == 1


def _squares(layer: ConvOp, array: CrossbarArray) -> Iterator[Patches]:
    """Squares of outputs, clipped to the output, as long as a channel and a filter fit."""
    sizes = Patches(layer, (1,) * layer.window.rank).spatial
    for side in range(1, max(sizes) + 1):
        patches = Patches(layer, tuple(min(side, size) for size in sizes))
        if not Fit.of(patches, array).fits:
            return
        yield patches


def _pixels(layer: ConvOp, array: CrossbarArray) -> Iterator[Patches]:
    """More and more pixels of a pointwise convolution.

    In a row over the lines of the image; where pixels are left out or added, in a rectangle.
    """
    _, strides, pads, _ = layer.window.lists()
    width = array.weights_per_row(weights_of(layer).weight_bits)
    if max(strides) == 1 and not any(pads):
        whole = prod(Patches(layer, (1,), flat=True).spatial)
        for pixels in range(1, min(array.weights_per_column, width, whole) + 1):
            yield Patches(layer, (pixels,), flat=True)
        return
    sizes = Patches(layer, (1,) * layer.window.rank).spatial
    fewest = prod(sizes) + 1
    for outputs in sorted(patch_sizes(layer, sizes, array.weights_per_column, width), key=prod):
        patches = Patches(layer, outputs)
        if patches.count < fewest:
            fewest = patches.count
            yield patches


def _asked(layer: ConvOp, outputs: tuple[int, ...]) -> Patches:
    """Sub-images of the size that the user wrote, clipped to the output."""
    rank = layer.window.rank
    if len(outputs) not in (1, rank):
        raise XbarcError(
            f"patch={_by(outputs, ',')} for {weights_of(layer).symbol!r}, whose image has {rank} "
            "axes"
        )
    sizes = Patches(layer, (1,) * rank).spatial
    full = outputs * rank if len(outputs) == 1 else outputs
    return Patches(layer, tuple(map(min, full, sizes)))


def _refusal(patches: Patches, array: CrossbarArray, fitting: list[Patches]) -> str:
    """Why sub-images of this size don't fit, and what does."""
    weights = weights_of(patches.layer)
    entries = [n for n, _ in patches.windows]
    own = ""
    if fitting:
        largest = "auto" if _pointwise(patches.layer) else _by(fitting[-1].outputs, ",")
        own = f"sub-image{{patch={largest}}}, "
    return (
        f"{_by(patches.outputs, 'x')} outputs of {weights.symbol!r} see "
        f"{_by(entries, 'x')} inputs of a channel: {prod(entries)} rows and {patches.size} weight "
        f"columns, a crossbar has {array.weights_per_column} and "
        f"{array.weights_per_row(weights.weight_bits)}; "
        f"what fits: {own}{INSTEAD}"
    )


def _by(sizes: Iterable[int], sign: str) -> str:
    return sign.join(map(str, sizes))
