"""G+ and G- in two adjacent rows of one column, driven with opposite signs."""

import numpy as np
import pytest
from models import text_model
from shared import SHARED, needs_shared
from test_analog import product, vectors
from test_whole_network import NATIVE, PAIRS

import xbarc
from xbarc.cost.components import neurram
from xbarc.hw.encoding import input_levels, input_slice_weights
from xbarc.hw.target import load_target
from xbarc.hw.wires import transfer
from xbarc.ir import parse_module, print_module
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.report.spice import netlist
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.arrays import tiles_of
from xbarc.simulator.devices.wire import Wire
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import effects_for, engine_for
from xbarc.support.errors import UsageError

LOSSLESS = [*PAIRS, "adc.mode=lossless", "inputs.dac_bits=8", "adc.price=as-configured"]


def test_counts_of_a_layer_by_hand():
    # 8 x 16 arrays: 4 inputs, 4 weights of 4 slices. 20 x 5 weights: 5 row, 2 column blocks.
    model = text_model("g (float[N,20] x) => (float[N,5] y) <float[20,5] w> { y = MatMul(x, w) }")
    x = np.random.default_rng(0).standard_normal((4, 20)).astype(np.float32)
    keys = ["array.rows=8", "array.cols=16", *PAIRS]
    found = {
        signed: xbarc.compile(
            model, "mca64", overrides=[*keys, f"inputs.signed={signed}"], calibration=x
        ).cost()["layers"][0]
        for signed in ("two-pass", "native")
    }
    layer = found["native"]
    assert layer["tiles"] == layer["crossbars"] == 10
    assert layer["memristors"] == 20 * 5 * 8
    assert layer["utilization"] == 20 * 5 * 8 / (10 * 8 * 16)
    assert layer["cycles"] == 8
    assert layer["adc_conversions"] == 8 * 5 * 5 * 4
    assert layer["row_pulses"] == 8 * 2 * 20 * 2
    twice = ("cycles", "adc_conversions", "row_pulses")
    assert all(found["two-pass"][name] == 2 * layer[name] for name in twice)


def test_the_cells_of_an_array():
    program = product(overrides=[*LOSSLESS, "array.cell_bits=7"])
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    (tile,) = tiles_of(op, program.weights, program.target, 0)
    (array,) = tile.arrays
    q = program.weights[array.layer].astype(int)
    np.testing.assert_array_equal(array.levels[::2], np.maximum(q, 0))
    np.testing.assert_array_equal(array.levels[1::2], np.maximum(-q, 0))
    np.testing.assert_array_equal(array.signs, [1, -1] * 20)
    np.testing.assert_array_equal(tile.rows, np.repeat(np.arange(20), 2))
    np.testing.assert_array_equal(array.word_lines, np.arange(40))


def test_wires_carry_inputs_of_both_signs():
    """What comes out is the transfer matrix times +x in G+ rows and -x in G- rows."""
    program = product(overrides=[*LOSSLESS, "array.cell_bits=7"])
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    (tile,) = tiles_of(op, program.weights, program.target, 0)
    wire = Wire(row=40.0, col=60.0, sense=100.0)
    codes = np.random.default_rng(1).integers(0, 256, (20, 9)).astype(np.uint8)
    matrix = AnalogEngine((wire,)).program(op, program.weights, program.target)
    found = np.zeros((op.matrix[1], 9))
    matrix.multiply(codes, found)
    (array,) = tile.arrays
    driven = np.repeat(codes.astype(float), 2, axis=0) * np.array([1, -1] * 20)[:, None]
    expected = transfer(array.wanted(), wire.wires) @ driven / array.cell.step_us
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    ideal = program.weights[array.layer].T.astype(int) @ codes
    assert np.abs(found - ideal).max() > 0.02 * np.abs(ideal).max()


def test_a_pair_takes_away_what_level_0_conducts():
    """The current of g_off goes in through one row and out through the other."""
    program, x = product(overrides=LOSSLESS), {"x": vectors(5)}
    plain = Simulator(program).run(x)["y"]
    found = Simulator(program, engine=engine_for(program, "ratio{g_off=20.0}")).run(x)["y"]
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-3)


def test_native_codes_in_slices_of_both_signs():
    codes = np.array([-128, -127, -5, 0, 6, 127], np.int8)
    for dac_bits, reads in ((1, 8), (3, 3), (4, 2), (8, 1)):
        levels = input_levels(codes, 8, dac_bits, True, "native")
        weights = input_slice_weights(8, dac_bits, True, "native")
        assert levels.shape == (reads, 6) and len(weights) == reads
        np.testing.assert_array_equal(weights @ levels, codes)
        assert np.abs(levels.astype(int)).max() < 1 << dac_bits
        assert (levels.astype(int) * codes.astype(int) >= 0).all()


