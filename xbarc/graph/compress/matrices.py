"""The weight matrix of a linear operator as it stands on crossbars: read it, replace it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from xbarc.graph.edit import add_initializer
from xbarc.graph.query import attribute, constant, describe, dims, input_at, is_op, only_consumer
from xbarc.graph.windows import resolved_pads, result_pads
from xbarc.support.data import Array

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators whose weights are windows, an input and an output channel each."""


@dataclass(frozen=True, eq=False)
class LayerMatrix:
    """A Conv, ConvTranspose, Gemm or MatMul with static real weights.

    `side` is the operand that is static. The matrix is [K, N]: rows of one group (input channel,
    kernel row, kernel column), columns of all groups.
    """

    node: ir.Node
    side: int = 1

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name or ""

    @property
    def source(self) -> ir.Value:
        """The value whose vectors meet the matrix."""
        return cast(ir.Value, self.node.inputs[1 - self.side])

    @property
    def output(self) -> ir.Value:
        """The value computed, with a Conv's or Gemm's bias."""
        return self.node.outputs[0]

    @property
    def groups(self) -> int:
        """Blocks of a block-diagonal matrix."""
        return cast(int, attribute(self.node, "group", 1)) if is_op(self.node, *CONVOLUTIONS) else 1

    @property
    def weights(self) -> Array:
        """The weights as the model stores them (shared: never write to them)."""
        array = constant(self.node.inputs[self.side])
        if array is None:
            raise ValueError(f"{describe(self.node)} has no static weights")
        return array

    @property
    def kernel(self) -> tuple[int, ...]:
        """The window of a Conv or ConvTranspose; `()` for others."""
        return self.weights.shape[2:] if is_op(self.node, *CONVOLUTIONS) else ()

    @property
    def matrix(self) -> Array:
        """The weights as [K, N] (never write to them)."""
        w = self.weights
        if is_op(self.node, "Conv"):
            return w.reshape(len(w), -1).T
        if is_op(self.node, "ConvTranspose"):
            # [(G, Cg), Fg, kernel] to [(Cg, kernel), (G, Fg)]
            by_group = w.reshape(self.groups, len(w) // self.groups, w.shape[1], -1)
            return by_group.transpose(1, 3, 0, 2).reshape(-1, self.groups * w.shape[1])
        return w.T if self._transposed else w

    @property
    def _transposed(self) -> bool:
        return self.side == 0 or bool(attribute(self.node, "transB", 0))

    @property
    def vectors(self) -> int:
        """Vectors that meet the matrix for a batch of one; inputs of a transposed convolution."""
        value, length = self.output, self.matrix.shape[1]
        if is_op(self.node, "ConvTranspose"):
            value, length = self.source, len(self.weights)
        sizes = [size or 1 for size in (dims(value) or ())[1:]] or [length]
        return max(1, int(np.prod(sizes, dtype=np.int64)) // length)

    def channel_axis(self, rank: int) -> int:
        """The axis of the input, of `rank` axes, along which the channels of the rows lie."""
        if is_op(self.node, *CONVOLUTIONS):
            return 1
        if is_op(self.node, "Gemm"):
            return 0 if attribute(self.node, "transA", 0) else 1
        return rank - 2 if self.side == 0 and rank > 1 else rank - 1

    def column_axis(self, rank: int) -> int:
        """The axis of the output, of `rank` axes, along which the columns lie."""
        if is_op(self.node, *CONVOLUTIONS, "Gemm"):
            return 1
        return max(rank - 2, 0) if self.side == 0 else rank - 1

    def cut(self, mask: Array) -> list[Array]:
        """`mask` [K, N] as what is cut into tiles: of a transposed convolution one an offset."""
        if not is_op(self.node, "ConvTranspose"):
            return [mask]
        offsets = mask.reshape(len(self.weights) // self.groups, -1, mask.shape[1])
        return [offsets[:, i] for i in range(offsets.shape[1])]

    def replace(self, matrix: Array) -> None:
        """Give this layer, and no other reader of its weights, another [K, N]."""
        self._replace_input(self.side, self.stored(matrix))

    def stored(self, matrix: Array) -> Array:
        """A [K, N] as the model stores it, in the weights' own type."""
        w = self.weights
        stored = matrix.T if is_op(self.node, "Conv") or self._transposed else matrix
        if is_op(self.node, "ConvTranspose"):
            channels = len(w) // self.groups
            stored = matrix.reshape(channels, -1, self.groups, w.shape[1]).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(stored.reshape(w.shape), w.dtype)

    def add_to_bias(self, shift: Array) -> bool:
        """Add one number a column to the result; False where there is no bias that could take it.

        A MatMul's bias is the constant of the Add behind it.
        """
        if is_op(self.node, "MatMul"):
            return self._add_to_add(shift)
        beta = attribute(self.node, "beta", 1.0) if is_op(self.node, "Gemm") else 1.0
        bias = np.zeros(len(shift)) if input_at(self.node, 2) is None else self._bias()
        if bias is None or beta == 0:
            return False
        self._replace_input(2, (bias + shift / beta).astype(self.weights.dtype))
        return True

    @property
    def takes_bias(self) -> bool:
        """Whether `add_to_bias` has where to add."""
        if is_op(self.node, "MatMul"):
            return self._added() is not None
        if is_op(self.node, "Gemm") and attribute(self.node, "beta", 1.0) == 0:
            return False
        return input_at(self.node, 2) is None or self._bias() is not None

    def _bias(self) -> Array | None:
        bias, columns = constant(self.node.inputs[2]), self.matrix.shape[1]
        if bias is None or bias.ndim > 2 or bias.size not in (1, columns):
            return None
        if bias.ndim == 2 and bias.shape[0] != 1:
            return None
        return np.broadcast_to(bias.reshape(-1).astype(np.float64), (columns,))

    def _added(self) -> tuple[ir.Node, int, Array] | None:
        add = only_consumer(self.output)
        if add is None or not is_op(add, "Add"):
            return None
        index = 1 if add.inputs[0] is self.output else 0
        array = constant(add.inputs[index])
        axis = 1 if self.side == 1 else 2  # the columns' axis, from the right
        if array is None or array.ndim < axis or array.size != self.matrix.shape[1]:
            return None
        return (add, index, array) if array.shape[-axis] == array.size else None

    def _add_to_add(self, shift: Array) -> bool:
        found = self._added()
        if found is None:
            return False
        add, index, array = found
        new = (array + shift.reshape(array.shape)).astype(array.dtype)
        give(add, index, new)
        return True

    def _replace_input(self, index: int, array: Array) -> None:
        give(self.node, index, array)

    def sample(self, x: Array, y: Array, limit: int) -> tuple[Array, Array]:
        """Input vectors [groups * K, S] and the result vectors [N, S] of them, at most `limit`.

        `x` and `y` are what the source and the output hold for one batch; evenly spaced vectors are
        taken. `y` may have more channels than this layer.
        """
        if is_op(self.node, "Conv"):
            window = _Window(self.kernel, *resolved_pads(self.node, x.shape[2:], self.kernel))
            return _windows(x, y, limit, window)
        if is_op(self.node, "ConvTranspose"):
            return self._mirrored_windows(x, y, limit)
        if is_op(self.node, "Gemm"):
            x = x.T if attribute(self.node, "transA", 0) else x
        elif self.side == 0 and x.ndim > 1:
            x, y = x.swapaxes(-1, -2), y.swapaxes(-1, -2)
        vectors, results = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        taken = _spread(len(vectors), limit)
        return vectors[taken].T, results[taken].T

    def _mirrored_windows(self, x: Array, y: Array, limit: int) -> tuple[Array, Array]:
        """A transposed convolution as one by the mirrored kernel of `x` spread with zeros."""
        kernel = self.kernel
        strides, pads, dilations = result_pads(self.node, x.shape[2:], kernel, y.shape[2:])
        sizes = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], strides, strict=True)]
        spread = np.zeros((*x.shape[:2], *sizes), x.dtype)
        places: list[Any] = [slice(None, None, s) for s in strides]
        spread[(..., *places)] = x
        reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)] * 2
        around = [r - p for r, p in zip(reach, pads, strict=True)]
        window = _Window(kernel, [1] * len(kernel), around, dilations)
        vectors, results = _windows(spread, y, limit, window)
        by_position = vectors.reshape(x.shape[1], *kernel, -1)
        return np.flip(by_position, tuple(range(1, 1 + len(kernel)))).reshape(
            vectors.shape
        ), results


