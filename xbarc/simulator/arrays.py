"""Physical arrays: which cell of which crossbar holds what.

A tile stands on one crossbar, or on several where slices or polarities take arrays of their own.
On a crossbar the bit lines of a weight column stand side by side, slice by slice, G+ beside G-; or
G+ stands in one row and G- in the next, and both share a bit line.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xbarc.hw import converters, encoding
from xbarc.hw.converters import Converter
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.support.data import Array

Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class Cell:
    """What a cell conducts, in uS: `low_us` at level 0, `high_us` at the highest level, `top`."""

    low_us: float
    high_us: float
    top: int

    @classmethod
    def of(cls, target: Target) -> Self:
        """With an infinite on/off ratio: level 0 conducts nothing, steps are the device's."""
        device = target.device
        return cls(0.0, device.g_on_us - device.g_off_us, (1 << target.array.cell_bits) - 1)

    @property
    def step_us(self) -> float:
        """The conductance of one level step."""
        return (self.high_us - self.low_us) / self.top

    def conductance(self, levels: Integers) -> npt.NDArray[np.float64]:
        """What levels conduct, in uS."""
        return np.asarray(self.low_us + levels * self.step_us)


@dataclass(frozen=True)
class PhysicalArray:
    """One crossbar of one replica: R word lines in use, L bit lines.

    `levels` [R, L] are its cells'. Of each bit line: `column`, the weight column of the tile that
    it belongs to, `slice` and `polarity` (0 is G+, and where G- is in the rows): [L] each.
    `word_lines` [R] and `bit_lines` [L] are where they lie, counted over the tile's lines of this
    crossbar, used or not. `signs` [R]: 1, or -1 where G- stands and the input is driven negated.
    `alone` [L]: no other polarity takes away what level 0 conducts. `adc` is the curve of its
    converters as it should be; lossless ones have step 1 over full scale.

    A reference line has column, slice, polarity and bit line -1.
    """

    layer: str
    replica: int
    tile: int
    crossbar: int
    levels: Integers
    column: Integers
    slice: Integers
    polarity: Integers
    word_lines: Integers
    bit_lines: Integers
    signs: Integers
    alone: npt.NDArray[np.bool_]
    target: Target
    cell: Cell
    adc: Converter

    def wanted(self) -> npt.NDArray[np.float64]:
        """The conductances that its levels stand for, in uS [R, L]."""
        return self.cell.conductance(self.levels)

    def lines(self, which: npt.NDArray[np.bool_]) -> Self:
        """The array with some of its bit lines alone."""
        parts: dict[str, Any] = {n: getattr(self, n)[..., which] for n in _BY_LINE}
        return replace(self, **parts)

    def with_reference(self) -> Self:
        """The array with a reference line behind its bit lines: all cells at level 0."""
        fill = {"levels": 0, "alone": False}
        parts: dict[str, Any] = {}
        for name in _BY_LINE:
            part = getattr(self, name)
            parts[name] = np.concatenate(
                [part, np.full((*part.shape[:-1], 1), fill.get(name, -1), part.dtype)], axis=-1
            )
        return replace(self, **parts)


_BY_LINE = ("levels", "column", "slice", "polarity", "bit_lines", "alone")


@dataclass(frozen=True)
class Tile:
    """A tile of a replica and the crossbars that it stands on.

    `rows` [R] of the mvm's matrix that drive its word lines (each two of them where G- is in rows),
    `columns` [C] that its results are added to, `height` rows of the matrix that are in use, driven
    or not (what a full-scale converter reaches).
    `converter`: the curve of its converters; None if they are lossless.
    """

    rows: Integers
    columns: Integers
    height: int
    converter: Converter | None
    arrays: tuple[PhysicalArray, ...]


@dataclass(frozen=True)
class _Block:
    """The cells of a tile that are in use: `levels` [S, P, R, C], where its lines lie, and on what.

    `columns` [C] are counted over all of the tile's. `gated`: bit lines at level 0 aren't there.
    """

    levels: Integers
    word_lines: Integers
    columns: Integers
    gated: bool
    target: Target
    cell: Cell
    adc: Converter


