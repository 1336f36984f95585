"""The inner loops of the analog engine, compiled by Numba.

Importing this module imports Numba: only what runs a program with real devices does.

Sums come from tables (`xbarc.simulator.tables`), `LANES` bit lines to a block, or from BLAS, line
by line; noise, converters and shift-and-add are the same.
"""

from typing import Any, NamedTuple

import numpy as np

from xbarc.simulator.cache import njit
from xbarc.simulator.normals import EACH, fill_normals
from xbarc.simulator.tables import fill_indices, groups_of, look_up, make_tables

LANES = 16
"""Bit lines of a block: cells are int32."""

VECTORS = 32
"""Input vectors worked on at a time, so that their sums stay in the first-level cache."""

# Adding and taking away 1.5 * 2^52 rounds a float64 to an integer, half to even, up to 2^51.
_ROUNDER = 1.5 * 2**52

_PER_BLOCK = LANES // EACH
"""Counters that give a block's numbers of one read."""


class Draws(NamedTuple):
    """Room for the normal numbers of n reads of one block."""

    counters: Any  # uint32 [4, n * _PER_BLOCK]
    words: Any  # uint32, the same
    work: Any  # float32 [2, n * _PER_BLOCK]
    four: Any  # float32 [4, n * _PER_BLOCK]
    z: Any  # float32 [n, LANES]


@njit(cache=True, error_model="numpy")
def _room(n):
    e = n * _PER_BLOCK
    return Draws(
        np.empty((4, e), np.uint32),
        np.empty((4, e), np.uint32),
        np.empty((2, e), np.float32),
        np.empty((EACH, e), np.float32),
        np.empty((n, LANES), np.float32),
    )


@njit(cache=True, error_model="numpy")
def _count(numbers, reads, draws):
    """Counters of all reads of some vectors: the vector's number (low, high), a place, the read."""
    e = 0
    for j in range(reads):
        for number in numbers:
            low = np.uint32(number)
            high = np.uint32(np.uint64(number) >> np.uint64(32))
            for _ in range(_PER_BLOCK):
                draws.counters[0, e], draws.counters[1, e] = low, high
                draws.counters[3, e] = np.uint32(j)
                e += 1


@njit(cache=True, error_model="numpy")
def _draw(block, key, draws):
    """draws.z [n, LANES]: the normal numbers of a block's lines."""
    places = draws.counters[2]
    for e in range(len(places)):
        places[e] = np.uint32(block * _PER_BLOCK + e % _PER_BLOCK)
    fill_normals(draws.counters, key, draws.words, draws.work, draws.four)
    for k in range(EACH):
        for n in range(draws.z.shape[0]):
            for i in range(_PER_BLOCK):
                draws.z[n, k * _PER_BLOCK + i] = draws.four[k, n * _PER_BLOCK + i]


@njit(cache=True, error_model="numpy")
def _deviation(variance):
    """The standard deviation, to float32's precision."""
    return np.sqrt(np.float32(variance))


@njit(cache=True, error_model="numpy")
def _shared_noise(variance, block, noise, draws, shared):
    """shared [n]: the noise of the reference line, whose variance stands in lane 0 of `block`."""
    _draw(block, noise.key, draws)
    for n in range(len(shared)):
        shared[n] = _deviation(variance[n, 0]) * draws.z[n, 0]


@njit(cache=True, error_model="numpy")
def _add_noise(sums, variance, block, noise, fixed, alone, shared, draws):
    """sums [n, LANES] += sqrt(variance) z, less what the reference line adds to those alone.

    `variance` is overwritten.
    """
    _draw(block, noise.key, draws)
    if fixed.any():
        for n in range(sums.shape[0]):
            for lane in range(LANES):
                variance[n, lane] += fixed[lane]
    # As one long line each: the compiler makes more of it.
    line, spread, z = sums.reshape(-1), variance.reshape(-1), draws.z.reshape(-1)
    for i in range(len(line)):
        line[i] += _deviation(spread[i]) * z[i]
    if noise.reference:
        for n in range(sums.shape[0]):
            for lane in range(LANES):
                sums[n, lane] -= alone[lane] * shared[n]


@njit(cache=True, error_model="numpy")
def _bent(u, top, gain, offset, bow):
    """What a converter that is off takes for u, the sum in LSB."""
    p = min(max(u / top, 0.0), 1.0)
    return u * (1.0 + gain) + offset + bow * 4.0 * p * (1.0 - p)


@njit(cache=True, error_model="numpy")
def _bend(sums, curve, gain, offset, bow):
    """Sums [n, LANES] in level steps as converters of these lines [LANES] take them."""
    for n in range(sums.shape[0]):
        for lane in range(LANES):
            u = (sums[n, lane] - curve.lo) / curve.step
            u = _bent(u, curve.top, gain[lane], offset[lane], bow[lane])
            sums[n, lane] = curve.lo + u * curve.step


