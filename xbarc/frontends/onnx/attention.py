"""onnxruntime's Attention and QAttention: their projections as a product by static weights.

Both multiply the input by one matrix for queries, keys and values, then attend. The first stands on
crossbars, the second has no static side.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.dynamic import ONNXRUNTIME, dynamic_source
from xbarc.frontends.onnx.rewrite import Rewrite, parameter
from xbarc.graph.query import attribute, input_at, is_static, value_names

SHARED = ("num_heads", "unidirectional", "scale", "mask_filter_value")
"""Attributes that MultiHeadAttention has as well."""

DO_MORE = ("do_rotary", "past_present_share_buffer")


def split_attention(model: ir.Model) -> bool:
    """Rewrite what has static weights and no past; leave the rest alone.

        %y = Attention(%x, %w, %b, %mask)
    ->
        %q, %k, %v = Split(Add(MatMul(%x, %w), %b))
        %y = MultiHeadAttention(%q, %k, %v, , %mask)

    QAttention alike: its weights keep their codes, behind a DequantizeLinear.
    """
    taken = value_names(model)
    modified = False
    for node in tuple(model.graph):
        if node.domain != ONNXRUNTIME or node.op_type not in ("Attention", "QAttention"):
            continue
        rewrite = Rewrite(model.graph, node, taken)
        if _split(rewrite):
            rewrite.replace(node.outputs[0])
            modified = True
    return modified


def _split(rewrite: Rewrite) -> bool:
    node = rewrite.node
    past, mask = (8, 5) if node.op_type == "QAttention" else (4, 3)
    present = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    if present or input_at(node, past) is not None or not _takes(input_at(node, mask)):
        return False
    if any(attribute(node, name, 0) for name in DO_MORE):
        return False
    sizes, weight = _sizes(node), input_at(node, 1)
    if sizes is None or weight is None or not is_static(weight):
        return False
    operands = _operands(rewrite) if node.op_type == "QAttention" else (input_at(node, 0), weight)
    if operands is None:
        return False
    mixed = rewrite.add("MatMul", operands, "")
    bias = input_at(node, 2)
    if bias is not None:
        mixed = rewrite.add("Add", [mixed, bias], "bias")
    parts = _parts(rewrite, mixed, sizes)
    beside = None if node.op_type == "QAttention" else input_at(node, 5)
    attributes = [node.attributes[name] for name in SHARED if name in node.attributes]
    inputs = [*parts, None, input_at(node, mask), beside]
    rewrite.add("MultiHeadAttention", inputs, "attention", attributes, ONNXRUNTIME)
    return True


def _takes(mask: ir.Value | None) -> bool:
    """Whether MultiHeadAttention reads a mask alike: one number a key, or a query and key."""
    return mask is None or (mask.shape is not None and len(mask.shape) in (2, 3))


def _sizes(node: ir.Node) -> Sequence[int] | None:
    """Of queries, keys and values."""
    given = attribute(node, "qkv_hidden_sizes")
    if given:
        return tuple(given)
    weight = input_at(node, 1)
    width = None if weight is None or weight.shape is None else weight.shape[-1]
    return (width // 3,) * 3 if isinstance(width, int) and width % 3 == 0 else None


def _operands(rewrite: Rewrite) -> tuple[ir.Value, ir.Value] | None:
    """The input and the weights of a QAttention as real values; None where one's scale moves."""
    node = rewrite.node
    x, weight = input_at(node, 0), input_at(node, 1)
    scales = [parameter(input_at(node, i)) for i in (3, 4)]
    zeros = [parameter(input_at(node, i)) for i in (6, 7)]
    w_scale, w_zero = scales[1], zeros[1]
    if x is None or weight is None or w_scale is None or w_scale.dtype != np.float32:
        return None
    if w_zero is None and input_at(node, 7) is not None:
        return None
    source = dynamic_source(node, 0, 6)
    if source is not None and input_at(node, 3) is source[0].outputs[1]:
        real = source[1]
    elif scales[0] is not None and not scales[0].ndim:
        if zeros[0] is None and input_at(node, 6) is not None:
            return None
        real = rewrite.dequantize(x, scales[0], zeros[0], 0, "x")
    else:
        return None
    return real, rewrite.dequantize(weight, w_scale, w_zero, 1, "w")


def _parts(rewrite: Rewrite, mixed: ir.Value, sizes: Sequence[int]) -> list[ir.Value]:
    """Queries, keys and values of what one matrix gave."""
    axis = rewrite.initializer("axis", np.array([-1]))
    step = rewrite.initializer("step", np.array([1]))
    ends = list(accumulate(sizes))
    parts = []
    for name, start, end in zip("qkv", [0, *ends], ends, strict=False):
        bounds = [rewrite.initializer(f"{name}_{at}", np.array([at])) for at in (start, end)]
        parts.append(rewrite.add("Slice", [mixed, *bounds, axis, step], name))
    return parts
