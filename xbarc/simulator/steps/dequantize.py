"""`xbar.dequantize`: column sums to real numbers."""

import numpy as np

from xbarc.ir.analysis.zero_point import weight_sums
from xbarc.ir.dialect import DequantizeOp, weights_of
from xbarc.simulator import windows
from xbarc.simulator.step import Batch, Preparation, Step, StepKind, around
from xbarc.support.data import Array


def prepare(op: DequantizeOp, at: Preparation) -> Step:
    """Scale, bias, and the zero point of the inputs taken out, by the weights as integers."""
    weights = weights_of(op)
    columns = weights.matrix[1]
    scale = at.weights[f"{weights.symbol}.scale"].astype(np.float64) * op.scale.value.data
    bias = np.zeros(columns)
    if weights.bias.value.data:
        bias = at.weights[f"{weights.symbol}.bias"].astype(np.float64)
    shift = np.zeros(columns)
    if zero := op.zero_point.value.data:
        shift = (zero * weight_sums(op, at.weights[weights.symbol])).astype(np.float64)
    axis = op.axis.value.data

    def step(batch: Batch, sums: Array) -> list[Array]:
        if shift.ndim > 1:  # another at each place of the result
            return [step_of(sums - shift, np.zeros(columns))]
        return [step_of(sums, shift)]

    def step_of(sums: Array, shift: Array) -> Array:
        out = np.empty(sums.shape, dtype=np.float32)
        view = around(sums.shape, axis)
        windows.dequantize(sums.reshape(view), shift, scale, bias, out.reshape(view))
        return out

    return step


STEP = StepKind(DequantizeOp.name, prepare)
