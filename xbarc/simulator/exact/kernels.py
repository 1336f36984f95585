"""The inner loops of the exact engine, compiled by Numba.

Importing this module imports Numba: only what runs a program does.
"""

from typing import Any, NamedTuple

import numpy as np

from xbarc.hw.converters import FLOAT32_ROUNDER
from xbarc.simulator.cache import njit
from xbarc.simulator.tables import fill_indices, groups_of, look_up, make_tables

LANES = 32
"""Bit lines of a block: cells are int16."""

VECTORS = 32
"""Input vectors worked on at a time, so that their sums stay in the first-level cache."""

# The same for float64, up to 2^51.
FLOAT64_ROUNDER = 1.5 * 2**52


class Segments(NamedTuple):
    """The segments, G of them."""

    row_begin: Any  # int64 [G]
    row_end: Any
    col_begin: Any
    col_end: Any
    first_site: Any  # int64 [G]
    first_cell: Any  # int64 [G], into the cells


class Curves(NamedTuple):
    """The converters of the segments."""

    lo: Any  # float64 [G]
    step: Any  # float64 [G]
    fast: Any  # bool [G]: float32 `scale` and `shift` give the same codes
    clips: Any  # bool [G]: some sum that can occur is clipped
    scale: Any  # float32 [G]
    shift: Any  # float32 [G]


class Sites(NamedTuple):
    """Weight columns in a segment; the bit lines of one are `first_line[site] .. [site + 1]`."""

    first_line: Any  # int64 [sites + 1]
    weight_sum: Any  # int64 [sites]: sum of the weights of all conversions, for `lo`
    correction: Any  # int64 [sites]: times the sum of the inputs, taken out digitally (offset)


class Lines(NamedTuple):
    """The bit lines to convert one by one, of all segments.

    A segment's `cells` int16 are [rows, lines], signed under analog subtraction. There are none
    where BLAS makes the sums.
    """

    segments: Any
    curves: Any
    sites: Any
    cells: Any
    weight: Any  # float32 [lines]: +-2^(slice*cell_bits)
    column: Any  # int64 [lines]: the weight column
    top: int  # the converters' largest code
    integer: bool  # shift-and-add in integers


