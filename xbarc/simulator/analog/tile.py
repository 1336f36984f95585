"""One tile of the analog engine: codes to what its crossbars give.

There are three ways to the same numbers (numerics: Physical arrays). Sums by table are the fastest
where inputs have few levels a read. Matrix products serve all else. Where no converter rounds and
none bends a sum, what follows is linear in the sums: slices, polarities and reads collapse into one
product, and their noise into one draw of the same variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from xbarc.hw import encoding
from xbarc.hw.converters import Converter
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.simulator.analog.lines import (
    Converted,
    Curve,
    Lines,
    Noise,
    by_column,
    by_line,
)
from xbarc.simulator.analog.products import integer_products
from xbarc.simulator.analog.programmed import Drive, draw_of
from xbarc.simulator.arrays import PhysicalArray, Tile
from xbarc.simulator.effect import Effect

if TYPE_CHECKING:
    from xbarc.simulator import tables

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[Any]

TABLE_DAC_BITS = 4
"""Wider levels are multiplied: `xbarc.simulator.tables.DAC_BITS`."""

BLOCK_BYTES = 1 << 22
"""The sums of a block of vectors, where BLAS makes them."""


@dataclass(frozen=True)
class Codes:
    """How an mvm's codes are read, and how what comes out is put together.

    `weights` [J] of the reads, `slice_weights` [S, P]; `offset`: what offset encoding adds to each
    weight.
    """

    bits: int
    signed: bool
    target: Target
    weights: npt.NDArray[np.int64]
    slice_weights: npt.NDArray[np.int64]
    offset: int

    @classmethod
    def of(cls, op: MvmOp, target: Target) -> Self:
        """Those of `op`."""
        element = cast(StreamType, op.input.type).element
        bits, signed = element.width.data, element.signedness.data.name == "SIGNED"
        inputs, array, weight_bits = target.inputs, target.array, weights_of(op).weight_bits
        weights = encoding.input_slice_weights(bits, inputs.dac_bits, signed, inputs.signed_reads)
        slices = encoding.slice_weights(weight_bits, array.cell_bits, array.encoding)
        offset = 1 << (weight_bits - 1) if array.encoding == "offset" else 0
        return cls(bits, signed, target, weights, slices, offset)

    def inputs(self, itemsize: int) -> "tables.Inputs":
        """How codes of so many bytes are read, for the kernels."""
        from xbarc.simulator import tables

        return tables.inputs_of(
            self.target, self.bits, itemsize, signed=self.signed, weights=self.weights
        )

    def levels(self, x: Integers) -> Integers:
        """What word lines carry in each read: [J, *x.shape]."""
        inputs = self.target.inputs
        reads = inputs.signed_reads
        return encoding.input_levels(x, self.bits, inputs.dac_bits, self.signed, reads)


ONE_READ = np.ones(1)


@dataclass(frozen=True)
class LinesOfArray:
    """The `lines` of one array that are converted.

    `array` has these alone. `drives` [T]: what carries each term's codes. `bends`: the effects that
    change sums before they are converted, `bent`: its converters have curves of their own.
    `by_table`: sums are made by tables.
    """

    array: PhysicalArray
    lines: Lines
    bent: bool
    drives: tuple[Drive | None, ...]
    noise: Noise
    bends: tuple[Effect, ...]
    by_table: bool


@dataclass(frozen=True)
class AnalogTile:
    """A programmed tile: `rows` [R] of the matrix drive it, results go to `columns` [C].

    `lines` are converted in each read. `squares`, where reads collapse into one: what a code counts
    in the variance of read noise, by its lowest bits.
    """

    rows: Integers | slice
    columns: Integers
    lines: int
    codes: Codes
    converter: Converter | None
    arrays: tuple[LinesOfArray, ...]
    squares: Floats | None
    seed: int

    @classmethod
    def of(
        cls,
        tile: Tile,
        converted: Sequence[Converted],
        effects: Sequence[Effect],
        codes: Codes,
        seed: int,
    ) -> Self:
        """`converted` are the lines of its arrays."""
        bends = tuple(e for e in effects if type(e).convert is not Effect.convert)
        off = any(c.driven or c.distortion is not None for c in converted)
        linear = tile.converter is None and not bends and not off
        each = len(tile.rows) // len(converted[0].terms[0].cells) if converted else 1
        return cls(
            _as_slice(tile.rows[::each]),
            tile.columns,
            sum(len(c.weights) for c in converted),
            codes,
            tile.converter,
            tuple(
                _collapsed(c, codes) if linear else _one_by_one(c, bends, codes) for c in converted
            ),
            _squares(codes) if linear else None,
            seed,
        )

    def multiply(self, x: Integers, numbers: Integers, out: npt.NDArray[Any]) -> int:
        """Add what the tile gives for codes x [K, v] of the vectors `numbers` [v] to out [N, v].

        Returns how many sums were clipped.
        """
        from xbarc.simulator.analog import kernels

        codes = x[self.rows]
        found, clipped = np.zeros((len(self.columns), x.shape[1])), 0
        for array in self.arrays:
            clipped += self._add(array, codes, numbers, found)
        totals = np.zeros(x.shape[1])
        if self.codes.offset:
            totals += self.codes.offset * codes.sum(axis=0, dtype=np.int64)
        adc, step, base = self.converter, 1.0, np.zeros(len(self.columns))
        if adc is not None:
            step, base = adc.step, adc.lo * self.weight_sums()
        kernels.add_results(found, step, base, totals, self.columns, out)
        return clipped

    def add_effective(self, weights: Floats, variances: Floats, fixed: Floats) -> None:
        """Add what linear lines amount to, in level steps: to the weights [K, N], the variances
        [K, N] of their noise for one square of a code, and the part [N] that no code changes.
        """
        rows = np.arange(len(weights))[self.rows]
        for array in self.arrays:
            lines, columns = array.lines, self.columns[array.lines.columns]
            place = np.ix_(rows, columns)
            for cells, unit in zip(lines.cells, lines.units, strict=True):
                weights[place] += cells * unit
            for spread, unit in zip(lines.variances, lines.variance_units, strict=True):
                variances[place] += spread[:, : len(columns)] * unit
                if array.noise.reference:
                    variances[place] += lines.alone**2 * spread[:, -1:] * unit
            fixed[columns] += lines.fixed
        if self.codes.offset:
            weights[np.ix_(rows, self.columns)] -= self.codes.offset

    def weight_sums(self) -> Floats:
        """What all conversions of each column weigh together: [C]."""
        found = np.zeros(len(self.columns))
        for array in self.arrays:
            np.add.at(found, array.lines.columns, array.lines.weights)
        return found * float(self.codes.weights.sum())

    def _add(self, a: LinesOfArray, x: Integers, numbers: Integers, out: Floats) -> int:
        """Add what an array gives for codes x [R, v] to out [C, v]; how many sums were clipped."""
        from xbarc.simulator.analog import kernels

        adc = a.array.adc
        curve = Curve(adc.lo, adc.step, float(adc.top), self.converter is not None, a.bent)
        if a.by_table:
            codes, inputs = np.ascontiguousarray(x), self.codes.inputs(x.itemsize)
            args = numbers, a.lines, inputs, curve, a.noise, out
            return int(kernels.convert_codes(codes.view(np.uint8), *args))
        clipped = 0
        weights = ONE_READ if self.squares is not None else self.codes.weights.astype(np.float64)
        block = max(1, BLOCK_BYTES // (8 * len(weights) * a.lines.weights.size))
        for v in range(0, x.shape[1], block):
            sums = self._sums(a, x[:, v : v + block], numbers[v : v + block])
            for effect in a.bends:
                draw = draw_of(effect.name, a.array, self.seed)
                sums = effect.convert(sums, a.array, draw)
            clipped += int(kernels.convert_sums(sums, a.lines, weights, curve, v, out))
        return clipped

    def _sums(self, a: LinesOfArray, x: Integers, numbers: Integers) -> Floats:
        """Sums [L, J * v] in level steps, with the noise of their reads."""
        from xbarc.simulator.analog import kernels

        lines, drives = a.lines, a.drives
        levels, squares = self._driven(x, noisy=a.noise.on)
        driven = [(levels, 1.0) if d is None else d.carried(levels) for d in drives]
        sums = _added_up(lines.cells, lines.units, driven)
        if a.noise.on:
            variance = np.zeros((0, sums.shape[1]))
            if len(lines.variance_units):
                driven = [(squares, 1.0) if d is None else d.squared(levels) for d in drives]
                variance = _added_up(lines.variances, lines.variance_units, driven)
            kernels.add_noise(sums, variance, numbers, lines, a.noise)
        return sums

    def _driven(self, x: Integers, *, noisy: bool) -> tuple[Integers, Integers]:
        """What word lines carry for codes x [R, v], [R, J * v], and how it counts in a variance."""
        if self.squares is None:
            levels = self.codes.levels(x).swapaxes(0, 1).reshape(len(x), -1)
            return levels, levels.astype(np.float64) ** 2 if noisy else levels
        low_bits = x.astype(np.intp) & (len(self.squares) - 1) if noisy else None
        return x, x if low_bits is None else self.squares[low_bits]


def _added_up(cells: Integers, units: Floats, driven: Sequence[tuple[Integers, float]]) -> Floats:
    """Sums [L, n] in level steps of cells [T, R, L], and what drives each term's rows [R, n]."""
    total: Floats | None = None
    for of_term, unit, (levels, each) in zip(cells, units, driven, strict=True):
        found = integer_products(of_term, levels)
        found *= unit * each
        total = found if total is None else total + found
    assert total is not None
    return total


