"""conv: windows of the input by kernels."""

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute
from xbarc.graph.windows import resolved_pads
from xbarc.ir.dialect import ConvOp, WindowAttr
from xbarc.lowering.kind import LayerKind, Operands
from xbarc.lowering.product import Product
from xbarc.lowering.rewrites import by_channel
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


class Conv(LayerKind):
    """Weights [N, K / kernel, kernel...]; groups stand on the diagonal.

    Conv(x, W, moving b)  ->  Add(Conv(x, W), Reshape(b))
    """

    name: ClassVar[str] = "conv"
    op_type: ClassVar[str] = "Conv"
    least_rank: ClassVar[int] = 3
    bias: ClassVar[int | None] = 2

    def refusal(self, product: Product) -> str | None:
        """Negative pads would cut the input."""
        if any(p < 0 for p in attribute(product.node, "pads", ())):
            return "its pads are negative"
        return None

    def matrix_shape(self, product: Product) -> tuple[int, int]:
        """A row for each channel of a group and place of the kernel, a column for each filter."""
        filters, *window = product.shape
        return int(np.prod(window, dtype=np.int64)), filters

    def as_matrix(self, product: Product, stored: Array) -> Array:
        """[N, C, kernel...] as [(C, kernel), N]."""
        return stored.reshape(stored.shape[0], -1).T

    def columns_axis(self, product: Product) -> int:
        """The filters."""
        return 0

    def groups(self, product: Product) -> int:
        """The convolution's own."""
        return attribute(product.node, "group", 1)

    def addend(self, product: Product, bias: ir.Value) -> ir.Value:
        """The bias as [1, N, 1, ...]."""
        return by_channel(product, bias)

    def operation(self, product: Product, given: Operands) -> tuple[ConvOp, int]:
        """`xbar.conv`, whose padding holds the zero point."""
        spatial = given.source[2:]
        if any(s < 0 for s in spatial):
            raise XbarcError("its input's height or width varies with the batch")
        kernel = list(product.shape[2:])
        window = WindowAttr.of(kernel, *resolved_pads(product.node, spatial, kernel))
        made = ConvOp(
            given.codes,
            given.weights,
            window,
            given.element,
            fill=given.zero_point,
            items=given.items,
        )
        return made, 1