@njit(cache=True, error_model="numpy")
def _convert(sums, weights, curve, acc):
    """acc [V, LANES] = weights [J] times what the converter makes of sums [J * V, LANES], added up.

    Returns how many were clipped. Codes are added, not what they stand for.
    """
    vectors = acc.shape[0]
    acc[:] = 0
    clipped = 0
    for j in range(len(weights)):
        weight = weights[j]
        for v in range(vectors):
            line, total = sums[j * vectors + v], acc[v]
            if curve.rounds:
                count = 0
                for lane in range(LANES):
                    t = (line[lane] - curve.lo) / curve.step
                    count += int(t < -0.5) + int(t >= curve.top + 0.5)
                    t = min(max(t, 0.0), curve.top)
                    total[lane] += weight * ((t + _ROUNDER) - _ROUNDER)
                clipped += count
            else:
                for lane in range(LANES):
                    total[lane] += weight * line[lane]
    return clipped


@njit(cache=True, error_model="numpy")
def _add_lines(acc, weights, columns, out, v0):
    """out [C, v0 ..] += weights [LANES] * acc [V, LANES], each line to its weight column."""
    for lane in range(LANES):
        weight = weights[lane]
        if weight != 0:
            line = out[columns[lane]]
            for v in range(acc.shape[0]):
                line[v0 + v] += weight * acc[v, lane]


@njit(cache=True, error_model="numpy")
def _all_tables(cells, first, last, dac_bits, squared):
    """[T, blocks, groups, ENTRIES, LANES] of the lines first .. last of cells [T, R, L]."""
    return [make_tables(cells[t], first, last, LANES, dac_bits, squared) for t in range(len(cells))]


@njit(cache=True, error_model="numpy")
def _summed(tables, block, units, index, more, sums):
    """sums [n, LANES] of a block in level steps, by index [groups, n]; `more` is overwritten."""
    groups = index.shape[0]
    for n in range(sums.shape[0]):
        look_up(tables[0][block], groups, index, n, units[0], sums)
    for t in range(1, len(units)):
        for n in range(sums.shape[0]):
            look_up(tables[t][block], groups, index, n, units[t], more)
            for lane in range(LANES):
                sums[n, lane] += more[n, lane]


