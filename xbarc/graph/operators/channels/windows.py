"""Operators that look at a window of each channel's map."""

import onnx_ir as ir

from xbarc.graph.operators.shrinking import Shrinking
from xbarc.graph.operators.ties import Ties
from xbarc.graph.query import attribute, constant, describe, input_at


def pool(ties: Ties, node: ir.Node) -> None:
    """Samples and channels stay what they are; the axes behind them are pooled."""
    x, y = node.inputs[0], node.outputs[0]
    for axis in (0, 1):
        ties.tie((x, axis), (y, axis))
    for value in (x, y):
        ties.fix_all(value, f"{describe(node)} pools over it", range(2, ties.rank(value)))


def resize(ties: Ties, node: ir.Node) -> None:
    """Samples and channels stay what they are; the axes behind them are resampled."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    sizes = input_at(node, 3)
    if sizes is not None and constant(sizes) is None:
        ties.fix_node(node, f"{describe(node)} has sizes that aren't constant")
        return
    for axis in range(ties.rank(x)):
        if axis < 2 and ties.size(x, axis) == ties.size(y, axis):
            ties.tie((x, axis), (y, axis))
        else:
            ties.fix(x, axis, f"{describe(node)} resamples it")
            ties.fix(y, axis, f"{describe(node)} resamples it")


def shrink_sizes(shrinking: Shrinking, node: ir.Node) -> None:
    """A Resize that says sizes says those that stay."""
    sizes = constant(input_at(node, 3))
    if sizes is None:
        return
    out, new = node.outputs[0], sizes.copy()
    for i, axis in enumerate(attribute(node, "axes") or range(len(new))):
        mask = shrinking.mask(out, axis % len(out.shape or ()))
        if mask is not None:
            new[i] = mask.sum()
    shrinking.give(node, 3, new)
