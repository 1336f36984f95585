"""A whole small network against plain numpy, to the last bit, where converters lose something."""

import numpy as np
import pytest
import reference_program
from models import text_model

import xbarc
from xbarc.simulator.interpreter import Simulator

TEXT = """net (float[N,2,9,9] x) => (float[N,5] z)
<float[6,2,3,3] w1, float[6] b1, float[6,1,3,3] w2, float[6,4,2,2] w3, float[4,4,1,1] w4,
 float[64,5] w5, int64[2] flat = {-1, 64}>
{
  c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<group=6, pads=[1,1,1,1]>(r1, w2)
  c3 = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(c2, w3)
  c4 = Conv<strides=[2,2]>(c3, w4)
  p = MaxPool<kernel_shape=[1,1]>(c4)
  f = Reshape(p, flat)
  z = MatMul(f, w5)
}"""
"""Convolution with stride, depthwise, transposed, pointwise, fully connected; signed inputs."""

MAPPINGS = {
    "im2col": "",
    "kernel-first": "kernel-first",
    "sub-image": "sub-image{patch=2 layers=c1,c2},window{layers=c4},deconv{scheme=phases}",
    "drop-zeros": "deconv{scheme=zero-insert},drop-zeros",
}

PAIRS = ["array.polarity_in=rows", "adc.subtract=analog"]

NATIVE = "inputs.signed=native"

HARDWARE = {
    "saturate": ["adc.mode=saturate", "adc.bits=4"],
    "full-scale": ["adc.mode=full-scale", "adc.bits=5"],
    "full-scale, analog": ["adc.mode=full-scale", "adc.bits=5", "adc.subtract=analog"],
    "calibrated": ["adc.mode=calibrated", "adc.bits=6", "adc.subtract=analog"],
    "offset": ["array.encoding=offset", "adc.mode=full-scale", "adc.bits=6"],
    "offset, saturate": ["array.encoding=offset", "adc.mode=saturate", "adc.bits=5"],
    "wide": ["array.cell_bits=7", "inputs.dac_bits=8", "adc.mode=calibrated", "adc.bits=9"],
    "two's complement": ["inputs.signed=twos-complement", "adc.mode=full-scale", "adc.bits=5"],
    "pairs in rows": [*PAIRS, "adc.mode=saturate", "adc.bits=4"],
    "pairs, native": [*PAIRS, NATIVE, "inputs.dac_bits=8", "adc.mode=full-scale", "adc.bits=6"],
    "pairs, ternary": [*PAIRS, NATIVE, "adc.mode=calibrated", "adc.bits=5"],
}


def model():
    """Two thirds of the weights are zero, a kernel offset and a filter altogether."""
    rng = np.random.default_rng(4)
    shapes = {
        "w1": (6, 2, 3, 3),
        "w2": (6, 1, 3, 3),
        "w3": (6, 4, 2, 2),
        "w4": (4, 4, 1, 1),
        "w5": (64, 5),
    }
    weights = {}
    for name, shape in shapes.items():
        w = rng.standard_normal(shape)
        w[rng.random(shape) < 0.6] = 0
        w[0] = 0
        if len(shape) == 4:
            w[:, :, 0, 0] *= shape[2] == 1
        weights[name] = w.astype(np.float32)
    found = text_model(TEXT, b1=rng.standard_normal(6).astype(np.float32), **weights)
    for node in found.graph.node:
        node.name = node.output[0]
    return found


def inputs(count):
    return np.random.default_rng(count).standard_normal((count, 2, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("codes", ["asymmetric", "two-pass"])
@pytest.mark.parametrize("hardware", HARDWARE.values(), ids=HARDWARE)
@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_every_bit_of_a_network(mapping, hardware, codes):
    hardware = [f"inputs.signed={codes}", *hardware]
    # Small arrays, so that matrices are cut; a sub-image's window has to fit.
    rows = (32 if "sub-image" in mapping else 16) * (1 + ("array.polarity_in=rows" in hardware))
    sizes = [f"array.rows={rows}", "array.cols=64"]
    program = xbarc.compile(
        model(), "mca128", passes=mapping, calibration=inputs(6), overrides=[*sizes, *hardware]
    )
    x, counts = inputs(3), {}
    expected = reference_program.run(program, {"x": x}, counts)
    simulator = Simulator(program)
    found = simulator.run({"x": x}, batch=2)
    np.testing.assert_array_equal(found["z"], expected["z"])
    assert np.unique(found["z"]).size > 3
    rows = {row["name"]: row for row in program.report["layers"]}
    if not any("signed" in key for key in hardware[1:]):
        kinds = [row["input_codes"] for row in rows.values()]
        assert kinds == [codes, "unsigned", codes, codes, codes]
    # With offset encoding the simulator works out whole patches, also what hangs over the edge.
    whole_patches = "sub-image" in mapping and "array.encoding=offset" in hardware
    for name, statistics in simulator.statistics().items():
        # What is converted is what the report charges: no gated line, no output beyond the edge.
        if not whole_patches:
            assert statistics.conversions == len(x) * rows[name]["adc_conversions"]
        if "sub-image" not in mapping:
            saturated = round(statistics.saturated * statistics.conversions)
            assert counts[name] == {"conversions": statistics.conversions, "saturated": saturated}
