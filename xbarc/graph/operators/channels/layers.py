"""Layers: what their static weights make are channels that may go."""

import numpy as np
import onnx_ir as ir

from xbarc.graph.operators.shrinking import Shrinking
from xbarc.graph.operators.ties import Dim, Producer, Ties
from xbarc.graph.query import attribute, describe, input_at, is_op, is_static


def conv(ties: Ties, node: ir.Node) -> None:
    """Each output channel has its weights; a depthwise one goes with its input's."""
    x, w, b, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    assert x is not None and w is not None
    groups = attribute(node, "group", 1)
    channels, outputs, inside = ties.size(x, 1), ties.size(w, 0), ties.size(w, 1)
    if channels is None or outputs is None or inside is None:
        ties.fix_node(node, f"{describe(node)} has unknown channels")
        return
    ties.tie((x, 0), (y, 0))
    ties.fix_all(x, f"{describe(node)} has a window there", range(2, ties.rank(x)))
    ties.fix_all(y, f"{describe(node)} has a window there", range(2, ties.rank(y)))
    ties.fix_all(w, f"{describe(node)} has its window there", range(2, ties.rank(w)))
    ties.tie((w, 0), (y, 1))
    ties.tie((b, 0), (y, 1))
    per_group = outputs // groups
    if inside == 1 and groups > 1:
        # A depthwise channel: all its outputs go with it.
        ties.fix(w, 1, f"{describe(node)} has one channel a group")
        ties.tie((w, 0), (x, 1), (np.arange(outputs), np.arange(outputs) // per_group))
    else:
        # Every group keeps as many channels as the others.
        ties.tie((x, 1), (w, 1), (np.arange(channels), np.arange(channels) % inside))
        if groups > 1:
            ties.tie_within(w, 0, np.arange(outputs) % per_group)
    _producer(ties, node, w, 1)


def conv_transpose(ties: Ties, node: ir.Node) -> None:
    """As a convolution, its weights the other way round."""
    x, w, b, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    assert x is not None and w is not None
    groups = attribute(node, "group", 1)
    channels, inside = ties.size(w, 0), ties.size(w, 1)
    if channels is None or inside is None:
        ties.fix_node(node, f"{describe(node)} has unknown channels")
        return
    ties.tie((x, 0), (y, 0))
    for value, what in ((x, "a window"), (y, "a window"), (w, "its window")):
        ties.fix_all(value, f"{describe(node)} has {what} there", range(2, ties.rank(value)))
    ties.tie((w, 0), (x, 1))
    ties.tie((b, 0), (y, 1))
    outputs = np.arange(groups * inside)
    if groups > 1 and groups == channels:
        ties.fix(w, 1, f"{describe(node)} has one channel a group")
        ties.tie((x, 1), (y, 1), (outputs // inside, outputs))
    else:
        ties.tie((w, 1), (y, 1), (outputs % inside, outputs))
        if groups > 1:
            ties.tie_within(w, 0, np.arange(channels) % (channels // groups))
    _producer(ties, node, w, 1)


def gemm(ties: Ties, node: ir.Node) -> None:
    """Rows of the second operand meet columns of the first, or what is transposed of them."""
    a, b, c, y = *node.inputs[:2], input_at(node, 2), node.outputs[0]
    row, inner = (1, 0) if attribute(node, "transA", 0) else (0, 1)
    inner_b, column = (1, 0) if attribute(node, "transB", 0) else (0, 1)
    ties.tie((a, row), (y, 0))
    ties.tie((a, inner), (b, inner_b))
    ties.tie((b, column), (y, 1))
    if c is not None:
        shift = 2 - ties.rank(c)
        for axis in range(ties.rank(c)):
            if ties.size(c, axis) != 1 or ties.size(y, shift + axis) == 1:
                ties.tie((c, axis), (y, shift + axis))
    _producer(ties, node, b, 1)


def matmul(ties: Ties, node: ir.Node) -> None:
    """Likewise, over axes of a batch that broadcast; the static operand makes the channels."""
    a, b, y = *node.inputs[:2], node.outputs[0]
    ranks = ties.rank(a), ties.rank(b)
    if min(ranks) < 1 or b is None or a is None:
        ties.fix_node(node, f"{describe(node)} has an unknown rank")
        return
    ties.tie((a, ranks[0] - 1), (b, max(ranks[1] - 2, 0)))
    rank = ties.rank(y)
    if ranks[1] > 1:
        ties.tie((b, ranks[1] - 1), (y, rank - 1))
    if ranks[0] > 1:
        ties.tie((a, ranks[0] - 2), (y, rank - (2 if ranks[1] > 1 else 1)))
    batch = max(*ranks) - 2
    for value, own in ((a, ranks[0]), (b, ranks[1])):
        for axis in range(own - 2):
            to = batch - (own - 2) + axis
            if ties.size(value, axis) != 1 or ties.size(y, to) == 1:
                ties.tie((value, axis), (y, to))
    if ranks[1] > 1 and is_static(b):
        _producer(ties, node, b, rank - 1)
    elif ranks[0] > 1 and is_static(a):
        _producer(ties, node, a, rank - (2 if ranks[1] > 1 else 1))


def _producer(ties: Ties, node: ir.Node, weights: ir.Value | None, axis: int) -> None:
    if weights is not None and (
        is_static(weights) or is_op(weights.producer(), "DequantizeLinear")
    ):
        ties.producers.append(Producer(node, Dim(node.outputs[0], axis)))


def shrink_groups(shrinking: Shrinking, node: ir.Node) -> None:
    """A depthwise layer has as many groups as channels that stay."""
    groups, channels = attribute(node, "group", 1), shrinking.mask(node.inputs[0], 1)
    if groups > 1 and channels is not None and groups == len(channels):
        node.attributes["group"] = ir.AttrInt64("group", int(channels.sum()))
