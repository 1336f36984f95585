"""Peak memory and time of a network of ResNet-50's size with real devices.

    python benchmarks/memory.py [--batch 8] [--images 8]

ResNet-50's layers (53 convolutions and a classifier, 25.5 million weights) with random weights, on
224 x 224 images: accuracy means nothing here. Every effect but wires is on. The figure is the
largest resident set of the process that compiles and runs it.
"""

import argparse
import resource
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import xbarc

NOISE = (
    "ratio,programming{sigma=0.05},verify{tolerance=0.1 max_pulses=3},read{sigma=0.02},"
    "stuck{on=0.001 off=0.001},drift{nu_sigma=0.01 compensation=global},dac{sigma=0.05},"
    "nonlinear{k=0.05},adc{offset=0.5 gain=0.01 inl=0.5 noise=0.3}"
)
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels of a stage's inner convolutions, and its blocks (He et al., CVPR 2016)."""


class Network:
    """A graph that grows by one layer at a time."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        spread = np.sqrt(2 / np.prod(shape[1:]))
        values = (spread * self.rng.standard_normal(shape)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def convolution(self, x: str, shape: tuple[int, int, int], stride: int = 1) -> str:
        outputs, inputs, kernel = shape
        pads, w = [kernel // 2] * 4, self.weight(outputs, inputs, kernel, kernel)
        return self.add("Conv", x, w, pads=pads, strides=[stride, stride])


def resnet50() -> onnx.ModelProto:
    net = Network()
    x = net.add("Relu", net.convolution("x", (64, 3, 7), 2))
    x, channels = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for stage, (inner, blocks) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.add("Relu", net.convolution(x, (inner, channels, 1)))
            y = net.add("Relu", net.convolution(y, (inner, inner, 3), stride))
            y = net.convolution(y, (4 * inner, inner, 1))
            if not block:
                x = net.convolution(x, (4 * inner, channels, 1), stride)
            x, channels = net.add("Relu", net.add("Add", x, y)), 4 * inner
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.add("Gemm", x, net.weight(1000, 2048), transB=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes,
        "resnet50",
        [value("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [value(net.nodes[-1].output[0], TensorProto.FLOAT, ["N", 1000])],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    shape = (arguments.images, 3, 224, 224)
    images = np.random.default_rng(1).random(shape, dtype=np.float32)
    start = time.perf_counter()
    program = xbarc.compile(resnet50(), "mca128", calibration=images[:1])
    print(f"compiled in {time.perf_counter() - start:.0f} s, {peak_gb():.2f} GB")
    start = time.perf_counter()
    program.run(images, batch=arguments.batch, noise=NOISE)
    print(
        f"{len(images)} images in batches of {arguments.batch} with every effect but wires: "
        f"{time.perf_counter() - start:.0f} s, {peak_gb():.2f} GB"
    )


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
