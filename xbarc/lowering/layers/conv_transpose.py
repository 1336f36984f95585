"""conv-transpose: each vector of channels by the kernels, the products added where they overlap."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute
from xbarc.graph.windows import result_pads
from xbarc.ir.dialect import ConvTransposeOp, WindowAttr
from xbarc.lowering.kind import LayerKind, Operands
from xbarc.lowering.product import Product
from xbarc.lowering.rewrites import by_channel
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


class ConvTranspose(LayerKind):
    """Weights [groups x C, F, kernel...]: a row for each channel of a group and kernel place.

    ConvTranspose(x, W, moving b)  ->  Add(ConvTranspose(x, W), Reshape(b))
    """

    name: ClassVar[str] = "conv-transpose"
    op_type: ClassVar[str] = "ConvTranspose"
    least_rank: ClassVar[int] = 3
    bias: ClassVar[int | None] = 2

    def matrix_shape(self, product: Product) -> tuple[int, int]:
        """The channels of a group by places of the kernel, and the filters of all groups."""
        channels, filters, *kernel = product.shape
        groups = self.groups(product)
        return channels // groups * int(np.prod(kernel, dtype=np.int64)), filters * groups

    def as_matrix(self, product: Product, stored: Array) -> Array:
        """[groups x C, F, kernel...] as [(C, kernel), (groups, F)]."""
        filters, *kernel = stored.shape[1:]
        by_group = stored.reshape(self.groups(product), -1, filters, int(np.prod(kernel)))
        return by_group.transpose(1, 3, 0, 2).reshape(self.matrix_shape(product))

    def columns_axis(self, product: Product) -> int:
        """The filters of a group; the groups share their scales."""
        return 1

    def groups(self, product: Product) -> int:
        """The convolution's own."""
        return attribute(product.node, "group", 1)

    def addend(self, product: Product, bias: ir.Value) -> ir.Value:
        """The bias as [1, N, 1, ...]."""
        return by_channel(product, bias)

    def operation(self, product: Product, given: Operands) -> tuple[ConvTransposeOp, int]:
        """`xbar.conv_transpose`; its pads say where the result begins and ends."""
        spatial, result = given.source[2:], given.result[2:]
        if min((*spatial, *result)) < 0:
            raise XbarcError("its input's height or width varies with the batch")
        kernel = list(product.shape[2:])
        window = WindowAttr.of(kernel, *result_pads(product.node, spatial, kernel, result))
        made = ConvTransposeOp(
            given.codes, given.weights, window, result, given.element, items=given.items
        )
        return made, 1

    def multiply_accumulates(
        self, product: Product, source: Sequence[int], result: Sequence[int]
    ) -> int:
        """Each place of the input meets the whole matrix."""
        items, _, *spatial = source
        return items * math.prod(spatial) * math.prod(self.matrix_shape(product))
