"""What the values of a run do to the crossbars: driven rows, sums of levels, needed conversions.

The counts follow from the input codes of each `xbar.mvm` and from the programmed levels, without
simulating a column: every sum over cells is a sum over rows of (what drove the row) x (what the
row's cells hold).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from xbarc.artifact import CompiledProgram
from xbarc.hw import encoding
from xbarc.hw.bit_lines import live_lines
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.simulator.exact.segments import merged
from xbarc.support.data import Array

Counts = npt.NDArray[np.int64]
Range = tuple[int, int]


UNSIGNED, TWO_PASS, MAGNITUDES = 0, 1, 2

PASSES = {"twos-complement": UNSIGNED, "two-pass": TWO_PASS, "native": MAGNITUDES}
"""What drives rows in a read: bits of the codes as they are, of either sign's, of magnitudes."""


@dataclass(frozen=True)
class Codes:
    """What each input code does to its word line, summed over the reads (input slices) it takes.

    The tables have an entry for every value of the codes' type, indexed by its bits as an unsigned
    number. `driven`: reads with a level other than 0. `levels`: sum of the levels' magnitudes.
    `squares`: sum of their squares. `pulses`: pulses of the whole read voltage, where inputs are
    coded by them: bits that are set, else the levels. `passes`: how signed codes are read.
    """

    driven: Counts
    levels: Counts
    squares: Counts
    pulses: Counts
    passes: int


@dataclass(frozen=True)
class Programmed:
    """What the cells of a matrix hold, seen from its rows.

    For each row [K]: `tiles`, the word lines of crossbars that it drives; `cells`, the cells on
    them; `levels`, the sum of their levels. For each range of rows: `live_columns`, its columns
    with a cell above level 0; `driving`, its rows that drive them. The ranges count rows in the
    order `rows` (None: the matrix's own order). Rows and bit lines that a gated mvm skips are in
    none of these.
    """

    tiles: Counts
    cells: Counts
    levels: Counts
    live_columns: dict[Range, int]
    driving: dict[Range, Counts]
    conversions: int
    rows: Counts | None


@dataclass
class _Seen:
    """What drove the rows of one mvm: [K] each, and activations that drove any row of a range."""

    driven: Counts
    levels: Counts
    squares: Counts
    pulses: Counts
    ranges: dict[Range, int]
    vectors: int = 0


class ActivityCounter:
    """Collects the activity of a run: give `observe` to a `Simulator`, then ask `statistics`."""

    def __init__(self, program: CompiledProgram):
        self._program = program
        self._codes: dict[MvmOp, Codes] = {}
        self._programmed: dict[MvmOp, Programmed] = {}
        self._seen: dict[MvmOp, _Seen] = {}

    def observe(self, op: MvmOp, x: Array, _first: int) -> None:
        """Take in a block of codes [K, v]; one call at a time."""
        if op not in self._seen:
            self._begin(op, x)
        codes, seen = self._codes[op], self._seen[op]
        raw = x.view(f"u{x.itemsize}")
        driven = _row_sums(codes.driven, raw)
        seen.driven += driven
        # One-bit levels are their own squares.
        one_bit = codes.levels is codes.driven
        seen.levels += driven if one_bit else _row_sums(codes.levels, raw)
        seen.squares += driven if one_bit else _row_sums(codes.squares, raw)
        seen.pulses += driven if one_bit else _row_sums(codes.pulses, raw)
        seen.vectors += x.shape[1]
        held = self._programmed[op]
        lines = x if held.rows is None else x[held.rows]
        for (begin, end), rows in held.driving.items():
            driving = lines[begin:end] if len(rows) == end - begin else lines[rows]
            seen.ranges[begin, end] += driving_activations(codes, driving)

    def statistics(self) -> dict[str, dict[str, int]]:
        """By layer, sums over all that was observed.

        `vectors`; `row_pulses`: rows x activations, driven or not; `driven_row_pulses`: those at a
        level above 0; `input_levels`: the sum of their levels x; `cell_pulses`: pulses over the
        cells read (x, or the bits set in it); `cell_level_pulses`: each times the cell's level;
        `cell_drives`: sum of x^2 over the cells read; `cell_level_drives`: each times the cell's
        level; `column_sums`: sum of x times the cell's level, which is the sum of all
        columns' sums before G- is subtracted; `conversions`; `needed_conversions`: those of columns
        that aren't all at level 0, in activations that drive a row.
        """
        result: dict[str, dict[str, int]] = {}
        for op, seen in self._seen.items():
            into = result.setdefault(weights_of(op).symbol, {})
            for name, count in _count(seen, self._programmed[op], self._activations(op)).items():
                # Several mvm of one layer share its vectors.
                together = max if name == "vectors" else int.__add__
                into[name] = together(into.get(name, 0), count)
        return result

    def _activations(self, op: MvmOp) -> int:
        element = cast(StreamType, op.input.type).element
        signed = element.signedness.data.name == "SIGNED"
        return self._program.target.input_slices(element.width.data, signed)

    def _begin(self, op: MvmOp, x: Array) -> None:
        element = cast(StreamType, op.input.type).element
        signed = element.signedness.data.name == "SIGNED"
        held = programmed(op, self._program.weights, self._program.target)
        self._codes[op] = code_tables(x.dtype, element.width.data, signed, self._program.target)
        self._programmed[op] = held
        driven, levels, squares, pulses = np.zeros((4, len(held.cells)), np.int64)
        ranges = dict.fromkeys(held.live_columns, 0)
        self._seen[op] = _Seen(driven, levels, squares, pulses, ranges)


