"""matmul: vectors along one axis by a matrix, on either side of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import constant, is_op
from xbarc.graph.weights import static_array
from xbarc.ir.dialect import DenseOp
from xbarc.lowering.kind import LayerKind, Operands
from xbarc.lowering.product import Product
from xbarc.lowering.rewrites import after, axes, cast, graph_of, initializer, opset
from xbarc.support.data import Array

MAX_SPLIT = 1024
"""Matrices of one batched product that are laid out one by one; more stay digital."""


class MatMul(LayerKind):
    """`x W` with weights [K, N], or `W x` with weights [N, K].

    MatMul(x, w [K])         ->  Squeeze(MatMul(x, w [K, 1]))
    MatMul(x, W [B, K, N])   ->  Concat(MatMul(x_0, W_0), ..., MatMul(x_B, W_B))
    MatMul(x [M, K], W [B, K, N])  ->  the same of Unsqueeze(x)
    """

    name: ClassVar[str] = "matmul"
    op_type: ClassVar[str] = "MatMul"
    sides: ClassVar[tuple[tuple[int, int], ...]] = ((1, 0), (0, 1))

    def refusal(self, product: Product) -> str | None:
        """A stack of matrices that couldn't be split."""
        rank = len(product.shape)
        return None if rank == 2 else f"its weights are of rank {rank}: one matrix a batch item"

    def transposed(self, product: Product) -> bool:
        """Where the weights are on the left."""
        return product.static == 0

    def legalize(self, product: Product) -> None:
        """Weights as matrices, and one product a matrix."""
        _raise_vector(product)
        cast(product)
        _raise_moving(product)
        _split_stack(product)

    def operation(self, product: Product, given: Operands) -> tuple[DenseOp, int]:
        """`xbar.dense` along the last axis; `W x` along the one before, where there is one."""
        back = 2 if product.static == 0 else 1
        axis, to = (max(len(shape) - back, 0) for shape in (given.source, given.result))
        made = DenseOp(given.codes, given.weights, axis, to, given.element, items=given.items)
        return made, to


def _raise_vector(product: Product) -> None:
    """A static vector as a matrix of one column (or row)."""
    if len(product.shape) != 1:
        return
    node, left = product.node, product.static == 0
    vector = _stored(product)
    matrix = initializer(
        graph_of(node), f"{node.name}.matrix", vector[None, :] if left else vector[:, None]
    )
    node.replace_input_with(product.static, matrix)
    shape = product.input.shape
    moving_vector = shape is not None and len(shape) == 1
    _squeeze(node, "axis", -2 if left and not moving_vector else -1)


def _raise_moving(product: Product) -> None:
    """A moving side of fewer axes than a stack of matrices: axes of 1 in front, as numpy has it."""
    node, moving, rank = product.node, product.input, len(product.shape)
    if moving.shape is None:
        return
    shape = list(moving.shape.dims)
    missing = rank - len(shape)
    if rank < 3 or missing < 1:
        return
    places = list(range(missing))
    if len(shape) == 1:
        # A vector: a row, or with the weights on the left a column, of which the result has none.
        column = product.static == 0
        places[-1] = rank - 1 if column else rank - 2
        shape = [*shape, 1] if column else [1, *shape]
        _squeeze(node, "vector", -1 if column else -2)
    new, attributes = axes(node, "axes", *places)
    raised = ir.node("Unsqueeze", [moving, *new], attributes=attributes, name=f"{node.name}.raised")
    raised.outputs[0].name = f"{node.name}.raised.out"
    raised.outputs[0].type = moving.type
    raised.outputs[0].shape = ir.Shape([*[1] * (rank - len(shape)), *shape])
    graph_of(node).insert_before(node, raised)
    node.replace_input_with(product.moving, raised.outputs[0])


def _squeeze(node: ir.Node, tag: str, axis: int) -> None:
    """Drop an axis of 1 of the node's result."""
    out = node.outputs[0]
    places, attributes = axes(node, tag, axis)
    after(node, "Squeeze", [out, *places], **attributes)
    out.shape = None


