"""What an operator costs in the digital unit: a class of operations, and how many of them.

An operation is one value through a unit: an activation one a value, pooling one a value that enters
a window, elementwise one a value and operand, products one a multiply-accumulate; everything else
is `other`. This counting is a model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from xbarc.graph.operators.products import Shape
from xbarc.support.errors import nearest

CLASSES = ("activation", "pooling", "elementwise", "products", "other")
"""Classes of operations; a target says which of its units does each."""


@dataclass(frozen=True)
class Call:
    """One node of a digital part: what it reads and gives, None for a shape that isn't known."""

    node: onnx.NodeProto
    inputs: Sequence[Shape | None]
    output: Shape | None

    @property
    def results(self) -> int:
        """Values of the first output; where its shape isn't known, of the largest input."""
        if self.output is not None:
            return math.prod(self.output)
        return max((math.prod(s) for s in self.inputs if s is not None), default=0)

    @property
    def operands(self) -> int:
        """Values of the first input whose shape is known; else `results`."""
        return next((math.prod(s) for s in self.inputs if s is not None), self.results)


@dataclass(frozen=True)
class Cost:
    """Operations of class `kind`, as many as `operations` says of a call."""

    kind: str
    operations: Callable[[Call], int]

    def __post_init__(self) -> None:
        """Raises `ValueError` where there is no such class."""
        if self.kind not in CLASSES:
            raise ValueError(f"no class of operations {self.kind!r}: {nearest(self.kind, CLASSES)}")


def other(per_value: int) -> Cost:
    """`per_value` operations of class `other` a result."""
    return Cost("other", lambda call: call.results * per_value)


def _windows(call: Call) -> int:
    kernels = (math.prod(a.ints) for a in call.node.attribute if a.name == "kernel_shape")
    return call.results * math.prod(kernels)


ACTIVATION = Cost("activation", lambda call: call.results)
"""One operation a result."""

POOLING = Cost("pooling", _windows)
"""One operation a result and value of the window `kernel_shape`."""

REDUCTION = Cost("pooling", lambda call: call.operands)
"""One operation a value of the first input."""

ELEMENTWISE = Cost("elementwise", lambda call: call.results * max(len(call.inputs) - 1, 1))
"""One operation a result and operand beyond the first, at least one a result."""

SCALING = Cost("elementwise", lambda call: call.results)
"""One elementwise operation a result, whatever else is read: scales, zero points, a condition."""

MOVES = other(0)
"""None: data only move, or are taken for something else."""

OTHER = other(1)
"""One operation of class `other` a result."""
