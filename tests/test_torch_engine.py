"""The engine on torch: the other engines' results to the bit, noise included."""

import json

import numpy as np
import pytest
import torch
from models import text_model

import xbarc
from xbarc.cli import call
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import effects_of
from xbarc.simulator.normals import normals as by_numba
from xbarc.simulator.torch.engine import TorchEngine
from xbarc.simulator.torch.normals import normals as by_torch
from xbarc.support.errors import UsageError

CNN = """g (float[N,3,6,6] x) => (float[N,5] y)
   <float[8,3,3,3] w1, float[8] b1, float[8,1,3,3] w2, float[72,5] w3> {
    c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv <group=8, strides=[2,2], pads=[1,1,1,1]> (r1, w2)
    f = Flatten(c2)
    y = MatMul(f, w3)
}"""

TARGETS = [
    [],
    ["adc.bits=5"],
    ["adc.mode=full-scale", "adc.bits=6", "adc.subtract=analog"],
    ["adc.mode=calibrated", "adc.bits=5", "array.encoding=offset"],
    ["adc.mode=lossless"],
    ["inputs.dac_bits=8", "adc.mode=full-scale", "inputs.signed=native", "adc.subtract=analog"],
    ["inputs.signed=twos-complement", "adc.bits=6", "array.slices_in=arrays"],
    ["array.polarity_in=arrays", "adc.mode=full-scale", "adc.bits=7", "adc.subtract=analog"],
]

EFFECTS = [
    "",
    "programming{sigma=0.1},read{sigma=0.05}",
    "ratio,programming{sigma=0.05},read{sigma=0.02}",
    "adc{gain=0.02 offset=0.5 inl=0.3 noise=0.3},drift{time=1000 compensation=global}",
    "nonlinear{k=0.2},read{sigma=0.05}",
    "dac{sigma=0.02},stuck{on=0.01 off=0.01}",
]


def both(overrides, noise, passes="", seed=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 3, 6, 6)).astype(np.float32)
    program = xbarc.compile(
        text_model(CNN), "mca64", calibration=x, overrides=overrides, passes=passes
    )
    effects = effects_of(program.target, noise)
    found = []
    for engine in (AnalogEngine(effects) if effects else None, TorchEngine(effects)):
        simulator = Simulator(program, engine=engine, seed=seed)
        found.append((simulator.run({"x": x})["y"], simulator.statistics()))
    return found


@pytest.mark.parametrize("overrides", TARGETS, ids=" ".join)
@pytest.mark.parametrize("noise", EFFECTS)
def test_results_are_the_same_to_the_bit(overrides, noise):
    (wanted, counted), (got, count) = both(overrides, noise)
    assert np.array_equal(wanted, got)
    assert {n: s.conversions for n, s in counted.items()} == {
        n: s.conversions for n, s in count.items()
    }
    assert {n: s.saturated for n, s in counted.items()} == {
        n: s.saturated for n, s in count.items()
    }


@pytest.mark.parametrize("passes", ["sub-image", "kernel-first", "replicate{budget=400}"])
def test_under_other_mappings(passes):
    (wanted, _), (got, _) = both(["adc.bits=5"], "programming{sigma=0.1},read{sigma=0.1}", passes)
    assert np.array_equal(wanted, got)


def test_no_result_depends_on_batch_or_threads():
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    program = xbarc.compile(text_model(CNN), "mca64", calibration=x)
    engine = TorchEngine(effects_of(program.target, "read{sigma=0.1}"))
    runs = [
        Simulator(program, engine=engine).run({"x": x}, batch=b, threads=t)["y"]
        for b, t in ((4, 1), (1, 2), (3, 2))
    ]
    assert np.array_equal(runs[0], runs[1]) and np.array_equal(runs[0], runs[2])


def test_normal_numbers_are_those_of_the_kernels():
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 1 << 32, (4, 100_000), dtype=np.uint64).astype(np.uint32)
    key = np.array([123456789, 4000000000], np.uint32)
    wanted = by_numba(counters, key)
    got = by_torch(
        [torch.from_numpy(c.astype(np.int64)) for c in counters], (123456789, 4000000000)
    )
    assert np.array_equal(wanted, got.numpy())


def test_a_device_that_is_not_there():
    program = xbarc.compile(text_model(CNN), "mca64")
    with pytest.raises(UsageError, match="torch has no device 'cudda'"):
        Simulator(program, engine=TorchEngine(device="cudda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    program = xbarc.compile(text_model(CNN), "mca64", calibration=x, overrides=["adc.bits=5"])
    effects = effects_of(program.target, "programming{sigma=0.1},read{sigma=0.05}")
    wanted = Simulator(program, engine=AnalogEngine(effects), seed=1).run({"x": x})["y"]
    got = Simulator(program, engine=TorchEngine(effects, "cuda"), seed=1).run({"x": x})["y"]
    assert np.array_equal(wanted, got)


def test_the_command_and_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    program = xbarc.compile(text_model(CNN), "mca64", calibration=x, overrides=["adc.bits=5"])
    program.save("p.xbar")
    np.savez("x.npz", x=x, y=np.arange(4))
    noise = "programming{sigma=0.1}"
    documents = []
    for more in ([], ["--engine", "torch"], ["--engine", "torch", "--torch-device", "cpu"]):
        given = ["--input", "x.npz", "--labels", "y", "--noise", noise, "--json", *more]
        for each in ([], ["--trials", "2"]):
            assert run_command("run", "p.xbar", *given, *each) == 0
            documents.append(json.loads(capsys.readouterr().out))
    for one, trials in zip(documents[2::2], documents[3::2], strict=True):
        assert one["adc"] == documents[0]["adc"] and one["accuracy"] == documents[0]["accuracy"]
        assert trials["accuracy"] == documents[1]["accuracy"]
    wanted = program.run(x, noise=noise)["y"]
    assert np.array_equal(program.run(x, noise=noise, torch_device="cpu")["y"], wanted)
    ideal = ["run", "p.xbar", "--input", "x.npz", "--ideal", "--engine", "torch", "--json"]
    assert run_command(*ideal) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "numba"], "there is torch"),
        (["--torch-device", "cpu"], "give that too"),
        (["--engine", "torch", "--torch-device", "cudda"], "no device 'cudda'"),
    ],
)
def test_options_that_do_not_fit(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.zeros((1, 3, 6, 6), np.float32)
    xbarc.compile(text_model(CNN), "mca64", calibration=x).save("p.xbar")
    np.savez("x.npz", x=x)
    assert run_command("run", "p.xbar", "--input", "x.npz", *options) == 2
    assert words in capsys.readouterr().err


def run_command(*arguments):
    """The exit status of `xbarc` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["xbarc", *arguments])
        try:
            call()
        except SystemExit as end:
            return end.code or 0
    return 0