def test_lines_of_a_netlist_say_which_cell_of_a_pair_they_drive():
    program = product(overrides=LOSSLESS)
    (layer,) = (name for name in program.weights if not name.endswith((".scale", ".bias")))
    text = netlist(program, layer, 0)
    assert "* word line 6: row 3 of the layer's matrix, G+" in text
    assert "* word line 7: row 3 of the layer's matrix, G-, driven with the opposite sign" in text
    assert "* bit line 5: column 1 of the tile, slice 1\n" in text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["array.polarity_in=rows"], r'polarity_in = "rows" needs adc.subtract = "analog"'),
        ([*PAIRS, "array.encoding=offset"], r'"rows" needs array.encoding = "differential"'),
        ([*PAIRS, "array.rows=1"], r'"rows" needs array.rows of 2 or more'),
        ([NATIVE], r'inputs.signed = "native" needs adc.subtract = "analog"'),
    ],
)
def test_what_cant_be_is_refused(keys, message):
    with pytest.raises(UsageError, match=message):
        load_target("mca128", keys)


@needs_shared
def test_resnet20_on_neurram():
    """128 inputs and 256 weights an array, each column converted once a vector."""
    model = SHARED / "models" / "resnet20_cifar10.onnx"
    totals = xbarc.compile(model, "neurram").cost()["totals"]
    # The first layer's inputs are signed: two passes convert 1024 windows x 16 filters twice.
    assert (totals["crossbars"], totals["adc_conversions"]) == (61, 495_626 - 1024 * 16)
    passes = ["inputs.signed=two-pass"]
    totals = xbarc.compile(model, "neurram", overrides=passes).cost()["totals"]
    assert totals["adc_conversions"] == 495_626


@pytest.mark.parametrize(
    ("low", "codes", "bits", "integrations", "phases"),
    [(0.0, "unsigned", 8, 15 + 15, 2), (-1.0, "native", 7, 15 + 7, 2)],
)
def test_codes_without_a_sign_have_a_bit_more_of_magnitude(low, codes, bits, integrations, phases):
    """Pulses, samples, word lines and time of 8-bit codes: all 8 bits, or 7 and the sign."""
    text = "g (float[N,128] x) => (float[N,256] y) <float[128,256] w> { y = MatMul(x, w) }"
    x = np.random.default_rng(0).uniform(low, 1, (8, 128)).astype(np.float32)
    report = xbarc.compile(text_model(text), "neurram", calibration=x).report
    (layer,) = report["layers"]
    assert layer["input_codes"] == codes
    energy, conversions = layer["energy_pj"], layer["adc_conversions"]
    assert energy["dac"] == pytest.approx(layer["row_pulses"] * bits * neurram.PULSE_PJ)
    samples = neurram.SAMPLE_PJ * bits + neurram.INTEGRATION_PJ * integrations
    assert energy["sample_hold"] == pytest.approx(conversions * samples)
    assert energy["word_line"] == pytest.approx(conversions * bits * neurram.WORD_LINE_PJ)
    # 8 steps, and 4 more for the second phase, in which 4 of the 8 are found already.
    time = neurram.INTEGRATION_NS * integrations + neurram.STEP_NS * (8 + 4 + phases)
    assert layer["crossbar_ns"] == pytest.approx(layer["cycles"] * (time + 8 * 2.0))


def test_a_stuck_cell_of_a_pair(tmp_path):
    """The G- of input 3 for the first column, stuck on: its input counts negative, fully."""
    program = product(overrides=[*LOSSLESS, "array.cell_bits=7"])
    (op,) = (op for op in program.module.walk() if isinstance(op, MvmOp))
    layer = weights_of(op).symbol
    q = program.weights[layer].astype(int)
    q[3, 0] = max(q[3, 0], 0) - 127
    faults = np.zeros((1, 1, 1, 128, 128), np.int64)
    faults[0, 0, 0, 7, 0] = 1
    np.savez(tmp_path / "faults.npz", **{layer: faults})
    effects = effects_for(program, f'stuck{{map="{tmp_path}/faults.npz"}}')
    matrix = AnalogEngine(effects).program(op, program.weights, program.target)
    codes = np.random.default_rng(1).integers(0, 256, (20, 9)).astype(np.uint8)
    found = np.zeros((op.matrix[1], 9))
    matrix.multiply(codes, found)
    np.testing.assert_allclose(found, q.T @ codes.astype(int), rtol=1e-5, atol=1)


def test_the_tile_ir_says_it():
    module = product(overrides=LOSSLESS).module
    text = print_module(module)
    assert "differential, slices in columns, polarity in rows>" in text
    assert print_module(parse_module(text)) == text
