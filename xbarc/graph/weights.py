"""Static weights of a graph, as initialisers or behind a DequantizeLinear."""

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import attribute, constant, is_static
from xbarc.support.data import Array


def weight_side(value: ir.Value | None) -> ir.Value | None:
    """`value` where it is static: an initialiser, or a DequantizeLinear of initialisers."""
    if value is None or is_static(value):
        return value
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return value if all(is_static(v) for v in node.inputs if v is not None) else None


def weight_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a static value."""
    source = value
    if not is_static(value):
        node = value.producer()
        assert node is not None and node.inputs[0] is not None
        source = node.inputs[0]
    assert source.const_value is not None
    return tuple(int(s) for s in source.const_value.shape)  # type: ignore[arg-type]


def static_array(value: ir.Value) -> Array:
    """The real numbers of a static value; a DequantizeLinear is carried out."""
    array = constant(value)
    if array is not None:
        return array
    q, scale, zero = dequantize_inputs(value)
    axis = quantized_axis(value)
    if block := block_size(value):
        size = range(q.shape[axis])
        scale, zero = (
            a if a.ndim == 0 else np.repeat(a, block, axis).take(size, axis) for a in (scale, zero)
        )
        return (q.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
    return (q.astype(np.float64) - along(zero, axis, q.ndim)) * along(scale, axis, q.ndim)


def along(values: Array, axis: int, rank: int) -> Array:
    """A per-axis vector (or a scalar) shaped so that it broadcasts along `axis`."""
    if values.size == 1:
        return values.reshape(()).astype(np.float64)
    return values.astype(np.float64).reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def dequantize_inputs(value: ir.Value) -> tuple[Array, Array, Array]:
    """Integers, scale and zero point of a static DequantizeLinear."""
    node = value.producer()
    assert node is not None
    q, scale = constant(node.inputs[0]), constant(node.inputs[1])
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert q is not None and scale is not None
    return q, scale, np.zeros((), dtype=q.dtype) if zero is None else zero


def quantized_axis(value: ir.Value) -> int:
    """The axis along which a DequantizeLinear's scales differ."""
    node = value.producer()
    assert node is not None
    return attribute(node, "axis", 1)


def block_size(value: ir.Value) -> int:
    """How many weights along the axis share a scale; 0 where all do."""
    node = value.producer()
    assert node is not None
    return attribute(node, "block_size", 0)
