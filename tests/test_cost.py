"""What a program costs: the counts of published tables, sums, and what must be zero."""

import json
import math

import pytest
from models import text_model

import xbarc

# One cell a polarity, G+ and G- side by side, one cycle an unsigned input: two columns a weight.
DIFFERENTIAL = ("array.cell_bits=7", "array.encoding=differential", "inputs.dac_bits=8")
# One column a weight, as the window mappings count.
OFFSET = ("array.cell_bits=8", "array.encoding=offset", "inputs.dac_bits=8")

LENET = """g (float[N,1,32,32] x) => (float[N,10] y)
<float[6,1,5,5] w1, float[6] b1, float[16,6,5,5] w2, float[16] b2, float[120,400] w3, float[120] b3,
 float[84,120] w4, float[84] b4, float[10,84] w5, float[10] b5> {
  c1 = Conv(x, w1, b1) r1 = Relu(c1) p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
  c2 = Conv(p1, w2, b2) r2 = Relu(c2) p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
  f = Flatten(p2)
  g1 = Gemm<transB=1>(f, w3, b3) r3 = Relu(g1)
  g2 = Gemm<transB=1>(r3, w4, b4) r4 = Relu(g2)
  y = Gemm<transB=1>(r4, w5, b5)
}"""


@pytest.fixture(scope="module")
def lenet():
    return xbarc.compile(text_model(LENET), "mca128", overrides=DIFFERENTIAL)


def test_lenet_counts(lenet):
    """MSCCNN's LeNet-5: biases stay digital and are not counted."""
    totals = lenet.cost()["totals"]
    assert totals["weights"] == 61470
    assert totals["memristors"] == 122940
    assert totals["crossbars"] == 14


def test_lenet_layers(lenet):
    rows = lenet.cost()["layers"]
    counts = [(r["op"], r["matrix"], r["weights"], r["crossbars"], r["vectors"]) for r in rows]
    assert counts == [
        ("Conv", [25, 6], 150, 1, 28 * 28),
        ("Conv", [150, 16], 2400, 2, 10 * 10),
        ("Gemm", [400, 120], 48000, 4 * 2, 1),
        ("Gemm", [120, 84], 10080, 2, 1),
        ("Gemm", [84, 10], 840, 1, 1),
    ]
    # The first input is signed and takes two passes; what follows a ReLU takes one.
    assert [r["cycles"] for r in rows] == [2 * 784, 100, 1, 1, 1]
    assert [r["macs"] for r in rows] == [150 * 784, 2400 * 100, 48000, 10080, 840]
    assert [r["activations"] for r in rows] == [784, 200, 8, 2, 1]
    # Every column of every tile, both polarities, once a cycle.
    assert [r["adc_conversions"] for r in rows] == [
        2 * 784 * 6 * 2,
        100 * 2 * 16 * 2,
        4 * 120 * 2,
        84 * 2,
        10 * 2,
    ]


def test_slices_and_cycles_multiply():
    """2-bit cells and 1-bit inputs: 4 slices, 8 cycles, 16 where the input is signed."""
    rows = xbarc.compile(text_model(LENET), "mca128").cost()["layers"]
    assert [r["memristors"] for r in rows] == [2 * 4 * r["weights"] for r in rows]
    assert [r["cycles"] for r in rows] == [16 * 784, 800, 8, 8, 8]
    # A weight takes 8 columns, so a crossbar holds 16 columns of weights.
    assert [r["crossbars"] for r in rows] == [1, 2, 4 * 8, 6, 1]


RESNET18 = [  # VW-SDK's table: map, kernel, input channels, output channels
    (112, 7, 3, 64),
    (56, 3, 64, 64),
    (28, 3, 128, 128),
    (14, 3, 256, 256),
    (7, 3, 512, 512),
]
VGG13 = [
    (224, 3, 3, 64),
    (224, 3, 64, 64),
    (112, 3, 64, 128),
    (112, 3, 128, 128),
    (56, 3, 128, 256),
    (56, 3, 256, 256),
    (28, 3, 256, 512),
    (28, 3, 512, 512),
    (14, 3, 512, 512),
    (14, 3, 512, 512),
]


def im2col_cycles(layers, side):
    overrides = (*OFFSET, f"array.rows={side}", f"array.cols={side}")
    counts = []
    for size, k, ci, co in layers:
        model = text_model(
            f"g (float[1,{ci},{size},{size}] x) => (float[1,{co},H,W] y) "
            f"<float[{co},{ci},{k},{k}] w> {{ y = Conv(x, w) }}"
        )
        report = xbarc.compile(model, "mca128", overrides=overrides).cost()
        counts.append(report["layers"][0]["activations"])
        assert report["totals"]["activations"] == counts[-1]
    return counts


@pytest.mark.parametrize(("side", "total"), [(512, 20041), (256, 25560), (128, 51920)])
def test_resnet18_im2col_cycles(side, total):
    assert sum(im2col_cycles(RESNET18, side)) == total


def test_resnet18_im2col_cycles_layer_by_layer():
    assert im2col_cycles(RESNET18, 512)[:4] == [11236, 5832, 2028, 720]


def test_vgg13_im2col_cycles():
    counts = im2col_cycles(VGG13, 512)
    assert counts[:6] == [49284, 98568, 24200, 36300, 8748, 14580]
    assert sum(counts) == 243736
