"""Train the network of this example and write `digits.onnx` beside this file.

    pip install -e .[train]
    python examples/digits/train.py

A fixed seed and one thread: the same machine writes the same file each time.
"""

from collections import Counter
from pathlib import Path

import data
import numpy as np
import onnx
import torch
from torch import nn

EPOCHS = 60
BATCH = 64
OPSET = 18
LAYER_NAMES = {"Conv": "conv", "Gemm": "fc"}
"""conv1, conv2, fc1, fc2: the names that a report shows."""


def network() -> nn.Sequential:
    """(N, 1, 8, 8) -> (N, 10): two convolutions, two poolings, two fully connected layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Adam with a cosine schedule; a little noise on each image keeps it from learning by heart."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            noisy = (images[batch] + 0.05 * torch.randn_like(images[batch])).clamp(0, 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(noisy), labels[batch]).backward()
            optimizer.step()
        schedule.step()


def export(model: nn.Module, path: Path) -> None:
    """Write ONNX with a symbolic batch, without the exporter's notes on where it ran."""
    batch = torch.export.Dim("N", min=1)
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_shapes=({0: batch},),
        optimize=False,  # the optimizer folds BatchNormalization, and xbarc's pass shall have it
        dynamo=True,
    )
    assert program is not None
    proto = program.model_proto
    proto.doc_string = proto.graph.doc_string = ""
    proto.producer_version = ""
    proto.graph.name = "digits"
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.functions[:]
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        if node.op_type in LAYER_NAMES:
            seen[node.op_type] += 1
            node.name = f"{LAYER_NAMES[node.op_type]}{seen[node.op_type]}"
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def main() -> None:
    """Train, print the held-out accuracy, write the model."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_x, test_x, train_y, test_y = data.load()
    model = network()
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    model.eval()
    with torch.no_grad():
        right = model(torch.from_numpy(test_x)).argmax(1).numpy() == test_y
    path = Path(__file__).parent / "digits.onnx"
    export(model, path)
    print(f"held out: {np.mean(right):.2%} of {len(right)}; wrote {path.name}")


if __name__ == "__main__":
    main()
