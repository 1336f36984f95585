# ruff: noqa: E501  (a model is one line of text)
"""What a program costs: the counts of published tables, sums, and what must be zero."""

import math

import numpy as np
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
    """2-bit cells and 1-bit inputs: 4 slices, 8 cycles, 16 where the input takes two passes."""
    two = ["inputs.signed=two-pass"]
    rows = xbarc.compile(text_model(LENET), "mca128").cost()["layers"]
    assert [r["cycles"] for r in rows] == [8 * 784, 800, 8, 8, 8]
    rows = xbarc.compile(text_model(LENET), "mca128", overrides=two).cost()["layers"]
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


SUMMED = (
    "weights",
    "nonzero_weights",
    "memristors",
    "crossbars",
    "vectors",
    "activations",
    "cycles",
    "macs",
    "adc_conversions",
)


@pytest.mark.parametrize("target", ["mca64", "mca128", "mca256"])
def test_layers_sum_to_totals(target):
    report = xbarc.compile(text_model(LENET), target).cost()
    rows, totals = report["layers"], report["totals"]
    for key in SUMMED:
        assert totals[key] == sum(row[key] for row in rows)
    for name, energy in totals["energy_uj"].items():
        parts = (
            sum(sum(row["energy_pj"].values()) for row in rows)
            if name == "total"
            else sum(row["energy_pj"][name] for row in rows)
        )
        assert math.isclose(energy, parts * 1e-6)
    for table in ("area_mm2", "energy_uj"):
        parts = [value for name, value in totals[table].items() if name != "total"]
        assert math.isclose(totals[table]["total"], sum(parts))
    assert math.isclose(totals["latency_us"], sum(row["latency_ns"] for row in rows) * 1e-3)
    watt = totals["energy_uj"]["total"] * 1e-6 * totals["throughput_ips"]
    assert math.isclose(totals["power_w"], watt)


@pytest.mark.parametrize("target", ["mca64", "mca256"])
def test_utilization_is_cells_over_cells(target):
    program = xbarc.compile(text_model(LENET), target)
    cells = program.target.array.rows * program.target.array.cols
    report = program.cost()
    for row in (*report["layers"], report["totals"]):
        assert math.isclose(row["utilization"], row["memristors"] / (row["crossbars"] * cells))
        assert 0 < row["utilization"] <= 1


def test_a_full_crossbar_is_used_whole():
    text = "g (float[N,256] x) => (float[N,32] y) <float[256,32] w> { y = MatMul(x, w) }"
    program = xbarc.compile(
        text_model(text), "mca128", overrides=("weights.bits=9", "array.cell_bits=2")
    )
    report = program.cost()
    assert report["totals"]["crossbars"] == 4
    assert report["totals"]["utilization"] == 1


def test_slices_and_polarities_in_arrays_of_their_own():
    text = "g (float[N,128] x) => (float[N,128] y) <float[128,128] w> { y = MatMul(x, w) }"
    spread = ("array.slices_in=arrays", "array.polarity_in=arrays")
    together, apart = (
        xbarc.compile(text_model(text), "mca128", overrides=o).cost()["totals"]
        for o in ((), spread)
    )
    assert (together["crossbars"], apart["crossbars"]) == (8, 8)
    assert together["memristors"] == apart["memristors"] == 128 * 128 * 8
    assert together["activations"] == 8
    assert apart["activations"] == 1


def test_analog_subtraction_halves_the_conversions():
    text = "g (float[N,128] x) => (float[N,16] y) <float[128,16] w> { y = MatMul(x, w) }"
    digital, analog = (
        xbarc.compile(text_model(text), "mca128", overrides=(f"adc.subtract={s}",)).cost()
        for s in ("digital", "analog")
    )
    assert digital["totals"]["adc_conversions"] == 2 * analog["totals"]["adc_conversions"]


