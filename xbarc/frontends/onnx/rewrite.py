"""Nodes that take another node's place, as rewrites of quantised operators build them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import constant, unique_name
from xbarc.support.data import Array


@dataclass
class Rewrite:
    """The nodes that take one node's place."""

    graph: ir.Graph
    node: ir.Node
    taken: set[str]
    nodes: list[ir.Node] = field(default_factory=list)

    def initializer(self, role: str, array: Array, of: str = "") -> ir.Value:
        """A new static value, called after the node, or after the value `of`."""
        value = ir.Value(
            name=unique_name(f"{of or self.prefix}_{role}", self.taken),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
            const_value=ir.Tensor(array),
        )
        self.graph.register_initializer(value)
        return value

    @property
    def prefix(self) -> str:
        """What names of new nodes and values begin with."""
        return self.node.name or str(self.node.outputs[0].name)

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        role: str,
        attributes: Sequence[ir.Attr] = (),
        domain: str = "",
    ) -> ir.Value:
        """The output of a new node; the node of role `""` keeps the old one's name."""
        name = f"{self.prefix}_{role}" if role else self.prefix
        output = ir.Value(name=unique_name(f"{name}_{op_type.lower()}_output", self.taken))
        self.nodes.append(ir.Node(domain, op_type, inputs, attributes, outputs=[output], name=name))
        return output

    def dequantize(
        self, value: ir.Value, scale: Array, zero: Array | None, axis: int, role: str
    ) -> ir.Value:
        """`(value - zero) * scale`; scale and zero are scalars or one number an index of `axis`."""
        if zero is not None:
            scale, zero = np.broadcast_arrays(scale, zero)
        inputs = [value, self.initializer(f"{role}_scale", np.array(scale))]
        if zero is not None:
            inputs.append(self.initializer(f"{role}_zero_point", np.array(zero)))
        attributes = [ir.AttrInt64("axis", axis)] if scale.ndim else []
        return self.add("DequantizeLinear", inputs, f"{role}_dequantize", attributes)

    def replace(self, old: ir.Value) -> None:
        """Put the nodes where the node stands; what reads `old` then reads what the last one gives.

        The node, and those between it and `old`, go where nobody else reads them.
        """
        new = self.nodes[-1].outputs[0]
        new.type, new.shape, new.name = old.type, old.shape, old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name = None
        self.graph.insert_after(self.node, self.nodes)
        unread = old.producer()
        while unread is not None and not any(value.uses() for value in unread.outputs):
            before = [v.producer() for v in unread.inputs if v is not None]
            self.graph.remove(unread, safe=True)
            if unread is self.node:
                break
            unread = next((node for node in before if node is not None), None)


def parameter(value: ir.Value | None) -> Array | None:
    """A constant scale or zero point, a scalar where it has one element; None where not usable."""
    array = constant(value)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iuf":
        return None
    return array.reshape(()) if array.size == 1 else array
