"""What is no network: function calls that never end or multiply, tensors that no memory holds."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from xbarc.support.errors import XbarcError

MAX_NODES = 1_000_000
"""More nodes than this, functions inlined, is a recursion bomb and no network."""

MAX_CALL_DEPTH = 100

MAX_ELEMENTS = 1 << 31
"""The largest input or weight, in elements."""


def check_calls(model: ir.Model) -> None:
    """Refuse function calls that never end, nest absurdly or multiply beyond `MAX_NODES`."""
    sizes: dict[ir.OperatorIdentifier, tuple[int, int]] = {}
    waiting = set(model.functions)
    while waiting:
        ready = [name for name in waiting if not _calls(model.functions[name]) & waiting]
        if not ready:
            culprit = min(name for _, name, _ in waiting)
            raise XbarcError(f"function {culprit!r} calls itself: ONNX has no recursion")
        for name in ready:
            sizes[name] = _expanded(model.functions[name].all_nodes(), sizes)
        waiting.difference_update(ready)
    nodes, depth = _expanded(model.graph.all_nodes(), sizes)
    if nodes > MAX_NODES or depth > MAX_CALL_DEPTH:
        raise XbarcError(
            f"the model has {nodes} nodes with its functions inlined, {depth} calls deep: "
            f"more than {MAX_NODES} nodes or {MAX_CALL_DEPTH} calls is no network"
        )


def _calls(function: ir.Function) -> set[ir.OperatorIdentifier]:
    return {node.op_identifier() for node in function.all_nodes()}


def _expanded(
    nodes: Iterator[ir.Node], sizes: Mapping[ir.OperatorIdentifier, tuple[int, int]]
) -> tuple[int, int]:
    total, depth = 0, 0
    for node in nodes:
        size, calls = sizes.get(node.op_identifier(), (1, -1))
        total, depth = total + size, max(depth, calls + 1)
    return total, depth