def tiles_of(
    op: MvmOp,
    arrays: Mapping[str, Array],
    target: Target,
    replica: int,
    cell: Cell | None = None,
    only: Container[int] | None = None,
) -> Iterator[Tile]:
    """The tiles of one replica of an mvm, row blocks in order; `cell` is what cells are like.

    `only`: the numbers of the tiles that are asked for; all without it.

    Cells at which no weight stands hold a weight of 0, and are cells as well. What is gated isn't
    there: rows and columns of a tile in which all weights are zero, and bit lines on which all
    cells are at level 0.
    """
    weights, placed = weights_of(op), coverage_of(op, arrays)
    k, n = op.matrix
    row_order = np.arange(k) if placed.rows is None else placed.rows
    column_order = np.arange(n) if placed.columns is None else placed.columns
    q, gated, array = arrays[weights.symbol], op.gated is not None, target.array
    order = np.lexsort(placed.tiles.T[[2, 0]])
    for index in order.tolist():
        if only is not None and index not in only:
            continue
        r0, r1, c0, c1 = placed.tiles[index].tolist()
        dense = placed.dense(q, (r0, r1, c0, c1))
        some = np.not_equal(dense, 0) if gated else np.ones(dense.shape, bool)
        word_lines, used = np.flatnonzero(some.any(axis=1)), np.flatnonzero(some.any(axis=0))
        if not (word_lines.size and used.size):
            continue
        levels = encoding.weight_levels(
            dense[np.ix_(word_lines, used)], weights.weight_bits, array.cell_bits, array.encoding
        )  # [S, P, R, C]
        full = converters.full_scale(r1 - r0, target.inputs.dac_bits, array.cell_bits)
        converter = converters.converter(target.adc, full, op.adc_range)
        adc = converter or _lossless(target, full)
        block = _Block(levels, word_lines, used, gated, target, cell or Cell.of(target), adc)
        made = (
            _physical(block, wires, (weights.symbol, replica, index, i))
            for i, wires in enumerate(_crossbars(levels, target))
        )
        rows, columns = row_order[r0:r1][word_lines], column_order[c0:c1][used]
        rows = np.repeat(rows, array.rows_per_weight)
        yield Tile(rows, columns, r1 - r0, converter, tuple(made))


def _lossless(target: Target, full: int) -> Converter:
    low = -full if target.adc.subtract == "analog" else 0
    return Converter(float(low), 1.0, full - low, integer=True)


def _crossbars(levels: Integers, target: Target) -> list[tuple[list[int], list[int]]]:
    """The slices and polarities that stand on each crossbar of a tile."""
    slices, polarities = map(list, map(range, levels.shape[:2]))
    array = target.array
    by_slice = [slices] if array.slices_in == "columns" else [[s] for s in slices]
    by_polarity = [[p] for p in polarities] if array.polarity_in == "arrays" else [polarities]
    return [(some, signs) for some in by_slice for signs in by_polarity]


def _physical(
    block: _Block, wires: tuple[list[int], list[int]], where: tuple[str, int, int, int]
) -> PhysicalArray:
    """The crossbar with these slices and polarities of a tile."""
    slices, polarities = wires
    chosen = block.levels[np.ix_(slices, polarities)]  # [S', P', R, C]
    word_lines = block.word_lines
    signs = np.ones(len(word_lines), np.int64)
    if block.target.array.paired_rows:
        s, p, rows, cols = chosen.shape
        chosen = chosen.transpose(0, 2, 1, 3).reshape(s, 1, rows * p, cols)
        polarities = [0]
        word_lines = (word_lines[:, None] * p + np.arange(p)).ravel()
        signs = np.tile([1, -1], rows)
    s, p, rows, cols = chosen.shape
    cells = chosen.transpose(2, 3, 0, 1).reshape(rows, cols * s * p)
    column, of_slice, of_polarity = (
        part.ravel() for part in np.meshgrid(np.arange(cols), slices, polarities, indexing="ij")
    )
    bit_lines = (block.columns[:, None] * (s * p) + np.arange(s * p)).ravel()
    held: npt.NDArray[np.bool_] = np.any(block.levels, axis=2)  # [S, P, C]
    if not block.gated:
        held = np.ones_like(held)
    elif block.target.adc.subtract == "analog":
        # A pair of lines is off only where both are.
        held = np.broadcast_to(held.any(axis=1, keepdims=True), held.shape)
    alone = held.sum(axis=1)[of_slice, column] < 2
    if block.target.array.paired_rows:
        alone = np.zeros(len(column), bool)  # the pair's other row takes it away
    made = PhysicalArray(
        *where,
        cells,
        column,
        of_slice,
        of_polarity,
        word_lines,
        bit_lines,
        signs,
        alone,
        block.target,
        block.cell,
        block.adc,
    )
    return made.lines(held[of_slice, of_polarity, column])
