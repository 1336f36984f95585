"""Layers: the operators of a graph that stand on crossbars, and each one's weight matrix.

An operator does where one side of it is static. What doesn't has a reason, in words, that
`xbarc compile` shows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.codes import grid_of, unquantised, width_of
from xbarc.graph.query import constant, input_at, is_static
from xbarc.graph.weights import (
    along,
    block_size,
    dequantize_inputs,
    quantized_axis,
    static_array,
    weight_side,
)
from xbarc.hw.quantization import InputScale, code_dtype, quantize_weights
from xbarc.hw.target import Target
from xbarc.lowering.kind import LayerKind
from xbarc.lowering.product import FLOATS, Product, find_product
from xbarc.lowering.rewrites import is_bias
from xbarc.support.data import Array


@dataclass(frozen=True)
class Layer:
    """One operator with static weights, before its weights are quantised.

    `source` is the value whose codes drive the rows: real, or already integer where `codes` says
    the scale it came with. `to_code`: it is real all the same, and `codes` says how it is coded.
    `bias` is one number a column.
    """

    kind: LayerKind
    product: Product
    source: ir.Value
    bias: Array | None
    codes: InputScale | None = None
    to_code: bool = True

    @property
    def node(self) -> ir.Node:
        """The ONNX node."""
        return self.product.node

    @property
    def name(self) -> str:
        """The ONNX node's name."""
        return self.node.name or ""

    @property
    def output(self) -> ir.Value:
        """The value computed."""
        return self.product.output

    @property
    def groups(self) -> int:
        """Blocks of a block-diagonal matrix."""
        return self.kind.groups(self.product)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows of one group, and columns."""
        return self.kind.matrix_shape(self.product)


@dataclass(frozen=True)
class IntegerWeights:
    """Quantised weights: `q` [K, N] as stored, `scale` [N], `bits` with sign."""

    q: Array
    scale: npt.NDArray[np.float64]
    bits: int


@dataclass(frozen=True)
class Fitted:
    """What fitting made of a layer: its integers, and its bias [N] where it has one now."""

    weights: IntegerWeights
    bias: Array | None


def find_layer(node: ir.Node, kind: LayerKind) -> Layer | str:
    """The layer that a node of this kind is, or why it can't be one.

    Raises `XbarcError` where its weights are empty, or have too few axes.
    """
    product = find_product(node, kind.sides, kind.least_rank)
    if isinstance(product, str):
        return product
    moving = product.input
    if moving.dtype is not None and moving.dtype not in FLOATS:
        return f"its input is {moving.dtype.name.lower()}, not real"
    if reason := kind.refusal(product):
        return reason
    codes, source = _incoming_codes(moving)
    to_code = codes is None
    if codes is not None and codes.zero_point and not kind.takes_zero_point:
        codes, source, to_code = None, moving, True
    grid = grid_of(moving)
    if grid is not None and (codes is None or grid.bits < codes.bits):
        codes = InputScale(grid.scale, grid.bits, grid.signed)
        source, to_code = unquantised(moving, grid), True
    bias = _bias(product, kind)
    return bias if isinstance(bias, str) else Layer(kind, product, source, bias, codes, to_code)


def _bias(product: Product, kind: LayerKind) -> Array | str | None:
    """The bias [N], or why it can't be one number a column."""
    given = None if kind.bias is None else input_at(product.node, kind.bias)
    if given is None:
        return None
    if weight_side(given) is None:
        return "its bias changes at run time"
    columns = kind.matrix_shape(product)[1]
    if not is_bias(given, columns):
        return "its bias isn't one number a column"
    bias = static_array(given).reshape(-1) * kind.factors(product)[1]
    return np.broadcast_to(bias, columns).astype(np.float32)


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
    if not factor > 0:
        return None, value
    # A custom operator's result has no type that ONNX knows, but its zero point has the same one.
    dtype = np.dtype(quantized.dtype.numpy()) if quantized.dtype is not None else zero.dtype
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None, value
    bits, signed = 8 * dtype.itemsize, dtype.kind == "i"
    return InputScale(factor, bits, signed, int(zero.reshape(()))), quantized


def integer_weights(layer: Layer, target: Target) -> IntegerWeights:
    """The weight matrix [K, N] in integers.

    A model's own integers stay as they are, their zero points taken out, with as many bits as they
    then need; others are quantised to the bits that the target has for this layer. Raises
    `XbarcError` where a weight isn't finite.
    """
    own = own_integers(layer)
    if own is not None:
        return own
    bits = target.for_layer(layer.name).weights.bits
    kind, product = layer.kind, layer.product
    q, scale = quantize_weights(kind.as_matrix(product, static_array(product.weights)), bits)
    return IntegerWeights(q, scale * kind.factors(product)[0], bits)


def own_integers(layer: Layer) -> IntegerWeights | None:
    """The model's own integers as the weight matrix; None where they must be quantised anew."""
    kind, product = layer.kind, layer.product
    if is_static(product.weights):
        return None
    q, scale, zero = dequantize_inputs(product.weights)
    node = product.weights.producer()
    assert node is not None and node.inputs[0] is not None
    dtype = node.inputs[0].dtype
    if dtype is None or not dtype.is_integer() or dtype.bitwidth > 16:
        return None
    axis = kind.columns_axis(product)
    per_column = scale.size == 1 or quantized_axis(product.weights) % q.ndim == axis
    if block_size(product.weights) or not per_column:
        return None
    # Differences of 16-bit integers want 17 bits.
    shifted = q.astype(np.int32) - along(zero, axis, q.ndim).astype(np.int32)
    matrix = kind.as_matrix(product, shifted)
    largest = int(np.abs(matrix).max())
    bits = max(width_of(product.weights) or dtype.bitwidth, largest.bit_length() + 1)
    if bits > 16:
        return None
    own = scale.reshape(-1).astype(np.float64) * kind.factors(product)[0]
    # The groups of a matrix may share their scales.
    return IntegerWeights(
        np.ascontiguousarray(matrix, dtype=code_dtype(bits, signed=True)),
        np.tile(own, matrix.shape[1] // own.size),
        bits,
    )
