"""How integers stand on cells and on word lines (numerics: Encoding, Inputs in time).

Weights are cut into slices of `cell_bits`, one cell each. Input codes are cut into slices of
`dac_bits`, one read each. Both are cut lowest bits first, so slice `i` of width `w` has the weight
`2^(i*w)`.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[Any]
Encoding = Literal["differential", "offset"]
SignedInputs = Literal["two-pass", "twos-complement", "native"]


def slice_count(bits: int, width: int) -> int:
    """Slices of `width` bits that hold `bits` bits."""
    return -(-bits // width)


def digits(codes: Integers, width: int, count: int) -> Integers:
    """Cut non-negative `codes` (any shape) into `count` slices: `[count, *shape]`."""
    shifts = (width * np.arange(count)).reshape(-1, *[1] * codes.ndim)
    return (codes.astype(np.int64) >> shifts) & ((1 << width) - 1)


def check_weights(q: Integers, weight_bits: int, encoding: Encoding) -> None:
    """Refuse weights that `weight_bits` bits can't hold.

    Differential cells hold the magnitude, `weight_bits - 1` bits; offset cells all `weight_bits`
    bits.

    Raises:
        ValueError: a weight is out of range.
    """
    top = (1 << (weight_bits - 1)) - 1
    bottom = -top if encoding == "differential" else -top - 1
    if q.size and not (bottom <= int(q.min()) and int(q.max()) <= top):
        raise ValueError(
            f"weights {q.min()} .. {q.max()} don't fit {weight_bits}-bit {encoding} cells, "
            f"which hold {bottom} .. {top}"
        )


def weight_levels(q: Integers, weight_bits: int, cell_bits: int, encoding: Encoding) -> Integers:
    """The levels that the cells of weights `q` are programmed to (numerics: Encoding).

    Args:
        q: integer weights, any shape, in the range that `check_weights` allows.

    Returns:
        uint8 `[S, P, *q.shape]`: slices little-end first; polarity 0 is G+, 1
        (differential only) is G-.
    """
    wide = q.astype(np.int32)
    if encoding == "differential":
        parts = np.stack([np.maximum(wide, 0), np.maximum(-wide, 0)])
        magnitude_bits = weight_bits - 1
    else:
        parts = (wide + (1 << (weight_bits - 1)))[None]
        magnitude_bits = weight_bits
    count = slice_count(magnitude_bits, cell_bits)
    mask = (1 << cell_bits) - 1
    levels = np.empty((count, *parts.shape), np.uint8)
    for s in range(count):
        levels[s] = (parts >> (s * cell_bits)) & mask
    return levels


def level_sums(bits: int, cell_bits: int, encoding: Encoding) -> tuple[int, Integers]:
    """The levels of all cells of a weight added up, slices and polarities, for each weight.

    Returns the smallest weight that `bits` bits hold, and int64 sums: one a weight, from it up.
    """
    top = 1 << (bits - 1)
    first = 1 - top if encoding == "differential" else -top
    levels = weight_levels(np.arange(first, top), bits, cell_bits, encoding)
    return first, levels.sum(axis=(0, 1), dtype=np.int64)


def slice_weights(weight_bits: int, cell_bits: int, encoding: Encoding) -> Integers:
    """What each slice and polarity weighs in shift-and-add: int64 `[S, P]`, `+-2^(s*cell_bits)`."""
    differential = encoding == "differential"
    count = slice_count(weight_bits - 1 if differential else weight_bits, cell_bits)
    powers = np.int64(1) << (cell_bits * np.arange(count, dtype=np.int64))
    return powers[:, None] * np.array([1, -1] if differential else [1], np.int64)


def check_inputs(x: Integers, bits: int, signed: bool) -> None:
    """Refuse input codes that `bits` bits can't hold.

    Unsigned: 0 .. 2^bits-1, signed: -2^(bits-1) .. 2^(bits-1)-1.

    Raises:
        ValueError: a code is out of range.
    """
    bottom, top = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    limits = np.iinfo(x.dtype)
    if x.size == 0 or (bottom <= limits.min and limits.max <= top):
        return
    if int(x.max()) > top or (limits.min < bottom and int(x.min()) < bottom):
        sign = "signed" if signed else "unsigned"
        raise ValueError(
            f"input codes {x.min()} .. {x.max()} don't fit {bits} {sign} bits, "
            f"which hold {bottom} .. {top}"
        )


def input_slice_weights(
    bits: int, dac_bits: int, signed: bool, signed_inputs: SignedInputs
) -> Integers:
    """What each activation weighs in shift-and-add (numerics: Inputs in time): int64 `[J]`.

    Two-pass inputs have the positive pass's slices first, then the negative pass's, negated.
    Native ones have slices of the magnitude, which rows carry with the code's sign.
    """
    count = slice_count(bits, dac_bits)
    weights = np.int64(1) << (dac_bits * np.arange(count, dtype=np.int64))
    if not signed or signed_inputs == "native":
        return weights
    if signed_inputs == "two-pass":
        return np.concatenate([weights, -weights])
    weights[-1] = -weights[-1]
    return weights


def input_levels(
    x: Integers, bits: int, dac_bits: int, signed: bool, signed_inputs: SignedInputs
) -> Integers:
    """The word line levels of each activation, in the order of `input_slice_weights`.

    Args:
        x: input codes, any shape, in the range that `check_inputs` allows.

    Returns:
        `[J, *x.shape]`, levels 0 .. 2^dac_bits-1: uint8 or uint16, or `x` itself where one read
        takes it. Native signed inputs have levels of both signs: int16 or int32, or `x` itself.
    """
    native = signed and signed_inputs == "native"
    if (native or not signed) and dac_bits >= bits:
        return x[None]
    if native:
        return _signed_levels(x, dac_bits, slice_count(bits, dac_bits))
    kind = np.uint8 if dac_bits <= 8 else np.uint16
    wide, mask = x.astype(np.int32), (1 << dac_bits) - 1
    passes = [wide]
    if signed:
        two_pass = signed_inputs == "two-pass"
        passes = [np.maximum(wide, 0), np.maximum(-wide, 0)] if two_pass else [wide]
    count = slice_count(bits, dac_bits)
    found = np.empty((len(passes) * count, *x.shape), kind)
    for i, codes in enumerate(passes):
        for j in range(count):
            # Cutting a negative code gives the levels of its two's complement.
            np.copyto(found[i * count + j], (codes >> (j * dac_bits)) & mask, casting="unsafe")
    return found


def _signed_levels(x: Integers, dac_bits: int, count: int) -> Integers:
    """Slices of the magnitudes of codes `x`, each with the code's sign: `[J, *x.shape]`."""
    found = digits(np.abs(x.astype(np.int32)), dac_bits, count)
    return (np.sign(x).astype(np.int64) * found).astype(np.int16 if dac_bits < 15 else np.int32)
