"""Average pooling as a depthwise convolution: one column of equal weights a channel."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.query import attribute, constant, dims, input_at, is_op


@dataclass(frozen=True)
class PoolingWindow:
    """What a pooling node averages: one list each, one entry a spatial axis (pads two)."""

    channels: int
    kernel: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]
    flat: bool = False
    """The spatial axes don't stand in the result."""


def find_pooling(node: ir.Node) -> PoolingWindow | str | None:
    """How `node` pools; why it can't stand on crossbars; None where it doesn't average."""
    if not is_op(node, "GlobalAveragePool", "AveragePool", "ReduceMean"):
        return None
    source = node.inputs[0]
    shape = dims(source)
    if shape is None or not 3 <= len(shape) <= 5 or source is None:
        return "its input isn't a feature map"
    sizes = [size for size in shape[1:] if size is not None]
    if len(sizes) != len(shape) - 1:
        return "the size of its input is unknown"
    channels, spatial = sizes[0], sizes[1:]
    if source.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
        return "its input isn't real"
    rank = len(spatial)
    whole = PoolingWindow(channels, spatial, [1] * rank, [0] * 2 * rank, [1] * rank)
    if is_op(node, "GlobalAveragePool"):
        return whole
    if is_op(node, "ReduceMean"):
        return _reduced(node, whole)
    return _pooled(node, whole)


def _reduced(node: ir.Node, whole: PoolingWindow) -> PoolingWindow | str:
    rank = len(whole.kernel) + 2
    axes = constant(input_at(node, 1))
    given = attribute(node, "axes", ()) if axes is None else axes.reshape(-1).tolist()
    if sorted(axis % rank for axis in given) != list(range(2, rank)):
        return "it doesn't average over exactly the spatial axes"
    flat = not attribute(node, "keepdims", 1)
    return PoolingWindow(
        whole.channels, whole.kernel, whole.strides, whole.pads, whole.dilations, flat=flat
    )


def _pooled(node: ir.Node, whole: PoolingWindow) -> PoolingWindow | str:
    rank = len(whole.kernel)
    kernel = list(attribute(node, "kernel_shape", ()))
    strides = list(attribute(node, "strides", ())) or [1] * rank
    dilations = list(attribute(node, "dilations", ())) or [1] * rank
    pads = list(attribute(node, "pads", ())) or [0] * (2 * rank)
    auto = attribute(node, "auto_pad", "NOTSET")
    outputs = list((dims(node.outputs[0]) or ())[2:])
    covers = auto == "NOTSET" and all(
        begin == 0 and reach >= size
        for begin, reach, size in zip(pads[:rank], kernel, whole.kernel, strict=True)
    )
    single = outputs == [1] * rank and dilations == [1] * rank
    if single and covers and not attribute(node, "count_include_pad", 0):
        return whole  # one window that holds the whole map: what hangs over doesn't count
    if auto.startswith("SAME"):
        return f"its windows at the edge may count fewer values (auto_pad={auto})"
    if auto == "VALID":
        pads = [0] * (2 * rank)
    if any(pads) and not attribute(node, "count_include_pad", 0):
        return "its windows at the edge count fewer values (pads without count_include_pad)"
    if attribute(node, "ceil_mode", 0):
        sizes = zip(whole.kernel, kernel, strides, dilations, pads, pads[rank:], strict=False)
        if any((n + a + b - d * (k - 1) - 1) % s for n, k, s, d, a, b in sizes):
            return "its last windows hang over the edge (ceil_mode)"
    return PoolingWindow(whole.channels, kernel, strides, pads, dilations)


def pool_by_convolution(node: ir.Node, window: PoolingWindow, taken: set[str]) -> None:
    """Put a depthwise convolution of equal weights in the place of a pooling node.

    The convolution takes the node's name. Raises `TypeError` where it stands in no graph.
    """
    graph, source, output = node.graph, node.inputs[0], node.outputs[0]
    if not isinstance(graph, ir.Graph) or source is None or source.dtype is None:
        raise TypeError(f"{node} stands in no graph")
    dtype = source.dtype.numpy()
    share = 1 / int(np.prod(window.kernel))
    weights = np.full((window.channels, 1, *window.kernel), share, dtype)
    name = node.name or node.op_type
    value = insert_before(
        node,
        "Conv",
        [source, add_initializer(graph, f"{name}.weight", weights, taken)],
        name,
        taken,
        attributes={
            "kernel_shape": window.kernel,
            "strides": window.strides,
            "pads": window.pads,
            "dilations": window.dilations,
            "group": window.channels,
        },
        like=output,
        shape=None,
    )
    conv = value.producer()
    if window.flat and output.shape is not None:
        value.shape = ir.Shape([*output.shape.dims, *[1] * len(window.kernel)])
        value = insert_before(node, "Flatten", [value], f"{name}.flatten", taken)
    stand_in(value, output)
    graph.remove(node, safe=True)
    if conv is not None:
        conv.name = name
