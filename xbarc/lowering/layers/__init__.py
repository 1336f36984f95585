"""Which ONNX operators stand on crossbars, and each one's weight matrix.

An operator does where one side of it is static: Conv, Gemm, MatMul. What doesn't has a reason, in
words, that `xbarc compile` shows.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.operators import LINEAR, is_linear
from xbarc.graph.query import attribute, constant, is_static
from xbarc.graph.weights import (
    along,
    block_size,
    dequantize_inputs,
    quantized_axis,
    static_array,
    weight_shape,
    weight_side,
)
from xbarc.hw.quantization import InputScale, code_dtype, quantize_weights
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Layer:
    """One operator with static weights, before its weights are quantised.

    `source` is the value whose codes drive the rows: real, or already integer where `codes` says
    the scale it came with. `weights` is the static value, real or behind a DequantizeLinear.
    """

    node: ir.Node
    source: ir.Value
    weights: ir.Value
    bias: Array | None
    alpha: float = 1.0
    codes: InputScale | None = None

    @property
    def name(self) -> str:
        """The ONNX node's name."""
        return self.node.name or ""

    @property
    def output(self) -> ir.Value:
        """The value computed."""
        return self.node.outputs[0]

    @property
    def groups(self) -> int:
        """Blocks of a block-diagonal matrix: a convolution's groups."""
        return attribute(self.node, "group", 1)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows of one group, and columns."""
        shape = weight_shape(self.weights)
        if self.node.op_type == "Conv":
            return int(np.prod(shape[1:], dtype=np.int64)), shape[0]
        if self.node.op_type == "ConvTranspose":
            kernel = int(np.prod(shape[2:], dtype=np.int64))
            return shape[0] // self.groups * kernel, shape[1] * self.groups
        rows, cols = shape[-2:]
        return (cols, rows) if self._transposed else (rows, cols)

    @property
    def _transposed(self) -> bool:
        """Whether the static matrix is stored columns first."""
        if self.node.op_type == "Gemm":
            return bool(attribute(self.node, "transB", 0))
        return self.node.op_type == "MatMul" and self.weights is weight_side(self.node.inputs[0])

    @property
    def static_side(self) -> int:
        """The operand that is static: 0 for a MatMul `W x`, else 1."""
        return 0 if self.weights is weight_side(self.node.inputs[0]) else 1


@dataclass(frozen=True)
class IntegerWeights:
    """Quantised weights: `q` [K, N] as stored, `scale` [N], `bits` with sign."""

    q: Array
    scale: npt.NDArray[np.float64]
    bits: int


def find_layer(node: ir.Node) -> Layer | str | None:
    """The layer that `node` is; why it can't be one; None where it is no linear operator."""
    if not is_linear(node):
        return None
    if node.op_type not in LINEAR:
        return f"{node.op_type} has no mapping"
    sides = [weight_side(v) for v in node.inputs[:2]]
    if node.op_type == "MatMul":
        static = sides[1] if sides[1] is not None else sides[0]
        moving = node.inputs[0] if sides[1] is not None else node.inputs[1]
    else:
        static, moving = sides[1], node.inputs[0]
    if static is None:
        return "its weights change at run time"
    if moving is None or weight_side(moving) is not None:
        return "nothing of it changes at run time"
    if reason := _unfit(node, static, moving):
        return reason
    codes, source = _incoming_codes(moving)
    if node.op_type == "ConvTranspose" and codes is not None and codes.zero_point:
        # Not every output sees the whole kernel, so a zero point can't be taken out by column.
        codes, source = None, moving
    bias = _bias(node, _columns(node, static))
    if isinstance(bias, str):
        return bias
    return Layer(
        node,
        source,
        static,
        bias,
        alpha=attribute(node, "alpha", 1.0),
        codes=codes,
    )


def _unfit(node: ir.Node, static: ir.Value, moving: ir.Value) -> str | None:
    shape = weight_shape(static)
    if moving.dtype is not None and moving.dtype not in FLOATS:
        return f"its input is {moving.dtype.name.lower()}, not real"
    if not shape or 0 in shape:
        what = f"{node.op_type} {node.name!r}"
        raise XbarcError(f"{what}: its weights have shape {list(shape)}: nothing to compute")
    if node.op_type == "MatMul" and len(shape) != 2:
        return f"its weights are of rank {len(shape)}: one matrix a batch item"
    if node.op_type == "Conv" and any(p < 0 for p in list(attribute(node, "pads", ()))):
        return "its pads are negative"
    return None


