"""The exact simulation of one programmed weight matrix with ideal devices (numerics).

Bit lines that the converters can't change are computed as one integer product, what is left is
converted sum by sum. Both give what the numerics define, to the last bit.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarc.hw import bit_lines, converters, encoding
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import inside
from xbarc.simulator.byte_products import available, byte_product
from xbarc.simulator.engine import Conversions
from xbarc.simulator.exact import lines as left_over
from xbarc.simulator.exact.layout import lay_out
from xbarc.simulator.exact.lines import Converted
from xbarc.simulator.exact.products import BLOCK_BYTES, plan_product
from xbarc.simulator.exact.segments import Segment, check_segments, dense_block

if TYPE_CHECKING:
    from xbarc.simulator import tables
    from xbarc.simulator.exact import kernels

Integers = npt.NDArray[Any]

COUNTED = 1 << 15
"""Sums below it are made by tables of int16; larger ones by products."""

TABLE_DAC_BITS = 4
"""Levels of wider DACs make too large tables (`xbarc.simulator.tables`): products too."""


class Matrix:
    """Weights on crossbars, ready to be multiplied by vectors of input codes.

    Block-diagonal weights (`groups` > 1) are given as [Kg, N]: column n has rows g*Kg .. (g+1)*Kg
    of the K = groups*Kg inputs, g = n // (N/groups). In a segment that holds several groups the
    cells outside of the blocks are cells of weight 0 (with offset encoding: at level
    2^(weight_bits-1)).

    Args:
        q: integer weights [Kg, N], int8 or int16.
        segments: together they hold every weight once, but for zeros, which need stand on none.
            An ordinary matrix has one a row block.
        target: its tables array, inputs (but for the number of bits) and adc say what is computed.
        adc_range: `(lo, hi)` in level steps, for `adc.mode = "calibrated"`.
        rows: the rows of the matrix that segments count, in their order; all without it.
        columns: likewise.
        off: cells whose weight another segment holds (`xbarc.ir.analysis.coverage.cells_off`).
        gated: bit lines on which all cells are at level 0 aren't converted, and give 0.

    Attributes:
        shape: (K, N).
        integer: results are integers (ADC modes lossless and saturate), else float64.
        bound: no result is larger in magnitude, whatever the inputs.
        collapsed: share of the bit lines that are computed as a plain integer product.

    Raises:
        ValueError: weights out of range, segments that don't hold each weight once or are taller
            than the array, a calibrated ADC without a range.
    """

    per_output = None

    def __init__(
        self,
        q: Integers,
        segments: Sequence[Segment],
        target: Target,
        *,
        weight_bits: int,
        input_bits: int,
        input_signed: bool,
        groups: int = 1,
        adc_range: tuple[float, float] | None = None,
        rows: Integers | None = None,
        columns: Integers | None = None,
        off: Integers | None = None,
        gated: bool = False,
    ) -> None:
        encoding.check_weights(q, weight_bits, target.array.encoding)
        shared = off is not None
        most = target.array.weights_per_column
        check_segments(q, segments, groups, most, rows, columns, shared=shared)
        self._rows, self._selected, self._off = rows, columns, off
        self._target, self._groups = target, groups
        self._weight_bits, self._gated, self._adc_range = weight_bits, gated, adc_range
        self._input_bits, self._input_signed = input_bits, input_signed
        inputs, array = target.inputs, target.array
        self._input_weights = encoding.input_slice_weights(
            input_bits, inputs.dac_bits, input_signed, inputs.signed_reads
        )
        self.shape = (groups * q.shape[0], q.shape[1])
        self.integer = target.adc.mode in ("lossless", "saturate")
        self._conversions = self._saturated = 0
        self._counting = threading.Lock()
        full = converters.full_scale(array.weights_per_column, inputs.dac_bits, array.cell_bits)
        self._native = input_signed and inputs.signed == "native"
        wide = inputs.dac_bits > TABLE_DAC_BITS or full >= COUNTED
        self._by_product = wide or self._native  # tables have no levels below 0
        # What holds every sum exactly.
        self._sum_type = np.float32 if full < 1 << 24 else np.float64

        parts: list[Converted] = []
        if target.adc.mode == "lossless":
            product = q.astype(np.int32)
            self._line_count = collapsed = self._count_lines(q, segments)
        else:
            product, self._line_count, collapsed, parts = self._lay_out(q, segments)
        self.collapsed = collapsed / self._line_count if self._line_count else 1.0
        largest_input = 1 << (input_bits - 1) if input_signed else (1 << input_bits) - 1
        self._product = (
            plan_product(product, groups, input_bits, largest_input) if collapsed else None
        )
        levels = [part.block.levels for part in parts] if self._by_product else []
        self._segment_levels = [_as_bytes(each) for each in levels]
        self._lines: kernels.Lines | None = None
        if parts:
            slices = 2 << (target.slices(weight_bits) * array.cell_bits)
            reads = int(np.abs(self._input_weights).sum())
            self._lines = left_over.tables(
                parts,
                slices if self._by_product else reads,
                integer=self.integer,
                with_cells=not self._by_product,
            )
        column_sums = np.abs(product).sum(0, dtype=np.int64)
        self.bound = largest_input * int(column_sums.max(initial=0)) + left_over.largest_result(
            parts, q.shape[1], input_bits, self._input_weights, columns
        )

    @property
    def lossless(self) -> bool:
        """Every bit line is provably exact: the result is the integer product."""
        return self.collapsed == 1.0

    @property
    def conversions(self) -> Conversions:
        """What the converters did so far."""
        return Conversions(self._conversions, self._saturated, self.lossless)

    def multiply(self, x: Integers, out: npt.NDArray[Any], first: int = 0) -> None:
        """Fill out [N, v] with what the crossbars give for the vectors x [K, v].

        One thread a call; several threads may call at once. Which vectors these are (`first`)
        makes no difference to ideal devices.

        Args:
            x: input codes, uint8, int8, uint16 or int16, C-contiguous.
            out: int32, int64 or float64, C-contiguous; float64 unless `integer`.
            first: the number of the first vector.

        Raises:
            ValueError: wrong shapes, codes out of range, or results that `out` can't hold.
        """
        self._check(x, out)
        if x.shape[1] == 0:
            return
        if self._product is None:
            out.fill(0)
        else:
            self._product.multiply(x, out)
        saturated = 0 if self._lines is None else self._convert(x, out, self._lines)
        with self._counting:
            self._saturated += saturated
            self._conversions += self._line_count * len(self._input_weights) * x.shape[1]

    def _check(self, x: Integers, out: npt.NDArray[Any]) -> None:
        rows, cols = self.shape
        if x.ndim != 2 or x.shape[0] != rows or out.shape != (cols, x.shape[1]):
            raise ValueError(
                f"a {rows} x {cols} matrix can't take x {x.shape} to out {out.shape}: "
                f"they must be [{rows}, v] and [{cols}, v]"
            )
        if not (x.flags.c_contiguous and out.flags.c_contiguous):
            raise ValueError("x and out must be C-contiguous")
        if out.dtype.kind != "f" and not self.integer:
            raise ValueError(
                f"ADC mode {self._target.adc.mode!r} gives float64, out is {out.dtype}"
            )
        exact = 1 << 53 if out.dtype == np.float64 else np.iinfo(out.dtype).max
        if self.integer and self.bound > exact:
            raise ValueError(f"results up to {self.bound} don't fit out, which is {out.dtype}")
        encoding.check_inputs(x, self._input_bits, self._input_signed)

    def _convert(self, x: Integers, out: npt.NDArray[Any], lines: "kernels.Lines") -> int:
        """Add to `out` what the lines left over give for `x`; how many sums were clipped."""
        convert = self._convert_by_product if self._by_product else self._convert_by_table
        # The kernels know one integer type.
        kind = np.int64 if self.integer else np.float64
        here = self._selected is None and out.dtype == kind
        count = out.shape[0] if self._selected is None else len(self._selected)
        wide = out if here else np.zeros((count, out.shape[1]), kind)
        driven = x if self._rows is None else np.ascontiguousarray(x[self._rows])
        saturated = convert(driven, wide, lines)
        if self._selected is not None:
            _add_columns(out, self._selected, wide)
        elif wide is not out:
            out += wide.astype(out.dtype)
        return saturated

    def _inputs(self, itemsize: int) -> "tables.Inputs":
        from xbarc.simulator import tables

        return tables.inputs_of(
            self._target,
            self._input_bits,
            itemsize,
            signed=self._input_signed,
            weights=self._input_weights,
        )

    def _convert_by_table(self, x: Integers, out: npt.NDArray[Any], lines: "kernels.Lines") -> int:
        from xbarc.simulator.exact import kernels

        return int(kernels.convert_codes(x.view(np.uint8), out, self._inputs(x.itemsize), lines))

    def _convert_by_product(
        self, x: Integers, out: npt.NDArray[Any], lines: "kernels.Lines"
    ) -> int:
        """Convert segment by segment, some vectors at a time; the sums are a matrix product."""
        from xbarc.simulator.exact import kernels

        inputs, clipped = self._inputs(x.itemsize), 0
        for g, levels in enumerate(self._segment_levels):
            rows = slice(int(lines.segments.row_begin[g]), int(lines.segments.row_end[g]))
            widest = max(len(levels), rows.stop - rows.start)
            block = max(16, BLOCK_BYTES // (8 * len(inputs.weights) * widest))
            for v in range(0, x.shape[1], block):
                codes = x[rows, v : v + block]
                totals = codes.sum(0, dtype=np.int64)
                sums = self._sums(levels, codes)
                clipped += int(kernels.convert_sums(sums, out, inputs, lines, g, v, totals))
        return clipped

    def _sums(self, levels: Integers, codes: Integers) -> npt.NDArray[Any]:
        """The sums [lines, J * v] of cells at levels [lines, R], for codes [R, v]."""
        slices = self._target.inputs
        driven = encoding.input_levels(
            codes, self._input_bits, slices.dac_bits, self._input_signed, slices.signed_reads
        )
        flat = driven.swapaxes(0, 1).reshape(len(codes), -1)
        if levels.dtype == np.int8 and flat.itemsize == 1:
            return byte_product(levels, np.ascontiguousarray(flat))
        return np.matmul(levels.astype(self._sum_type), flat.astype(self._sum_type))

    def _count_lines(self, q: Integers, segments: Sequence[Segment]) -> int:
        """Bit lines that are converted, over all segments."""
        target, bits = self._target, self._weight_bits
        analog = target.adc.subtract == "analog"
        if not self._gated:
            per_column = target.slices(bits) * (1 if analog else target.polarities)
            return per_column * sum(segment.cols for segment in segments)
        return sum(
            int(
                bit_lines.live_lines(
                    self._dense(q, segment),
                    bits,
                    target.array,
                    analog=analog,
                ).sum()
            )
            for segment in segments
        )

    def _dense(self, q: Integers, segment: Segment) -> Integers:
        """The weights that a segment holds."""
        return dense_block(q, segment, self._groups, self._rows, self._selected, self._off)

    def _lay_out(
        self, q: Integers, segments: Sequence[Segment]
    ) -> tuple[Integers, int, int, list[Converted]]:
        """Lay out every segment.

        Returns:
            the plain product's weights [Kg, N], how many bit lines there are, how many of them the
            product stands for, and the segments of which something is left over.
        """
        array, dac_bits = self._target.array, self._target.inputs.dac_bits
        product = np.zeros(q.shape, np.int32)
        line_count = collapsed = 0
        parts: list[Converted] = []
        for segment in segments:
            height = max(segment.rows, segment.height)
            full = converters.full_scale(height, dac_bits, array.cell_bits)
            adc = converters.converter(self._target.adc, full, self._adc_range)
            assert adc is not None
            in_block, in_weights = inside(
                q.shape, segment.bounds, self._groups, self._rows, self._selected
            )
            block = lay_out(
                self._dense(q, segment),
                self._weight_bits,
                self._target,
                adc,
                self._input_weights,
                gated=self._gated,
                native=self._native,
            )
            # A cell that is off, of a weight on two segments, may add to either's part.
            product[in_weights] += block.product[in_block].astype(np.int32)
            line_count += block.lines
            collapsed += block.collapsed
            if block.left_over:
                parts.append(Converted(segment, adc, block))
        return product, line_count, collapsed, parts


def _as_bytes(levels: Integers) -> Integers:
    """Levels [lines, R] as int8, where they fit and products of bytes are exact here."""
    fits = levels.min(initial=0) >= -128 and levels.max(initial=0) <= 127
    return levels.astype(np.int8) if fits and available(levels.shape[1]) else levels


def _add_columns(out: npt.NDArray[Any], columns: Integers, sums: npt.NDArray[Any]) -> None:
    """Add each row of `sums` [N', v] to the row of `out` [N, v] that `columns` [N'] says."""
    order = np.argsort(columns, kind="stable")
    reached, first = np.unique(columns[order], return_index=True)
    out[reached] += np.add.reduceat(sums[order], first, axis=0).astype(out.dtype)
