"""gemm: the rows of a matrix by a matrix, and a bias."""

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute
from xbarc.ir.dialect import DenseOp
from xbarc.lowering.kind import LayerKind, Operands
from xbarc.lowering.product import Product
from xbarc.lowering.rewrites import graph_of, initializer, opset


class Gemm(LayerKind):
    """Weights [K, N], or [N, K] under `transB`; alpha goes into the scales, beta into the bias.

    Gemm(x, W, matrix C)  ->  Add(Gemm(x, W), beta C)
    """

    name: ClassVar[str] = "gemm"
    op_type: ClassVar[str] = "Gemm"
    least_rank: ClassVar[int] = 2
    bias: ClassVar[int | None] = 2

    def transposed(self, product: Product) -> bool:
        """As the node says."""
        return bool(attribute(product.node, "transB", 0))

    def factors(self, product: Product) -> tuple[float, float]:
        """Alpha and beta."""
        return attribute(product.node, "alpha", 1.0), attribute(product.node, "beta", 1.0)

    def addend(self, product: Product, bias: ir.Value) -> ir.Value:
        """Beta times the bias."""
        node, beta = product.node, self.factors(product)[1]
        if beta == 1.0:
            return bias
        dtype = (bias.dtype or ir.DataType.FLOAT).numpy()
        scale = initializer(graph_of(node), f"{node.name}.beta", np.array(beta, dtype=dtype))
        scaled = ir.node("Mul", [bias, scale], name=f"{node.name}.scaled")
        graph_of(node).insert_before(node, scaled)
        scaled.outputs[0].name = f"{node.name}.scaled.bias"
        return scaled.outputs[0]

    def legalize(self, product: Product) -> None:
        """Before opset 11 a Gemm can't be without its bias."""
        super().legalize(product)
        node = product.node
        if opset(graph_of(node)) < 11 and len(node.inputs) > 2 and node.inputs[2] is None:
            dtype = (product.input.dtype or ir.DataType.FLOAT).numpy()
            zero = initializer(graph_of(node), f"{node.name}.zero", np.zeros(1, dtype))
            node.replace_input_with(2, zero)

    def operation(self, product: Product, given: Operands) -> tuple[DenseOp, int]:
        """`xbar.dense`: vectors are rows, under `transA` columns."""
        axis = 0 if attribute(product.node, "transA", 0) else 1
        made = DenseOp(given.codes, given.weights, axis, 1, given.element, items=given.items)
        return made, 1
