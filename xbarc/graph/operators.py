"""Which ONNX operators multiply and accumulate, and how often."""

import math
from collections.abc import Sequence

import onnx_ir as ir

from xbarc.graph.query import is_op

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that a mapping knows, where their weights are static."""


WEIGHTED = (
    *LINEAR,
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)
"""Operators that multiply and accumulate: the whole that the crossbars' share is taken of."""


UNCOUNTED = ("Einsum", "GRU", "LSTM", "RNN")
"""Operators that multiply and accumulate as well, and whose products nobody counts."""


def is_linear(node: ir.Node) -> bool:
    """Whether the operator multiplies and accumulates."""
    # An Einsum of one operand adds up, but multiplies nothing.
    return is_op(node, *WEIGHTED, *UNCOUNTED) and len(node.inputs) > 1


def multiply_accumulates(
    op_type: str, inputs: Sequence[Sequence[int] | None], output: Sequence[int] | None
) -> int | None:
    """Products of a linear operator with these shapes; None where a shape that counts is missing.

    `inputs` in the operator's order, those left out as None.
    """
    shapes = [*inputs, *[None] * 4]
    # A quantised operator has scale and zero point behind each operand.
    first, second = shapes[0], shapes[3 if op_type == "QLinearConv" else 1]
    if op_type == "ConvTranspose":
        return None if first is None or second is None else math.prod((*first, *second[1:]))
    if output is None:
        return None
    if op_type in ("Conv", "ConvInteger", "QLinearConv"):
        return None if second is None else math.prod((*output, *second[1:]))
    if op_type in ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"):
        return math.prod((*output, *first[-1:])) if first else None
    return None
