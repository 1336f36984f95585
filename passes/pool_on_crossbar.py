"""pool-on-crossbar: average pooling as a column of equal conductances a channel."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.edit import add_initializer, insert_before, stand_in
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import attribute, constant, dims, input_at, is_op, value_names
from xbarc.graph.select import select
from xbarc.pipeline import GraphPass
from xbarc.target import Target


@dataclass(frozen=True)
class PoolOnCrossbar(GraphPass):
    """Compute averages on crossbars: pooling becomes a depthwise convolution of equal weights.

        %p = GlobalAveragePool(%x)                                  # [N, 16, 5, 5]
    ->
        %p = Conv<group=16, kernel_shape=[5, 5]>(%x, %w)            # every weight 1/25

    Each channel is one column of 25 equal conductances, and depthwise columns share crossbars as
    the mapping packs them. Without it the digital unit pools.

    Taken are GlobalAveragePool, AveragePool, and ReduceMean over all spatial axes, with static
    spatial sizes. Not an AveragePool whose windows at the edge count fewer values (pads without
    `count_include_pad`, `ceil_mode`): their conductances would differ from window to window. The
    function stays the same up to rounding in float; on crossbars the mean is quantised.
    `layers` names the nodes; without it, all are taken that can be. A model of MSCCNN's pooling
    (Wen et al., IEEE TNSE 7(3), 2020).
    """

    name: ClassVar[str] = "pool-on-crossbar"
    preserves: ClassVar[bool] = True

    layers: tuple[str, ...] = ()

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises UsageError where `layers` names what can't be taken."""
        found: dict[str, tuple[ir.Node, Window]] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            window = find_window(node)
            if isinstance(window, Window):
                found[node.name or ""] = node, window
            elif window is not None:
                refused[node.name or ""] = window
        chosen = select(self.layers, found, refused)
        taken = value_names(model)
        for node, window in chosen:
            _convert(node, window, taken)
        if chosen:
            drop_unused(model)
        return bool(chosen)


@dataclass(frozen=True)
class Window:
    """What a pooling node averages: one list each, one entry a spatial axis (pads two)."""

    channels: int
    kernel: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]
    flat: bool = False
    """The spatial axes don't stand in the result."""


def find_window(node: ir.Node) -> Window | str | None:
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
    whole = Window(channels, spatial, [1] * rank, [0] * 2 * rank, [1] * rank)
    if is_op(node, "GlobalAveragePool"):
        return whole
    if is_op(node, "ReduceMean"):
        return _reduced(node, whole)
    return _pooled(node, whole)


def _reduced(node: ir.Node, whole: Window) -> Window | str:
    rank = len(whole.kernel) + 2
    axes = constant(input_at(node, 1))
    given = attribute(node, "axes", ()) if axes is None else axes.reshape(-1).tolist()
    if sorted(axis % rank for axis in given) != list(range(2, rank)):
        return "it doesn't average over exactly the spatial axes"
    flat = not attribute(node, "keepdims", 1)
    return Window(
        whole.channels, whole.kernel, whole.strides, whole.pads, whole.dilations, flat=flat
    )


def _pooled(node: ir.Node, whole: Window) -> Window | str:
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
    return Window(whole.channels, kernel, strides, pads, dilations)


def _convert(node: ir.Node, window: Window, taken: set[str]) -> None:
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
