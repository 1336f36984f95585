"""A torch module through torch.export and TVM's Relax to a compiled program."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from tvm import IRModule
from tvm.relax.frontend.torch import from_exported_program

import xbarc

SEED = 0
EPOCHS = 12
BATCH = 64
CALIBRATION_IMAGES = 256
TARGET = "mca128"


class SqueezeExcite(nn.Module):
    """Channels scaled by what all of them show, over the whole map."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        mean = nn.functional.adaptive_avg_pool2d(x, 1)
        scale = nn.functional.relu(self.squeeze(mean))
        return x * nn.functional.hardsigmoid(self.excite(scale))


class Network(nn.Module):
    """(N, 1, 8, 8) images to (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.SiLU(),
            SqueezeExcite(16, 8),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 8, 8) to (N, 10)."""
        return self.classifier(self.features(x))


def digits() -> list[np.ndarray]:
    """Images to train and held out, (N, 1, 8, 8) from 0 to 1, and the classes of both."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    return train_test_split(images, data.target, test_size=0.3, random_state=SEED)


def train(network: Network, images: np.ndarray, classes: np.ndarray) -> None:
    """Adam on cross entropy."""
    x, y = torch.from_numpy(images), torch.from_numpy(classes).long()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    network.eval()


def to_relax(network: Network, image: torch.Tensor) -> IRModule:
    """The module of TVM, with an open batch."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(network, (image,), dynamic_shapes=({0: batch},))
    return from_exported_program(exported)


def main() -> None:
    """Train, export, import, compile, run."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    images, held_out, classes, wanted = digits()
    network = Network()
    train(network, images, classes)
    module = to_relax(network, torch.from_numpy(images[:2]))
    program = xbarc.compile(module, TARGET, calibration=images[:CALIBRATION_IMAGES])
    (logits,) = program.run(held_out).values()
    with torch.no_grad():
        real = network(torch.from_numpy(held_out)).numpy()
    covered, totals = program.report["coverage"], program.report["totals"]
    print(f"torch:  {100 * (real.argmax(1) == wanted).mean():.2f} % of {len(wanted)} digits")
    print(f"{TARGET}: {100 * (logits.argmax(1) == wanted).mean():.2f} %")
    print(
        f"{covered['crossbar_operators']} operators on {totals['crossbars']} crossbars, "
        f"{100 * covered['mac_share']:.1f} % of the multiply-accumulates"
    )


if __name__ == "__main__":
    main()