def _one_by_one(c: Converted, bends: tuple[Effect, ...], codes: Codes) -> LinesOfArray:
    """Lines that are converted one by one."""
    lines, dac_bits = by_line(c), codes.target.inputs.dac_bits
    top = (1 << dac_bits) - 1
    fits = _largest(lines.cells) * top < 1 << 31 and _largest(lines.variances) * top**2 < 1 << 31
    native = codes.signed and codes.target.inputs.signed == "native"
    by_table = fits and dac_bits <= TABLE_DAC_BITS and not (bends or c.driven or native)
    bent = c.distortion is not None
    return LinesOfArray(c.array, lines, bent, _drives(c), _noise(c), bends, by_table)


def _collapsed(c: Converted, codes: Codes) -> LinesOfArray:
    """Lines of which only their sum matters."""
    lines = by_column(c, codes.weights)
    return LinesOfArray(c.array, lines, False, _drives(c), _noise(c), (), by_table=False)


def _drives(c: Converted) -> tuple[Drive | None, ...]:
    return tuple(term.drive for term in c.terms)


def _noise(c: Converted) -> Noise:
    return Noise(c.key, c.noisy, c.reference is not None)


def _squares(codes: Codes) -> Floats:
    """Of each code, by its lowest bits: the squares of its levels, times those of their weights."""
    count = 1 << codes.bits
    every = np.arange(count) - (count >> 1 if codes.signed else 0)
    found = np.zeros(count)
    levels = codes.levels(every)
    found[every & (count - 1)] = (codes.weights.astype(np.float64) ** 2) @ levels.astype(
        np.float64
    ) ** 2
    return found


def _largest(cells: Integers) -> int:
    """No sum over rows of cells [T, R, L] is larger."""
    return int(np.abs(cells).sum(axis=1, dtype=np.int64).max(initial=0))


def _as_slice(rows: Integers) -> Integers | slice:
    """Rows that follow each other as a slice: indexing by that copies nothing."""
    first, count = int(rows[0]), len(rows)
    return slice(first, first + count) if np.array_equal(rows, first + np.arange(count)) else rows
