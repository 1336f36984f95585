"""How many threads a run has, and that no result depends on it."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc.ir.dialect import MvmOp
from xbarc.simulator.exact.engine import ExactEngine
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import UsageError
from xbarc.support.threads import VARIABLE, thread_count

TEXT = """g (float[N,3,9,9] x) => (float[N,4,H,W] y)
<float[6,3,3,3] a, float[6,4,3,3] b>
{ c = Conv<pads=[1,1,1,1]>(x, a) r = Relu(c) y = ConvTranspose<strides=[2,2]>(r, b) }"""
LOSSY = ["adc.mode=full-scale", "adc.bits=6", "array.rows=16"]


@pytest.fixture(scope="module")
def program():
    return xbarc.compile(text_model(TEXT), "mca128", calibration=inputs(8), overrides=LOSSY)


def inputs(count):
    return np.random.default_rng(count).standard_normal((count, 3, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 13])
@pytest.mark.parametrize("batch", [None, 4])
def test_no_result_depends_on_threads(program, samples, batch, monkeypatch):
    # Blocks of a few vectors each, so that threads have something to mix up.
    monkeypatch.setattr("xbarc.simulator.steps.scatter.BLOCK", 1)
    x = inputs(samples)
    simulators = {threads: Simulator(program) for threads in (1, 2, 5)}
    results = {
        threads: simulator.run({"x": x}, batch=batch, threads=threads)["y"]
        for threads, simulator in simulators.items()
    }
    for threads in (2, 5):
        np.testing.assert_array_equal(results[threads], results[1])
        assert simulators[threads].statistics() == simulators[1].statistics()


@pytest.mark.parametrize("ranges", ["percentile", "least-squares"])
def test_no_calibrated_converter_depends_on_threads(ranges, monkeypatch):
    x = np.random.default_rng(0).random((32, 3, 32, 32)).astype(np.float32)
    keys = ["adc.mode=calibrated", "adc.bits=5", f"adc.ranges={ranges}"]
    found = []
    for threads in (1, 2, 32):
        monkeypatch.setenv(VARIABLE, str(threads))
        model = text_model(TEXT.replace("9,9", "32,32"))
        program = xbarc.compile(model, "mca128", calibration=x, overrides=keys)
        found.append([op.adc for op in program.module.walk() if isinstance(op, MvmOp)])
    assert found[0] == found[1] == found[2]


class Cancelling:
    """An engine whose results, added up in another order, are others; later vectors come sooner."""

    def program(self, op, arrays, target, seed):
        matrix = ExactEngine().program(op, arrays, target, seed)

        def multiply(x, out, first=0):
            time.sleep(0.02 / (1 + first))
            out[:] = np.array([1e16, 1.0, -1e16])[(first + np.arange(x.shape[1])) % 3]

        matrix.multiply, matrix.integer, matrix.per_output = multiply, False, None
        return matrix


def test_windows_that_overlap_are_added_in_order(program, monkeypatch):
    monkeypatch.setattr("xbarc.simulator.steps.scatter.BLOCK", 1)
    text = """g (float[N,1,30,30] x) => (float[N,1,H,W] y) <float[1,1,3,3] w>
    { y = ConvTranspose(x, w) }"""
    x = np.random.default_rng(0).standard_normal((1, 1, 30, 30)).astype(np.float32)
    overlapping = xbarc.compile(text_model(text), "mca128", calibration=x)
    simulator = Simulator(overlapping, engine=Cancelling())
    found = [simulator.run({"x": x}, threads=threads)["y"] for threads in (1, 5)]
    np.testing.assert_array_equal(*found)


@dataclass(frozen=True)
class Meeting:
    """An engine whose first products wait until `parties` threads have come."""

    barrier: threading.Barrier

    def program(self, op, arrays, target, seed):
        matrix = ExactEngine().program(op, arrays, target, seed)
        multiply, barrier = matrix.multiply, self.barrier

        def meet(*arguments):
            barrier.wait(30)
            multiply(*arguments)

        matrix.multiply = meet
        matrix.per_output = None
        return matrix


def test_as_many_workers_as_asked(program):
    """Each of five batches waits for the other four: fewer threads would never meet."""
    simulator = Simulator(program, engine=Meeting(threading.Barrier(5)))
    found = simulator.run({"x": inputs(10)}, batch=2, threads=5)["y"]
    np.testing.assert_array_equal(found, program.run(inputs(10))["y"])


def test_one_thread_a_core(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert thread_count() == 64
    assert thread_count(3) == 3
    monkeypatch.setenv(VARIABLE, "5")
    assert thread_count() == 5
    assert thread_count(3) == 3


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_number_that_is_none(text, monkeypatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=f"XBARC_THREADS={text}: give a whole number"):
        thread_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_the_affinity_mask_counts():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from xbarc.support.threads import thread_count\n"
        "print(thread_count())"
    )
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "1"


def test_batches_leave_no_worker_idle_and_memory_bounded(program):
    simulator = Simulator(program)
    assert simulator.default_batch(samples=500, workers=2) == 16
    assert simulator.default_batch(samples=500, workers=64) == 8
    assert simulator.default_batch(samples=3, workers=64) == 1
