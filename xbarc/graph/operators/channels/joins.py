"""Operators that put indices of an axis side by side, or take some of them."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xbarc.graph.operators.shrinking import Shrinking
from xbarc.graph.operators.ties import Ties
from xbarc.graph.query import attribute, constant, describe, dims, input_at


def concat(ties: Ties, node: ir.Node) -> None:
    """Indices of an operand stand behind those of the operands before it."""
    out = node.outputs[0]
    rank = ties.rank(out)
    axis = attribute(node, "axis", 1) % rank
    offset: int | None = 0
    for value in node.inputs:
        assert value is not None
        for other in range(rank):
            if other != axis:
                ties.tie((value, other), (out, other))
        size = ties.size(value, axis)
        if size is None or offset is None or ties.size(out, axis) is None:
            ties.fix(value, axis, f"{describe(node)} has unknown sizes")
            ties.fix(out, axis, f"{describe(node)} has unknown sizes")
            offset = None
            continue
        ties.tie((value, axis), (out, axis), (np.arange(size), offset + np.arange(size)))
        offset += size


def split(ties: Ties, node: ir.Node) -> None:
    """Each output has a run of the indices."""
    value = node.inputs[0]
    assert value is not None
    rank = ties.rank(value)
    axis = attribute(node, "axis", 0) % rank
    sizes = [ties.size(out, axis) for out in node.outputs]
    if None in sizes or sum(s or 0 for s in sizes) != ties.size(value, axis):
        ties.fix_node(node, f"{describe(node)} has unknown sizes")
        return
    offset = 0
    for out, size in zip(node.outputs, sizes, strict=True):
        for other in range(rank):
            if other != axis:
                ties.tie((value, other), (out, other))
        ties.tie((value, axis), (out, axis), (offset + np.arange(size or 0), np.arange(size or 0)))
        offset += size or 0


def shrink_split(shrinking: Shrinking, node: ir.Node) -> None:
    """Sizes of the outputs, as an attribute before opset 13."""
    axis = attribute(node, "axis", 0) % len(node.outputs[0].shape or ())
    sizes = []
    for out in node.outputs:
        mask = shrinking.mask(out, axis)
        sizes.append((dims(out) or ())[axis] if mask is None else int(mask.sum()))
    node.attributes.pop("num_outputs", None)
    if shrinking.model.opset_imports.get("", 1) < 13:
        node.attributes["split"] = ir.AttrInt64s("split", [s or 0 for s in sizes])
    else:
        shrinking.give(node, 1, np.array(sizes, np.int64))


def slice_(ties: Ties, node: ir.Node) -> None:
    """The indices between constant limits; with a step, none may go."""
    value, out = node.inputs[0], node.outputs[0]
    assert value is not None
    cuts = cuts_of(node, ties.shape(value) or ())
    if cuts is None:
        ties.fix_node(node, f"{describe(node)} has limits that aren't constant")
        return
    for axis in range(ties.rank(value)):
        if axis not in cuts:
            ties.tie((value, axis), (out, axis))
            continue
        start, stop, step = cuts[axis]
        if step != 1:
            ties.fix(value, axis, f"{describe(node)} takes every {step}th")
            ties.fix(out, axis, f"{describe(node)} takes every {step}th")
        else:
            taken = np.arange(start, stop)
            ties.tie((value, axis), (out, axis), (taken, np.arange(len(taken))))


def cuts_of(node: ir.Node, shape: Sequence[int | None]) -> dict[int, tuple[int, int, int]] | None:
    """Start, stop and step of each axis that a Slice cuts; None where that isn't constant."""
    given = [constant(input_at(node, i)) for i in range(1, 5)]
    starts, ends = given[0], given[1]
    if starts is None or ends is None:
        return None
    if any(input_at(node, i) is not None and given[i - 1] is None for i in (3, 4)):
        return None
    axes = range(len(starts)) if given[2] is None else given[2].tolist()
    steps = np.ones(len(starts), int) if given[3] is None else given[3]
    cuts = {}
    for axis, start, end, step in zip(
        axes, starts.tolist(), ends.tolist(), steps.tolist(), strict=True
    ):
        size = shape[axis % len(shape)]
        if size is None:
            if start == 0 and end >= np.iinfo(np.int32).max and step == 1:
                continue  # the whole of an open axis
            return None
        begin, stop, stride = slice(start, end if end > -size - 1 else None, step).indices(size)
        cuts[axis % len(shape)] = (begin, max(begin, stop), stride)
    return cuts