def _split_stack(product: Product) -> None:
    """One MatMul a matrix, where the static side is a stack of matrices."""
    if not _can_split(product):
        return
    node = product.node
    split = _Split.of(product)
    result = split.product(split.source, _stored(product), "")
    old = node.outputs[0]
    result.type, result.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    result.name, old.name = old.name, f"{old.name}.stacked"
    graph = graph_of(node)
    graph.insert_before(node, split.made)
    graph.remove(node, safe=True)


def _can_split(product: Product) -> bool:
    shape, moving = product.shape, product.input.shape
    stack = shape[:-2]
    if not stack or moving is None or len(moving) < len(shape):
        return False
    if int(np.prod(stack)) > MAX_SPLIT or 0 in shape:
        return False
    sizes = moving.dims[len(moving) - len(shape) : -2]
    return all(size in (1, want) or want == 1 for size, want in zip(sizes, stack, strict=True))


def _stored(product: Product) -> Array:
    """The weights as real numbers of their own type."""
    weights = product.weights
    return static_array(weights).astype((weights.dtype or ir.DataType.FLOAT).numpy())


@dataclass
class _Split:
    """One product as many: what they are cut from, and the nodes `made` so far.

    Codes that the model made are cut as codes, so that each layer takes them as they are: `source`
    is then the codes, and `scale` what dequantises them.
    """

    whole: Product
    moving: ir.Value
    source: ir.Value
    scale: Sequence[ir.Value | None]
    made: list[ir.Node] = field(default_factory=list)

    @classmethod
    def of(cls, whole: Product) -> "_Split":
        moving = whole.input
        codes = moving.producer()
        if is_op(codes, "DequantizeLinear") and codes is not None and codes.inputs[0] is not None:
            factor = constant(codes.inputs[1])
            if factor is not None and factor.size == 1:
                return cls(whole, moving, codes.inputs[0], codes.inputs[1:])
        return cls(whole, moving, moving, ())

    def product(self, x: ir.Value, weights: Array, tag: str) -> ir.Value:
        """The product by a stack of matrices, or by one."""
        if weights.ndim == 2:
            return self.one(x, weights, tag)
        if len(weights) == 1:
            return self.product(x, weights[0], f"{tag}.0")
        assert self.moving.shape is not None
        axis = len(self.moving.shape) - weights.ndim
        shared = self.moving.shape[axis] == 1
        parts = []
        for i, matrix in enumerate(weights):
            item = x if shared else self.item(x, axis, i, tag)
            parts.append(self.product(item, matrix, f"{tag}.{i}"))
        return self.make("Concat", parts, f"stack{tag}", axis=axis)

    def one(self, x: ir.Value, matrix: Array, tag: str) -> ir.Value:
        """The product by one matrix."""
        node = self.whole.node
        if self.scale:
            x = self.make("DequantizeLinear", [x, *self.scale], f"real{tag}")
        name, array = f"{node.name}.weights{tag}", np.ascontiguousarray(matrix)
        weights = initializer(graph_of(node), name, array)
        sides = [weights, x] if self.whole.static == 0 else [x, weights]
        return self.make("MatMul", sides, f"matmul{tag}")

    def item(self, x: ir.Value, axis: int, i: int, tag: str) -> ir.Value:
        """What of the moving side meets matrix `i`."""
        node = self.whole.node
        graph, where = graph_of(node), {"starts": [i], "ends": [i + 1], "axes": [axis]}
        if opset(graph) < 10:
            return self.make("Slice", [x], f"item{tag}.{i}", **where)
        bounds = [
            initializer(graph, f"{node.name}.{what}{tag}.{i}", np.array(at))
            for what, at in where.items()
        ]
        return self.make("Slice", [x, *bounds], f"item{tag}.{i}")

    def make(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        tag: str,
        **attributes: int | Sequence[int],
    ) -> ir.Value:
        """A new node beside the whole product; its result."""
        name = f"{self.whole.node.name}.{tag}"
        node = ir.node(op, list(inputs), attributes=attributes, name=name)
        node.outputs[0].name = f"{name}.out"
        node.outputs[0].type = self.source.type if op == "Slice" else self.moving.type
        self.made.append(node)
        return node.outputs[0]
