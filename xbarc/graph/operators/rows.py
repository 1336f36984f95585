"""Which rows of what an operator reads must be there before it can give a row.

A rule is asked only where the value that is read and the result have as many axes, with rows on one
(`xbarc.support.rows`); it says what each of `rows` rows of the result needs of the `of` rows of
`value`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute, dims
from xbarc.support.rows import Needs, all_rows, same_rows, window_rows

RowRule = Callable[[ir.Node, ir.Value, int, int], Needs]
"""The node, the value that it reads, rows of the result, rows of the value."""


def by_row(node: ir.Node, value: ir.Value, rows: int, of: int) -> Needs:
    """Row y depends on row y of each operand alone, or on an operand's only row."""
    return same_rows(rows) if rows == of else all_rows(rows, of)


def along_channels(node: ir.Node, value: ir.Value, rows: int, of: int) -> Needs:
    """By row where the axis is the channels'."""
    if attribute(node, "axis", -1) != 1:
        return all_rows(rows, of)
    return by_row(node, value, rows, of)


def window(node: ir.Node, value: ir.Value, rows: int, of: int) -> Needs:
    """Convolutions and pools; weights that move are needed whole."""
    return _window(node, rows, of, 1) if value is node.inputs[0] else all_rows(rows, of)


def quantized_window(node: ir.Node, value: ir.Value, rows: int, of: int) -> Needs:
    """QLinearConv: scale and zero point of the input stand before the weights."""
    return _window(node, rows, of, 3) if value is node.inputs[0] else all_rows(rows, of)


def resampling(node: ir.Node, value: ir.Value, rows: int, of: int) -> Needs:
    """Resize: linear and cubic interpolation look two rows beyond at most."""
    if value is not node.inputs[0]:
        return all_rows(rows, of)
    return np.clip(np.ceil((np.arange(rows) + 1) * of / rows).astype(np.int64) + 2, 0, of)


def _window(node: ir.Node, rows: int, of: int, weights: int) -> Needs:
    kernel: Any = attribute(node, "kernel_shape")
    if not kernel:
        shape = dims(node.inputs[weights])
        kernel = shape[2:] if shape is not None and None not in shape else [of]
    strides, pads = attribute(node, "strides", [1]), attribute(node, "pads", [0])
    dilations = attribute(node, "dilations", [1])
    # Where padding is automatic none is assumed: that needs more rows, never fewer.
    automatic = attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return window_rows(rows, of, kernel[0], strides[0], 0 if automatic else pads[0], dilations[0])
