"""Rounding weights so that a layer's outputs, not its weights, move least."""

import numpy as np
import numpy.typing as npt

from xbarc.support.data import Array

BLOCK = 64
"""Rows that are rounded one by one before their errors reach the others in one product."""

DAMPING = 0.01
"""Share of the mean second moment that is added to each row's own."""


def round_to_output(
    weights: Array, scale: npt.NDArray[np.float64], moments: Array, largest: int
) -> Array:
    """Integer codes of block-diagonal weights under which `moments` see the least output error.

    Codes q are chosen against the sum over groups of `(w - s q)^T M (w - s q)`, M being the second
    moments of the inputs: the squared error of the outputs. Rows are rounded one by one, and each
    takes in what those before it left, in proportion to how alike their inputs are: GPTQ (Frantar
    and others, ICLR 2023), here in its equal form as Babai's nearest plane (Chen and others, "The
    Geometry of LLM Quantization", 2025), which needs one Cholesky factor and no inverse. Rows whose
    inputs are largest come first. A weight of 0 keeps the code 0, so what was pruned stays pruned.

    Args:
        weights: [G, K, N], the blocks.
        scale: [G, 1, N], the scale of each column.
        moments: [G, K, K], sums or means of products of inputs.
        largest: codes are clipped to +- this.

    Returns:
        [G, K, N] codes as float64.
    """
    rows = moments.shape[1]
    order = np.argsort(np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    by_row = order[:, :, None]
    m = np.take_along_axis(np.take_along_axis(moments, by_row, 1), order[:, None, :], 2)
    mean = np.trace(m, axis1=1, axis2=2) / rows
    m = m + (DAMPING * mean + (mean == 0))[:, None, None] * np.eye(rows)
    lower = np.linalg.cholesky(m)
    wanted = np.take_along_axis(weights / scale, by_row, 1)
    left = np.zeros_like(wanted)
    pivots = np.diagonal(lower, axis1=1, axis2=2)[:, :, None]
    for end in range(rows, 0, -BLOCK):
        begin = max(0, end - BLOCK)
        upper = lower[:, end:, begin:end].transpose(0, 2, 1)
        moved = wanted[:, begin:end] + upper @ left[:, end:] / pivots[:, begin:end]
        for i in range(end - 1, begin - 1, -1):
            inner = lower[:, i + 1 : end, i][:, None, :] @ left[:, i + 1 : end]
            exact = moved[:, i - begin] + inner[:, 0] / pivots[:, i]
            codes = np.clip(np.rint(exact), -largest, largest)
            left[:, i] = wanted[:, i] - np.where(wanted[:, i] == 0, 0, codes)
    codes = np.empty_like(wanted)
    np.put_along_axis(codes, by_row, np.rint(wanted - left), 1)
    return codes
