"""fc-to-1x1: fully connected layers as convolutions, as they are or as one 1x1 layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from xbarc.graph.attachments import feeds_of
from xbarc.graph.compress.as_convolution import convert, fitted, pool
from xbarc.graph.compress.fully_connected import (
    Chain,
    FullyConnected,
    find_chain,
    find_fully_connected,
)
from xbarc.graph.fold import drop_unused
from xbarc.graph.query import value_names
from xbarc.graph.select import select
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass


@dataclass(frozen=True)
class FcTo1x1(GraphPass):
    """Turn fully connected layers into convolutions.

    `mode=exact` keeps the function. A layer on a flattened feature map becomes a convolution whose
    kernel is the whole map. Any other layer becomes a 1x1 convolution.

        %f = Flatten(%map)                 # [N, 16, 5, 5] -> [N, 400]
        %h = Relu(Gemm(%f, %w1, %b1))      # 400 -> 120
        %y = Gemm(%h, %w2, %b2)            # 120 -> 10
    ->
        %h = Relu(Conv(%map, %w1, %b1))    # 5 x 5, 16 -> 120: [N, 120, 1, 1]
        %y = Flatten(Conv(%h, %w2, %b2))   # 1 x 1, 120 -> 10

    `mode=compact` doesn't keep the function: all layers from the feature map to the last one become
    global average pooling and one 1x1 convolution.

        %y = Flatten(Conv(GlobalAveragePool(%map), %w, %b))        # 1 x 1, 16 -> 10

    Its weights and bias are a ridge regression over the calibration data, from the mean of each
    channel to the chain's output. A model of MSCCNN's pooling (Wen et al., IEEE TNSE 7(3), 2020),
    without the paper's retraining. `pool-on-crossbar` puts the mean on crossbars too.

    A layer is a Gemm, or a MatMul with its Add, with static real weights and an input of rank 2.
    The convolution has the layer's name (in compact mode the last layer's). Outputs keep their
    names and shapes. `layers` names layers, in compact mode any one of a chain; without it the pass
    takes every layer that it can. If a chain is a single layer on a 1 x 1 feature map, it is
    converted exactly in compact mode too.
    """

    name: ClassVar[str] = "fc-to-1x1"
    preserves: ClassVar[bool] = True

    mode: Literal["exact", "compact"] = "exact"
    layers: tuple[str, ...] = ()

    @property
    def keeps_function(self) -> bool:
        """Only the exact mode does."""
        return self.mode == "exact"

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; whether any layer was converted.

        Raises:
            UsageError: `layers` names what isn't there or can't be converted.
            XbarcError: compact mode without calibration data.
        """
        found: dict[str, FullyConnected] = {}
        refused: dict[str, str] = {}
        for node in model.graph:
            layer = find_fully_connected(node)
            if isinstance(layer, FullyConnected):
                found[node.name or ""] = layer
            elif layer is not None:
                refused[node.name or ""] = layer
        if self.mode == "compact":
            modified = self._compact(model, found, refused)
        else:
            modified = False
            taken = value_names(model)
            for layer in select(self.layers, found, refused):
                convert(layer, taken)
                modified = True
        if modified:
            drop_unused(model)
        return modified

    def _compact(
        self,
        model: ir.Model,
        found: Mapping[str, FullyConnected],
        refused: dict[str, str],
    ) -> bool:
        chains: dict[str, Chain] = {}
        for name, layer in found.items():
            if name in chains:
                continue
            chain = find_chain(layer)
            if chain is None:
                refused[name] = "no feature map leads to it"
                continue
            chains.update(dict.fromkeys((la.node.name or "" for la in chain.layers), chain))
        taken = value_names(model)
        chosen = list(dict.fromkeys(select(self.layers, chains, refused)))
        for first in chosen:
            chain = find_chain(first.layers[0])  # anew: the one before it may have given it its map
            if chain is None:
                raise TypeError(f"{first.layers[0].node} lost its feature map")
            if len(chain.layers) == 1 and chain.map.size == 1:
                convert(chain.layers[0], taken)
            else:
                weights, bias = fitted(model, chain, feeds_of(model))
                pool(chain, weights, bias, taken)
        return bool(chosen)
