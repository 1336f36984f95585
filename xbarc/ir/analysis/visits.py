"""How often the rows and columns of an mvm's tiles are used for one image.

Each vector drives every row and converts every column, with two exceptions. A patch that hangs over
the edge of the output needs fewer rows and columns. In a `gated` mvm, rows of a tile that hold only
zeros aren't driven, and bit lines whose cells are all off aren't converted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from xbarc.hw.bit_lines import live_lines
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import Coverage, coverage_of, weights_on_tiles
from xbarc.ir.analysis.patches import is_side_by_side, scatter_of
from xbarc.ir.dialect import MvmOp, StreamType, Tiles, copies_of, shape_of, spatial_size, weights_of
from xbarc.support.data import Array

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Use:
    """What an mvm's tiles do for one image, before input slices.

    For each tile [T], over all vectors: `activations`, the vectors that it meets; `rows`, rows
    driven; `columns`, weight columns that give a partial sum; `places`, places of weights that are
    read (rows driven x columns in use). For all tiles together: `conversions`, bit lines converted;
    `cells`, cells read, of all slices and polarities; `macs`, products of a weight.
    """

    activations: Counts
    rows: Counts
    columns: Counts
    places: Counts
    conversions: int
    cells: int
    macs: int


@dataclass(frozen=True)
class Visits:
    """An mvm's tiles [T, 4] and their use for one image.

    `programmed`: places of weights on crossbars, in all copies. `results`: values of the layer's
    result. `driven` [Kg, 1]: how often the rows of a stored weight are driven, summed over all
    places where it stands.
    """

    tiles: Tiles
    use: Use
    programmed: int
    results: int
    driven: Counts

    @property
    def entries(self) -> int:
        """Input entries that leave the buffer: tiles on the same rows get the same ones."""
        _, first = np.unique(self.tiles[:, :2], axis=0, return_index=True)
        return int(self.use.rows[first].sum())


@dataclass(frozen=True)
class _Often:
    """Over the vectors of an image: how often each row and column is needed, [K] and [N].

    `patch` [O]: the same by patch position of an unrolled matrix.
    """

    rows: Counts
    columns: Counts
    patch: Counts


def visits(op: MvmOp, arrays: Mapping[str, Array], target: Target) -> Visits:
    """Count an mvm's tiles. Raises `XbarcError` where its arrays don't fit."""
    vectors = cast(StreamType, op.input.type).vectors.data
    placed = coverage_of(op, arrays)
    often = _often(op, vectors)
    use = (_ungated if op.gated is None else _gated)(op, placed, often, arrays, target)
    copies = copies_of(op)
    # Where every patch of an image has crossbars of its own, they hold what that patch needs.
    patches = _patches(op)
    programmed = weights_on_tiles(op, arrays) * copies
    if copies == patches:
        programmed = _products(op, often, vectors, arrays) * patches // vectors
    return Visits(
        placed.tiles,
        use,
        programmed,
        _results(op, vectors),
        _driven(placed, often),
    )


def _often(op: MvmOp, vectors: int) -> _Often:
    k, n = op.matrix
    scatter = scatter_of(op)
    if op.unroll is None or scatter is None or not is_side_by_side(scatter):
        patch = np.full(1 if op.unroll is None else op.unroll.patch_size, vectors, np.int64)
        return _Often(np.full(k, vectors, np.int64), np.full(n, vectors, np.int64), patch)
    assert scatter.window is not None
    _, strides, _, _ = scatter.window.lists()
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    positions = scatter.window.output_size(spatial)
    windows, patches = np.ones(1, np.int64), np.ones(1, np.int64)
    for axis, taps in enumerate(op.unroll.axis_taps()):
        places = np.arange(positions[axis] * strides[axis]).reshape(-1, strides[axis])
        inside = places < spatial[axis]  # [positions, patch]
        needed = inside.astype(np.int64) @ (taps >= 0).T.astype(np.int64) > 0
        windows = np.multiply.outer(windows, needed.sum(0)).ravel()
        patches = np.multiply.outer(patches, inside.sum(0)).ravel()
    items = vectors // math.prod(positions)
    windows, patches = windows * items, patches * items
    return _Often(np.tile(windows, k // len(windows)), np.tile(patches, n // len(patches)), patches)


def _patches(op: MvmOp) -> int | None:
    """Patches of an unrolled matrix on one image; None where its result isn't cut in patches."""
    scatter = scatter_of(op)
    if op.unroll is None or scatter is None or not is_side_by_side(scatter):
        return None
    assert scatter.window is not None
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    return math.prod(scatter.window.output_size(spatial))