@dataclass(frozen=True)
class _Window:
    """A window over the spatial axes; a negative pad cuts off."""

    kernel: Sequence[int]
    strides: Sequence[int]
    pads: Sequence[int]
    dilations: Sequence[int]


def _windows(x: Array, y: Array, limit: int, window: _Window) -> tuple[Array, Array]:
    """Vectors [C * kernel, S] of `x` [B, C, spatial...] and what `y` has at their positions."""
    rank = x.ndim - 2
    around = list(zip(window.pads[:rank], window.pads[rank:], strict=True))
    inside: list[Any] = [
        slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape[2:], around, strict=True)
    ]
    widths = [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in around)]
    reach = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(
        np.pad(x[(..., *inside)], widths), reach, axis=tuple(range(2, 2 + rank))
    )
    cuts = [slice(None)] * 2
    cuts += [slice(None, None, s) for s in window.strides]
    cuts += [slice(None, None, d) for d in window.dilations]
    view = np.moveaxis(view[tuple(cuts)], 1, 1 + rank)
    shape = (len(y), *y.shape[2:])
    taken = np.unravel_index(_spread(int(np.prod(shape)), limit), shape)
    vectors = view[taken].reshape(len(taken[0]), -1)
    return vectors.T, np.moveaxis(y, 1, -1)[taken].T


