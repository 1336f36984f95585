"""The bit lines of one segment: which must be converted sum by sum, and which need not be.

A bit line (one slice and polarity of a weight column, in one row block) whose sums the converter
can't change needs no simulation: all of these together are one integer product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw import encoding
from xbarc.hw.converters import Converter
from xbarc.hw.target import Target

Integers = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """One segment laid out: R rows, C weight columns.

    `product` int64 [R, C]: the bit lines that no conversion changes, as one integer; `collapsed`
    how many these are, of `lines` that are converted at all. Of those left over: the range of their
    `sums`, how many each weight column has (`lines_of_column` [C]), what each weighs (`weight`
    [lines]), and their cells' `levels` int16 [lines, R], signed. By weight column [C]: `weight_sum`
    of all conversions, for a converter's `lo`; `idle` what the bit lines weigh that give nothing
    but `lo`; `correction` times the sum of the inputs, taken out digitally (offset encoding).
    """

    product: Integers
    collapsed: int
    lines: int
    sums: tuple[int, int]
    lines_of_column: Integers
    weight: Integers
    weight_sum: Integers
    idle: Integers
    correction: Integers
    levels: Integers

    @property
    def left_over(self) -> bool:
        """Whether anything but the product is left to do."""
        parts = (self.lines_of_column, self.weight_sum, self.correction)
        return any(bool(part.any()) for part in parts)


def lay_out(
    dense: Integers,
    weight_bits: int,
    target: Target,
    adc: Converter,
    input_weights: Integers,
    *,
    gated: bool,
    native: bool = False,
) -> Block:
    """Encode one segment's weights [R, C], and split what must be converted from what need not.

    `gated`: bit lines on which all cells are at level 0 aren't converted, and give 0. `native`:
    rows are driven at levels of both signs.
    """
    array = target.array
    levels = encoding.weight_levels(dense, weight_bits, array.cell_bits, array.encoding)
    weights = encoding.slice_weights(weight_bits, array.cell_bits, array.encoding)
    largest_input = (1 << target.inputs.dac_bits) - 1
    highest = levels.sum(2, dtype=np.int64) * largest_input  # [S, P, C]
    lowest = np.zeros_like(highest)
    if target.adc.subtract == "analog":
        # One bit line holds both polarities; its sum goes both ways.
        plus, minus = highest[:, :1], highest[:, 1:]
        highest, lowest = (plus + minus, -plus - minus) if native else (plus, -minus)
        levels, weights = levels[:, None], weights[:, :1]  # [S, 1, P, R, C]
    else:
        levels = levels[:, :, None]  # [S, P, 1, R, C]
    empty = (highest == 0) & (lowest == 0)
    off = empty if gated else np.zeros_like(empty)
    exact = adc.is_exact(lowest, highest) & ~off  # [S, P, C]
    # A line with no current whose code is 0 adds nothing but `lo`.
    silent = adc.codes(np.zeros(1))[0] == 0 and not adc.clipped(np.zeros(1))[0]
    idle = empty & ~exact & ~off if silent else np.zeros_like(empty)
    convert = ~(exact | idle | off)  # [S, P, C]

    product, correction = _product(levels, weights, exact, _offset(weight_bits, target))
    # Weight column by weight column: the lines left.
    by_column = convert.transpose(2, 0, 1)  # [C, S, P]
    cells = levels.transpose(4, 0, 1, 2, 3)[by_column]  # [lines, P', R]
    counted = ~(exact | off).transpose(2, 0, 1)
    low = lowest.transpose(2, 0, 1)[by_column].min(initial=0)
    high = highest.transpose(2, 0, 1)[by_column].max(initial=0)
    return Block(
        product=product,
        collapsed=int(exact.sum()),
        lines=int((~off).sum()),
        sums=(int(low), int(high)),
        lines_of_column=by_column.sum((1, 2)),
        weight=np.broadcast_to(weights, by_column.shape)[by_column],
        weight_sum=(counted * weights).sum((1, 2), dtype=np.int64) * int(input_weights.sum()),
        idle=(idle.transpose(2, 0, 1) * np.abs(weights)).sum((1, 2), dtype=np.int64),
        correction=correction,
        levels=_signed(cells),
    )


def _offset(weight_bits: int, target: Target) -> int:
    """What offset encoding adds to each weight."""
    return 1 << (weight_bits - 1) if target.array.encoding == "offset" else 0


def _product(
    levels: Integers, weights: Integers, exact: Mask, offset: int
) -> tuple[Integers, Integers]:
    """The exact lines as one integer matrix [R, C], and the correction that is left [C].

    `levels` [S, P, P', R, C], `weights` [S, P], `exact` [S, P, C].
    """
    rows, cols = levels.shape[-2:]
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
    correction = np.full(cols, offset, np.int64)
    product -= correction * exact[-1, 0]
    correction[exact[-1, 0]] = 0
    return product, correction


def _signed(cells: Integers) -> Integers:
    """Levels [lines, P', R] as int16 [lines, R], G- taken from G+."""
    signed = cells[:, 0].astype(np.int16)
    if cells.shape[1] == 2:
        signed -= cells[:, 1]
    return signed