@njit(cache=True, error_model="numpy")
def _in_blocks(values):
    """Values [L] of lines as [blocks, LANES], filled up with 0."""
    filled = np.zeros((-(-len(values) // LANES), LANES), values.dtype)
    for i in range(len(values)):
        filled[i // LANES, i % LANES] = values[i]
    return filled


@njit(cache=True, nogil=True, error_model="numpy")
def convert_codes(x, numbers, lines, inputs, curve, noise, out):
    """out [C, V] += what converters make of codes, x their bytes [R, V*itemsize]; the clipped.

    `numbers` int64 [V] are the vectors'. Codes are added up times their weights, not yet scaled.
    """
    rows, count, width = x.shape[0], len(inputs.weights), len(lines.weights)
    tables = _all_tables(lines.cells, 0, width, inputs.dac_bits, False)
    spreads = _all_tables(lines.variances, 0, width, inputs.dac_bits, True)
    behind = lines.variances.shape[2] if noise.reference else width
    own = _all_tables(lines.variances, width, behind, inputs.dac_bits, True)
    alone, fixed = _in_blocks(lines.alone), _in_blocks(lines.fixed)
    weights, columns = _in_blocks(lines.weights), _in_blocks(lines.columns)
    gain, offset, bow = _in_blocks(lines.gain), _in_blocks(lines.offset), _in_blocks(lines.bow)
    groups, blocks, clipped, most = groups_of(rows, inputs.dac_bits), len(weights), 0, 0
    for v0 in range(0, len(numbers), VECTORS):
        if min(VECTORS, len(numbers) - v0) != most:
            most = min(VECTORS, len(numbers) - v0)
            n = count * most
            sums, more = np.empty((n, LANES)), np.empty((n, LANES))
            variance, shared = np.zeros((n, LANES)), np.zeros(n)
            index, totals = np.empty((groups, n), np.uint8), np.empty(most, np.int64)
            acc, draws = np.empty((most, LANES)), _room(n if noise.on else 0)
        fill_indices(x, 0, rows, v0, inputs, index, totals)
        if noise.on:
            _count(numbers[v0 : v0 + most], count, draws)
        if noise.reference:
            _summed(own, 0, lines.variance_units, index, more, variance)
            _shared_noise(variance, _place_of_reference(width), noise, draws, shared)
        for b in range(blocks):
            _summed(tables, b, lines.units, index, more, sums)
            if noise.on:
                if len(lines.variance_units):
                    _summed(spreads, b, lines.variance_units, index, more, variance)
                else:
                    variance[:] = 0
                _add_noise(sums, variance, b, noise, fixed[b], alone[b], shared, draws)
            if curve.bent:
                _bend(sums, curve, gain[b], offset[b], bow[b])
            clipped += _convert(sums, inputs.weights, curve, acc)
            _add_lines(acc, weights[b], columns[b], out, v0)
    # Lines that fill up the last block have a sum of 0, which a converter may clip too.
    filled = blocks * LANES - width
    if curve.rounds and (
        -curve.lo / curve.step < -0.5 or -curve.lo / curve.step >= curve.top + 0.5
    ):
        clipped -= filled * count * len(numbers)
    return clipped


@njit(cache=True, nogil=True, error_model="numpy")
def add_results(codes, step, base, totals, columns, out):
    """out [columns, V] += step * codes [C, V] + base [C] - totals [V].

    In float64, which holds integers exactly where step and base are integers.
    """
    for i in range(len(columns)):
        line, found = out[columns[i]], codes[i]
        for v in range(len(totals)):
            line[v] += step * found[v] + base[i] - totals[v]


@njit(cache=True, nogil=True)
def add_planes(planes, out):
    """out [L, n] = planes [P, L, n] int32 put together, 8 bits apart, little end first: exact."""
    for line in range(out.shape[0]):
        total = out[line]
        total[:] = 0
        for p in range(planes.shape[0]):
            weight, plane = np.float64(1 << (8 * p)), planes[p, line]
            for i in range(len(total)):
                total[i] += weight * np.float64(plane[i])


@njit(cache=True, error_model="numpy")
def _place_of_reference(lines):
    """The block behind the lines: its first numbers are the reference line's."""
    return -(-lines // LANES)


@njit(cache=True, nogil=True, error_model="numpy")
def add_noise(sums, variance, numbers, lines, noise):
    """sums [L, J * V] of J reads of the vectors `numbers` [V], with fresh noise.

    `variance` [L, J * V], or one more line for the reference line, or none. The numbers are those
    that `convert_codes` draws.
    """
    count, n = sums.shape
    reads = n // len(numbers)
    counters, words = np.empty((4, n), np.uint32), np.empty((4, n), np.uint32)
    work, z = np.empty((2, n), np.float32), np.empty((EACH, n), np.float32)
    for j in range(reads):
        for v in range(len(numbers)):
            at = j * len(numbers) + v
            counters[0, at] = np.uint32(numbers[v])
            counters[1, at] = np.uint32(np.uint64(numbers[v]) >> np.uint64(32))
            counters[3, at] = np.uint32(j)
    if noise.reference:
        counters[2] = np.uint32(_place_of_reference(count) * _PER_BLOCK)
        fill_normals(counters, noise.key, words, work, z)
        for at in range(n):
            z[0, at] *= _deviation(variance[count, at])
        for line in range(count):
            if lines.alone[line] != 0:
                for at in range(n):
                    sums[line, at] -= lines.alone[line] * z[0, at]
    for place in range(-(-count // LANES) * _PER_BLOCK):
        first = place // _PER_BLOCK * LANES + place % _PER_BLOCK
        if first >= count:
            continue
        counters[2] = np.uint32(place)
        fill_normals(counters, noise.key, words, work, z)
        for k in range(EACH):
            line = first + k * _PER_BLOCK
            if line < count:
                fixed = lines.fixed[line]
                if len(variance):
                    for at in range(n):
                        sums[line, at] += _deviation(variance[line, at] + fixed) * z[k, at]
                else:
                    for at in range(n):
                        sums[line, at] += _deviation(fixed) * z[k, at]


@njit(cache=True, nogil=True, error_model="numpy")
def convert_sums(sums, lines, weights, curve, v0, out):
    """out [C, v0 ..] += what converters make of sums [L, J * V]; returns the clipped.

    `weights` [J] of the reads.
    """
    vectors, clipped = sums.shape[1] // len(weights), 0
    acc = np.empty(vectors)
    for i in range(len(lines.weights)):
        acc[:] = 0
        if curve.bent:
            gain, offset, bow = lines.gain[i], lines.offset[i], lines.bow[i]
            for at in range(sums.shape[1]):
                u = (sums[i, at] - curve.lo) / curve.step
                sums[i, at] = curve.lo + _bent(u, curve.top, gain, offset, bow) * curve.step
        for j in range(len(weights)):
            line, weight = sums[i, j * vectors : (j + 1) * vectors], weights[j]
            if curve.rounds:
                count = 0
                for v in range(vectors):
                    t = (line[v] - curve.lo) / curve.step
                    count += int(t < -0.5) + int(t >= curve.top + 0.5)
                    t = min(max(t, 0.0), curve.top)
                    acc[v] += weight * ((t + _ROUNDER) - _ROUNDER)
                clipped += count
            else:
                for v in range(vectors):
                    acc[v] += weight * line[v]
        total, weight = out[lines.columns[i], v0 : v0 + vectors], lines.weights[i]
        for v in range(vectors):
            total[v] += weight * acc[v]
    return clipped
