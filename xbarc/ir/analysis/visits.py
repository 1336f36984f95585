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
Flags = npt.NDArray[np.bool_]


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
    result. `read` [Kg, 1]: how often a stored weight is read, summed over all places where it
    stands.
    """

    tiles: Tiles
    use: Use
    programmed: int
    results: int
    read: Counts

    @property
    def entries(self) -> int:
        """Input entries that leave the buffer: tiles on the same rows get the same ones."""
        _, first = np.unique(self.tiles[:, :2], axis=0, return_index=True)
        return int(self.use.rows[first].sum())


@dataclass(frozen=True)
class _Kinds:
    """The vectors of an image by what they need: patches inside, at an edge, at a corner.

    What isn't cut in patches is of one kind. `vectors` [G] are those of each kind, `rows` [G, K]
    and `columns` [G, N] what it needs; `patch` [G, O]: columns by patch position of an unrolled
    matrix.
    """

    vectors: Counts
    rows: Flags
    columns: Flags
    patch: Flags

    @property
    def of_patch(self) -> Counts:
        """How often each patch position is on the map, [O]."""
        return self.vectors @ self.patch


def visits(op: MvmOp, arrays: Mapping[str, Array], target: Target) -> Visits:
    """Count an mvm's tiles. Raises `XbarcError` where its arrays don't fit."""
    vectors = cast(StreamType, op.input.type).vectors.data
    placed = coverage_of(op, arrays)
    kinds = _kinds(op, vectors)
    use = (_ungated if op.gated is None else _gated)(op, placed, kinds, arrays, target)
    copies = copies_of(op)
    # Where every patch of an image has crossbars of its own, they hold what that patch needs.
    patches = _patches(op)
    programmed = weights_on_tiles(op, arrays) * copies
    if copies == patches:
        programmed = _products(op, kinds, vectors, arrays) * patches // vectors
    return Visits(
        placed.tiles,
        use,
        programmed,
        _results(op, vectors),
        _read(placed, kinds),
    )


def _kinds(op: MvmOp, vectors: int) -> _Kinds:
    k, n = op.matrix
    scatter = scatter_of(op)
    if op.unroll is None or scatter is None or not is_side_by_side(scatter):
        patch = np.ones((1, 1 if op.unroll is None else op.unroll.patch_size), bool)
        return _Kinds(np.array([vectors]), np.ones((1, k), bool), np.ones((1, n), bool), patch)
    assert scatter.window is not None
    _, strides, _, _ = scatter.window.lists()
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    positions = scatter.window.output_size(spatial)
    count, windows, patches = np.ones(1, np.int64), np.ones((1, 1), bool), np.ones((1, 1), bool)
    for axis, taps in enumerate(op.unroll.axis_taps()):
        places = np.arange(positions[axis] * strides[axis]).reshape(-1, strides[axis])
        inside, alike = np.unique(places < spatial[axis], axis=0, return_counts=True)
        needed = inside.astype(np.int64) @ (taps >= 0).T.astype(np.int64) > 0
        count = np.kron(count, alike)
        windows, patches = np.kron(windows, needed), np.kron(patches, inside)
    items = vectors // math.prod(positions)
    return _Kinds(
        count * items,
        np.tile(windows, k // windows.shape[1]),
        np.tile(patches, n // patches.shape[1]),
        patches,
    )


def _patches(op: MvmOp) -> int | None:
    """Patches of an unrolled matrix on one image; None where its result isn't cut in patches."""
    scatter = scatter_of(op)
    if op.unroll is None or scatter is None or not is_side_by_side(scatter):
        return None
    assert scatter.window is not None
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    return math.prod(scatter.window.output_size(spatial))


def _over(flags: Flags, ranges: Counts) -> Counts:
    """How many of `flags` [G, L] are set in each range [T, 2]: [G, T]."""
    total = np.pad(np.cumsum(flags, axis=1), ((0, 0), (1, 0)))
    return cast(Counts, total[:, ranges[:, 1]] - total[:, ranges[:, 0]])


