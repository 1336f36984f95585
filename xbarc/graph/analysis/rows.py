"""Which rows of a graph's inputs must be there before a row of its outputs can be computed.

Rows and what they need: `xbarc.support.rows`.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute, dims, has_subgraph, is_op
from xbarc.support.rows import ROW, Needs, all_rows, compose, row_count, same_rows, window_rows

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
