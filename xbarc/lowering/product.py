"""A node that multiplies what moves by what is static."""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from xbarc.graph.query import input_at
from xbarc.graph.weights import weight_shape, weight_side
from xbarc.support.errors import XbarcError

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Product:
    """A node and its two operands: `static` and `moving` are their places among its inputs."""

    node: ir.Node
    static: int
    moving: int

    @property
    def weights(self) -> ir.Value:
        """The static operand: real, or behind a DequantizeLinear."""
        value = self.node.inputs[self.static]
        assert value is not None
        return value

    @property
    def input(self) -> ir.Value:
        """The moving operand."""
        value = self.node.inputs[self.moving]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """The value computed."""
        return self.node.outputs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the static operand."""
        return weight_shape(self.weights)


def find_product(node: ir.Node, sides: Iterable[tuple[int, int]], least_rank: int) -> Product | str:
    """The first of `sides`, (static, moving), that `node` is; or why it is none of them.

    Raises `XbarcError` where its weights are empty, or have fewer axes than `least_rank`.
    """
    for static, moving in sides:
        if weight_side(input_at(node, static)) is None:
            continue
        value = input_at(node, moving)
        if value is None or weight_side(value) is not None:
            return "nothing of it changes at run time"
        product = Product(node, static, moving)
        if len(product.shape) < least_rank or 0 in product.shape:
            reason = "nothing to compute" if 0 in product.shape else f"fewer axes than {least_rank}"
            raise XbarcError(
                f"{node.op_type} {node.name!r}: its weights have shape {list(product.shape)}: "
                f"{reason}"
            )
        return product
    return "its weights change at run time"
