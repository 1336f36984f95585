"""The inner loops of the simulator, compiled by Numba.

Importing this module imports Numba: only what runs a program does.

Word lines and cells meet as bits. An input level is `dac_bits` bit planes, a cell's level
`cell_bits` bit planes, and the sum of a bit line is `sum_bc 2^(b+c) * popcount(x_b & g_c)`, 32 rows
to a word. Words of many (activation, vector) pairs lie side by side, so one instruction works on
many conversions.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from xbarc.hw.converters import FLOAT32_ROUNDER
from xbarc.simulator.cache import njit

# The same for float64, up to 2^51.
FLOAT64_ROUNDER = 1.5 * 2**52

UNSIGNED, TWO_PASS, TWOS_COMPLEMENT = 0, 1, 2


class Inputs(NamedTuple):
    """How input codes are cut in time (numerics: Inputs in time)."""

    bits: int
    dac_bits: int
    itemsize: int  # bytes of a code as it is stored: 1 or 2
    mode: int  # UNSIGNED, TWO_PASS or TWOS_COMPLEMENT
    weights: Any  # int64 [J]: what each activation weighs


class Segments(NamedTuple):
    """The segments, G of them."""

    row_begin: Any  # int64 [G]
    row_end: Any
    col_begin: Any
    col_end: Any
    first_site: Any  # int64 [G]
    first_word: Any  # int64 [G], into the planes' words
    first_plane: Any  # int64 [G]


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


class Planes(NamedTuple):
    """Cells as bit planes; those of a bit line are `first[line] .. first[line + 1]`."""

    first: Any  # int64 [lines + 1]
    shift: Any  # uint8 [planes]
    negative: Any  # bool [planes]: counted against the sum (analog subtraction)
    words: Any  # uint32: every plane's rows, 32 to a word, word-aligned per segment


class Lines(NamedTuple):
    """The bit lines to convert one by one, of all segments."""

    segments: Any
    curves: Any
    sites: Any
    planes: Any
    weight: Any  # float32 [lines]: +-2^(slice*cell_bits)
    top: int  # the converters' largest code
    integer: bool  # shift-and-add in integers


# Numba widens integer arithmetic to 64 bits, which halves the lanes of a vector: so these two.


@intrinsic
def _count_common(typingctx: Any, a: Any, b: Any) -> Any:
    """Bits set in both of two uint32 words, as int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(builder.and_(*args))

    return types.int32(types.uint32, types.uint32), codegen


@intrinsic
def _times_power(typingctx: Any, a: Any, shift: Any) -> Any:
    """An int32 times 2^shift (int32)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.shl(*args)

    return types.int32(types.int32, types.int32), codegen


@njit(cache=True)
def _load(line, inputs, values):
    """Input codes from their bytes, little-end first: line [V*itemsize] to values [V] int32."""
    if inputs.itemsize == 1:
        for v in range(len(values)):
            values[v] = np.int32(line[v])
    else:
        for v in range(len(values)):
            values[v] = np.int32(line[2 * v]) | (np.int32(line[2 * v + 1]) << 8)
    if inputs.mode != UNSIGNED:
        sign = np.int32(1 << (8 * inputs.itemsize - 1))
        for v in range(len(values)):
            values[v] = (values[v] ^ sign) - sign


@njit(cache=True)
def _pack(x, row_begin, row_end, v0, v1, inputs, planes, totals):
    """Bits of rows of x [K, v0:v1] to planes [dac_bits, W, J*(v1-v0)]; totals are x's sums."""
    vectors = v1 - v0
    planes[:] = 0
    totals[:] = 0
    parts = 2 if inputs.mode == TWO_PASS else 1
    slices = len(inputs.weights) // parts
    values, magnitude = np.empty(vectors, np.int32), np.empty(vectors, np.uint32)
    for r in range(row_begin, row_end):
        _load(x[r, v0 * inputs.itemsize : v1 * inputs.itemsize], inputs, values)
        word = (r - row_begin) >> 5
        position = np.uint32((r - row_begin) & 31)
        for v in range(vectors):
            totals[v] += values[v]
        for part in range(parts):
            if parts == 1:
                for v in range(vectors):
                    magnitude[v] = np.uint32(values[v])
            else:
                for v in range(vectors):
                    magnitude[v] = np.uint32(max(-values[v] if part == 1 else values[v], 0))
            for i in range(inputs.bits):
                j = i // inputs.dac_bits + part * slices
                plane = planes[i % inputs.dac_bits, word, j * vectors : (j + 1) * vectors]
                place = np.uint32(i)
                for v in range(vectors):
                    bit = np.uint32(magnitude[v] >> place) & np.uint32(1)
                    plane[v] |= np.uint32(bit << position)