def _spread(count: int, limit: int) -> Array:
    """At most `limit` of `count` indices, evenly spaced."""
    if count <= limit:
        return np.arange(count)
    return np.arange(limit) * count // limit


def give(node: ir.Node, index: int, array: Array) -> None:
    """Let `node` read this array; another reader of the old one keeps that."""
    old = input_at(node, index)
    if old is not None and only_consumer(old) is node and old.is_initializer():
        old.const_value, old.shape = ir.Tensor(array, name=old.name), ir.Shape(array.shape)
        return
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{node} stands in no graph")
    names = {v.name or "" for v in graph.inputs} | set(graph.initializers)
    names |= {v.name or "" for n in graph for v in n.outputs}
    value = add_initializer(
        graph, f"{node.name}.{'weight' if index == 1 else 'bias'}", array, names
    )
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def find_matrix(node: ir.Node) -> LayerMatrix | str | None:
    """The layer that `node` is; why its weights can't be taken; None where it has none."""
    if not is_op(node, *CONVOLUTIONS, "Gemm", "MatMul"):
        return None
    sides = [constant(v) for v in node.inputs[:2]]
    side = 1 if sides[1] is not None else 0 if is_op(node, "MatMul") else 1
    array = sides[side]
    if array is None:
        return "its weights aren't static real numbers"
    if array.dtype.kind != "f" or array.ndim < 2 or (is_op(node, "MatMul") and array.ndim != 2):
        return f"its weights are {array.dtype} of rank {array.ndim}"
    if sides[1 - side] is not None:
        return "nothing of it changes at run time"
    return LayerMatrix(node, side)


def find_matrices(
    nodes: Sequence[ir.Node] | ir.Graph,
) -> tuple[dict[str, LayerMatrix], dict[str, str]]:
    """The layers of a graph by name, and why others can't be taken, by name."""
    found: dict[str, LayerMatrix] = {}
    refused: dict[str, str] = {}
    for node in nodes:
        layer = find_matrix(node)
        if isinstance(layer, LayerMatrix):
            found[layer.name] = layer
        elif layer is not None:
            refused[node.name or ""] = layer
    return found, refused