def _columns(node: ir.Node, static: ir.Value) -> int:
    shape = weight_shape(static)
    if node.op_type == "Conv":
        return shape[0]
    if node.op_type == "ConvTranspose":
        return shape[1] * attribute(node, "group", 1)
    transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return shape[0] if transposed else shape[-1]


def _bias(node: ir.Node, columns: int) -> Array | str | None:
    """The bias [N] of a Conv or Gemm, or why it can't be one number a column."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None or node.op_type == "MatMul":
        return None
    if weight_side(given) is None:
        return "its bias changes at run time"
    bias = static_array(given)
    if (bias.ndim > 1 and any(s != 1 for s in bias.shape[:-1])) or bias.size not in (1, columns):
        return "its bias isn't one number a column"
    beta = attribute(node, "beta", 1.0)
    return np.broadcast_to(bias.reshape(-1) * beta, columns).astype(np.float32)


def _incoming_codes(value: ir.Value) -> tuple[InputScale | None, ir.Value]:
    """The scale and the integer value where `value` is dequantised from one the model made.

    A positive scale a tensor, 8 or 16 bits; anything else is taken as the real value it is.
    """
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None, value
    scale = constant(node.inputs[1])
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    quantized = node.inputs[0]
    if scale is None or zero is None or scale.size != 1:
        return None, value
    factor = float(scale.reshape(()))
    if not 0 < factor < math.inf:
        return None, value
    # A custom operator's result has no type that ONNX knows, but its zero point has the same one.
    dtype = np.dtype(quantized.dtype.numpy()) if quantized.dtype is not None else zero.dtype
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None, value
    bits, signed = 8 * dtype.itemsize, dtype.kind == "i"
    return InputScale(factor, bits, signed, int(zero.reshape(()))), quantized


def integer_weights(layer: Layer, bits: int) -> IntegerWeights:
    """The weight matrix [K, N] in integers.

    A model's own integers stay as they are, their zero points taken out, with as many bits as they
    then need; others are quantised. Raises `XbarcError` where a weight isn't finite.
    """
    own = _own_integers(layer)
    if own is not None:
        return own
    w = _as_matrix(layer, static_array(layer.weights))
    q, scale = quantize_weights(w, bits)
    return IntegerWeights(q, scale * layer.alpha, bits)


def _as_matrix(layer: Layer, w: Array) -> Array:
    if layer.node.op_type == "Conv":
        return w.reshape(w.shape[0], -1).T
    if layer.node.op_type == "ConvTranspose":
        # [G Cg, Fg, kernel] to [(Cg, kernel), (G, Fg)]
        by_group = w.reshape(layer.groups, -1, w.shape[1], int(np.prod(w.shape[2:])))
        return by_group.transpose(1, 3, 0, 2).reshape(layer.matrix)
    return w.T if layer._transposed else w


def _own_integers(layer: Layer) -> IntegerWeights | None:
    if is_static(layer.weights):
        return None
    q, scale, zero = dequantize_inputs(layer.weights)
    node = layer.weights.producer()
    assert node is not None and node.inputs[0] is not None
    dtype = node.inputs[0].dtype
    if dtype is None or not dtype.is_integer() or dtype.bitwidth > 16:
        return None
    columns_axis = 0 if layer.node.op_type == "Conv" or layer._transposed else q.ndim - 1
    if layer.node.op_type == "ConvTranspose":
        columns_axis = 1
    per_column = scale.size == 1 or quantized_axis(layer.weights) % q.ndim == columns_axis
    if block_size(layer.weights) or not per_column:
        return None
    # Differences of 16-bit integers want 17 bits.
    shifted = q.astype(np.int32) - along(zero, columns_axis, q.ndim).astype(np.int32)
    matrix = _as_matrix(layer, shifted)
    largest = int(np.abs(matrix).max())
    bits = max(dtype.bitwidth, largest.bit_length() + 1)
    if bits > 16:
        return None
    own = scale.reshape(-1).astype(np.float64) * layer.alpha
    # The groups of a ConvTranspose share their scales.
    return IntegerWeights(
        np.ascontiguousarray(matrix, dtype=code_dtype(bits, signed=True)),
        np.tile(own, matrix.shape[1] // own.size),
        bits,
    )
