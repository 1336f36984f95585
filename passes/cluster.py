"""cluster: dense blocks of a pruned matrix, each on one tile."""

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.ir.analysis.cluster_layout import Clustering, clustered, dense_tiles, occupied_tiles
from xbarc.ir.analysis.compaction import Layout, write_layout
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.analysis.order import folded, pieces
from xbarc.ir.dialect import (
    TIME,
    DequantizeOp,
    DigitalOp,
    GatherOp,
    GridAttr,
    MvmOp,
    QuantizeOp,
    ScatterOp,
    TileListAttr,
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

CLUSTERS = "clusters"
"""The key of the pass's figures in report.json."""

STEP = 0.1
"""From one density to the next lower one (TraNNsformer)."""


@dataclass(frozen=True)
class Cluster(ModulePass):
    """Permute the rows and columns of pruned layers so that nonzeros stand in dense tiles.

    Before (nine in ten weights of @fc are zero, anywhere):

        %3 = xbar.mvm %2, @fc by "im2col" grid [128, 16] : ...

    After, a tile a cluster; `rows` and `columns` list what stands on each, tile after tile:

        %3 = xbar.mvm %2, @fc by "im2col" rows @fc.rows 512 columns @fc.columns 64
             sparse tiles [[0, 128, 0, 16], [128, 256, 16, 32], ...] : ...

    Size-constrained iterative clustering, after TraNNsformer (Ankit et al., ICCAD 2017): on the
    bipartite graph of rows and columns, connected components first, then the eigenvectors of the
    normalised Laplacian and k-means where a component is larger than a tile. A cluster is accepted
    if nonzeros fill more than `density` of a whole tile. Then the pass looks at what is left, at a
    `density` lower by 0.1, down to `floor`. What no cluster holds stands on windows or on the tiles
    of `drop-zeros`. The pass leaves a layer unchanged if it saves no tile. `prune` should come
    before: `"prune{granularity=weight sparsity=0.9},cluster"`.

    `tile` is the most rows and columns of a cluster; without it, and where it is larger, a cluster
    is as large as a crossbar holds. Clusters of a convolution hold whole input channels if a tile
    has room for a channel's window.

    With ideal devices and converters that lose nothing, results stay the same to the last bit.
    Where a layer reads another, the pass orders the columns of one and the rows of the other so
    that values need as little shuffling as possible. The report has under `clusters` for each
    layer: `tiles`, those of the whole matrix (`tiles_dense`), those of a plain grid that hold a
    nonzero (`tiles_occupied`: the paper's count of a network that is pruned only), and those that
    `drop-zeros` makes (`tiles_unclustered`); `clusters`, the tiles of more than `floor`; `density`,
    the nonzeros over the area of all tiles; nonzero weights, and those in clusters; `pieces`, in
    how many runs the inputs come from the layer before (1: no permutation is left), and
    `pieces_unfolded`, before the pass ordered them.

    The pass leaves layers alone that are grouped, unrolled, gated or cut by kernel offset. `layers`
    names the layers to look at; without it, all.
    """

    name = "cluster"
    after_mapping: ClassVar[bool] = True

    tile: int | None = None
    density: float = 0.7
    floor: float = 0.3
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for options that make no sense."""
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"tile is a number of rows and columns, at least 1, not {self.tile}")
        for key in ("density", "floor"):
            if not 0 < getattr(self, key) <= 1:
                raise UsageError(f"{key} is a share above 0 and at most 1")

    @property
    def densities(self) -> list[float]:
        """From `density` down to `floor`."""
        steps = int((self.density - self.floor) / STEP + 1e-9)
        return [round(self.density - STEP * i, 6) for i in range(max(0, steps) + 1)]

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Cluster what is pruned.

        Raises:
            UsageError: `layers` names one that isn't mapped; a layer to cluster is replicated,
                placed or scheduled already.
            XbarcError: the weights aren't at hand.
        """
        context = XbarContext.of(ctx)
        mvms = [o for o in op.walk() if isinstance(o, MvmOp)]
        known = dict.fromkeys(weights_of(o).symbol for o in mvms)
        wanted = set(named(self.layers, known, "mapped layer"))
        looked = [_Layer.of(o, context.weights) for o in mvms if _can_be_clustered(o)]
        chosen = [la for la in looked if la.symbol in wanted]
        for layer in chosen:
            self._cluster(layer)
        figures = _fold({la.mvm: la for la in looked})
        for layer in looked:
            if layer.found is not None:
                write_layout(layer.mvm, layer.layout, context.weights)
        found = {la.symbol: la.figures() | figures.get(la.symbol, {}) for la in chosen}
        context.figures.setdefault(CLUSTERS, {}).update(found)

    def _cluster(self, layer: "_Layer") -> None:
        """Give a layer another layout, if that has fewer tiles."""
        found = clustered(
            layer.nonzero, layer.room, self.densities, block=layer.block, side=self.tile
        )
        layer.tried = found
        if len(found.layout.tiles) >= len(layer.layout.tiles):
            return
        mvm = layer.mvm
        if copies_of(mvm) != 1 or ranges_of(mvm) or span_of(mvm, TIME) is not None:
            raise UsageError(
                f"cluster changes the crossbars of {layer.symbol!r}, which stands already: put it "
                "before replicate, place and schedule"
            )
        layer.layout, layer.found = found.layout, found


def _can_be_clustered(mvm: MvmOp) -> bool:
    if weights_of(mvm).group_count > 1 or mvm.unroll is not None or mvm.gated is not None:
        return False
    return mvm.beside is None and isinstance(mvm.tiling, GridAttr | TileListAttr)


@dataclass(eq=False)
class _Layer:
    """A mapped layer: where its nonzeros are, what a crossbar holds of it, how it is laid out.

    `block`: rows of one input channel. `tried`: the clustering that was found; `found`: the same,
    if `layout` is its.
    """

    mvm: MvmOp
    nonzero: Any
    room: tuple[int, int]
    block: int
    layout: Layout
    tried: Clustering | None = None
    found: Clustering | None = None

    @staticmethod
    def of(mvm: MvmOp, arrays: MutableMapping[str, Array]) -> "_Layer":
        """Raises `XbarcError` where the weights or the crossbar aren't at hand."""
        symbol, crossbar = weights_of(mvm).symbol, crossbar_of(mvm)
        if symbol not in arrays:
            raise XbarcError(f"the weights of {symbol!r} aren't at hand: compile the model")
        if crossbar is None:
            raise XbarcError("the module doesn't say its crossbar: compile it for a target")
        array, placed = crossbar.array(), coverage_of(mvm, arrays)
        gather = mvm.input.owner
        window = gather.window if isinstance(gather, GatherOp) else None
        whole = isinstance(mvm.tiling, GridAttr)
        return _Layer(
            mvm,
            arrays[symbol] != 0,
            (array.weights_per_column, array.weights_per_row(weights_of(mvm).weight_bits)),
            1 if window is None else window.size,
            Layout(placed.tiles, placed.rows, placed.columns, whole),
        )

    @property
    def symbol(self) -> str:
        return weights_of(self.mvm).symbol

    def figures(self) -> dict[str, Any]:
        """What the report says of it."""
        assert self.tried is not None
        found = self.found or Clustering(self.layout, self.tried.unclustered_tiles)
        area = len(self.layout.tiles) * self.room[0] * self.room[1]
        return {
            "tiles": len(self.layout.tiles),
            "tiles_dense": dense_tiles(self.nonzero.shape, self.room),
            "tiles_occupied": occupied_tiles(self.nonzero, self.room),
            "tiles_unclustered": self.tried.unclustered_tiles,
            "clusters": found.clusters,
            "density": int(np.count_nonzero(self.nonzero)) / area,
            "nonzero_weights": int(np.count_nonzero(self.nonzero)),
            "clustered_weights": found.clustered,
        }


def _fold(layers: dict[MvmOp, _Layer]) -> dict[str, dict[str, int]]:
    """Order columns and the rows behind them alike; the pieces that values travel in, by layer."""
    figures: dict[str, dict[str, int]] = {}
    for mvm, second in layers.items():
        source = _source(mvm)
        first = layers.get(source) if source is not None else None
        if first is None or (first.found is None and second.found is None):
            continue
        columns = first.nonzero.shape[1]
        block = len(second.nonzero) // columns
        before = pieces(first.layout, second.layout, columns, block)
        one = first.layout if first.found is not None else _kept(first.layout)
        two = second.layout if second.found is not None else _kept(second.layout)
        one, two = folded(one, two, columns, block)
        first.layout = one if first.found is not None else first.layout
        second.layout = two if second.found is not None else second.layout
        now = pieces(first.layout, second.layout, columns, block)
        figures[second.symbol] = {"pieces": now, "pieces_unfolded": before}
    return figures


def _kept(layout: Layout) -> Layout:
    """A layout that isn't this pass's to order."""
    return replace(layout, whole=True)


def _source(mvm: MvmOp) -> MvmOp | None:
    """The layer that gives the values of the rows, one of its columns after the other, if one does.

    Digital operations with one operand are taken to keep channels in place.
    """
    if not isinstance(mvm.input.owner, GatherOp):
        return None
    value = mvm.input.owner.input
    while isinstance(owner := value.owner, QuantizeOp | DequantizeOp | DigitalOp | ScatterOp):
        if len(owner.operands) != 1:
            return None
        value = owner.operands[0]
    if not isinstance(owner, MvmOp) or mvm.matrix[0] % owner.matrix[1]:
        return None
    return owner
