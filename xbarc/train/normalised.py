"""Batch normalisation behind a layer while the float network is trained, folded into it after."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbarc.lowering.layer import Layer
from xbarc.train.graph import Graph, options_of
from xbarc.train.operators import OPERATORS

EPSILON = 1e-5
MOMENTUM = 0.1


class Normalised(nn.Module):
    """A convolution with its bias, whose results [n, N, ...] are normalised channel by channel.

        y = (conv(x, w) - mean) / sqrt(variance + epsilon) * gain + shift

    While it trains, mean and variance are those of the batch (Ioffe, Szegedy, ICML 2015).
    `measure` makes it begin as the layer that it stands for; `fold` leaves w and a bias that give
    the same. Networks come without their normalisation, which is folded before layers are mapped;
    deep ones learn faster with it.
    """

    def __init__(self, layer: Layer, bias: nn.Parameter) -> None:
        super().__init__()
        self._function = OPERATORS[layer.node.op_type]
        self._options = options_of(layer.node)
        self._bias = [bias]  # a parameter of the graph, not of this module
        self.measuring = False
        count = layer.matrix[1]
        self.gain, self.shift = nn.Parameter(torch.ones(count)), nn.Parameter(torch.zeros(count))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("variance", torch.ones(count))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The normalised results; `bias` is that of the layer as it was."""
        y: Tensor = self._function(x, weight, None, **self._options)
        if self.measuring:
            self._begin(y, bias)
        return F.batch_norm(
            y, self.mean, self.variance, self.gain, self.shift, self.training, MOMENTUM, EPSILON
        )

    def _begin(self, y: Tensor, bias: Tensor) -> None:
        variance, mean = torch.var_mean(y, [i for i in range(y.ndim) if i != 1])
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        self.gain.copy_((variance + EPSILON).sqrt())
        self.shift.copy_(mean + bias)

    @torch.no_grad()
    def fold(self, weight: nn.Parameter) -> None:
        """Multiply `weight` [N, ...], and set the bias, so that the layer alone gives the same."""
        factor = self.gain / (self.variance + EPSILON).sqrt()
        weight.mul_(factor.reshape([-1] + [1] * (weight.ndim - 1)))
        self._bias[0].copy_(self.shift - self.mean * factor)


def normalisable(layer: Layer) -> bool:
    """Whether normalisation can be folded into a layer: a Conv with weights and bias of its own."""
    node = layer.node
    if node.op_type != "Conv" or len(node.inputs) < 3:
        return False
    return all(v is not None and len(tuple(v.uses())) == 1 for v in node.inputs[1:])


def measure(graph: Graph, layers: Mapping[ir.Node, nn.Module], feeds: Mapping[str, Any]) -> None:
    """Let all layers begin as what they stand for, by the statistics of some inputs."""
    chosen = [module for module in layers.values() if isinstance(module, Normalised)]
    graph.eval()
    for module in chosen:
        module.measuring = True
    with torch.no_grad():
        graph(feeds)
    for module in chosen:
        module.measuring = False
