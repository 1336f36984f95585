"""Noise that is fresh in each read: equal in distribution to a draw a cell, read and conversion."""

import itertools

import numpy as np
import pytest
import reference_array
from scipy import stats
from test_devices import compiled
from test_whole_network import HARDWARE, MAPPINGS, PAIRS
from xdsl.dialects.builtin import DenseArrayBase, f64

from xbarc.ir.dialect import MvmOp
from xbarc.simulator.analog import tile as analog_tile
from xbarc.simulator.noise import engine_for

READS = 600
"""Of one and the same vector."""

SIGMAS = 5.5
"""A statistic is beyond it by chance once in 26 million times; about 2000 are looked at."""

NOISE = "ratio,programming{sigma=0.1},read{sigma=0.1},adc{noise=0.3}"

WIDER = {
    **HARDWARE,
    "lossless": ["adc.mode=lossless"],
    "lossless, offset": ["adc.mode=lossless", "array.encoding=offset"],
    "lossless, analog": ["adc.mode=lossless", "adc.subtract=analog", "inputs.dac_bits=2"],
    "lossless, two's complement": ["adc.mode=lossless", "inputs.signed=twos-complement"],
    "lossless, 8 bits a read": ["adc.mode=lossless", "inputs.dac_bits=8"],
    "2 bits a read": ["inputs.dac_bits=2", "adc.mode=full-scale", "adc.bits=6"],
}


@pytest.mark.parametrize(
    ("hardware", "mapping"),
    [
        *zip(WIDER, itertools.cycle(MAPPINGS), strict=False),
        ("offset", "im2col"),
        ("full-scale", "kernel-first"),
        ("saturate", "sub-image"),
    ],
)
@pytest.mark.parametrize("where", ["columns", "arrays"])
def test_noise_is_that_of_a_draw_a_cell_and_read(hardware, mapping, where):
    program = compiled(mapping, WIDER[hardware], where)
    engine, rng = engine_for(program, NOISE), np.random.default_rng(7)
    seen = 0
    for op in (op for op in program.module.walk() if isinstance(op, MvmOp)):
        stream = reference_array.stream_of(op)
        codes = rng.integers(*stream.range, size=op.matrix[0])
        x = np.repeat(codes[:, None], READS, axis=1).astype(stream.dtype)
        matrix = engine.program(op, program.weights, program.target, 5)
        found = np.empty((op.matrix[1], READS), np.int64 if matrix.integer else np.float64)
        matrix.multiply(x, found)
        given = stream.vectors(x.T.astype(np.int64))
        expected = reference_array.mvm(engine, 5, rng)(op, given, program, {}).values.T
        seen += alike(found.astype(np.float64), expected.astype(np.float64))
    assert seen > 20


def alike(found, expected):
    """Both [N, reads] have the same columns, and the same differences of columns; how many vary."""
    varies = 0
    pairs = [(found, expected), (np.diff(found, axis=0), np.diff(expected, axis=0))]
    for mine, theirs in pairs:
        for a, b in zip(mine, theirs, strict=True):
            if not b.std():
                np.testing.assert_allclose(a, b, rtol=1e-9)
                continue
            varies += 1
            error = np.hypot(a.std(), b.std()) / np.sqrt(READS)
            assert abs(a.mean() - b.mean()) < SIGMAS * error
            # The variance of a sample's variance, whatever the distribution.
            spread = [np.sqrt(((v - v.mean()) ** 4).mean() - v.var() ** 2) for v in (a, b)]
            assert abs(a.var() - b.var()) < SIGMAS * np.hypot(*spread) / np.sqrt(READS)
            assert stats.ks_2samp(a, b).pvalue > 1e-8
    return varies


@pytest.mark.parametrize("keys", [[], ["adc.subtract=analog"], ["array.encoding=offset"], PAIRS])
@pytest.mark.parametrize(
    ("dac_bits", "signed"),
    [(1, "two-pass"), (2, "two-pass"), (4, "two-pass"), (1, "twos-complement")],
)
def test_tables_and_products_give_the_same_bits(keys, dac_bits, signed, monkeypatch):
    if "adc.subtract=analog" not in keys:
        keys = [*keys, "array.polarity_in=arrays"]
    hardware = [*keys, f"inputs.dac_bits={dac_bits}", f"inputs.signed={signed}"]
    program = compiled("im2col", [*hardware, "adc.mode=calibrated", "adc.bits=6"])
    for op in (op for op in program.module.walk() if isinstance(op, MvmOp)):
        # Even a line without current is below the range: lines that fill up a block mustn't count.
        op.properties["adc"] = DenseArrayBase.from_list(f64, [0.5, 20.0])
    noise = (
        "ratio,programming{sigma=0.1},read{sigma=0.05},adc{noise=0.2 offset=0.5 gain=0.02 inl=0.4}"
    )
    made = {}
    for bits in (4, 0):
        monkeypatch.setattr(analog_tile, "TABLE_DAC_BITS", bits)
        engine = engine_for(program, noise)
        made[bits] = [
            (op, engine.program(op, program.weights, program.target, 3))
            for op in program.module.walk()
            if isinstance(op, MvmOp)
        ]
        tabled = [a.by_table for _, m in made[bits] for t in m.replicas[0] for a in t.arrays]
        assert any(tabled) == (bits == 4)
    for (op, by_table), (_, by_product) in zip(made[4], made[0], strict=True):
        stream = reference_array.stream_of(op)
        x = np.random.default_rng(1).integers(*stream.range, size=(op.matrix[0], 70))
        results = [np.empty((op.matrix[1], 70)) for _ in range(2)]
        for matrix, out in zip((by_table, by_product), results, strict=True):
            matrix.multiply(x.astype(stream.dtype), out, first=(1 << 33) + 5)
        np.testing.assert_array_equal(*results)
        assert by_table.conversions == by_product.conversions
        assert np.unique(results[0]).size > 5
