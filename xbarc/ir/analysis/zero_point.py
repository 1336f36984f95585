"""What a zero point adds to the sums of a layer: the weights that each result adds up."""

from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from xbarc.hw.target import Target
from xbarc.ir.dialect import DequantizeOp, MvmOp, StreamType, shape_of, weights_of
from xbarc.support.data import Array

InputCodes = Literal["unsigned", "asymmetric", "two-pass", "twos-complement", "native"]
"""The kinds of input codes that a layer can have (numerics: Quantisation)."""


def zero_points(module: ModuleOp) -> dict[str, int]:
    """The code that means 0, by layer."""
    ops = [op for op in module.walk() if isinstance(op, DequantizeOp)]
    return {weights_of(op).symbol: op.zero_point.value.data for op in ops}


def input_codes(op: MvmOp, zero_point: int, target: Target) -> InputCodes:
    """The kind of codes that drive the rows of `op`, whose 0 has the code `zero_point`."""
    if cast(StreamType, op.input.type).element.signedness.data.name == "SIGNED":
        return target.inputs.signed_reads
    return "asymmetric" if zero_point else "unsigned"


def has_sign(codes: InputCodes) -> bool:
    """Whether codes of this kind can be negative."""
    return codes not in ("unsigned", "asymmetric")


def weight_sums(op: DequantizeOp, q: Array) -> npt.NDArray[np.int64]:
    """The sum of the weights q [Kg, N] that a result adds up: [N], or [N, spatial...].

    A column's, unless the layer is a transposed convolution (`op.window`). There an output has the
    kernel positions that an input entry brings to it: fewer at the edges, others in each phase of
    the stride.
    """
    if op.window is None:
        return q.sum(axis=0, dtype=np.int64)
    kernel, strides, pads, dilations = op.window.lists()
    size = shape_of(op.result)[2:]
    inputs = op.window.output_size(size)
    by_tap = q.reshape(-1, op.window.size, q.shape[1]).sum(axis=0, dtype=np.int64)
    sums = np.zeros((q.shape[1], *size), np.int64)
    for tap, weights in zip(np.ndindex(*kernel), by_tap, strict=True):
        reached = []
        for t, d, s, begin, count, length in zip(
            tap, dilations, strides, pads, inputs, size, strict=False
        ):
            # Entry p brings position t to output s p + shift.
            shift = d * t - begin
            first = max(0, -(shift // s))
            last = min(count - 1, (length - 1 - shift) // s)
            reached.append(slice(s * first + shift, max(0, s * last + shift + 1), s))
        sums[(slice(None), *reached)] += weights.reshape(-1, *[1] * len(size))
    return sums
