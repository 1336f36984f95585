"""Train the U-Net of this example: `build/segmentation/unet.onnx`, and `unet.pt` for `prune.py`.

    pip install -e .[train]
    XBARC_DATA=... python examples/segmentation/train.py

A fixed seed and two threads: the same machine writes the same file each time.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import data
import numpy as np
import torch
from network import UNet, export
from torch import nn

BUILD = Path("build/segmentation")
SEED = 0
THREADS = 2
STEPS = 700
BATCH = 4
CROP = 256
LEARNING_RATE = 4e-3
SHOWN = 50
"""Steps between two lines on stderr."""


def crops(
    slices: data.Slices, side: int, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` squares of `side` pixels cut out anywhere, each flipped and turned at random.

    Images (count, 1, side, side), and 1 where they show cells, else 0.
    """
    images, cells = [], []
    for _ in range(count):
        which = rng.integers(len(slices.images))
        top, left = rng.integers([s - side + 1 for s in slices.images.shape[2:]])
        turns, flip = rng.integers([4, 2])
        step = -1 if flip else 1
        for stack, found in ((slices.images, images), (slices.cells, cells)):
            square = stack[which, :, top : top + side, left : left + side]
            found.append(np.rot90(square, turns, (1, 2))[:, :, ::step])
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(cells).astype(np.float32))


def fit(
    model: nn.Module,
    slices: data.Slices,
    steps: int,
    *,
    learning_rate: float = LEARNING_RATE,
    side: int = CROP,
    batch: int = BATCH,
    seed: int = SEED,
    after_step: Callable[[], None] = lambda: None,
) -> float:
    """Adam under one rise and fall of the learning rate; the mean loss of the last tenth."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    model.to(memory_format=torch.channels_last)
    model.train()
    losses = []
    for step in range(steps):
        images, cells = crops(slices, side, batch, rng)
        optimizer.zero_grad()
        images = images.contiguous(memory_format=torch.channels_last)
        loss = nn.functional.binary_cross_entropy_with_logits(model(images), cells)
        loss.backward()
        optimizer.step()
        schedule.step()
        after_step()
        losses.append(loss.item())
        if (step + 1) % SHOWN == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-SHOWN:]):.3f}", file=sys.stderr)
    model.to(memory_format=torch.contiguous_format)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def start() -> None:
    """What makes a run repeat."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def main() -> None:
    """Train, write the network twice: for xbarc, and for pruning."""
    start()
    train, _ = data.load()
    model = UNet()
    began = time.perf_counter()
    loss = fit(model, train, STEPS)
    print(f"{STEPS} steps, {time.perf_counter() - began:.0f} s, loss {loss:.3f}")
    BUILD.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), BUILD / "unet.pt")
    export(model, BUILD / "unet.onnx", data.SIDE)
    print(f"wrote {BUILD / 'unet.onnx'}")


if __name__ == "__main__":
    main()
