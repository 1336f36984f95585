"""Physical arrays: which cell of which crossbar holds what.

A tile stands on one crossbar, or on several where slices or polarities take arrays of their own.
On a crossbar the bit lines of a weight column stand side by side, slice by slice, G+ beside G-.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw import encoding
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.support.data import Array

Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class PhysicalArray:
    """One crossbar of one replica: R word lines in use, L bit lines.

    `levels` [R, L] are its cells'. Of each bit line: `column`, the weight column of the tile that
    it belongs to, `slice` and `polarity` (0 is G+): [L] each.
    """

    layer: str
    replica: int
    tile: int
    crossbar: int
    levels: Integers
    column: Integers
    slice: Integers
    polarity: Integers


@dataclass(frozen=True)
class Tile:
    """A tile of a replica and the crossbars that it stands on.

    `rows` [R] of the mvm's matrix that drive its word lines, `columns` [C] that its results are
    added to, `height` rows that are in use, driven or not (what a full-scale converter reaches).
    """

    rows: Integers
    columns: Integers
    height: int
    arrays: tuple[PhysicalArray, ...]


def tiles_of(
    op: MvmOp, arrays: Mapping[str, Array], target: Target, replica: int
) -> Iterator[Tile]:
    """The tiles of one replica of an mvm, row blocks in order.

    Cells at which no weight stands hold a weight of 0, and are cells as well. What is gated isn't
    there: rows and columns of a tile in which all weights are zero, and bit lines on which all
    cells are at level 0.
    """
    weights, placed = weights_of(op), coverage_of(op, arrays)
    k, n = op.matrix
    row_order = np.arange(k) if placed.rows is None else placed.rows
    column_order = np.arange(n) if placed.columns is None else placed.columns
    q, gated = arrays[weights.symbol], op.gated is not None
    order = np.lexsort(placed.tiles.T[[2, 0]])
    for index in order.tolist():
        r0, r1, c0, c1 = placed.tiles[index].tolist()
        dense = placed.dense(q, (r0, r1, c0, c1))
        rows, columns = row_order[r0:r1], column_order[c0:c1]
        if gated:
            some = np.not_equal(dense, 0)
            used = np.ix_(some.any(axis=1), some.any(axis=0))
            dense = dense[used]
            rows, columns = rows[some.any(axis=1)], columns[some.any(axis=0)]
            if not dense.size:
                continue
        array = target.array
        levels = encoding.weight_levels(
            dense, weights.weight_bits, array.cell_bits, array.encoding
        )  # [S, P, R, C]
        crossbars = _crossbars(levels, target)
        made = (
            _physical(
                levels, wires, (weights.symbol, replica, index, i), gated=gated, target=target
            )
            for i, wires in enumerate(crossbars)
        )
        yield Tile(rows, columns, r1 - r0, tuple(made))


def _crossbars(levels: Integers, target: Target) -> list[tuple[list[int], list[int]]]:
    """The slices and polarities that stand on each crossbar of a tile."""
    slices, polarities = map(list, map(range, levels.shape[:2]))
    array = target.array
    by_slice = [slices] if array.slices_in == "columns" else [[s] for s in slices]
    by_polarity = [polarities] if array.polarity_in == "columns" else [[p] for p in polarities]
    return [(some, signs) for some in by_slice for signs in by_polarity]


def _physical(
    levels: Integers,
    wires: tuple[list[int], list[int]],
    where: tuple[str, int, int, int],
    *,
    gated: bool,
    target: Target,
) -> PhysicalArray:
    slices, polarities = wires
    chosen = levels[np.ix_(slices, polarities)]  # [S', P', R, C]
    s, p, rows, cols = chosen.shape
    cells = chosen.transpose(2, 3, 0, 1).reshape(rows, cols * s * p)
    column, of_slice, of_polarity = (
        part.ravel() for part in np.meshgrid(np.arange(cols), slices, polarities, indexing="ij")
    )
    if gated:
        # Under analog subtraction a pair of lines is off only where both are.
        held: npt.NDArray[np.bool_] = np.any(levels, axis=2)  # [S, P, C]
        if target.adc.subtract == "analog":
            held = np.broadcast_to(held.any(axis=1, keepdims=True), held.shape)
        on = held[of_slice, of_polarity, column]
        cells, column, of_slice, of_polarity = (
            part[..., on] for part in (cells, column, of_slice, of_polarity)
        )
    return PhysicalArray(*where, cells, column, of_slice, of_polarity)
