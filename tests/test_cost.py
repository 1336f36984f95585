"""Counts against published ones, and what must hold of any figures."""

import math

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc.cost.events import LayerEvents, count_events
from xbarc.cost.model import area_mm2, energy_pj, totals
from xbarc.target import load_target

LENET = """
lenet (float[N,1,32,32] x) => (float[N,10] y)
<float[6,1,5,5] w1, float[16,6,5,5] w2, float[400,120] f1, float[120,84] f2, float[84,10] f3> {
    c1 = Conv(x, w1)
    p1 = AveragePool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (c1)
    c2 = Conv(p1, w2)
    p2 = AveragePool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (c2)
    flat = Flatten(p2)
    d1 = MatMul(flat, f1)
    d2 = MatMul(d1, f2)
    y = MatMul(d2, f3)
}
"""

ONE_CELL_A_POLARITY = ["array.cell_bits=7", "inputs.dac_bits=8"]
ONE_COLUMN_A_WEIGHT = ["array.encoding=offset", "array.cell_bits=8", "inputs.dac_bits=8"]

# VW-SDK's tables: (input side, kernel, Ci, Co); convolutions without padding. The table of ResNet-18
# has one line a shape, that of VGG-13 one a layer.
RESNET18 = [
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


def test_lenet_takes_the_published_weights_memristors_and_crossbars():
    program = xbarc.compile(text_model(LENET), "mca128", overrides=ONE_CELL_A_POLARITY)
    found = program.cost()["totals"]
    assert (found["weights"], found["memristors"], found["crossbars"]) == (61470, 122940, 14)


def im2col_cycles(side, kernel, inputs, outputs, array):
    """Activations of one layer, counted from its mapped IR."""
    model = text_model(
        f"g (float[1,{inputs},{side},{side}] x) => (float[1,{outputs},H,W] y) "
        f"<float[{outputs},{inputs},{kernel},{kernel}] w> {{ y = Conv(x, w) }}"
    )
    sizes = [f"array.rows={array}", f"array.cols={array}"]
    program = xbarc.compile(model, "mca128", overrides=[*ONE_COLUMN_A_WEIGHT, *sizes])
    (layer,) = program.cost()["layers"]
    return layer["activations"]


@pytest.mark.parametrize(
    ("side", "kernel", "inputs", "outputs", "published"),
    [
        (112, 7, 3, 64, 11236),
        (56, 3, 64, 64, 5832),
        (28, 3, 128, 128, 2028),
        (14, 3, 256, 256, 720),
        (224, 3, 3, 64, 49284),
        (112, 3, 64, 128, 24200),
        (112, 3, 128, 128, 36300),
        (56, 3, 128, 256, 8748),
        (56, 3, 256, 256, 14580),
    ],
)
def test_cycles_of_a_layer_on_512_are_vw_sdks(side, kernel, inputs, outputs, published):
    assert im2col_cycles(side, kernel, inputs, outputs, 512) == published


@pytest.mark.parametrize(
    ("network", "array", "published"),
    [(RESNET18, 512, 20041), (RESNET18, 256, 25560), (RESNET18, 128, 51920), (VGG13, 512, 243736)],
)
def test_totals_of_im2col_cycles_are_vw_sdks(network, array, published):
    assert sum(im2col_cycles(*layer, array) for layer in network) == published


def test_layer_sums_are_the_totals():
    program = xbarc.compile(text_model(LENET), "mca64")
    report = program.cost()
    layers, found = report["layers"], report["totals"]
    for key in ("weights", "memristors", "crossbars", "macs", "adc_conversions", "vectors"):
        assert sum(layer[key] for layer in layers) == found[key]
    for component, energy in found["energy_uj"].items():
        parts = (sum(layer["energy_pj"].get(component, 0) for layer in layers)) * 1e-6
        if component == "total":
            parts = sum(sum(layer["energy_pj"].values()) for layer in layers) * 1e-6
        assert math.isclose(energy, parts, rel_tol=1e-12)
    assert math.isclose(sum(layer["latency_ns"] for layer in layers), found["latency_us"] * 1e3)


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
        for signed in ("two-pass", "twos-complement")
    }
    assert cycles == {"two-pass": 16, "twos-complement": 8}


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


def test_depthwise_layers_are_packed_block_by_block():
    model = text_model(
        "g (float[N,32,8,8] x) => (float[N,32,8,8] y) <float[32,1,3,3] w> "
        "{ y = Conv <group = 32, pads: ints = [1, 1, 1, 1]> (x, w) }"
    )
    (layer,) = xbarc.compile(model, "mca128").cost()["layers"]
    # 14 blocks of 9 rows fit 128 rows, 16 weights fit 128 columns: 14 a crossbar.
    assert layer["crossbars"] == 3
    assert layer["weights"] == 288
    assert layer["memristors"] == 288 * 8
    assert layer["macs"] == 288 * 64


def test_nothing_costs_nothing():
    model = text_model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    report = xbarc.compile(model, "mca128").cost()
    assert report["layers"] == []
    figures = report["totals"]
    flat = [figures[k] for k in ("crossbars", "cores", "nodes", "macs", "utilization", "power_w")]
    assert not any(flat)
    assert not any(figures["area_mm2"].values())
    assert not any(figures["energy_uj"].values())


def test_more_crossbars_never_take_less_area():
    target = load_target("mca128")
    areas = [sum(area_mm2(n, target).values()) for n in range(200)]
    assert areas == sorted(areas)
    assert areas[0] == 0


def test_energy_grows_with_its_events():
    target = load_target("mca128")
    one = LayerEvents("a", "Conv", "im2col", (1, 1), 1, 1, adc_conversions=10, row_pulses=4)
    two = LayerEvents("a", "Conv", "im2col", (1, 1), 1, 1, adc_conversions=20, row_pulses=8)
    assert sum(energy_pj(two, target).values()) == 2 * sum(energy_pj(one, target).values())
    assert totals([], target)["power_w"] == 0


def test_counting_reads_the_ir_alone():
    program = xbarc.compile(text_model(LENET), "mca128")
    (again,) = {
        tuple(layer.crossbars for layer in count_events(p.module, p.weights, p.target))
        for p in (program, program)
    }
    assert sum(again) == program.cost()["totals"]["crossbars"]
