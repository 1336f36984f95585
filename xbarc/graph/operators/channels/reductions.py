"""Operators that make one value of all along some axes."""

import onnx_ir as ir

from xbarc.graph.operators.channels.pointwise import unary
from xbarc.graph.operators.ties import Ties
from xbarc.graph.query import attribute, constant, describe, input_at


def reduce(ties: Ties, node: ir.Node) -> None:
    """Axes that an attribute or a constant names, or all of them, are reduced."""
    x, y = node.inputs[0], node.outputs[0]
    rank = ties.rank(x)
    axes = attribute(node, "axes")
    if input_at(node, 1) is not None:
        named = constant(input_at(node, 1))
        if named is None:
            ties.fix_node(node, f"{describe(node)} has axes that aren't constant")
            return
        axes = named.reshape(-1).tolist()
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        unary(ties, node)
        return
    _without(ties, node, x, y, {int(a) % rank for a in axes or range(rank)})


def arg(ties: Ties, node: ir.Node) -> None:
    """ArgMax, ArgMin: one axis is reduced."""
    x, y = node.inputs[0], node.outputs[0]
    _without(ties, node, x, y, {attribute(node, "axis", 0) % ties.rank(x)})


def _without(ties: Ties, node: ir.Node, x: ir.Value | None, y: ir.Value, axes: set[int]) -> None:
    """`axes` are reduced, and fixed; the others stay what they are."""
    keeps = attribute(node, "keepdims", 1)
    to = 0
    for axis in range(ties.rank(x)):
        if axis in axes:
            ties.fix(x, axis, f"{describe(node)} reduces over it")
            to += bool(keeps)
        else:
            ties.tie((x, axis), (y, to))
            to += 1
