"""QLinearConv and the like as Conv and MatMul between DequantizeLinear and QuantizeLinear.

The compiler then knows one quantised form. Scales and zero points stay the model's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from xbarc.graph.query import constant, input_at, is_op, unique_name, value_names
from xbarc.support.data import Array

AXIS_OPSET = 13
"""DequantizeLinear has scales per axis from this opset."""


def to_qdq(model: ir.Model) -> bool:
    """Rewrite what has constant weights, scales and zero points; leave the rest alone.

        %y = QLinearConv(%x, x_scale, x_zero, %w, w_scale, w_zero, y_scale, y_zero, %b)
    ->
        %y = QuantizeLinear(Conv(DequantizeLinear(%x, x_scale, x_zero),
                                 DequantizeLinear(%w, w_scale, w_zero),
                                 DequantizeLinear(%b, x_scale * w_scale)), y_scale, y_zero)

        %y = ConvInteger(%x, %w, x_zero, w_zero)
    ->
        %y = Cast<int32>(Conv(DequantizeLinear(%x, 1, x_zero), DequantizeLinear(%w, 1, w_zero)))

    QLinearMatMul and MatMulInteger alike. The float form rounds where the integer one doesn't: a
    quantised result may be one step off, an integer one beyond 2^24 by float32's precision.
    """
    if model.opset_imports.get("", 1) < AXIS_OPSET:
        return False
    taken = value_names(model)
    modified = False
    for node in tuple(model.graph):
        rewrite = _Rewrite(model.graph, node, taken)
        if is_op(node, "QLinearConv"):
            result = _qlinear(rewrite, "Conv", weight_axis=0)
        elif is_op(node, "QLinearMatMul"):
            result = _qlinear(rewrite, "MatMul", weight_axis=_last_axis(input_at(node, 3)))
        elif is_op(node, "ConvInteger"):
            result = _integer(rewrite, "Conv", weight_axis=0)
        elif is_op(node, "MatMulInteger"):
            result = _integer(rewrite, "MatMul", weight_axis=_last_axis(input_at(node, 1)))
        else:
            continue
        if result is None:
            continue
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], rewrite.nodes, node.outputs, [result]
        )
        modified = True
    return modified


@dataclass
class _Rewrite:
    """The nodes that take one node's place."""

    graph: ir.Graph
    node: ir.Node
    taken: set[str]
    nodes: list[ir.Node] = field(default_factory=list)

    def initializer(self, role: str, array: Array) -> ir.Value:
        value = ir.Value(
            name=unique_name(f"{self.prefix}_{role}", self.taken),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
            const_value=ir.Tensor(array),
        )
        self.graph.register_initializer(value)
        return value

    @property
    def prefix(self) -> str:
        return self.node.name or str(self.node.outputs[0].name)

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        role: str,
        attributes: Sequence[ir.Attr] = (),
    ) -> ir.Value:
        """The output of a new node; the node of role `""` keeps the old one's name."""
        name = f"{self.prefix}_{role}" if role else self.prefix
        output = ir.Value(name=unique_name(f"{name}_{op_type.lower()}_output", self.taken))
        self.nodes.append(ir.Node("", op_type, inputs, attributes, outputs=[output], name=name))
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


def _last_axis(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape) - 1


def _parameter(value: ir.Value | None) -> Array | None:
    """A constant scale or zero point, a scalar where it has one element; None where not usable."""
    array = constant(value)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iuf":
        return None
    return array.reshape(()) if array.size == 1 else array


def _qlinear(rewrite: _Rewrite, op_type: str, weight_axis: int) -> ir.Value | None:
    node = rewrite.node
    x, weight, bias = input_at(node, 0), input_at(node, 3), input_at(node, 8)
    parameters = [_parameter(input_at(node, index)) for index in (1, 2, 4, 5, 6, 7)]
    if x is None or weight is None or constant(weight) is None:
        return None
    if bias is not None and constant(bias) is None:
        return None
    x_scale, x_zero, w_scale, w_zero, y_scale, y_zero = parameters
    if x_scale is None or x_zero is None or w_scale is None or w_zero is None:
        return None
    if y_scale is None or y_zero is None or x_scale.ndim or x_zero.ndim:
        return None
    if y_scale.ndim or y_zero.ndim or not _is_float32(x_scale, w_scale, y_scale):
        return None
    inputs = [
        rewrite.dequantize(x, x_scale, x_zero, 0, "x"),
        rewrite.dequantize(weight, w_scale, w_zero, weight_axis, "w"),
    ]
    if bias is not None:
        bias_scale = np.asarray(x_scale * w_scale, np.float32)
        inputs.append(rewrite.dequantize(bias, bias_scale, None, 0, "b"))
    result = rewrite.add(op_type, inputs, "", list(node.attributes.values()))
    scale = rewrite.initializer("y_scale", y_scale)
    zero = rewrite.initializer("y_zero_point", y_zero)
    return rewrite.add("QuantizeLinear", [result, scale, zero], "quantize")


def _is_float32(*arrays: Array) -> bool:
    return all(array.dtype == np.float32 for array in arrays)


def _integer(rewrite: _Rewrite, op_type: str, weight_axis: int) -> ir.Value | None:
    node = rewrite.node
    x, weight = input_at(node, 0), input_at(node, 1)
    if x is None or weight is None or constant(weight) is None:
        return None
    zeros: list[Array | None] = []
    for index in (2, 3):
        zero = _parameter(input_at(node, index))
        if zero is None and input_at(node, index) is not None:
            return None
        zeros.append(zero)
    x_zero, w_zero = zeros
    if x_zero is not None and x_zero.ndim:
        return None
    one = np.ones((), np.float32)
    inputs = [
        rewrite.dequantize(x, one, x_zero, 0, "x"),
        rewrite.dequantize(weight, one, w_zero, weight_axis, "w"),
    ]
    result = rewrite.add(op_type, inputs, "", list(node.attributes.values()))
    to = [ir.AttrInt64("to", ir.DataType.INT32.value)]
    return rewrite.add("Cast", [result], "cast", to)