@njit(cache=True)
def _add_plane(sums, x, g, shift, negative):
    """sums [L] += +-2^shift * popcount(x [W, L] & g [W])."""
    words, length = x.shape
    sign = np.int32(-1 if negative else 0)  # (n ^ -1) - -1 = -n
    w = 0
    while w + 4 <= words:
        x0, x1, x2, x3 = x[w], x[w + 1], x[w + 2], x[w + 3]
        g0, g1, g2, g3 = g[w], g[w + 1], g[w + 2], g[w + 3]
        for i in range(length):
            n = np.int32(_count_common(x0[i], g0) + _count_common(x1[i], g1))
            m = np.int32(_count_common(x2[i], g2) + _count_common(x3[i], g3))
            sums[i] += (_times_power(np.int32(n + m), shift) ^ sign) - sign
        w += 4
    while w < words:
        x0, g0 = x[w], g[w]
        for i in range(length):
            sums[i] += (_times_power(_count_common(x0[i], g0), shift) ^ sign) - sign
        w += 1


@njit(cache=True)
def _set_two_planes(sums, x, g, h, shift_g, shift_h):
    """sums [L] = 2^shift_g * popcount(x [4, L] & g [4]) + the same for h.

    Two planes of 128 rows: 2-bit cells in the commonest array, worth keeping the sums in registers.
    """
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    g0, g1, g2, g3 = g[0], g[1], g[2], g[3]
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    for i in range(len(sums)):
        n = np.int32(_count_common(x0[i], g0) + _count_common(x1[i], g1))
        n = np.int32(n + _count_common(x2[i], g2) + _count_common(x3[i], g3))
        m = np.int32(_count_common(x0[i], h0) + _count_common(x1[i], h1))
        m = np.int32(m + _count_common(x2[i], h2) + _count_common(x3[i], h3))
        sums[i] = _times_power(n, shift_g) + _times_power(m, shift_h)


@njit(cache=True)
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


@njit(cache=True)
def _convert_word(acc, x, g, h, shift_g, shift_h, weight, scale, shift):
    """acc [L] += weight * code(2^shift_g * popcount(x [L] & g) + the same for h), nothing clipped.

    Two planes of 32 rows at most, as short tiles have: worth keeping the sums in registers.
    """
    for i in range(len(acc)):
        n = _times_power(_count_common(x[i], g), shift_g)
        m = _times_power(_count_common(x[i], h), shift_h)
        t = np.float32(np.float32(np.int32(n + m)) * scale + shift)
        acc[i] += weight * ((t + FLOAT32_ROUNDER) - FLOAT32_ROUNDER)


@njit(cache=True)
def _convert_exact(sums, acc, weight, lo, step, top):
    """The same by the numerics' own formula, in float64, for any sums."""
    count = 0
    for i in range(len(sums)):
        t = (np.float64(sums[i]) - lo) / step
        count += int((t < -0.5) | (t >= top + 0.5))
        t = min(max(t, 0.0), top)
        acc[i] += weight * ((t + FLOAT64_ROUNDER) - FLOAT64_ROUNDER)
    return count


