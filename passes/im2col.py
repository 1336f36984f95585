"""The default mapping: one vector an output position, weights cut in a regular grid."""

from dataclasses import dataclass
from typing import ClassVar, cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from xbarc.ir.analysis.cut import full_cut
from xbarc.ir.dialect import (
    ConvOp,
    DenseOp,
    GatherOp,
    MvmOp,
    ScatterOp,
    WindowAttr,
    crossbar_of,
    element_of,
    shape_of,
    weights_of,
)
from xbarc.pipeline import MappingScheme
from xbarc.support.errors import XbarcError
from xbarc.support.names import named


@dataclass(frozen=True)
class Im2col(MappingScheme):
    """Map layers as im2col does: gather windows, multiply by a matrix in tiles, scatter.

    Before:

        %1 = xbar.conv %0, @conv1 window [3, 3] pads [1, 1, 1, 1] : ...

    After:

        %1 = xbar.gather %0 window [3, 3] pads [1, 1, 1, 1] : ... -> !xbar.stream<1024 x 27 x ui8>
        %2 = xbar.mvm %1, @conv1 by "im2col" grid [128, 16] : ... -> !xbar.stream<1024 x 16 x si32>
        %3 = xbar.scatter %2 axis 1 : ... -> tensor<?x16x32x32xsi32>

    Rows are cut full first, then columns (numerics: Encoding). A grouped convolution stands block
    by block on the diagonal, with as many whole blocks a crossbar as fit (`packed`). If one block
    is larger than a crossbar, each block has a grid of its own. `layers` names the layers to map;
    without it the pass maps all layers that no other pass has mapped.
    """

    name = "im2col"
    takes: ClassVar[tuple[str, ...]] = ("xbar.conv", "xbar.dense")
    default: ClassVar[bool] = True
    order: ClassVar[int] = 0

    layers: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `UsageError` where `layers` names one that isn't there to map."""
        found = dict.fromkeys(
            weights_of(o).symbol for o in op.walk() if isinstance(o, ConvOp | DenseOp)
        )
        layers = frozenset(named(self.layers, found, "unmapped layer"))
        PatternRewriteWalker(
            GreedyRewritePatternApplier([MapConv(layers), MapDense(layers)]),
            apply_recursively=False,
        ).rewrite_module(op)


def map_stream(
    stream: SSAValue, layer: ConvOp | DenseOp, axis: int, rewriter: PatternRewriter
) -> None:
    """Replace `layer` by an mvm on `stream` and a scatter along `axis`."""
    crossbar = crossbar_of(layer)
    if crossbar is None:
        raise XbarcError("im2col: the module doesn't say its crossbar: compile it for a target")
    weights = weights_of(layer)
    rows, cols = weights.stored_shape
    tiling = full_cut(rows, cols // weights.group_count, weights, crossbar.array())
    product = MvmOp(stream, weights, "im2col", tiling, element_of(layer.result))
    rewriter.replace(
        layer,
        [
            cast(GatherOp, stream.owner),
            product,
            ScatterOp(product.result, axis, shape_of(layer.result)),
        ],
    )


@dataclass(frozen=True)
class MapConv(RewritePattern):
    """`xbar.conv` to window gather, mvm, scatter."""

    layers: frozenset[str]

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvOp, rewriter: PatternRewriter) -> None:
        """One vector an output position."""
        if weights_of(op).symbol not in self.layers:
            return
        vectors = _count(op, 1)
        window: WindowAttr = op.window
        gather = GatherOp.windows(op.input, window, vectors, op.fill.value.data)
        map_stream(gather.result, op, 1, rewriter)


@dataclass(frozen=True)
class MapDense(RewritePattern):
    """`xbar.dense` to gather along an axis, mvm, scatter."""

    layers: frozenset[str]

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: DenseOp, rewriter: PatternRewriter) -> None:
        """One vector a position of the other axes."""
        if weights_of(op).symbol not in self.layers:
            return
        axis, to = op.axis.value.data, op.to.value.data
        gather = GatherOp.along(op.input, axis, _count(op, to))
        map_stream(gather.result, op, to, rewriter)


def _count(op: ConvOp | DenseOp, axis: int) -> int:
    """Vectors for a batch of one: the product of the result's axes other than `axis`."""
    count = 1
    for index, size in enumerate(shape_of(op.result)):
        if index != axis:
            count *= op.items.value.data if size < 0 else size
    return count
