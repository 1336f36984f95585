"""Converters that read whole weights and whole inputs, as a few products of torch.

Where a weight is one cell of each polarity and an input one read, each converter sees the product
with the weights of one row block. So a layer's sums are

    sum over row blocks of  convert(codes * q[block])

which is some products more than the layer has, and several times as fast as the simulator's steps.
Where float32 holds the sums of a block exactly, below 2^24, results are the simulator's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from xbarc.hw.converters import Converter, converter, full_scale
from xbarc.hw.encoding import input_slice_weights
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import StreamType
from xbarc.simulator.exact.segments import merged
from xbarc.train.hardware import Hardware

Product = Callable[[Tensor, Tensor], Tensor]
"""The layer's operator on codes and weights [K, N]."""


@dataclass(frozen=True)
class RowBlocks:
    """Row blocks [begin, end) of a layer's matrix, each with the converter behind its columns.

    `analog`: the polarities are subtracted before it.
    """

    blocks: tuple[tuple[int, int, Converter], ...]
    analog: bool

    @torch.no_grad()
    def sums(self, codes: Tensor, q: Tensor, product: Product, of_zero: Product) -> Tensor:
        """What shift-and-add gives for codes less their zero point.

        `product` gives sums for weights [K, N], `of_zero` what the zero point adds to them.
        """
        parts = [(1, q)] if self.analog else [(1, q.clamp(min=0)), (-1, (-q).clamp(min=0))]
        total: Tensor | None = None
        for begin, end, curve in self.blocks:
            for sign, cells in parts:
                block = torch.zeros_like(cells)
                block[begin:end] = cells[begin:end]
                seen = (product(codes, block) + of_zero(codes, block)).double()
                found = seen.sub_(curve.lo).div_(curve.step).round_().clamp_(0, curve.top)
                found = found.mul_(sign * curve.step).add_(sign * curve.lo)
                total = found if total is None else total.add_(found)
        assert total is not None
        return total


def row_blocks(hardware: Hardware) -> RowBlocks | None:
    """The row blocks of a layer with ideal devices; None where its converters see something else.

    That is: weights or inputs in slices, inputs in two passes, offset encoding, blocks on a
    diagonal, unrolled kernels, gated lines, or permuted rows or columns.
    """
    if len(hardware.mvms) != 1:
        return None
    (op,) = hardware.mvms
    program, target = hardware.program, hardware.program.target
    placed, codes = coverage_of(op, program.weights), cast(StreamType, op.input.type).element
    signed = codes.signedness.data.name == "SIGNED"
    reads = input_slice_weights(
        codes.width.data, target.inputs.dac_bits, signed, target.inputs.signed_reads
    )
    special = (op.unroll, op.gated, placed.rows, placed.columns, placed.taps, placed.off)
    if any(part is not None for part in special) or placed.groups != 1:
        return None
    if target.array.encoding != "differential" or len(reads) != 1:
        return None
    if target.slices(hardware.weight_bits) != 1:
        return None
    segments = merged(placed.tiles)
    if any(s.cols != placed.shape[1] for s in segments):
        return None
    blocks: list[tuple[int, int, Converter]] = []
    for s in segments:
        full = full_scale(s.rows, target.inputs.dac_bits, target.array.cell_bits)
        curve = converter(target.adc, full, op.adc_range)
        if curve is None:
            return None
        blocks.append((s.row_begin, s.row_end, curve))
    return RowBlocks(tuple(blocks), target.adc.subtract == "analog")
