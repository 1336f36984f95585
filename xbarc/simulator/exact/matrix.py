"""The exact simulation of one programmed weight matrix with ideal devices (numerics).

A physical column (one slice and polarity of a weight column, in one row block) whose sums the ADC
can't change needs no simulation: all of these together are one integer product. Only what is left
is converted sum by sum. Both give what the numerics define, to the last bit.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarc.hw import converters, encoding
from xbarc.hw.converters import Converter
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import inside

if TYPE_CHECKING:
    from xbarc.simulator.exact import kernels

Integers = npt.NDArray[Any]

# A block of input bit planes should stay in the first-level cache.
PLANE_BLOCK_BYTES = 24 << 10
# Bits in a product of levels (DAC bits x cell bits) from which BLAS beats counting common bits.
BLAS_LEVEL_BITS = 24
# Temporary arrays of the BLAS paths stay in the second-level cache, or thereabouts.
BLAS_BLOCK_BYTES = 2 << 20
# Groups narrower than this are multiplied by a loop, wider ones by BLAS.
NARROW_GROUP = 8


@dataclass(frozen=True)
class Segment:
    """Rows of a matrix on crossbars of their own, with the weight columns they serve.

    `height`: the rows of the crossbars in use, where these are more (cells that are off stand on
    the others); 0: as many as the segment has.
    """

    row_begin: int
    row_end: int
    col_begin: int
    col_end: int
    height: int = 0

    @property
    def rows(self) -> int:
        """Rows in use."""
        return self.row_end - self.row_begin

    @property
    def cols(self) -> int:
        """Weight columns."""
        return self.col_end - self.col_begin

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """As a tile: row range, column range."""
        return self.row_begin, self.row_end, self.col_begin, self.col_end


@dataclass
class _Block:
    """What one segment adds to the tables of `kernels.Columns`, and to the plain product."""

    product: Integers  # int64 [R, C]: the physical columns that need no conversion, as one integer
    collapsed: int  # how many those are
    sums: tuple[int, int]  # the range of the sums of those left over
    columns_of_site: Integers  # [C]
    planes_of_column: Integers  # [columns]
    weight: Integers  # [columns]
    weight_sum: Integers  # [C]
    idle: Integers  # [C]: what the columns weigh that give nothing but `lo`, added up
    correction: Integers  # [C]
    plane_shift: Integers  # [planes]
    plane_negative: Integers  # [planes]
    words: Integers  # uint32 [planes, W]
    levels: Integers  # int16 [columns, R], signed: what the planes hold, if kept for BLAS


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

    Attributes:
        shape: (K, N).
        integer: results are integers (ADC modes lossless and saturate), else float64.
        bound: no result is larger in magnitude, whatever the inputs.
        collapsed: share of the physical columns that are computed as a plain integer product.
        conversions: ADC conversions so far.
        saturated: those of them that the ADC clipped.

    Raises:
        ValueError: weights out of range, segments that don't hold each weight once or are taller
            than the array, a calibrated ADC without a range.
    """

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
    ) -> None:
        encoding.check_weights(q, weight_bits, target.array.encoding)
        self._rows, self._selected = rows, columns
        _check_segments(q, segments, groups, target.array.rows, rows, columns)
        inputs, array = target.inputs, target.array
        self.shape = (groups * q.shape[0], q.shape[1])
        self.integer = target.adc.mode in ("lossless", "saturate")
        self.conversions = 0
        self.saturated = 0
        self._counting = threading.Lock()
        self._target, self._groups = target, groups
        self._input_bits, self._input_signed = input_bits, input_signed
        self._input_weights = encoding.activation_weights(
            input_bits, inputs.dac_bits, input_signed, inputs.signed
        )
        polarities = 1 if target.adc.subtract == "analog" else target.polarities
        per_site = target.slices(weight_bits) * polarities
        self._columns_total = per_site * sum(segment.cols for segment in segments)

        largest_input = 1 << (input_bits - 1) if input_signed else (1 << input_bits) - 1
        # Counted sums are int32.
        full = converters.full_scale(array.rows, inputs.dac_bits, array.cell_bits)
        self._by_blas = array.cell_bits * inputs.dac_bits > BLAS_LEVEL_BITS or full >= 1 << 31
        # What holds every sum exactly.
        self._sum_type = np.float32 if full < 1 << 24 else np.float64
        self._columns: kernels.Columns | None = None
        self._segment_levels: list[Integers] = []
        if target.adc.mode == "lossless":
            product, collapsed, left_over = q.astype(np.int32), self._columns_total, 0
        else:
            product, collapsed, left_over = self._build(q, segments, weight_bits, adc_range)
        self.collapsed = collapsed / self._columns_total if self._columns_total else 1.0
        self._product = _plan_product(product, groups, largest_input) if collapsed else None
        column_sums = np.abs(product).sum(0, dtype=np.int64)
        self.bound = largest_input * int(column_sums.max(initial=0)) + left_over

    @property
    def lossless(self) -> bool:
        """Every physical column is provably exact: the result is the integer product."""
        return self.collapsed == 1.0

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        """Fill out [N, v] with what the crossbars give for the vectors x [K, v].

        One thread a call; several threads may call at once.

        Args:
            x: input codes, uint8, int8, uint16 or int16, C-contiguous.
            out: int32, int64 or float64, C-contiguous; float64 unless `integer`.

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
        saturated = 0
        if self._columns is not None:
            convert = self._convert_by_blas if self._by_blas else self._convert_by_bits
            # The kernels know one integer type.
            kind = np.int64 if self.integer else np.float64
            here = self._selected is None and out.dtype == kind
            count = out.shape[0] if self._selected is None else len(self._selected)
            wide = out if here else np.zeros((count, out.shape[1]), kind)
            driven = x if self._rows is None else np.ascontiguousarray(x[self._rows])
            saturated = convert(driven, wide, self._columns)
            if self._selected is not None:
                _add_columns(out, self._selected, wide)
            elif wide is not out:
                out += wide.astype(out.dtype)
        with self._counting:
            self.saturated += saturated
            self.conversions += self._columns_total * len(self._input_weights) * x.shape[1]

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

    def _inputs(self, itemsize: int) -> "kernels.Inputs":
        from xbarc.simulator.exact import kernels

        mode = kernels.UNSIGNED
        if self._input_signed:
            two_pass = self._target.inputs.signed == "two-pass"
            mode = kernels.TWO_PASS if two_pass else kernels.TWOS_COMPLEMENT
        return kernels.Inputs(
            self._input_bits,
            self._target.inputs.dac_bits,
            itemsize,
            mode,
            self._input_weights,
        )

    def _convert_by_bits(
        self, x: Integers, out: npt.NDArray[Any], columns: "kernels.Columns"
    ) -> int:
        from xbarc.simulator.exact import kernels

        words = -(-int((columns.row_end - columns.row_begin).max()) // 32)
        plane_bytes = 4 * words * self._target.inputs.dac_bits * len(self._input_weights)
        block = min(out.shape[1], max(32, PLANE_BLOCK_BYTES // plane_bytes // 32 * 32))
        inputs = self._inputs(x.itemsize)
        return int(kernels.convert_bits(x.view(np.uint8), out, inputs, columns, block))

    def _convert_by_blas(
        self, x: Integers, out: npt.NDArray[Any], columns: "kernels.Columns"
    ) -> int:
        from xbarc.simulator.exact import kernels

        inputs, vectors = self._inputs(x.itemsize), x.shape[1]
        slices, rounds = self._target.inputs, len(self._input_weights)
        clipped = 0
        for g, levels in enumerate(self._segment_levels):
            first_row, last_row = int(columns.row_begin[g]), int(columns.row_end[g])
            first_col, last_col = int(columns.col_begin[g]), int(columns.col_end[g])
            site = int(columns.first_site[g]) - first_col
            block = max(16, BLAS_BLOCK_BYTES // (8 * rounds * (last_row - first_row)))
            for v in range(0, vectors, block):
                codes = x[first_row:last_row, v : v + block]
                width = codes.shape[1]
                lines = encoding.activations(
                    codes, self._input_bits, slices.dac_bits, self._input_signed, slices.signed
                )
                lines = np.moveaxis(lines, 0, 1).reshape(last_row - first_row, -1)
                lines = lines.astype(self._sum_type)
                totals = codes.sum(0, dtype=np.int64)
                part = out
                if width < vectors:
                    part = np.zeros((out.shape[0], width), out.dtype)
                    part[first_col:last_col] = out[first_col:last_col, v : v + block]
                per_site = max(1, levels.shape[0] // max(1, last_col - first_col))
                step = max(1, BLAS_BLOCK_BYTES // (8 * per_site * rounds * width))
                for n in range(first_col, last_col, step):
                    end = min(n + step, last_col)
                    begin_column = (
                        columns.first_column[site + n] - columns.first_column[site + first_col]
                    )
                    end_column = (
                        columns.first_column[site + end] - columns.first_column[site + first_col]
                    )
                    sums = levels[begin_column:end_column].astype(self._sum_type) @ lines
                    clipped += int(
                        kernels.convert_sums(sums, part, inputs, columns, g, n, end, totals)
                    )
                if part is not out:
                    out[first_col:last_col, v : v + block] = part[first_col:last_col]
        return clipped

    def _build(
        self,
        q: Integers,
        segments: Sequence[Segment],
        weight_bits: int,
        adc_range: tuple[float, float] | None,
    ) -> tuple[Integers, int, int]:
        """Lay out every segment.

        Returns:
            the plain product's weights [Kg, N], how many physical columns it stands for, and the
            largest magnitude that the converted ones can add to a result.
        """
        from xbarc.simulator.exact import kernels

        array, dac_bits = self._target.array, self._target.inputs.dac_bits
        product = np.zeros(q.shape, np.int32)
        collapsed = 0
        converted: list[Segment] = []
        adcs: list[Converter] = []
        blocks: list[_Block] = []
        for segment in segments:
            height = max(segment.rows, segment.height)
            full = converters.full_scale(height, dac_bits, array.cell_bits)
            adc = converters.converter(self._target.adc, full, adc_range)
            assert adc is not None
            in_block, in_weights = inside(
                q.shape, segment.bounds, self._groups, self._rows, self._selected
            )
            dense = dense_block(q, segment, self._groups, self._rows, self._selected)
            block = _lay_out(
                dense, weight_bits, self._target, adc, self._input_weights, self._by_blas
            )
            product[in_weights] = block.product[in_block]
            collapsed += block.collapsed
            if block.columns_of_site.any() or block.weight_sum.any() or block.correction.any():
                converted.append(segment)
                adcs.append(adc)
                blocks.append(block)
        if not blocks:
            return product, collapsed, 0

        curves: dict[tuple[Converter, tuple[int, int]], converters.FastCurve | None] = {}
        fast = []
        for adc, block in zip(adcs, blocks, strict=True):
            key = (adc, block.sums)
            if key not in curves:
                curves[key] = converters.fast_curve(adc, *block.sums)
            curve = curves[key]
            # All slices' codes of one conversion must add up exactly in float32 as well.
            biggest = adc.top * 2 * (1 << (self._target.slices(weight_bits) * array.cell_bits))
            fast.append(curve if biggest < 1 << 24 else None)

        top = adcs[0].top
        largest = np.zeros(q.shape[1])
        reach = np.abs(self._input_weights).sum()
        for segment, adc, block in zip(converted, adcs, blocks, strict=True):
            site_of_column = np.repeat(np.arange(segment.cols), block.columns_of_site)
            weights = np.bincount(site_of_column, np.abs(block.weight), segment.cols)
            furthest = max(abs(adc.lo), abs(adc.lo + adc.top * adc.step))
            reached = np.arange(segment.col_begin, segment.col_end)
            if self._selected is not None:
                reached = self._selected[reached]
            reachable = weights * reach * furthest + block.idle * reach * abs(adc.lo)
            reachable += block.correction * float(segment.rows << self._input_bits)
            np.add.at(largest, reached, reachable)
        left_over = int(np.ceil(largest.max(initial=0)))

        if self._by_blas:
            self._segment_levels = [block.levels for block in blocks]
        self._columns = kernels.Columns(
            row_begin=np.array([segment.row_begin for segment in converted]),
            row_end=np.array([segment.row_end for segment in converted]),
            col_begin=np.array([segment.col_begin for segment in converted]),
            col_end=np.array([segment.col_end for segment in converted]),
            first_site=_starts([segment.cols for segment in converted])[:-1],
            first_word=_starts([block.words.size for block in blocks])[:-1],
            plane_base=_starts([len(block.plane_shift) for block in blocks])[:-1],
            lo=np.array([adc.lo for adc in adcs]),
            step=np.array([adc.step for adc in adcs]),
            fast=np.array([curve is not None for curve in fast]),
            clips=np.array(
                [
                    bool(adc.clipped(np.array(block.sums)).any())
                    for adc, block in zip(adcs, blocks, strict=True)
                ]
            ),
            scale=np.array([curve.scale if curve else 0 for curve in fast], np.float32),
            shift=np.array([curve.shift if curve else 0 for curve in fast], np.float32),
            first_column=_starts(np.concatenate([block.columns_of_site for block in blocks])),
            weight_sum=np.concatenate([block.weight_sum for block in blocks]),
            correction=np.concatenate([block.correction for block in blocks]),
            weight=np.concatenate([block.weight for block in blocks]).astype(np.float32),
            first_plane=_starts(np.concatenate([block.planes_of_column for block in blocks])),
            plane_shift=np.concatenate([block.plane_shift for block in blocks]),
            plane_negative=np.concatenate([block.plane_negative for block in blocks]),
            words=np.concatenate([block.words.reshape(-1) for block in blocks]),
            top=top,
            integer=self.integer,
        )
        return product, collapsed, left_over


def _starts(counts: Sequence[int] | Integers) -> Integers:
    """Where each of consecutive runs of `counts` begins, and where the last one ends: [n + 1]."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _add_columns(out: npt.NDArray[Any], columns: Integers, sums: npt.NDArray[Any]) -> None:
    """Add each row of `sums` [N', v] to the row of `out` [N, v] that `columns` [N'] says."""
    order = np.argsort(columns, kind="stable")
    reached, first = np.unique(columns[order], return_index=True)
    out[reached] += np.add.reduceat(sums[order], first, axis=0).astype(out.dtype)