@njit(cache=True)
def _combine(acc, weights, codes):
    """codes [V] = sum_j weights [J] * acc [J*V], exactly."""
    vectors = len(codes)
    codes[:] = 0
    for j in range(len(weights)):
        part, weight = acc[j * vectors : (j + 1) * vectors], weights[j]
        for v in range(vectors):
            codes[v] += weight * np.int64(part[v])


@njit(cache=True)
def _add_to_output(line, codes, totals, lo, step, weight_sum, correction, integer):
    """line [V] += step*codes + lo*weight_sum - correction*totals."""
    if integer:
        base = np.int64(lo) * weight_sum
        for v in range(len(line)):
            line[v] += codes[v] + base - correction * totals[v]
    else:
        offset = lo * weight_sum
        for v in range(len(line)):
            line[v] += step * codes[v] + offset - np.float64(correction * totals[v])


@njit(cache=True)
def _sum_line(sums, planes, lines, g, words, bit_line):
    """sums [L] of one bit line of segment g, for input planes [dac_bits, W, L]."""
    p, end = lines.planes.first[bit_line], lines.planes.first[bit_line + 1]
    at = lines.segments.first_word[g] + (p - lines.segments.first_plane[g]) * words
    bits = lines.planes.words[at : at + (end - p) * words]
    both_positive = end - p == 2 and not (lines.planes.negative[p] or lines.planes.negative[p + 1])
    if both_positive and words == 4 and len(planes) == 1:
        shift_g, shift_h = np.int32(lines.planes.shift[p]), np.int32(lines.planes.shift[p + 1])
        _set_two_planes(sums, planes[0], bits[:4], bits[4:], shift_g, shift_h)
        return
    sums[:] = 0
    for i in range(end - p):
        for b in range(len(planes)):
            shift = np.int32(lines.planes.shift[p + i] + b)
            negative = lines.planes.negative[p + i]
            _add_plane(sums, planes[b], bits[i * words : (i + 1) * words], shift, negative)


@njit(cache=True)
def _convert_block(x, out, inputs, lines, v0, v1, n0, n1):
    """Convert weight columns n0 .. n1 for vectors v0 .. v1; returns how many were clipped."""
    vectors = v1 - v0
    length = len(inputs.weights) * vectors
    sums = np.empty(length, np.int32)
    acc32 = np.empty(length, np.float32)
    acc64 = np.empty(length, np.float64)
    codes, totals = np.empty(vectors, np.int64), np.empty(vectors, np.int64)
    most_words = 1
    for g in range(len(lines.segments.row_begin)):
        most_words = max(
            most_words, (lines.segments.row_end[g] - lines.segments.row_begin[g] + 31) >> 5
        )
    storage = np.empty(inputs.dac_bits * most_words * length, np.uint32)
    top32, top64 = np.float32(lines.top), np.float64(lines.top)
    clipped = 0
    for g in range(len(lines.segments.row_begin)):
        begin, end = max(n0, lines.segments.col_begin[g]), min(n1, lines.segments.col_end[g])
        if begin >= end:
            continue
        site0 = lines.segments.first_site[g] - lines.segments.col_begin[g]
        words = (lines.segments.row_end[g] - lines.segments.row_begin[g] + 31) >> 5
        planes = storage[: inputs.dac_bits * words * length].reshape(inputs.dac_bits, words, length)
        _pack(
            x,
            lines.segments.row_begin[g],
            lines.segments.row_end[g],
            v0,
            v1,
            inputs,
            planes,
            totals,
        )
        lo, step, fast = lines.curves.lo[g], lines.curves.step[g], lines.curves.fast[g]
        short = words == 1 and len(planes) == 1 and fast and not lines.curves.clips[g]
        for n in range(begin, end):
            site = site0 + n
            if fast:
                acc32[:] = 0
            else:
                acc64[:] = 0
            for bit_line in range(lines.sites.first_line[site], lines.sites.first_line[site + 1]):
                weight = lines.weight[bit_line]
                p = lines.planes.first[bit_line]
                if (
                    short
                    and lines.planes.first[bit_line + 1] - p == 2
                    and not (lines.planes.negative[p] or lines.planes.negative[p + 1])
                ):
                    at = lines.segments.first_word[g] + p - lines.segments.first_plane[g]
                    _convert_word(
                        acc32,
                        planes[0, 0],
                        lines.planes.words[at],
                        lines.planes.words[at + 1],
                        np.int32(lines.planes.shift[p]),
                        np.int32(lines.planes.shift[p + 1]),
                        weight,
                        lines.curves.scale[g],
                        lines.curves.shift[g],
                    )
                    continue
                _sum_line(sums, planes, lines, g, words, bit_line)
                if fast:
                    clipped += _convert_fast(
                        sums,
                        acc32,
                        weight,
                        lines.curves.scale[g],
                        lines.curves.shift[g],
                        top32,
                        lines.curves.clips[g],
                    )
                else:
                    clipped += _convert_exact(sums, acc64, np.float64(weight), lo, step, top64)
            if fast:
                _combine(acc32, inputs.weights, codes)
            else:
                _combine(acc64, inputs.weights, codes)
            _add_to_output(
                out[n, v0:v1],
                codes,
                totals,
                lo,
                step,
                lines.sites.weight_sum[site],
                lines.sites.correction[site],
                lines.integer,
            )
    return clipped


