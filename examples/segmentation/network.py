"""A small U-Net with squeeze-and-excitation blocks, and how it becomes ONNX."""

from collections import Counter
from pathlib import Path

import onnx
import torch
from torch import nn

WIDTHS = (16, 32, 64, 96)
"""Channels of each level, from full resolution down."""
SQUEEZE = 4
"""A squeeze-and-excitation block goes through a fourth of its channels."""
OPSET = 18
LAYER_NAMES = {"Conv": "conv", "ConvTranspose": "up"}


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that all channels' averages decide (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, channels // SQUEEZE, 1)
        self.up = nn.Conv2d(channels // SQUEEZE, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same."""
        return x * torch.sigmoid(self.up(torch.relu(self.down(self.pool(x)))))


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions and a squeeze-and-excitation block."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        SqueezeExcite(outputs),
    )


class UNet(nn.Module):
    """(N, 1, H, W) -> (N, 1, H, W), H and W multiples of 2 ** (levels - 1).

    The result is a logit: how sure it is that a pixel belongs to a cell, not to a membrane.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            block(i, o) for i, o in zip((1, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in steps)
        self.decoders = nn.ModuleList(block(2 * o, o) for _, o in steps)
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) -> (N, 1, H, W)."""
        kept = []
        for encoder in self.encoders:
            if kept:
                x = self.pool(x)
            x = encoder(x)
            kept.append(x)
        skips = kept[-2::-1]
        for up, decoder, skip in zip(self.ups, self.decoders, skips, strict=True):
            x = decoder(torch.cat((skip, up(x)), dim=1))
        return self.last(x)


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers with weights for crossbars: convolutions and transposed convolutions."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def export(model: nn.Module, path: Path, side: int) -> None:
    """Write ONNX for images of `side` x `side`, with a symbolic batch.

    Without the exporter's notes on where it ran, so that the same network gives the same file.
    """
    model.eval()
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, side, side),),
        input_names=["image"],
        output_names=["cell"],
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    proto.doc_string = proto.graph.doc_string = ""
    proto.producer_version = ""
    proto.graph.name = "unet"
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
    graph = proto.graph
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
