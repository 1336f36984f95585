"""Prune the trained U-Net: half of each layer's weights go; `build/segmentation/pruned.onnx`.

    XBARC_DATA=... python examples/segmentation/prune.py

The smallest weights of every layer by magnitude become zero, and stay zero while the others are
trained on for a while.
"""

import time
from collections.abc import Sequence

import data
import torch
from network import UNet, export, layers
from torch import nn
from train import BATCH, BUILD, CROP, SEED, fit, start

SHARE = 0.5
STEPS = 150
LEARNING_RATE = 2e-3

Masks = Sequence[tuple[nn.Parameter, torch.Tensor]]


def smallest(model: nn.Module, share: float) -> Masks:
    """Each layer's weights with what stays of them: 1, but 0 for the `share` that is smallest."""
    masks = []
    for layer in layers(model):
        mask = torch.ones(layer.weight.numel())
        order = layer.weight.detach().abs().flatten().argsort(stable=True)
        mask[order[: round(share * len(order))]] = 0
        masks.append((layer.weight, mask.view_as(layer.weight)))
    return masks


def hold(masks: Masks) -> None:
    """Set to zero what doesn't stay."""
    with torch.no_grad():
        for weight, mask in masks:
            weight.mul_(mask)


def prune(
    model: nn.Module, slices: data.Slices, steps: int, *, side: int = CROP, batch: int = BATCH
) -> float:
    """Prune `model` in place and train on what is left; the loss."""
    masks = smallest(model, SHARE)
    hold(masks)
    return fit(
        model,
        slices,
        steps,
        learning_rate=LEARNING_RATE,
        side=side,
        batch=batch,
        seed=SEED + 1,
        after_step=lambda: hold(masks),
    )


def main() -> None:
    """Prune what `train.py` left, write it as ONNX."""
    start()
    train, _ = data.load()
    model = UNet()
    model.load_state_dict(torch.load(BUILD / "unet.pt", weights_only=True))
    began = time.perf_counter()
    loss = prune(model, train, STEPS)
    print(f"{STEPS} steps, {time.perf_counter() - began:.0f} s, loss {loss:.3f}")
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers(model)])
    zeros = (weights == 0).sum().item()
    print(f"{zeros} of {len(weights)} weights are zero ({zeros / len(weights):.1%})")
    export(model, BUILD / "pruned.onnx", data.SIDE)
    print(f"wrote {BUILD / 'pruned.onnx'}")


if __name__ == "__main__":
    main()