def _products(op: MvmOp, kinds: _Kinds, vectors: int, arrays: Mapping[str, Array]) -> int:
    """Products with weights that stand on tiles, zeros among them."""
    if op.unroll is None or op.sparse is not None:
        return vectors * weights_on_tiles(op, arrays)
    rows, cols = weights_of(op).stored_shape
    standing = np.count_nonzero(op.unroll.taps() >= 0, axis=0)
    return rows // op.unroll.kernel_size * cols * int(standing @ kinds.of_patch)


def _ungated(
    op: MvmOp,
    placed: Coverage,
    kinds: _Kinds,
    arrays: Mapping[str, Array],
    target: Target,
) -> Use:
    """All rows and columns of a tile, whatever its weights are."""
    vectors = cast(StreamType, op.input.type).vectors.data
    tiles, array = placed.tiles, target.array
    rows = _over(_standing(kinds.rows, placed.rows), tiles[:, :2])
    columns = _over(_standing(kinds.columns, placed.columns), tiles[:, 2:])
    places = kinds.vectors @ (rows * columns)
    rows, columns = kinds.vectors @ rows, kinds.vectors @ columns
    slices = array.slices(weights_of(op).weight_bits)
    return Use(
        np.full(len(tiles), vectors, np.int64),
        rows,
        columns,
        places,
        int(columns.sum()) * slices * (1 if _analog(target) else array.polarities),
        int(places.sum()) * slices * array.polarities,
        _products(op, kinds, vectors, arrays),
    )


def _gated(
    op: MvmOp,
    placed: Coverage,
    kinds: _Kinds,
    arrays: Mapping[str, Array],
    target: Target,
) -> Use:
    """Rows with a weight that isn't zero, and bit lines that it puts a cell above level 0 on."""
    vectors = cast(StreamType, op.input.type).vectors.data
    weights, array = weights_of(op), target.array
    all_rows = _standing(kinds.rows, placed.rows)
    all_columns = _standing(kinds.columns, placed.columns)
    counts = np.zeros((4, len(placed.tiles)), np.int64)
    conversions = cells = macs = 0
    for index, (r0, r1, c0, c1) in enumerate(placed.tiles.tolist()):
        q = placed.dense(arrays[weights.symbol], (r0, r1, c0, c1))
        row, column = (q != 0).any(axis=1), (q != 0).any(axis=0)
        lines = np.zeros(c1 - c0, np.int64)
        lines[column] = live_lines(
            q[row][:, column], weights.weight_bits, array, analog=_analog(target)
        )
        needed = all_columns[:, c0:c1].astype(np.int64)  # a product of flags counts nothing
        rows = np.count_nonzero(all_rows[:, r0:r1] & row, axis=1)
        columns, live = needed @ column, needed @ lines
        counts[0, index] = vectors * row.any()
        counts[1:, index] = [kinds.vectors @ v for v in (rows, columns, rows * columns)]
        conversions += int(kinds.vectors @ live)
        cells += int(kinds.vectors @ (rows * live)) * (array.polarities if _analog(target) else 1)
        macs += int(kinds.vectors @ needed @ np.count_nonzero(q, axis=0))
    activations, driven, used, places = counts
    return Use(activations, driven, used, places, conversions, cells, macs)


def _standing(flags: Flags, order: Counts | None) -> Flags:
    """Flags of rows or columns [G, L] in the order in which tiles count them."""
    return flags if order is None else flags[:, order]


def _analog(target: Target) -> bool:
    return target.adc.subtract == "analog"


def _read(placed: Coverage, kinds: _Kinds) -> Counts:
    """How often a stored weight is read, at all places where it stands, [Kg, 1].

    Where its column is on the map, its row is needed.
    """
    kg = placed.stored[0]
    if placed.taps is None:
        return np.full((kg, 1), kinds.vectors.sum())
    kernel = kg * len(placed.taps) // placed.shape[0]
    u, p = np.nonzero(placed.taps >= 0)
    places = np.bincount(placed.taps[u, p], kinds.of_patch[p], kernel).astype(np.int64)
    return np.tile(places, kg // kernel)[:, None]


def _results(op: MvmOp, vectors: int) -> int:
    scatter = scatter_of(op)
    if scatter is None or scatter.window is None:
        return vectors * op.matrix[1]
    spatial = spatial_size(shape_of(scatter.result), flat=scatter.flat is not None)
    items = vectors // math.prod(scatter.window.output_size(spatial))
    return items * shape_of(scatter.result)[1] * math.prod(spatial)