@njit(cache=True, nogil=True)
def convert_bits(x, out, inputs, lines, block):
    """out [N, v] += what the bit lines `lines` make of codes x; returns the clipped.

    x are the codes' bytes [K, v*itemsize], and out int64 or float64, lest all of this is compiled
    for each of their types. `block` vectors are worked on at a time.
    """
    cols, vectors = out.shape
    clipped = 0
    for v0 in range(0, vectors, block):
        v1 = min(v0 + block, vectors)
        clipped += _convert_block(x, out, inputs, lines, v0, v1, 0, cols)
    return clipped


@njit(cache=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def convert_sums(sums, out, inputs, lines, g, n0, n1, totals):
    """The same for segment g's weight columns n0 .. n1, given their sums [lines, J*V]."""
    clipped = np.zeros(n1 - n0, np.int64)
    site0 = lines.segments.first_site[g] - lines.segments.col_begin[g] + n0
    first = lines.sites.first_line[site0]
    top32, top64 = np.float32(lines.top), np.float64(lines.top)
    codes = np.empty(len(totals), np.int64)
    acc32 = np.empty(sums.shape[1], np.float32)
    acc64 = np.empty(sums.shape[1], np.float64)
    for i in range(n1 - n0):
        site = site0 + i
        if lines.curves.fast[g]:
            acc32[:] = 0
        else:
            acc64[:] = 0
        for bit_line in range(lines.sites.first_line[site], lines.sites.first_line[site + 1]):
            line, weight = sums[bit_line - first], lines.weight[bit_line]
            if lines.curves.fast[g]:
                clipped[i] += _convert_fast(
                    line,
                    acc32,
                    weight,
                    lines.curves.scale[g],
                    lines.curves.shift[g],
                    top32,
                    lines.curves.clips[g],
                )
            else:
                clipped[i] += _convert_exact(
                    line, acc64, np.float64(weight), lines.curves.lo[g], lines.curves.step[g], top64
                )
        if lines.curves.fast[g]:
            _combine(acc32, inputs.weights, codes)
        else:
            _combine(acc64, inputs.weights, codes)
        _add_to_output(
            out[n0 + i],
            codes,
            totals,
            lines.curves.lo[g],
            lines.curves.step[g],
            lines.sites.weight_sum[site],
            lines.sites.correction[site],
            lines.integer,
        )
    return clipped.sum()
