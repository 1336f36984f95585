"""Which rows of a graph's inputs must be there before a row of its outputs can be computed.

A row is one position on axis 2 of a tensor [N, C, H, ...]; a tensor without that axis is one row.
It is what a pipeline between layers can hand on before an image is through.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.query import attribute, dims, has_subgraph, is_op

Needs = npt.NDArray[np.int64]
"""For each row of an output: how many rows of an input, from the first on, it needs."""

ROW = 2
"""The axis that rows lie on."""

# Operators whose output row y depends on row y of each operand alone.
BY_ROW = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift"),
    *("Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div"),
    *("Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual"),
    *("HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LRN", "LeakyRelu", "Less"),
    *("LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or"),
    *("PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign"),
    *("Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh"),
    *("ThresholdedRelu", "Where", "Xor", "BatchNormalization"),
)
ALONG_CHANNELS = ("Concat", "Softmax", "LogSoftmax", "Hardmax", "Split")
"""These too, where their axis is the channels'."""
WINDOWS = ("AveragePool", "Conv", "ConvInteger", "LpPool", "MaxPool", "QLinearConv")


def row_count(shape: tuple[int | None, ...] | None) -> int:
    """Rows of a tensor of that shape; 1 where it has no such axis, or one of unknown size."""
    if shape is None or len(shape) <= ROW:
        return 1
    return shape[ROW] or 1


def same_rows(rows: int) -> Needs:
    """Row y needs the rows up to y."""
    return np.arange(1, rows + 1)


def all_rows(rows: int, of: int) -> Needs:
    """Each of `rows` rows needs all `of` rows."""
    return np.full(rows, of, dtype=np.int64)


def window_rows(rows: int, of: int, kernel: int, stride: int, pad: int, dilation: int) -> Needs:
    """Row y needs those under a window that starts at `y * stride - pad`, of `of` rows."""
    last = np.arange(rows) * stride - pad + (kernel - 1) * dilation + 1
    return np.clip(last, 0, of)


def compose(outer: Needs, inner: Needs) -> Needs:
    """What rows need of rows that in turn need others (0 rows need none)."""
    return np.concatenate([[0], np.maximum.accumulate(inner)])[outer]


def row_needs(model: ir.Model) -> list[dict[int, Needs]]:
    """For each output of a graph: what its rows need, by the index of the input.

    An input that an output doesn't depend on is left out. Unknown operators need all of everything.
    """
    inputs = list(model.graph.inputs)
    known: dict[ir.Value, dict[int, Needs]] = {
        value: {i: same_rows(row_count(dims(value)))} for i, value in enumerate(inputs)
    }
    for node in model.graph:
        reads = [v for v in node.inputs if v is not None and v in known]
        if has_subgraph(node):  # which may read any value
            reads = inputs
        for output in node.outputs:
            needs: dict[int, Needs] = {}
            for value in reads:
                local = _local(node, value, output)
                for index, inner in known[value].items():
                    through = compose(local, inner)
                    needs[index] = np.maximum(needs.get(index, through), through)
            if needs:
                known[output] = needs
    return [known.get(value, {}) for value in model.graph.outputs]


def _local(node: ir.Node, value: ir.Value, output: ir.Value) -> Needs:
    """What the rows of a node's output need of one operand's."""
    shape, out = dims(value), dims(output)
    rows, of = row_count(out), row_count(shape)
    if shape is not None and out is not None and len(shape) == len(out) > ROW:
        by_row = is_op(node, *BY_ROW) or (
            is_op(node, *ALONG_CHANNELS) and attribute(node, "axis", -1) == 1
        )
        if by_row and rows == of:
            return same_rows(rows)
        if is_op(node, *WINDOWS) and value is node.inputs[0]:
            return _window(node, rows, of)
        if is_op(node, "Resize", "Upsample") and value is node.inputs[0]:
            # Linear and cubic interpolation look two rows beyond at most.
            return np.clip(np.ceil((np.arange(rows) + 1) * of / rows).astype(np.int64) + 2, 0, of)
    return all_rows(rows, of)


def _window(node: ir.Node, rows: int, of: int) -> Needs:
    kernel: Any = attribute(node, "kernel_shape")
    if not kernel:
        weights = node.inputs[3 if is_op(node, "QLinearConv") else 1]
        shape = dims(weights)
        kernel = shape[2:] if shape is not None and None not in shape else [of]
    strides, pads = attribute(node, "strides", [1]), attribute(node, "pads", [0])
    dilations = attribute(node, "dilations", [1])
    # Where padding is automatic none is assumed: that needs more rows, never fewer.
    automatic = attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return window_rows(rows, of, kernel[0], strides[0], 0 if automatic else pads[0], dilations[0])
