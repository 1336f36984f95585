"""window: kernels shifted and duplicated, so that one vector gives several outputs."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from xbarc.hw.target import CrossbarArray
from xbarc.ir.analysis.patches import Fit, Patches, array_of, convolutions, patch_sizes
from xbarc.ir.dialect import ConvOp, GridAttr, PackedAttr, weights_of
from xbarc.pipeline import MappingScheme


@dataclass(frozen=True)
class Window(MappingScheme):
    """Map convolutions window by window, for the fewest computing cycles of a single array.

    Before, on crossbars of 512 x 512 and one column a weight:

        %1 = xbar.conv %0, @conv1 window [7, 7] : tensor<?x3x112x112xui8> -> ...

    After `window{scheme=vw-sdk}`: 4 x 2 outputs from a window of 10 x 8 (width x height):

        %1 = xbar.gather %0 window [8, 10] strides [2, 4] pads [0, 0, 0, 2] :
             ... -> !xbar.stream<1431 x 240 x ui8>
        %2 = xbar.mvm %1, @conv1 by "vw-sdk" unroll [7, 7] window [8, 10] patch [2, 4]
             grid [240, 512] : ... -> !xbar.stream<1431 x 512 x si32>
        %3 = xbar.scatter %2 window [2, 4] strides [2, 4] pads [0, 0, 0, 2] : ...

    - `scheme=sdk` (Zhang et al., TCAD 2020): square windows of all channels. Rows and columns are
      cut full first. The window grows while it takes no more blocks of rows and of columns than
      im2col.
    - `scheme=vw-sdk` (Rhe et al., DATE 2022): rectangular windows, with as many whole channels and
      filters a crossbar as fit. The scheme takes the window with the fewest cycles (windows x
      tiles), or im2col. If several are equal, im2col wins, then the lowest window, then the
      narrowest.
    - `scheme=im2col`: one output a vector.

    Groups stand on the diagonal, several on a crossbar if they fit. `layers` names the layers to
    map; without it the pass maps all convolutions that no other pass has mapped.
    """

    name = "window"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv",)
    variants: ClassVar[tuple[str, ...]] = ("window{scheme=sdk}", "window{scheme=vw-sdk}")
    order: ClassVar[int] = 30

    scheme: Literal["im2col", "sdk", "vw-sdk"] = "vw-sdk"
    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names one that isn't there to map."""
        choose = {"im2col": _im2col, "sdk": _sdk, "vw-sdk": _vw_sdk}[self.scheme]
        for layer in convolutions(op, self.layers):
            patches, tiling = choose(layer, array_of(layer))
            by = "im2col" if patches.size == 1 else self.scheme
            Rewriter.replace_op(layer, list(patches.mapped(by, tiling)))


Cut = tuple[Patches, GridAttr | PackedAttr]
"""Patches of outputs, and the tiles of the matrix of one."""


def _im2col(layer: ConvOp, array: CrossbarArray) -> Cut:
    patches = Patches(layer, (1,) * layer.window.rank)
    return patches, Fit.of(patches, array).full()


def _sdk(layer: ConvOp, array: CrossbarArray) -> Cut:
    best = _im2col(layer, array)
    most = Fit.of(best[0], array).blocks(best[1])
    sizes = best[0].spatial
    for side in range(2, max(sizes) + 1):
        patches = Patches(layer, tuple(min(side, size) for size in sizes))
        fit = Fit.of(patches, array)
        tiling = fit.full()
        if any(new > old for new, old in zip(fit.blocks(tiling), most, strict=True)):
            break
        if patches.count < best[0].count:
            best = patches, tiling
    return best


def _vw_sdk(layer: ConvOp, array: CrossbarArray) -> Cut:
    best = _im2col(layer, array)
    fewest = best[0].count * Fit.of(best[0], array).tiles(best[1])
    width = array.weights_per_row(weights_of(layer).weight_bits)
    for outputs in patch_sizes(layer, best[0].spatial, array.weights_per_column, width):
        patches = Patches(layer, outputs)
        fit = Fit.of(patches, array)
        tiling = fit.whole()
        cycles = patches.count * fit.tiles(tiling)
        if cycles < fewest:
            best, fewest = (patches, tiling), cycles
    return best