def _over(counts: Counts, ranges: Counts) -> Counts:
    """The sum of `counts` over each range [T, 2]."""
    total = np.concatenate([[0], np.cumsum(counts)])
    return cast(Counts, total[ranges[:, 1]] - total[ranges[:, 0]])


def _products(op: MvmOp, often: _Often, vectors: int, arrays: Mapping[str, Array]) -> int:
    """Products with weights that stand on tiles, zeros among them."""
    if op.unroll is None or op.sparse is not None:
        return vectors * weights_on_tiles(op, arrays)
    rows, cols = weights_of(op).stored_shape
    standing = np.count_nonzero(op.unroll.taps() >= 0, axis=0)
    return rows // op.unroll.kernel_size * cols * int(standing @ often.patch)


def _ungated(
    op: MvmOp,
    placed: Coverage,
    often: _Often,
    arrays: Mapping[str, Array],
    target: Target,
) -> Use:
    """All rows and columns of a tile, whatever its weights are."""
    vectors = cast(StreamType, op.input.type).vectors.data
    tiles, array = placed.tiles, target.array
    rows = _over(_standing(often.rows, placed.rows), tiles[:, :2])
    columns = _over(_standing(often.columns, placed.columns), tiles[:, 2:])
    places = rows * (tiles[:, 3] - tiles[:, 2])
    slices = array.slices(weights_of(op).weight_bits)
    return Use(
        np.full(len(tiles), vectors, np.int64),
        rows,
        columns,
        places,
        int(columns.sum()) * slices * (1 if _analog(target) else array.polarities),
        int(places.sum()) * slices * array.polarities,
        _products(op, often, vectors, arrays),
    )


def _gated(
    op: MvmOp,
    placed: Coverage,
    often: _Often,
    arrays: Mapping[str, Array],
    target: Target,
) -> Use:
    """Rows with a weight that isn't zero, and bit lines that it puts a cell above level 0 on."""
    vectors = cast(StreamType, op.input.type).vectors.data
    weights, array = weights_of(op), target.array
    often_row = _standing(often.rows, placed.rows)
    often_column = _standing(often.columns, placed.columns)
    counts = np.zeros((4, len(placed.tiles)), np.int64)
    conversions = cells = macs = 0
    for index, (r0, r1, c0, c1) in enumerate(placed.tiles.tolist()):
        q = placed.dense(arrays[weights.symbol], (r0, r1, c0, c1))
        row, column = (q != 0).any(axis=1), (q != 0).any(axis=0)
        lines = np.zeros(c1 - c0, np.int64)
        lines[column] = live_lines(
            q[row][:, column], weights.weight_bits, array, analog=_analog(target)
        )
        rows = int(often_row[r0:r1] @ row)
        columns = int(often_column[c0:c1] @ column)
        counts[:, index] = vectors * row.any(), rows, columns, rows * np.count_nonzero(column)
        conversions += int(often_column[c0:c1] @ lines)
        cells += rows * int(lines.sum()) * (array.polarities if _analog(target) else 1)
        macs += int(np.count_nonzero(q, axis=0) @ often_column[c0:c1])
    activations, driven, used, places = counts
    return Use(activations, driven, used, places, conversions, cells, macs)


def _standing(counts: Counts, order: Counts | None) -> Counts:
    """Counts of rows or columns in the order in which tiles count them."""
    return counts if order is None else counts[order]


def _analog(target: Target) -> bool:
    return target.adc.subtract == "analog"


def _driven(placed: Coverage, often: _Often) -> Counts:
    """How often the rows that a stored weight stands on are driven, [Kg, 1]."""
    kg = placed.stored[0]
    if placed.taps is None:
        return often.rows[:kg, None]
    window = len(placed.taps)
    kernel = kg * window // placed.shape[0]
    u, p = np.nonzero(placed.taps >= 0)
    places = np.bincount(placed.taps[u, p], often.rows[u], kernel).astype(np.int64)
    return np.tile(places, kg // kernel)[:, None]


def _results(op: MvmOp, vectors: int) -> int:
    scatter = scatter_of(op)
    if scatter is None or scatter.window is None:
        return vectors * op.matrix[1]
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    items = vectors // math.prod(scatter.window.output_size(spatial))
    return items * shape_of(scatter.result)[1] * math.prod(spatial)