def shrink_slice(shrinking: Shrinking, node: ir.Node) -> None:
    """Limits, of what stays before them."""
    value = node.inputs[0]
    shape = dims(value) or ()
    cuts = cuts_of(node, shape) or {}
    starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
    axes = constant(input_at(node, 3))
    assert starts is not None and ends is not None
    starts, ends = starts.copy(), ends.copy()
    named = range(len(starts)) if axes is None else (int(a) % len(shape) for a in axes)
    for i, axis in enumerate(named):
        mask = shrinking.mask(value, axis)
        if mask is not None and axis in cuts:
            start, stop, _ = cuts[axis]
            starts[i], ends[i] = mask[:start].sum(), mask[:stop].sum()
    shrinking.give(node, 1, starts)
    shrinking.give(node, 2, ends)


def pad(ties: Ties, node: ir.Node) -> None:
    """Constant pads add indices; what they repeat of the input must stay."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    rank = ties.rank(x)
    pads = pads_of(node, rank)
    if pads is None:
        ties.fix_node(node, f"{describe(node)} has pads that aren't constant")
        return
    for axis in range(rank):
        begin, end = pads[axis]
        size = ties.size(y, axis)
        if not begin and not end:
            ties.tie((x, axis), (y, axis))
        elif (
            attribute(node, "mode", "constant") != "constant"
            or min(begin, end) < 0
            or ties.size(x, axis) is None
            or size is None
        ):
            ties.fix(x, axis, f"{describe(node)} pads it")
            ties.fix(y, axis, f"{describe(node)} pads it")
        else:
            inner = np.arange(size - begin - end)
            ties.tie((x, axis), (y, axis), (inner, begin + inner))


def pads_of(node: ir.Node, rank: int) -> list[tuple[int, int]] | None:
    """What a Pad adds before and behind each axis; None where that isn't constant."""
    given = constant(input_at(node, 1))
    if given is None and len(node.inputs) > 1:
        return None
    pads = list(attribute(node, "pads", ())) if given is None else given.reshape(-1).tolist()
    axes = list(range(rank))
    if input_at(node, 3) is not None:
        named = constant(input_at(node, 3))
        if named is None:
            return None
        axes = [int(a) % rank for a in named.reshape(-1)]
    if len(pads) != 2 * len(axes):
        return None
    result = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        result[axis] = (int(pads[i]), int(pads[i + len(axes)]))
    return result


def shrink_pad(shrinking: Shrinking, node: ir.Node) -> None:
    """Pads, of what stays of them."""
    out = node.outputs[0]
    pads = pads_of(node, len(out.shape or ())) or []
    for axis, (begin, end) in enumerate(pads):
        mask = shrinking.mask(out, axis)
        if mask is not None and (begin or end):
            last = len(mask) - end
            pads[axis] = (int(mask[:begin].sum()), int(mask[last:].sum()))
    flat = [begin for begin, _ in pads] + [end for _, end in pads]
    if len(node.inputs) < 2:
        node.attributes["pads"] = ir.AttrInt64s("pads", flat)
        return
    shrinking.give(node, 1, np.array(flat, np.int64))
    if input_at(node, 3) is not None:
        node.replace_input_with(3, None)


def gather(ties: Ties, node: ir.Node) -> None:
    """What is picked from stays; other axes are what they were."""
    data, index, y = node.inputs[0], node.inputs[1], node.outputs[0]
    axis = attribute(node, "axis", 0) % ties.rank(data)
    ties.fix(data, axis, f"{describe(node)} picks from it")
    added = ties.rank(index)
    for other in range(ties.rank(data)):
        if other != axis:
            ties.tie((data, other), (y, other + (added - 1 if other > axis else 0)))
    ties.fix_all(y, f"{describe(node)} picks it", range(axis, axis + added))
    ties.fix_all(index, f"{describe(node)} reads it")
