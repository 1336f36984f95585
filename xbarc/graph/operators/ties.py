"""Which indices of values' axes go together: what the channel rules of operators write down.

A *dimension* is one axis of a value. Indices of dimensions are tied, one to one or in pairs, and
fixed where they must stay; `xbarc.graph.analysis.dependencies` makes groups of that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.query import dims, inner_graphs, is_static

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dim:
    """One axis of a value."""

    value: ir.Value
    axis: int


@dataclass(frozen=True)
class Tie:
    """Index `left[i]` of one dimension goes with index `right[i]` of the other."""

    first: Dim
    second: Dim
    left: Indices
    right: Indices


@dataclass(frozen=True)
class Producer:
    """A layer, and the dimension of its output that its weights make."""

    node: ir.Node
    output: Dim


@dataclass
class Ties:
    """What is tied and what is fixed in a graph of operators of version `opset`.

    `dims`: every dimension that something is said of, in the order in which it is. `fixed`: indices
    that stay (None: all), and why. `closed`: dimensions of which every index is known to be fixed:
    height, width, a window. `producers`: the layers in the graph's order.
    """

    opset: int
    dims: dict[Dim, None] = field(default_factory=dict)
    ties: list[Tie] = field(default_factory=list)
    fixed: dict[Dim, list[tuple[Indices | None, str]]] = field(default_factory=dict)
    closed: set[Dim] = field(default_factory=set)
    producers: list[Producer] = field(default_factory=list)

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Sizes, None for each unknown one; None for an unknown rank."""
        if value is not None and is_static(value) and value.const_value is not None:
            return tuple(int(s) for s in value.const_value.shape.numpy())
        return dims(value)

    def size(self, value: ir.Value, axis: int) -> int | None:
        """The size of an axis, None where unknown."""
        shape = self.shape(value)
        return None if shape is None or not 0 <= axis < len(shape) else shape[axis]

    def rank(self, value: ir.Value | None) -> int:
        """The number of axes, 0 where unknown."""
        return len(self.shape(value) or ())

    def mentions(self, value: ir.Value) -> bool:
        """Whether anything is said of the value."""
        return any(Dim(value, axis) in self.dims for axis in range(self.rank(value)))

    def tie(
        self,
        a: tuple[ir.Value | None, int],
        b: tuple[ir.Value | None, int],
        pairs: tuple[Any, Any] | None = None,
    ) -> None:
        """Indices of axis `a` go with indices of axis `b`: one to one, or `pairs` of them.

        Where one of the sizes isn't known, or without `pairs` they differ, both are fixed.
        """
        if a[0] is None or b[0] is None:
            return
        sizes = self.size(a[0], a[1]), self.size(b[0], b[1])
        if None in sizes or (pairs is None and sizes[0] != sizes[1]):
            self.fix(*a, "its size isn't known")
            self.fix(*b, "its size isn't known")
            return
        first, second = Dim(a[0], a[1]), Dim(b[0], b[1])
        if pairs is None and first == second:
            return
        if pairs is None:
            pairs = (np.arange(sizes[0] or 0), np.arange(sizes[0] or 0))
            if first in self.closed or second in self.closed:
                self.closed.update((first, second))
        self.dims.update({first: None, second: None})
        self.ties.append(Tie(first, second, np.asarray(pairs[0]), np.asarray(pairs[1])))

    def tie_within(self, value: ir.Value, axis: int, classes: Indices) -> None:
        """Indices of one axis that are of the same class go together, with the first of them."""
        _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
        self.tie((value, axis), (value, axis), (first[inverse], np.arange(len(classes))))

    def fix(
        self, value: ir.Value | None, axis: int, reason: str, indices: Indices | None = None
    ) -> None:
        """Indices of an axis (all without `indices`) stay."""
        if value is None or self.size(value, axis) is None:
            return
        dim = Dim(value, axis)
        self.dims[dim] = None
        self.fixed.setdefault(dim, []).append((indices, reason))
        if indices is None:
            self.closed.add(dim)

    def fix_all(
        self, value: ir.Value | None, reason: str, axes: Iterable[int] | None = None
    ) -> None:
        """All axes, or these, stay."""
        for axis in range(self.rank(value)) if axes is None else axes:
            self.fix(value, axis, reason)

    def fix_node(self, node: ir.Node, reason: str) -> None:
        """All that a node reads, in its subgraphs too, and gives stays."""
        values = [*node.inputs, *node.outputs]
        for graph in inner_graphs(node):
            for inner in ir.traversal.RecursiveGraphIterator(graph):
                values += [v for v in inner.inputs if v is not None]
            values += list(graph.outputs)
        for value in values:
            self.fix_all(value, reason)


ChannelRule = Callable[[Ties, ir.Node], None]
"""Ties what a node reads to what it gives; called where the ranks of all of it are known.

Nothing needs to be said of a further output that nobody reads; one that is read and that the rule
says nothing of fixes the node.
"""
