"""Physical arrays: with devices that are as wanted, the same bits as the exact engine."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from models import text_model
from test_whole_network import HARDWARE, MAPPINGS, inputs, model

import xbarc
from xbarc.ir.dialect import MvmOp, set_copies
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.effect import Effect
from xbarc.simulator.interpreter import Simulator

ONE_BIT = "array.cell_bits=1"
"""Conductances of 0 and of the largest: fixed point holds them as they are."""


@pytest.mark.parametrize("hardware", HARDWARE.values(), ids=HARDWARE)
@pytest.mark.parametrize("mapping", [*MAPPINGS.values(), "copies"])
def test_ideal_devices_give_the_exact_bits(mapping, hardware):
    rows = (32 if "sub-image" in mapping else 16) * (1 + ("array.polarity_in=rows" in hardware))
    keys = [f"array.rows={rows}", "array.cols=128", ONE_BIT]
    hardware = [key for key in hardware if "cell_bits" not in key]
    program = xbarc.compile(
        model(),
        "mca128",
        passes=mapping.removeprefix("copies"),
        calibration=inputs(6),
        overrides=[*keys, *hardware],
    )
    if mapping == "copies":
        replicated(program, 3)
    x = {"x": inputs(3)}
    exact, analog = Simulator(program), Simulator(program, engine=AnalogEngine())
    np.testing.assert_array_equal(analog.run(x, batch=2)["z"], exact.run(x)["z"])


def replicated(program, copies):
    """The program with that many copies of every layer's crossbars."""
    for op in program.module.walk():
        if isinstance(op, MvmOp):
            set_copies(op, copies)
    return program


@pytest.mark.parametrize("where", ["columns", "arrays"])
def test_slices_and_polarities_in_arrays_of_their_own(where):
    keys = ["array.rows=16", ONE_BIT, f"array.slices_in={where}", f"array.polarity_in={where}"]
    program = xbarc.compile(
        model(), "mca128", calibration=inputs(6), overrides=[*keys, "adc.bits=3"]
    )
    x = {"x": inputs(2)}
    exact, analog = Simulator(program), Simulator(program, engine=AnalogEngine())
    np.testing.assert_array_equal(analog.run(x)["z"], exact.run(x)["z"])


@dataclass(frozen=True)
class Scaled(Effect):
    """Every cell of replica 1 conducts `by` times as much."""

    name: ClassVar[str] = "scaled"
    by: float = 2.0

    def program(self, g, array, draw):
        return g * (self.by if array.replica == 1 else 1.0)


@dataclass(frozen=True)
class Noisy(Effect):
    """Noise in programming and in each read, and an offset of each converter."""

    name: ClassVar[str] = "noisy"

    def program(self, g, array, draw):
        return np.abs(g + draw.generator().normal(0, 0.1, g.shape) * g.max(initial=0.0))

    def read(self, g, array):
        return 0.05 * g

    def convert(self, sums, array, draw):
        return sums + draw.generator(1).normal(0, 0.5, (len(sums), 1))


def product(**options):
    """One matrix product: an input has six vectors."""
    w = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    found = text_model(
        "g (float[N,6,20] x) => (float[N,6,4] y) <float[20,4] w> { y = MatMul(x, w) }", w=w
    )
    return xbarc.compile(found, "mca128", calibration=vectors(4), bias_correction=False, **options)


def vectors(count):
    return np.random.default_rng(count).random((count, 6, 20)).astype(np.float32)


def test_vector_i_is_served_by_replica_i_mod_copies():
    program = replicated(product(overrides=["adc.mode=lossless"]), 2)
    plain = Simulator(program).run({"x": vectors(5)})["y"]
    engine = AnalogEngine((Scaled(),))
    for batch in (1, 2, 5):
        found = Simulator(program, engine=engine).run({"x": vectors(5)}, batch=batch)["y"]
        np.testing.assert_allclose(found[:, ::2], plain[:, ::2], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found[:, 1::2], 2 * plain[:, 1::2], rtol=1e-5, atol=1e-4)


def test_the_same_seed_gives_the_same_bits():
    program, engine = product(overrides=["adc.mode=full-scale"]), AnalogEngine((Noisy(),))
    x = {"x": vectors(7)}
    ways = [{}, {"batch": 1}, {"batch": 3, "threads": 4}, {"threads": 1}]
    first, *others = (Simulator(program, engine=engine, seed=3).run(x, **way)["y"] for way in ways)
    for other in others:
        np.testing.assert_array_equal(other, first)
    assert not np.array_equal(Simulator(program, engine=engine, seed=4).run(x)["y"], first)
    assert not np.array_equal(Simulator(program).run(x)["y"], first)


def test_noise_is_fresh_in_each_read_and_stays_within_what_cells_have():
    """Of equal vectors each read differs; its spread is that of the cells, row by row added up."""

    @dataclass(frozen=True)
    class Reading(Effect):
        name: ClassVar[str] = "reading"

        def read(self, g, array):
            return np.full(g.shape, 0.5)

    program = product(overrides=["adc.mode=lossless", "inputs.dac_bits=8"])
    x = np.ones((400, 6, 20), np.float32)
    found = Simulator(program, engine=AnalogEngine((Reading(),))).run({"x": x})["y"]
    plain = Simulator(program).run({"x": x})["y"]
    error = (found - plain).reshape(-1, 4)
    assert np.unique(error[:, 0]).size > 2000
    device = program.target.device
    step_us = (device.g_on_us - device.g_off_us) / 3
    (scale,) = (op.scale.value.data for op in program.module.walk() if op.name == "xbar.quantize")
    code, slices = min(255, np.rint(1 / scale)), 4.0 ** np.arange(4)
    # 20 rows driven alike, 4 slices, two polarities.
    sigma = 0.5 / step_us * code * np.sqrt(20 * 2 * (slices**2).sum())
    (name,) = (name for name in program.weights if name.endswith(".scale"))
    expected = sigma * program.weights[name] * scale
    np.testing.assert_allclose(error.std(axis=0), expected, rtol=0.08)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=0.08 * expected.max())
