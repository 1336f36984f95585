"""Operators that compute each value from those at the same place."""

import onnx_ir as ir

from xbarc.graph.operators.ties import Ties
from xbarc.graph.query import attribute, describe, input_at


def elementwise(ties: Ties, node: ir.Node) -> None:
    """Operands broadcast from the right; an operand of size 1 says nothing of an axis."""
    out = node.outputs[0]
    for value in node.inputs:
        if value is None:
            continue
        shift = ties.rank(out) - ties.rank(value)
        for axis in range(ties.rank(value)):
            if shift + axis < 0:
                ties.fix(value, axis, f"{describe(node)} broadcasts it")
            elif ties.size(value, axis) != 1 or ties.size(out, shift + axis) == 1:
                ties.tie((value, axis), (out, shift + axis))


def unary(ties: Ties, node: ir.Node) -> None:
    """Only the first input has axes: others are limits, ratios."""
    for axis in range(ties.rank(node.outputs[0])):
        ties.tie((node.inputs[0], axis), (node.outputs[0], axis))


def quantisation(ties: Ties, node: ir.Node) -> None:
    """QuantizeLinear, DequantizeLinear: scale and zero point go with their axis."""
    unary(ties, node)
    axis = attribute(node, "axis", 1) % max(ties.rank(node.inputs[0]), 1)
    for index in (1, 2):
        value = input_at(node, index)
        if ties.rank(value) == 1 and value is not None and ties.size(value, 0) != 1:
            ties.tie((value, 0), (node.inputs[0], axis))
        elif ties.rank(value) > 1:
            ties.fix_node(node, f"{describe(node)} scales it in blocks")