@njit(cache=True, error_model="numpy")
def _convert_fast(sums, acc, weight, scale, shift, top, clips):
    """acc [L] += weight * code(sums [L]), all float32; returns how many the ADC clipped."""
    clipped = 0
    if clips:
        low, high = np.float32(-0.5), np.float32(top + np.float32(0.5))
        count = np.int32(0)
        for i in range(len(sums)):
            t = np.float32(np.float32(sums[i]) * scale + shift)
            count += np.int32((t < low) | (t >= high))
            t = min(max(t, np.float32(0)), top)
            acc[i] += weight * ((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER)
        clipped = int(count)
    else:
        for i in range(len(sums)):
            t = np.float32(np.float32(sums[i]) * scale + shift)
            acc[i] += weight * ((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER)
    return clipped


@njit(cache=True, error_model="numpy")
def _convert_exact(sums, acc, weight, lo, step, top):
    """The same by the numerics' own formula, in float64, for any sums."""
    count = 0
    for i in range(len(sums)):
        t = (np.float64(sums[i]) - lo) / step
        count += int((t < -0.5) | (t >= top + 0.5))
        t = min(max(t, 0.0), top)
        acc[i] += weight * ((t + FLOAT64_ROUNDER) - FLOAT64_ROUNDER)
    return count


@njit(cache=True, error_model="numpy")
def _combine(acc, weights, codes):
    """codes [V] float64 = sum_j weights [J] * acc [J*V], integers, exactly."""
    vectors = len(codes)
    codes[:] = 0
    for j in range(len(weights)):
        part, weight = acc[j * vectors : (j + 1) * vectors], weights[j]
        for v in range(vectors):
            codes[v] += weight * np.float64(part[v])


@njit(cache=True, error_model="numpy")
def _add_to_output(line, codes, totals, lo, step, weight_sum, correction, integer):
    """line [V] += step*codes + lo*weight_sum - correction*totals."""
    if integer:
        base = np.int64(lo) * weight_sum
        for v in range(len(line)):
            line[v] += np.int64(codes[v]) + base - correction * totals[v]
    else:
        offset = lo * weight_sum
        for v in range(len(line)):
            line[v] += step * codes[v] + offset - np.float64(correction * totals[v])


@njit(cache=True, error_model="numpy")
def _block_fast(sums, weights, scale, shift, top, clips, acc):
    """acc [V, LANES] = weights [J] times the codes of sums [J * V, LANES], added up, in float32.

    Returns how many the ADC clipped.
    """
    vectors = acc.shape[0]
    acc[:] = 0
    clipped = 0
    low, high = np.float32(-0.5), np.float32(top + np.float32(0.5))
    for j in range(len(weights)):
        weight = np.float32(weights[j])
        for v in range(vectors):
            line, total = sums[j * vectors + v], acc[v]
            if clips:
                count = np.int32(0)
                for lane in range(LANES):
                    t = np.float32(line[lane] * scale + shift)
                    count += np.int32((t < low) | (t >= high))
                    t = min(max(t, np.float32(0)), top)
                    total[lane] += weight * ((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER)
                clipped += int(count)
            else:
                for lane in range(LANES):
                    t = np.float32(line[lane] * scale + shift)
                    total[lane] += weight * ((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER)
    return clipped


@njit(cache=True, error_model="numpy")
def _block_exact(sums, weights, lo, step, top, acc):
    """The same by the numerics' own formula, in float64, for any sums."""
    vectors = acc.shape[0]
    acc[:] = 0
    clipped = 0
    for j in range(len(weights)):
        for v in range(vectors):
            clipped += _convert_exact(sums[j * vectors + v], acc[v], weights[j], lo, step, top)
    return clipped


@njit(cache=True, error_model="numpy")
def _add_lines(acc, first, last, lines, codes):
    """codes [N, V] += the weights of lines first .. last times acc [V, LANES]."""
    for lane in range(last - first):
        total, weight = codes[lines.column[first + lane]], np.float64(lines.weight[first + lane])
        for v in range(acc.shape[0]):
            total[v] += weight * np.float64(acc[v, lane])


@njit(cache=True, error_model="numpy")
def _convert_vectors(x, v0, inputs, lines, g, tables, room, codes, totals):
    """codes [N, V] += what segment g makes of codes v0 .. v0 + V; returns the clipped."""
    index, sums32, acc32, sums64, acc64 = room
    fill_indices(
        x, lines.segments.row_begin[g], lines.segments.row_end[g], v0, inputs, index, totals
    )
    site = lines.segments.first_site[g]
    first = lines.sites.first_line[site]
    last = lines.sites.first_line[site + lines.segments.col_end[g] - lines.segments.col_begin[g]]
    lo, step = lines.curves.lo[g], lines.curves.step[g]
    clipped = 0
    for b in range(tables.shape[0]):
        if lines.curves.fast[g]:
            for n in range(sums32.shape[0]):
                look_up(tables[b], tables.shape[1], index, n, np.float32(1), sums32)
            clipped += _block_fast(
                sums32,
                inputs.weights,
                lines.curves.scale[g],
                lines.curves.shift[g],
                np.float32(lines.top),
                lines.curves.clips[g],
                acc32,
            )
        else:
            for n in range(sums64.shape[0]):
                look_up(tables[b], tables.shape[1], index, n, np.float64(1), sums64)
            clipped += _block_exact(sums64, inputs.weights, lo, step, np.float64(lines.top), acc64)
        begin = first + b * LANES
        end = min(begin + LANES, last)
        if lines.curves.fast[g]:
            _add_lines(acc32, begin, end, lines, codes)
        else:
            _add_lines(acc64, begin, end, lines, codes)
    # Lines that fill up the last block have a sum of 0, which a converter may clip too.
    idle = -lo / step
    if lines.curves.clips[g] and (idle < -0.5 or idle >= lines.top + 0.5):
        clipped -= (tables.shape[0] * LANES - (last - first)) * index.shape[1]
    return clipped


@njit(cache=True, error_model="numpy")
def _room(groups, reads, vectors, fast):
    """Index, sums and codes of a block, in float32 or in float64."""
    n = reads * vectors
    short, long = (n, 0) if fast else (0, n)
    return (
        np.empty((groups, n), np.uint8),
        np.empty((short, LANES), np.float32),
        np.empty((vectors if fast else 0, LANES), np.float32),
        np.empty((long, LANES), np.float64),
        np.empty((0 if fast else vectors, LANES), np.float64),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def convert_codes(x, out, inputs, lines):
    """out [N, v] += what the bit lines `lines` make of codes x; returns the clipped.

    x are the codes' bytes [K, v*itemsize], and out int64 or float64, lest all of this is compiled
    for each of their types.
    """
    clipped, reads, segments = 0, len(inputs.weights), lines.segments
    for g in range(len(segments.row_begin)):
        site, columns = segments.first_site[g], segments.col_end[g] - segments.col_begin[g]
        rows = segments.row_end[g] - segments.row_begin[g]
        count = lines.sites.first_line[site + columns] - lines.sites.first_line[site]
        cells = lines.cells[segments.first_cell[g] : segments.first_cell[g] + rows * count]
        tables = make_tables(cells.reshape(rows, count), 0, count, LANES, inputs.dac_bits, False)
        groups, most = groups_of(rows, inputs.dac_bits), 0
        for v0 in range(0, out.shape[1], VECTORS):
            if min(VECTORS, out.shape[1] - v0) != most:
                most = min(VECTORS, out.shape[1] - v0)
                room = _room(groups, reads, most, lines.curves.fast[g])
                totals, codes = np.empty(most, np.int64), np.empty((columns, most))
            codes[:] = 0
            clipped += _convert_vectors(x, v0, inputs, lines, g, tables, room, codes, totals)
            for n in range(columns):
                _add_to_output(
                    out[segments.col_begin[g] + n, v0 : v0 + most],
                    codes[n],
                    totals,
                    lines.curves.lo[g],
                    lines.curves.step[g],
                    lines.sites.weight_sum[site + n],
                    lines.sites.correction[site + n],
                    lines.integer,
                )
    return clipped


@njit(cache=True, error_model="numpy")
def _product_block(x, w, out, rows_per_group, cols_per_group, v0, v1, acc):
    for n in range(out.shape[0]):
        first = n // cols_per_group * rows_per_group
        acc[:] = 0
        for k in range(rows_per_group):
            weight = w[k, n]
            if weight != 0:
                line = x[first + k, v0:v1]
                for v in range(v1 - v0):
                    acc[v] += weight * line[v]
        line_out = out[n, v0:v1]
        for v in range(v1 - v0):
            line_out[v] = acc[v]


@njit(cache=True, nogil=True, error_model="numpy")
def grouped_product(x, w, out, groups):
    """out [N, v] = the block-diagonal integer product of x [groups*Kg, v] and w [Kg, N].

    It accumulates in w's type: the caller knows that it is wide enough.
    """
    vectors = x.shape[1]
    block = 1024
    for v0 in range(0, vectors, block):
        v1 = min(v0 + block, vectors)
        acc = np.empty(v1 - v0, w.dtype)
        _product_block(x, w, out, w.shape[0], w.shape[1] // groups, v0, v1, acc)


@njit(cache=True, nogil=True, error_model="numpy")
def convert_sums(sums, out, inputs, lines, g, v0, totals):
    """out [N, v0 ..] += what segment g makes of its lines' sums [lines, J * V]; the clipped.

    totals [V] are the sums of the codes.
    """
    clipped, vectors = 0, len(totals)
    site0 = lines.segments.first_site[g]
    first = lines.sites.first_line[site0]
    top32, top64 = np.float32(lines.top), np.float64(lines.top)
    codes = np.empty(vectors)
    acc32 = np.empty(sums.shape[1], np.float32)
    acc64 = np.empty(sums.shape[1], np.float64)
    for i in range(lines.segments.col_end[g] - lines.segments.col_begin[g]):
        site = site0 + i
        if lines.curves.fast[g]:
            acc32[:] = 0
        else:
            acc64[:] = 0
        for bit_line in range(lines.sites.first_line[site], lines.sites.first_line[site + 1]):
            line, weight = sums[bit_line - first], lines.weight[bit_line]
            if lines.curves.fast[g]:
                clipped += _convert_fast(
                    line,
                    acc32,
                    weight,
                    lines.curves.scale[g],
                    lines.curves.shift[g],
                    top32,
                    lines.curves.clips[g],
                )
            else:
                clipped += _convert_exact(
                    line, acc64, np.float64(weight), lines.curves.lo[g], lines.curves.step[g], top64
                )
        if lines.curves.fast[g]:
            _combine(acc32, inputs.weights, codes)
        else:
            _combine(acc64, inputs.weights, codes)
        _add_to_output(
            out[lines.segments.col_begin[g] + i, v0 : v0 + vectors],
            codes,
            totals,
            lines.curves.lo[g],
            lines.curves.step[g],
            lines.sites.weight_sum[site],
            lines.sites.correction[site],
            lines.integer,
        )
    return clipped