def dense_block(
    q: Integers,
    segment: Segment,
    groups: int,
    rows: Integers | None = None,
    columns: Integers | None = None,
) -> Integers:
    """The weights [rows, cols] that a segment of [Kg, N] weights holds, 0 between the groups."""
    in_block, in_weights = inside(q.shape, segment.bounds, groups, rows, columns)
    dense = np.zeros((segment.rows, segment.cols), q.dtype)
    dense[in_block] = q[in_weights]
    return dense


def _check_segments(
    q: Integers,
    segments: Sequence[Segment],
    groups: int,
    array_rows: int,
    rows: Integers | None,
    columns: Integers | None,
) -> None:
    shape = q.shape
    if len(shape) != 2 or groups < 1 or shape[1] % groups:
        raise ValueError(f"weights of shape {shape} can't have {groups} groups")
    height = groups * shape[0] if rows is None else len(rows)
    width = shape[1] if columns is None else len(columns)
    held = np.zeros(shape, np.uint8)
    for segment in segments:
        rows_fit = 0 <= segment.row_begin < segment.row_end <= height
        cols_fit = 0 <= segment.col_begin < segment.col_end <= width
        if not (rows_fit and cols_fit):
            raise ValueError(f"{segment} is empty or outside of the matrix")
        if segment.rows > array_rows:
            raise ValueError(f"{segment} has more rows than the array's {array_rows}")
        _, weights = inside(shape, segment.bounds, groups, rows, columns)
        held[weights] = np.minimum(held[weights], 1) + 1
    wrong = (held > 1) | ((held == 0) & (q != 0))
    if wrong.any():
        k, n = np.argwhere(wrong)[0]
        many = "no segment" if held[k, n] == 0 else "more than one segment"
        raise ValueError(f"weight ({k}, {n}) is held by {many}")


