"""What learns, and by which optimiser."""

import torch
from torch import nn

from xbarc.train.network import Network
from xbarc.train.settings import Settings


def parameters_of(network: Network) -> dict[str, nn.Parameter]:
    """Weights and biases by initialiser, learned ranges, and what normalises."""
    ranges = {f"range of {name}": q.factor for name, q in network.quantisers.items() if q.learned}
    norms = {
        f"{what} of {name}": parameter
        for name, norm in network.norms.items()
        for what, parameter in norm.named_parameters()
    }
    return {**network.weights, **ranges, **norms}


def optimiser_of(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """Weights decay, ranges and biases don't."""
    named, rate = parameters_of(network), settings.start_rate
    decaying = {layer.weight_name for layer in network.layers.values()}
    groups = [
        {"params": [p for n, p in named.items() if n in decaying], "weight_decay": settings.decay},
        {"params": [p for n, p in named.items() if n not in decaying], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimiser == "adam":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
