"""pool-on-crossbar: average pooling as a column of equal conductances a channel."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from xbarc.graph.compress.pooling import PoolingWindow, find_pooling, pool_by_convolution
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import value_names
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass


@dataclass(frozen=True)
class PoolOnCrossbar(GraphPass):
    """Compute averages on crossbars: pooling becomes a depthwise convolution of equal weights.

        %p = GlobalAveragePool(%x)                                  # [N, 16, 5, 5]
    ->
        %p = Conv<group=16, kernel_shape=[5, 5]>(%x, %w)            # every weight 1/25

    Each channel is one column of 25 equal conductances. Depthwise columns share crossbars as the
    mapping packs them. Without this pass the digital unit does the pooling.

    The pass takes GlobalAveragePool, AveragePool, and ReduceMean over all spatial axes, with static
    spatial sizes. It leaves an AveragePool whose windows at the edge count fewer values (pads
    without `count_include_pad`, `ceil_mode`), because the conductances would differ from window to
    window. The function stays the same up to rounding in float; on crossbars the mean is quantised.
    `layers` names the nodes; without it the pass takes every node that it can. A model of MSCCNN's
    pooling (Wen et al., IEEE TNSE 7(3), 2020).
    """

    name: ClassVar[str] = "pool-on-crossbar"
    preserves: ClassVar[bool] = True

    layers: tuple[str, ...] = ()

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises UsageError where `layers` names what can't be taken."""
        found: dict[str, tuple[ir.Node, PoolingWindow]] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            window = find_pooling(node)
            if isinstance(window, PoolingWindow):
                found[node.name or ""] = node, window
            elif window is not None:
                refused[node.name or ""] = window
        chosen = select(self.layers, found, refused)
        taken = value_names(model)
        for node, window in chosen:
            pool_by_convolution(node, window, taken)
        if chosen:
            drop_unused(model)
        return bool(chosen)