def _lay_out(
    dense: Integers,
    weight_bits: int,
    target: Target,
    adc: Converter,
    input_weights: Integers,
    keep_levels: bool,
) -> _Block:
    """Encode one segment's weights [R, C], and split what must be converted from what need not."""
    array = target.array
    offset = array.encoding == "offset"
    rows, cols = dense.shape
    levels = encoding.weight_levels(dense, weight_bits, array.cell_bits, array.encoding)
    weights = encoding.slice_weights(weight_bits, array.cell_bits, array.encoding)
    largest_input = (1 << target.inputs.dac_bits) - 1
    highest = levels.sum(2, dtype=np.int64) * largest_input  # [S, P, C]
    lowest = np.zeros_like(highest)
    if target.adc.subtract == "analog":
        # One physical column holds both polarities; its sum goes both ways.
        highest, lowest = highest[:, :1], -highest[:, 1:]
        levels, weights = levels[:, None], weights[:, :1]  # [S, 1, P, R, C]
    else:
        levels = levels[:, :, None]  # [S, P, 1, R, C]
    exact = adc.is_exact(lowest, highest)  # [S, P, C]

    # A column with no current whose code is 0 adds nothing but `lo`.
    idle = np.zeros_like(exact)
    if adc.codes(np.zeros(1))[0] == 0 and not adc.clipped(np.zeros(1))[0]:
        idle = (highest == 0) & (lowest == 0)
    convert = ~(exact | idle)  # [S, P, C]

    product = np.zeros((rows, cols), np.int64)
    for s, p in np.ndindex(*weights.shape):
        if exact[s, p].any():
            signed = levels[s, p, 0].astype(np.int64)
            if levels.shape[2] == 2:
                signed -= levels[s, p, 1]
            product += signed * (weights[s, p] * exact[s, p])
    # Where the top slice, which holds the whole offset, is part of the product, so is the
    # correction: so cells of weight 0 outside of a block-diagonal matrix's blocks add nothing to
    # it.
    correction = np.full(cols, (1 << (weight_bits - 1)) if offset else 0, np.int64)
    product -= correction * exact[-1, 0]
    correction[exact[-1, 0]] = 0

    # Column by column: which physical columns are left, and their bit planes that aren't all 0.
    convert = convert.transpose(2, 0, 1)  # [C, S, P]
    of_convert = levels.transpose(4, 0, 1, 2, 3)[convert]  # [columns, P', R]
    planes, shifts, negative, planes_of_column = _bit_planes(of_convert, array.cell_bits)
    signed_levels = np.zeros((0, rows), np.int16)
    if keep_levels:
        signed_levels = of_convert[:, 0].astype(np.int16)
        if of_convert.shape[1] == 2:
            signed_levels -= of_convert[:, 1]
    counted = ~exact.transpose(2, 0, 1)
    low = lowest.transpose(2, 0, 1)[convert].min(initial=0)
    high = highest.transpose(2, 0, 1)[convert].max(initial=0)
    return _Block(
        product=product,
        collapsed=int(exact.sum()),
        sums=(int(low), int(high)),
        columns_of_site=convert.sum((1, 2)),
        planes_of_column=planes_of_column,
        weight=np.broadcast_to(weights, convert.shape)[convert],
        weight_sum=(counted * weights).sum((1, 2), dtype=np.int64) * int(input_weights.sum()),
        idle=((idle & ~exact).transpose(2, 0, 1) * np.abs(weights)).sum((1, 2), dtype=np.int64),
        correction=correction,
        plane_shift=shifts,
        plane_negative=negative,
        words=planes,
        levels=signed_levels,
    )