def _row_sums(table: Counts, raw: Array) -> Counts:
    return cast(Counts, np.take(table, raw).sum(axis=1, dtype=np.int64))


def _count(seen: _Seen, held: Programmed, activations: int) -> dict[str, int]:
    return {
        "vectors": seen.vectors,
        "row_pulses": seen.vectors * activations * int(held.tiles.sum()),
        "driven_row_pulses": int(seen.driven @ held.tiles),
        "input_levels": int(seen.levels @ held.tiles),
        "cell_pulses": int(seen.pulses @ held.cells),
        "cell_level_pulses": int(seen.pulses @ held.levels),
        "cell_drives": int(seen.squares @ held.cells),
        "cell_level_drives": int(seen.squares @ held.levels),
        "column_sums": int(seen.levels @ held.levels),
        "conversions": seen.vectors * activations * held.conversions,
        "needed_conversions": sum(
            seen.ranges[rows] * columns for rows, columns in held.live_columns.items()
        ),
    }


def code_tables(dtype: npt.DTypeLike, bits: int, signed: bool, target: Target) -> Codes:
    """The tables of `bits`-bit codes that come in `dtype` (8 or 16 bits)."""
    dtype = np.dtype(dtype)
    values = np.arange(1 << (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype)
    inputs = target.inputs
    reads = inputs.signed_reads
    levels = np.abs(
        encoding.input_levels(values, bits, inputs.dac_bits, signed, reads).astype(np.int64)
    )
    driven = (levels > 0).sum(axis=0)
    passes = PASSES[reads] if signed else UNSIGNED
    if inputs.dac_bits == 1:
        return Codes(driven, driven, driven, driven, passes)
    sums = levels.sum(axis=0)
    pulses = sums
    if inputs.coding == "bit-pulses":
        pulses = np.bitwise_count(levels).sum(axis=0, dtype=np.int64)
    return Codes(driven, sums, (levels**2).sum(axis=0), pulses, passes)


def driving_activations(codes: Codes, x: Array) -> int:
    """Activations of the vectors x [R, v] that drive at least one of the rows."""
    if codes.passes == UNSIGNED:
        together = np.bitwise_or.reduce(x.view(f"u{x.itemsize}"), axis=0)
        return int(codes.driven[together].sum())
    # The most negative code has no positive of its own type.
    wide = x.astype(np.int32)
    each = [wide, -wide] if codes.passes == TWO_PASS else [np.abs(wide)]
    parts = [np.bitwise_or.reduce(np.maximum(p, 0), axis=0) for p in each]
    return int(sum(codes.driven[part].sum() for part in parts))


def programmed(op: MvmOp, arrays: Mapping[str, Array], target: Target) -> Programmed:
    """What the cells of an mvm's tiles hold."""
    weights, array, placed = weights_of(op), target.array, coverage_of(op, arrays)
    bits, tiles, q = weights.weight_bits, placed.tiles, arrays[weights.symbol]
    slices, polarities = array.slices(bits), array.polarities
    standing, crossbars = op.standing[0], array.crossbars_per_tile(bits)
    analog = target.adc.subtract == "analog"
    per_column = slices * (1 if analog else polarities)
    first, level_sum = encoding.level_sums(bits, array.cell_bits, array.encoding)
    crossed, cells, levels = np.zeros((3, standing), np.int64)
    live: dict[Range, int] = {}
    driving: dict[Range, Counts] = {}
    conversions = 0
    # Gating goes tile by tile; without it, tiles side by side are one.
    gated = op.gated is not None
    for r0, r1, c0, c1 in tiles.tolist() if gated else [s.bounds for s in merged(tiles)]:
        dense = placed.dense(q, (r0, r1, c0, c1))
        rows, columns = np.arange(r0, r1), dense.shape[1]
        if gated:
            some = dense != 0
            dense = dense[some.any(axis=1)][:, some.any(axis=0)]
            rows, columns = rows[some.any(axis=1)], dense.shape[1]
            crossed[rows] += crossbars
        lines = int(live_lines(dense, bits, array, analog=analog).sum())
        # A gated bit line that holds nothing is neither read nor converted.
        conversions += lines if gated else columns * per_column
        cells[rows] += (lines if gated else columns * per_column) * (polarities if analog else 1)
        levels[rows] += level_sum[dense.astype(np.int64) - first].sum(axis=1)
        live[r0, r1] = live.get((r0, r1), 0) + lines
        driving[r0, r1] = np.union1d(driving.get((r0, r1), rows), rows)
    if not gated:
        crossed = _over_rows(standing, tiles, np.full(len(tiles), crossbars))
    crossed = crossed * array.rows_per_weight
    return Programmed(
        _by_row(crossed, placed.rows, op.matrix[0]),
        _by_row(cells, placed.rows, op.matrix[0]),
        _by_row(levels, placed.rows, op.matrix[0]),
        live,
        driving,
        conversions,
        placed.rows,
    )


def _by_row(counts: Counts, rows: Counts | None, k: int) -> Counts:
    """Counts of the rows as tiles count them, added up for the matrix's own rows: [K]."""
    if rows is None:
        return counts
    return np.bincount(rows, counts, k).astype(np.int64)


def _over_rows(rows: int, tiles: Counts, amounts: Counts) -> Counts:
    """By row, the sum of `amounts` of the tiles that hold it: [rows]."""
    change = np.zeros(rows + 1, np.int64)
    np.add.at(change, tiles[:, 0], amounts)
    np.add.at(change, tiles[:, 1], -amounts)
    return cast(Counts, change.cumsum()[:-1])
