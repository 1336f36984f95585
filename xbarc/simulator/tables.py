"""Column sums by table, compiled by Numba.

A read drives each row at one of a few levels. Some rows together have no more than `ENTRIES`
combinations of levels, and a table holds what each combination adds to the bit lines. So the sum of
a bit line is one entry of the table of its first rows, plus one of the next, and so on: where DACs
have one bit that is a quarter of the additions, and no multiplication. Bit lines stand side by
side, as many to a block as fill `BLOCK_BYTES`, so one instruction works on many of them. Tables and
sums are integers of the cells' type: exact.

Importing this module imports Numba: only what runs a program does.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarc.hw.target import Target
from xbarc.simulator.cache import njit

ENTRIES = 16
"""Combinations of levels that a table has entries for."""

DAC_BITS = 4
"""Wider levels make more combinations in a single row."""

BLOCK_BYTES = 64
"""What a table entry takes: a cache line, 32 bit lines of int16 or 16 of int32."""

UNSIGNED, TWO_PASS, TWOS_COMPLEMENT, NATIVE = 0, 1, 2, 3

SIGNED = {"two-pass": TWO_PASS, "twos-complement": TWOS_COMPLEMENT, "native": NATIVE}


class Inputs(NamedTuple):
    """How input codes are cut in time (numerics: Inputs in time)."""

    bits: int
    dac_bits: int
    itemsize: int  # bytes of a code as it is stored: 1 or 2
    mode: int  # UNSIGNED, TWO_PASS, TWOS_COMPLEMENT; NATIVE, which no table takes
    weights: Any  # float64 [J]: what each activation weighs


def inputs_of(
    target: Target, bits: int, itemsize: int, *, signed: bool, weights: npt.NDArray[np.int64]
) -> Inputs:
    """How `target` reads codes; `weights` [J] are those of the reads."""
    mode = SIGNED[target.inputs.signed_reads] if signed else UNSIGNED
    return Inputs(bits, target.inputs.dac_bits, itemsize, mode, weights.astype(np.float64))


@intrinsic
def look_up(typingctx, table, groups, index, at, unit, out):
    """out [at] = unit * sum over groups g of table [g, index [g, at]], for all lines of a block.

    `table` [groups, ENTRIES, lanes] of integers, `index` uint8 [groups, n], `out` [n, lanes] of
    floats, all contiguous; `unit` is of `out`'s type. Written in LLVM's own terms, since the sums
    must stay in registers.
    """
    cell, real = table.dtype, out.dtype
    lanes = BLOCK_BYTES * 8 // cell.bitwidth

    def codegen(context, builder, signature, args):
        word, byte = ir.IntType(64), ir.IntType(8)
        integers = ir.VectorType(ir.IntType(cell.bitwidth), lanes)
        floats = ir.VectorType(context.get_value_type(real), lanes)

        def array(i):
            return context.make_array(signature.args[i])(context, builder, args[i])

        entries = builder.bitcast(array(0).data, byte.as_pointer())
        indices, results = array(2), array(5)
        stride = builder.extract_value(indices.strides, 0)
        total = cgutils.alloca_once_value(builder, ir.Constant(integers, [0] * lanes))
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.add(builder.mul(loop.index, stride), args[3])
            entry = builder.zext(builder.load(builder.gep(indices.data, [place])), word)
            entry = builder.add(builder.mul(loop.index, word(ENTRIES)), entry)
            line = builder.gep(entries, [builder.mul(entry, word(BLOCK_BYTES))])
            line = builder.bitcast(line, integers.as_pointer())
            added = builder.load(line, align=cell.bitwidth // 8)
            builder.store(builder.add(builder.load(total), added), total)
        undefined, first = ir.Constant(floats, ir.Undefined), ir.IntType(32)(0)
        scale = builder.insert_element(undefined, args[4], first)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        scale = builder.shuffle_vector(scale, undefined, everywhere)
        scaled = builder.fmul(builder.sitofp(builder.load(total), floats), scale)
        target = builder.gep(results.data, [builder.mul(args[3], word(lanes))])
        target = builder.bitcast(target, floats.as_pointer())
        builder.store(scaled, target, align=real.bitwidth // 8)
        return context.get_dummy_value()

    count = types.int64
    return types.void(table, count, index, count, real, out), codegen


@njit(cache=True, error_model="numpy")
def groups_of(rows, dac_bits):
    """How many tables `rows` rows have."""
    return -(-rows // max(1, DAC_BITS // dac_bits))


@njit(cache=True, error_model="numpy")
def make_tables(cells, first, last, lanes, dac_bits, squared):
    """[blocks, groups, ENTRIES, lanes] of the lines first .. last of cells [R, L], of their type.

    Levels count as their squares if `squared`. Lines that fill up the last block have no cells.
    """
    together, top = max(1, DAC_BITS // dac_bits), (1 << dac_bits) - 1
    rows, blocks = cells.shape[0], -(-(last - first) // lanes)
    groups = groups_of(rows, dac_bits)
    tables = np.zeros((blocks, groups, ENTRIES, lanes), cells.dtype)
    for b in range(blocks):
        begin = first + b * lanes
        count = min(lanes, last - begin)
        for g in range(groups):
            for entry in range(1, 1 << (dac_bits * together)):
                line = tables[b, g, entry]
                for i in range(min(together, rows - g * together)):
                    level = (entry >> (i * dac_bits)) & top
                    if squared:
                        level = level * level
                    cell = cells[g * together + i]
                    for lane in range(count):
                        line[lane] += level * cell[begin + lane]
    return tables


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def fill_indices(x, row_begin, row_end, v0, inputs, index, totals):
    """index [groups, J * V] uint8: the table entries of codes v0 .. v0 + V of some rows of x.

    x are the codes' bytes [K, v*itemsize]; totals [V] int64 are set to the sums of the codes.
    """
    vectors = len(totals)
    together = max(1, DAC_BITS // inputs.dac_bits)
    passes = 2 if inputs.mode == TWO_PASS else 1
    slices = len(inputs.weights) // passes
    mask = np.uint8((1 << inputs.dac_bits) - 1)
    values, magnitude = np.empty(vectors, np.int32), np.empty(vectors, np.uint32)
    index[:] = 0
    totals[:] = 0
    for r in range(row_begin, row_end):
        _load(x[r, v0 * inputs.itemsize : (v0 + vectors) * inputs.itemsize], inputs, values)
        line = index[(r - row_begin) // together]
        shift = np.uint8((r - row_begin) % together * inputs.dac_bits)
        for v in range(vectors):
            totals[v] += values[v]
        for part in range(passes):
            if passes == 1:
                for v in range(vectors):
                    magnitude[v] = np.uint32(values[v])
            else:
                for v in range(vectors):
                    magnitude[v] = np.uint32(max(-values[v] if part == 1 else values[v], 0))
            if inputs.mode == TWOS_COMPLEMENT:
                for v in range(vectors):
                    magnitude[v] &= np.uint32((1 << inputs.bits) - 1)
            for j in range(slices):
                at = (part * slices + j) * vectors
                place, cut = line[at : at + vectors], np.uint32(j * inputs.dac_bits)
                for v in range(vectors):
                    level = np.uint8(magnitude[v] >> cut) & mask
                    place[v] |= np.uint8(level << shift)