def _bit_planes(levels: Integers, cell_bits: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Cut physical columns' cell levels [columns, P', R] into bit planes, leaving out those all 0.

    Returns:
        words uint32 [planes, W], 32 rows to a word, little-end first; each plane's shift uint8 and
        whether it counts against the sum; the number of planes of each column.
    """
    columns, parts, rows = levels.shape
    words = -(-rows // 32)
    packed = np.zeros((columns, parts, cell_bits, words * 4), np.uint8)
    for bit in range(cell_bits):
        bits = np.packbits((levels >> bit) & 1, axis=2, bitorder="little")
        packed[:, :, bit, : bits.shape[2]] = bits
    used = packed.any(3)
    _, part, shift = np.nonzero(used)
    planes = packed[used].view("<u4").astype(np.uint32)
    return planes, shift.astype(np.uint8), part == 1, used.sum((1, 2))


@dataclass(frozen=True)
class _MatmulProduct:
    """An integer product by np.matmul, in a type that holds every partial sum exactly."""

    weights: npt.NDArray[Any]  # [groups, N/groups, Kg]

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        groups, cols, rows = self.weights.shape
        dtype = self.weights.dtype
        vectors = x.shape[1]
        block = max(256, BLAS_BLOCK_BYTES // (dtype.itemsize * groups * rows))
        lines = np.empty((groups, rows, min(block, vectors)), dtype)
        result = np.empty((groups, cols, min(block, vectors)), dtype)
        for v in range(0, vectors, block):
            if v + block > vectors:
                lines, result = (
                    np.empty_like(lines[..., : vectors - v]),
                    np.empty_like(result[..., : vectors - v]),
                )
            lines.reshape(x.shape[0], -1)[:] = x[:, v : v + block]
            np.matmul(self.weights, lines, out=result)
            out[:, v : v + block] = result.reshape(groups * cols, -1)


@dataclass(frozen=True)
class _LoopProduct:
    """An integer product by a plain loop, for narrow groups."""

    weights: Integers  # [Kg, N]
    groups: int

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        from xbarc.simulator.exact import kernels

        kernels.grouped_product(x, self.weights, out, self.groups)


def _plan_product(w: Integers, groups: int, largest_input: int) -> _MatmulProduct | _LoopProduct:
    """How to multiply by the integers w [Kg, N] exactly, and fast."""
    rows, cols = w.shape
    bound = largest_input * int(np.abs(w).sum(0).max(initial=0))
    if groups > 1 and cols // groups < NARROW_GROUP and bound < 1 << 31:
        return _LoopProduct(np.ascontiguousarray(w, np.int32), groups)
    # Beyond float64, numpy's own integer loop: slow, and all but unreachable.
    dtype = np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64
    per_group = w.reshape(rows, groups, cols // groups).transpose(1, 2, 0)
    return _MatmulProduct(np.ascontiguousarray(per_group, dtype))
