"""Transposes of quantised weights, done on their codes: exporters write `x W` of a stored `W^T`."""

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.rewrite import Rewrite
from xbarc.graph.query import attribute, constant, input_at, is_op, value_names
from xbarc.graph.weights import block_size, quantized_axis, weight_side


def transpose_codes(model: ir.Model) -> bool:
    """Where a static DequantizeLinear is transposed, transpose what it dequantises.

    %w = Transpose(DequantizeLinear(q, scale, zero, axis = 0))
    ->
    %w = DequantizeLinear(transposed q, scale, zero, axis = 1)
    """
    taken = value_names(model)
    modified = False
    for node in tuple(model.graph):
        value = node.inputs[0] if is_op(node, "Transpose") else None
        source = None if value is None else value.producer()
        if value is None or source is None or weight_side(value) is None or block_size(value):
            continue
        codes = constant(source.inputs[0])
        if codes is None or codes.dtype.kind not in "iu":
            continue  # 4 bits, which numpy has no integers of
        order = attribute(node, "perm", range(codes.ndim - 1, -1, -1))
        rewrite = Rewrite(model.graph, node, taken)
        moved = rewrite.initializer("codes", np.transpose(codes, order), _name(source))
        inputs = [moved, *source.inputs[1:]]
        attributes = []
        scale = constant(input_at(source, 1))
        if scale is not None and scale.ndim:
            axis = tuple(order).index(quantized_axis(value) % codes.ndim)
            attributes = [ir.AttrInt64("axis", axis)]
        rewrite.add("DequantizeLinear", inputs, "", attributes, source.domain)
        rewrite.nodes[-1].metadata_props.update(source.metadata_props)
        rewrite.replace(node.outputs[0])
        modified = True
    return modified


def _name(dequantize: ir.Node) -> str:
    """Of the codes: layers are called after them."""
    codes = dequantize.inputs[0]
    return "" if codes is None or codes.name is None else codes.name
