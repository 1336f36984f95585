"""Sizes that stand in a node's attributes or constants, while channels are taken out of a graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.operators.ties import Dim
from xbarc.graph.query import input_at, unique_name

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shrinking:
    """A graph that loses channels: what stays of each dimension that loses some.

    `names` are the values' names that are taken.
    """

    model: ir.Model
    kept: Mapping[Dim, Mask]
    names: set[str]

    def mask(self, value: ir.Value | None, axis: int) -> Mask | None:
        """What stays of an axis; None where all of it does."""
        return None if value is None else self.kept.get(Dim(value, axis))

    def touches(self, node: ir.Node) -> bool:
        """Whether anything that the node reads or gives loses something."""
        return any(
            Dim(value, axis) in self.kept
            for value in (*node.inputs, *node.outputs)
            if value is not None
            for axis in range(len(value.shape or ()))
        )

    def give(self, node: ir.Node, index: int, array: Any) -> None:
        """Let `node` read a new initialiser; other readers of the old one keep theirs."""
        array = np.asarray(array)
        old = input_at(node, index)
        base = old.name if old is not None else None
        value = ir.Value(
            name=unique_name(base or f"{node.name or node.op_type}_{index}", self.names),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
            const_value=ir.Tensor(array),
        )
        self.model.graph.register_initializer(value)
        if len(node.inputs) <= index:
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)


ShrinkRule = Callable[[Shrinking, ir.Node], None]
"""Makes a node's attributes and constants fit what stays; shapes are still as they were."""
