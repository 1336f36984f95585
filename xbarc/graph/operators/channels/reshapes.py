"""Operators that give the same values other axes."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from xbarc.graph.operators.shrinking import Shrinking
from xbarc.graph.operators.ties import Dim, Ties
from xbarc.graph.query import attribute, constant, describe, input_at, is_op


def transpose(ties: Ties, node: ir.Node) -> None:
    """Axes change places."""
    rank = ties.rank(node.inputs[0])
    perm = attribute(node, "perm") or tuple(reversed(range(rank)))
    for to, axis in enumerate(perm):
        ties.tie((node.inputs[0], axis), (node.outputs[0], to))


def expand(ties: Ties, node: ir.Node) -> None:
    """A size of 1 that is repeated stays."""
    x, y = node.inputs[0], node.outputs[0]
    if constant(input_at(node, 1)) is None:
        ties.fix_node(node, f"{describe(node)} has a shape that isn't constant")
        return
    shift = ties.rank(y) - ties.rank(x)
    ties.fix_all(y, f"{describe(node)} repeats it", range(shift))
    for axis in range(ties.rank(x)):
        assert x is not None
        if ties.size(x, axis) == 1 and ties.size(y, shift + axis) != 1:
            ties.fix(y, shift + axis, f"{describe(node)} repeats it")
        else:
            ties.tie((x, axis), (y, shift + axis))


def shrink_shape(shrinking: Shrinking, node: ir.Node) -> None:
    """Reshape, Expand: the sizes that the shape says, where it says more than 1."""
    shape = constant(node.inputs[1])
    assert shape is not None
    out, new = node.outputs[0], shape.copy()
    shift = len(out.shape or ()) - len(new)
    for axis in range(len(new)):
        mask = shrinking.mask(out, axis + shift)
        if mask is not None and new[axis] > 1:
            new[axis] = mask.sum()
    shrinking.give(node, 1, new)


def reshape(ties: Ties, node: ir.Node) -> None:
    """Axes that are merged or split: a channel of one is a run, or every nth, of the other."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if is_op(node, "Reshape") and constant(input_at(node, 1)) is None:
        ties.fix_node(node, f"{describe(node)} has a shape that isn't constant")
        return
    a, b = ties.shape(x) or (), ties.shape(y) or ()
    for left, right in segments(a, b):
        one, many = ((x, left), (y, right)) if len(left) == 1 else ((y, right), (x, left))
        sizes = [ties.size(many[0], axis) for axis in many[1]]
        if len(left) == len(right) == 1:
            ties.tie((x, left[0]), (y, right[0]))
        elif len(one[1]) != 1 or None in sizes or ties.size(one[0], one[1][0]) is None:
            ties.fix_all(x, f"{describe(node)} mixes it with others", left)
            ties.fix_all(y, f"{describe(node)} mixes it with others", right)
        else:
            _merge(ties, node, one, many, [s or 0 for s in sizes])


def _merge(
    ties: Ties,
    node: ir.Node,
    one: tuple[ir.Value, list[int]],
    many: tuple[ir.Value, list[int]],
    sizes: list[int],
) -> None:
    """One axis is the product of many: it goes with the largest that isn't fixed.

    That is the inner one of two as large; the others stay.
    """
    free = [
        i
        for i, axis in enumerate(many[1])
        if sizes[i] > 1 and Dim(many[0], axis) not in ties.closed
    ]
    if not free:
        ties.fix(one[0], one[1][0], f"{describe(node)} makes it of others that stay")
        return
    chosen = max(free, key=lambda i: (sizes[i], i))
    for i, axis in enumerate(many[1]):
        if i != chosen:
            ties.fix(many[0], axis, f"{describe(node)} merges or splits it")
    flat = np.arange(math.prod(sizes))
    index = flat // math.prod(sizes[chosen + 1 :]) % sizes[chosen]
    ties.tie((one[0], one[1][0]), (many[0], many[1][chosen]), (flat, index))


def segments(
    a: Sequence[int | None], b: Sequence[int | None]
) -> Iterator[tuple[list[int], list[int]]]:
    """Axes of `a` and of `b` that hold the same elements when one is reshaped to the other.

    `[N, 16, 7, 7]` to `[N, 784]`: axis 0 to axis 0, axes 1, 2, 3 to axis 1.
    """
    ends = len(a), len(b)
    tail = 0
    while tail < min(ends) and a[-1 - tail] is not None and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    stop_a, stop_b = len(a) - tail, len(b) - tail
    i = j = 0
    while i < stop_a or j < stop_b:
        if i < stop_a and j < stop_b and a[i] == b[j] == 1:
            yield [i], [j]
            i, j = i + 1, j + 1
            continue
        if i < stop_a and a[i] == 1 and (j == stop_b or b[j] != 1):
            yield [i], []
            i += 1
            continue
        if j < stop_b and b[j] == 1 and (i == stop_a or a[i] != 1):
            yield [], [j]
            j += 1
            continue
        first_i, first_j = i, j
        i, j = _same_product(a[:stop_a], b[:stop_b], i, j)
        yield list(range(first_i, i)), list(range(first_j, j))
    for k in range(tail):
        yield [stop_a + k], [stop_b + k]


def _same_product(
    a: Sequence[int | None], b: Sequence[int | None], i: int, j: int
) -> tuple[int, int]:
    """The least ends of runs from i and j with the same number of elements; all where unknown."""
    rest_a, rest_b = a[i + 1 :], b[j + 1 :]
    if i < len(a) and j < len(b) and a[i] is None and b[j] is None:
        known = None not in rest_a and None not in rest_b
        if known and math.prod(s or 1 for s in rest_a) == math.prod(s or 1 for s in rest_b):
            return i + 1, j + 1
        return len(a), len(b)
    p = q = 1
    while p == 1 or p != q:
        if p <= q and i < len(a):
            size, i = a[i], i + 1
            p *= size or 0
        elif j < len(b):
            size, j = b[j], j + 1
            q *= size or 0
        else:
            return len(a), len(b)
        if not size:
            return len(a), len(b)
    return i, j
