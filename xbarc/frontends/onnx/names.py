"""Names of nodes: unique, the model's own, or those that a network's author knows.

Exporters number what has no name (`Conv_12`, torch's `node_Conv_307`, or nothing at all), and such
a number changes with the exporter. The author knows the module: its weights are called after it,
and torch's exporter notes it beside the node.
"""

import ast
import re
from collections import Counter

import onnx_ir as ir

from xbarc.graph.query import is_op, is_static, unique_name
from xbarc.graph.weights import weight_side

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

TAIL = r"(_transposed|_Transposed|_quantized|_codes|:\d+)*"
"""What tools put behind a weight's name that they have changed."""

WEIGHT = re.compile(r"(?P<layer>.+)[./](weight|kernel|\w+wise_kernel|W|w)" + TAIL)
"""A weight's name: that of its layer, and what it is there."""

PROJECTION = re.compile(r"(?P<layer>.+)_weight" + TAIL)
"""The same where a module has several (`self_attn.in_proj_weight`), or names have no dots."""

SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of torch's exporter: the modules around a node, from outside in, and the operation."""


def name_nodes(model: ir.Model) -> None:
    """A unique name for every node.

    The model's own, where it has one that isn't a number. Else a layer's is that of its weights
    without the last part (`res1.0.conv1.weight` -> `res1.0.conv1`), or of the module that torch
    notes; any other node's is its operator's.
    """
    nodes = list(model.graph.all_nodes())
    counts = Counter(node.name for node in nodes if node.name)
    taken = set(counts)
    last: dict[str, int] = {}
    kept: set[str] = set()
    for node in nodes:
        known = _known_name(node) if is_op(node, *LAYERS) and _is_number(node) else None
        if known is not None:
            node.name = unique_name(known, taken, last)
            kept.add(node.name)
            continue
        if node.name and node.name not in kept:
            kept.add(node.name)
            continue
        node.name = unique_name(node.name or node.op_type, taken, last)


def _is_number(node: ir.Node) -> bool:
    """Whether the name says nothing but which operator it is, and a count."""
    number = rf"\d*|node_.*|{node.op_type}(_?\d+)?(_quant)?"
    return bool(re.fullmatch(number, node.name or ""))


def _known_name(node: ir.Node) -> str | None:
    """What the author calls the layer; None where nothing tells."""
    for value in node.inputs[:2]:
        static = weight_side(value)
        if static is None:
            continue
        if not is_static(static):
            source = static.producer()
            static = None if source is None else source.inputs[0]
        name = "" if static is None else str(static.name)
        found = WEIGHT.fullmatch(name) or PROJECTION.fullmatch(name)
        if found:
            return found["layer"]
        return _module(node)
    return None


def _module(node: ir.Node) -> str | None:
    """The innermost module that torch's exporter notes."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, ""))
    except (SyntaxError, ValueError):
        return None
    if not isinstance(scopes, list) or len(scopes) < 2:
        return None
    module = scopes[-2]
    return module if isinstance(module, str) and module else None
