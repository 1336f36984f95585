"""`xbar.dequantize`: column sums to real numbers."""

import numpy as np

from xbarc.ir.dialect import DequantizeOp, weights_of
from xbarc.simulator import windows
from xbarc.simulator.step import Batch, Preparation, Step, StepKind, around
from xbarc.support.data import Array


def prepare(op: DequantizeOp, at: Preparation) -> Step:
    """Scale, bias, and the zero point of the inputs taken out."""
    weights = weights_of(op)
    columns = weights.matrix[1]
    scale = at.weights[f"{weights.symbol}.scale"].astype(np.float64) * op.scale.value.data
    bias = np.zeros(columns)
    if weights.bias.value.data:
        bias = at.weights[f"{weights.symbol}.bias"].astype(np.float64)
    shift = np.zeros(columns)
    if zero := op.zero_point.value.data:
        shift = zero * at.weights[weights.symbol].sum(axis=0, dtype=np.int64).astype(float)
    axis = op.axis.value.data

    def step(batch: Batch, sums: Array) -> list[Array]:
        out = np.empty(sums.shape, dtype=np.float32)
        view = around(sums.shape, axis)
        windows.dequantize(sums.reshape(view), shift, scale, bias, out.reshape(view))
        return [out]

    return step


STEP = StepKind(DequantizeOp.name, prepare)
