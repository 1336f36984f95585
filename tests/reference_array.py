"""Physical arrays in plain numpy: what their cells, word lines and converters make of codes.

From the conductances that an engine has programmed, in integer steps, everything else is done again
as `docs/numerics.md` says it. Where nothing is random once programmed, all of it must agree to the
bit. With a generator `rng` each cell errs in each read, and each conversion, by a draw of its own:
then results must agree in distribution.
"""

from dataclasses import dataclass

import numpy as np
from reference_program import Vectors

from xbarc.ir.dialect import copies_of, weights_of
from xbarc.simulator.analog.programmed import cell_of, programmed
from xbarc.simulator.arrays import tiles_of
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import in_order


def mvm(engine, seed, rng=None):
    """`reference_program.run`'s `mvm`, of what `engine` programs."""

    def product(op, stream, program, counts):
        matrix = engine.program(op, program.weights, program.target, seed)
        adc = next((effect for effect in engine.effects if effect.name == "adc"), None)
        x, cell = stream.values, cell_of(engine.effects, program.target)
        replicas = [
            [
                (tile, [programmed(a, in_order(engine.effects), seed) for a in tile.arrays])
                for tile in tiles_of(op, program.weights, program.target, replica, cell)
            ]
            for replica in range(copies_of(op))
        ]
        out = np.zeros((len(x), op.matrix[1]), np.int64 if matrix.integer else np.float64)
        number = np.arange(len(x)) % op.input.type.vectors.data
        for replica, tiles in enumerate(replicas):
            mine = np.flatnonzero(number % len(replicas) == replica)
            for tile, arrays in tiles:
                codes = x[mine][:, tile.rows]
                found = of_tile(codes, tile, arrays, program.target, op, stream, adc, seed, rng)
                np.add.at(out, np.ix_(mine, tile.columns), found)
        return Vectors(out)

    return product


@dataclass(frozen=True)
class Codes:
    """What an mvm's codes are like: `range` from, and up to but without."""

    bits: int
    signed: bool

    @property
    def range(self):
        return (
            (1 - 2 ** (self.bits - 1), 2 ** (self.bits - 1)) if self.signed else (0, 2**self.bits)
        )

    @property
    def dtype(self):
        return np.int8 if self.signed else np.uint8

    def vectors(self, values):
        return Vectors(values, self.bits, self.signed)


def stream_of(op):
    """The codes that an mvm takes."""
    element = op.input.type.element
    return Codes(element.width.data, element.signedness.data.name == "SIGNED")


def of_tile(x, tile, arrays, target, op, stream, adc, seed, rng=None):
    """What one tile gives for codes x [V, R]: [V, C]."""
    lo, step, top = converter(target, tile.height, op.adc_range)
    kind = np.float64 if target.adc.mode == "lossless" else np.int64
    codes = np.zeros((len(x), len(tile.columns)), kind)
    weights = np.zeros(len(tile.columns), np.int64)
    for levels, weight_in in inputs(x, stream.bits, stream.signed, target):
        sums, places = {}, {}
        for made in arrays:
            p = made.physical
            found, unit = currents(made, levels, rng)
            for line, a in enumerate(found):
                if p.polarity[line] < 0:  # the reference line
                    continue
                if p.alone[line] and p.polarity[-1] < 0:
                    a = a - found[-1]
                key = int(p.slice[line]), int(p.column[line]), int(p.polarity[line])
                sums[key], places[key] = (a, unit, made), (p, int(p.bit_lines[line]))
        if target.array.polarity_in == "rows":
            sums = {key: a * unit for key, (a, unit, _) in sums.items()}
        elif target.adc.subtract == "analog":
            pairs = {key[:2] for key in sums}
            sums = {(*key, 0): without(sums[(*key, 0)], sums[(*key, 1)]) for key in pairs}
        else:
            sums = {key: a * unit for key, (a, unit, _) in sums.items()}
        for (s, column, polarity), a in sums.items():
            a = seen(a, places[(s, column, polarity)], lo, step, top, adc, seed)
            if rng is not None and adc is not None and adc.noise:
                lsb = places[(s, column, polarity)][0].adc.step
                a = a + adc.noise * lsb * rng.standard_normal(a.shape)
            code = a
            if target.adc.mode != "lossless":
                code = np.clip(np.rint((a - lo) / step), 0, top).astype(np.int64)
            weight = weight_in * 2 ** (s * target.array.cell_bits) * (-1 if polarity else 1)
            codes[:, column] += weight * code
            weights[column] += weight
    out = step * codes + lo * weights
    if target.array.encoding == "offset":
        bits = weights_of(op).weight_bits
        out = out - 2 ** (bits - 1) * x.sum(axis=1, keepdims=True)
    return out


