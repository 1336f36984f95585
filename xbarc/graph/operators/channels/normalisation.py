"""Operators that divide by what they find along some axes, or have parameters a channel."""

import onnx_ir as ir

from xbarc.graph.operators.channels.pointwise import unary
from xbarc.graph.operators.ties import Ties
from xbarc.graph.query import attribute, describe


def batch_normalization(ties: Ties, node: ir.Node) -> None:
    """One number a channel in every other input."""
    _channel_parameters(ties, node)
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        ties.fix_node(node, f"{describe(node)} trains")


def instance_normalization(ties: Ties, node: ir.Node) -> None:
    """Likewise, and each channel's map is normalised."""
    _channel_parameters(ties, node)
    reason = f"{describe(node)} normalises over it"
    ties.fix_all(node.inputs[0], reason, range(2, ties.rank(node.inputs[0])))


def _channel_parameters(ties: Ties, node: ir.Node) -> None:
    unary(ties, node)
    for value in node.inputs[1:]:
        ties.tie((value, 0), (node.inputs[0], 1))


def softmax(ties: Ties, node: ir.Node) -> None:
    """Softmax, LogSoftmax, Hardmax: taken over one axis, before opset 13 over all from there on."""
    if ties.opset >= 13:
        lp_normalization(ties, node)
        return
    rank = ties.rank(node.inputs[0])
    _taken_over(ties, node, range(attribute(node, "axis", 1) % rank, rank))


def lp_normalization(ties: Ties, node: ir.Node) -> None:
    """Taken over one axis, the last unless `axis` says another."""
    axis = attribute(node, "axis", -1) % ties.rank(node.inputs[0])
    _taken_over(ties, node, range(axis, axis + 1))


def _taken_over(ties: Ties, node: ir.Node, axes: range) -> None:
    unary(ties, node)
    ties.fix_all(node.inputs[0], f"{describe(node)} is taken over it", axes)


def layer_normalization(ties: Ties, node: ir.Node) -> None:
    """Taken over all axes from `axis` on."""
    _taken_from(ties, node, attribute(node, "axis", -1) % ties.rank(node.inputs[0]))


def group_normalization(ties: Ties, node: ir.Node) -> None:
    """GroupNormalization, LRN: taken over channels, and what is behind them."""
    _taken_from(ties, node, 1)


def _taken_from(ties: Ties, node: ir.Node, first: int) -> None:
    unary(ties, node)
    reason = f"{describe(node)} is taken over it"
    for value in node.inputs:
        ties.fix_all(value, reason, range(first, ties.rank(value)))
    for value in node.inputs[1:]:
        ties.fix_all(value, reason)