def test_depthwise_counts_only_its_own_weights():
    text = """g (float[N,32,8,8] x) => (float[N,32,H,W] y)
        <float[32,1,3,3] w> { y = Conv<group=32>(x, w) }"""
    (row,) = xbarc.compile(text_model(text), "mca128").cost()["layers"]
    assert row["matrix"] == [9 * 32, 32]
    assert (row["weights"], row["memristors"]) == (288, 288 * 8)
    # 14 blocks of 9 rows and 8 columns a crossbar.
    assert (row["tiles"], row["crossbars"]) == (3, 3)
    assert (row["vectors"], row["macs"]) == (36, 36 * 288)


def test_zeros_are_counted_apart():
    text = (
        "g (float[N,4] x) => (float[N,2] y) <float[4,2] w = {0,1,0,2,3,0,0,0}> { y = MatMul(x, w) }"
    )
    totals = xbarc.compile(text_model(text), "mca128").cost()["totals"]
    assert (totals["weights"], totals["nonzero_weights"]) == (8, 3)


def _leaves(document):
    for value in document.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def test_a_batch_of_one_whatever_the_batch():
    symbolic, fixed = (
        xbarc.compile(
            text_model(
                f"g (float[{n},4,6,6] x) => (float[{n},5,4,4] y) <float[5,4,3,3] w> {{ y = Conv(x, w) }}"
            ),
            "mca128",
        ).cost()["totals"]
        for n in ("N", 1)
    )
    assert symbolic == fixed


def test_counts_of_a_layer_by_hand():
    # 20 x 5 weights on 8 x 16 arrays, 4 cells a polarity: 2 weights a row; 3 row and 3 column blocks.
    model = text_model("g (float[N,20] x) => (float[N,5] y) <float[20,5] w> { y = MatMul(x, w) }")
    sizes = ["array.rows=8", "array.cols=16"]
    x = np.abs(np.random.default_rng(0).standard_normal((4, 20))).astype(np.float32)
    program = xbarc.compile(model, "mca64", overrides=sizes, calibration=x)
    (layer,) = program.cost()["layers"]
    assert layer["tiles"] == layer["crossbars"] == 9
    assert layer["memristors"] == 20 * 5 * 8
    assert layer["vectors"] == 1
    assert layer["activations"] == 9
    assert layer["cycles"] == 8
    assert layer["macs"] == 100
    assert layer["adc_conversions"] == 8 * 3 * 5 * 8
    assert layer["utilization"] == 20 * 5 * 8 / (9 * 8 * 16)


def test_signed_inputs_take_two_passes():
    model = text_model("g (float[N,20] x) => (float[N,5] y) <float[20,5] w> { y = MatMul(x, w) }")
    x = np.random.default_rng(0).standard_normal((4, 20)).astype(np.float32)
    cycles = {
        signed: xbarc.compile(
            model, "mca64", overrides=[f"inputs.signed={signed}"], calibration=x
        ).cost()["totals"]["cycles"]
        for signed in ("two-pass", "twos-complement", "asymmetric")
    }
    assert cycles == {"two-pass": 16, "twos-complement": 8, "asymmetric": 8}


def test_slices_and_polarities_in_arrays_count_whole_crossbars():
    model = text_model("g (float[N,64] x) => (float[N,8] y) <float[64,8] w> { y = MatMul(x, w) }")
    counts = {}
    for slices in ("columns", "arrays"):
        for polarity in ("columns", "arrays"):
            keys = [f"array.slices_in={slices}", f"array.polarity_in={polarity}"]
            program = xbarc.compile(model, "mca64", overrides=keys)
            counts[slices, polarity] = program.cost()["totals"]["crossbars"]
    # 64 columns hold 8 weights of 8 columns; 4 slices or 2 polarities in arrays multiply crossbars.
    assert counts == {
        ("columns", "columns"): 1,
        ("arrays", "columns"): 4,
        ("columns", "arrays"): 2,
        ("arrays", "arrays"): 8,
    }