def inputs(x, bits, signed, target):
    """Word line levels [V, R] of each read, and what the read weighs."""
    width = target.inputs.dac_bits
    count = -(-bits // width)
    passes = [(x, 1)]
    if signed and target.inputs.signed not in ("twos-complement", "native"):
        passes = [(np.maximum(x, 0), 1), (np.maximum(-x, 0), -1)]
    elif signed and target.inputs.signed == "native":
        sign = np.sign(x)
        return [
            (sign * (np.abs(x) // 2 ** (j * width) % 2**width), 2 ** (j * width))
            for j in range(count)
        ]
    elif signed:
        passes = [(x % 2**bits, 1)]
    found = [
        [codes // 2 ** (j * width) % 2**width, sign * 2 ** (j * width)]
        for codes, sign in passes
        for j in range(count)
    ]
    if signed and target.inputs.signed == "twos-complement":
        found[-1][1] *= -1
    return found


def currents(made, levels, rng=None):
    """The sums of all bit lines [L, V], row by row: integers, and the level steps of one."""
    unit = made.unit
    if made.drive is not None:
        sign, size = np.sign(levels.astype(np.int64)), np.abs(levels.astype(np.int64))
        levels = np.stack([row[x] for row, x in zip(made.drive.table, size.T, strict=True)], 1)
        levels = sign * levels
        unit = made.unit * made.drive.unit
    cells, levels = made.cells.astype(np.int64), levels.astype(np.int64)
    if made.physical.target.array.polarity_in == "rows":
        # G+ in one row, G- in the next, which is driven with the opposite sign.
        levels = levels * np.tile([1, -1], levels.shape[1] // 2)
    total = np.zeros((len(levels), cells.shape[1]), np.int64)
    for row in range(levels.shape[1]):
        total += levels[:, row, None] * cells[row]
    if rng is None or made.variances is None:
        return total.T, unit
    # Cell by cell, read by read.
    sigma = np.sqrt(made.variances * made.variance_unit).astype(np.float32)
    driven = (levels * (unit / made.unit)).astype(np.float32)
    z = rng.standard_normal((len(levels), *cells.shape), dtype=np.float32)
    return (total + np.einsum("vr,vrl,rl->vl", driven, z, sigma) / unit).T, unit


def without(plus, minus):
    """What is left of a pair's sums: integers where both stand on one array."""
    if plus[2] is minus[2]:
        return (plus[0] - minus[0]) * plus[1]
    return plus[0] * plus[1] + minus[0] * -minus[1]


def seen(a, place, lo, step, top, adc, seed):
    """The sum as the line's converter takes it, which an effect `adc` makes of it."""
    if adc is None or not (adc.gain or adc.offset or adc.inl):
        return a
    physical, bit_line = place
    target = physical.target
    each = target.columns_per_adc()
    where = physical.layer, physical.replica, physical.tile, physical.crossbar
    converters = -(-target.array.cols // each)
    draws = Draw(seed, "adc", *where).generator().standard_normal((converters, 3))
    strengths = adc.gain or 0, adc.offset or 0, adc.inl or 0
    gain, offset, bow = draws[bit_line // each] * strengths
    u = (a - lo) / step
    p = np.clip(u / top, 0, 1)
    return lo + (u * (1 + gain) + offset + bow * 4 * p * (1 - p)) * step


def converter(target, height, adc_range):
    """(lo, step, top) of a tile's converters."""
    adc, analog = target.adc, target.adc.subtract == "analog"
    top = 2**adc.bits - 1
    full = height * (2**target.inputs.dac_bits - 1) * (2**target.array.cell_bits - 1)
    if adc.mode == "lossless":
        return 0, 1, None
    if adc.mode == "saturate":
        return (-(2 ** (adc.bits - 1)) if analog else 0), 1, top
    if adc.mode == "calibrated":
        return adc_range[0], (adc_range[1] - adc_range[0]) / top, top
    lo = float(-full if analog else 0)
    return lo, (full - lo) / top, top
