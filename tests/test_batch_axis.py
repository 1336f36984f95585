"""Which axis of an input is the batch: found, or given; and programs whose batch comes later."""

import re

import numpy as np
import onnx
import pytest
from models import reference, snr_db, text_model

from xbarc import compile as compile_model
from xbarc.frontends.onnx.importer import load
from xbarc.support.errors import XbarcError

STATES = """g (float[batch,80] x, float[2,batch,16] h) => (float[batch,16] y, float[2,batch,16] n)
    <float[80,16] w, float[16,16] u, int64 first = {0}>
    { a = MatMul(x, w)  p = MatMul(h, u)  n = Tanh(p)  r = Gather<axis=0>(n, first)
      s = Add(a, r)  y = Relu(s) }"""


def feeds(batch, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((batch, 80)).astype(np.float32),
        "h": rng.standard_normal((2, batch, 16)).astype(np.float32),
    }


def shapes(model):
    """As the importer has them: names of symbols, and sizes."""
    return {
        v.name: [d if isinstance(d, int) else d.value for d in v.shape.dims]
        for v in model.graph.inputs
    }


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_state_whose_batch_is_its_second_axis(batch):
    model = text_model(STATES)
    program = compile_model(model, calibration=feeds(8), overrides=["inputs.bits=12"])
    assert program.report["calibration"]["samples"] == 8
    given = {name: a / 2 for name, a in feeds(7, seed=1).items()}
    found = program.run(given, batch=batch)
    for name, expected in reference(model, given).items():
        assert found[name].shape == expected.shape
        assert snr_db(expected, found[name]) > 30


def test_generated_data_have_the_batch_where_it_is():
    program = compile_model(text_model(STATES))
    assert program.run(feeds(3))["n"].shape == (2, 3, 16)


def test_a_saved_program_knows_its_batch(tmp_path, xbarc):
    program = compile_model(text_model(STATES), calibration=feeds(8))
    program.save(tmp_path / "states.xbar")
    np.savez(tmp_path / "x.npz", **feeds(6))
    options = ["--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--limit", "4"]
    assert xbarc("run", tmp_path / "states.xbar", *options)[0] == 0
    found = np.load(tmp_path / "y.npz")
    assert found["n"].shape == (2, 4, 16)
    first = {"x": feeds(6)["x"][:4], "h": feeds(6)["h"][:, :4]}
    np.testing.assert_array_equal(found["y"], program.run(first)["y"])
    again = program.update_weights(text_model(STATES), feeds(8))
    np.testing.assert_array_equal(again.run(first)["n"], found["n"])


FOUND = {
    "named, behind a fixed axis": ("float[2,batch,8] h", {}, {"h": [2, "batch", 8]}),
    "named, behind an open axis": (
        "float[steps,batch_size,8] h",
        {"h": [5, 1, 8]},
        {"h": [5, "batch_size", 8]},
    ),
    "named in one input, first in another": (
        "float[s0,8] x, float[2,s0,8] h",
        {},
        {"x": ["s0", 8], "h": [2, "s0", 8]},
    ),
    "N, and nothing else": ("float[2,N,8] h", {}, {"h": [2, "N", 8]}),
    "N points aren't": ("float[B,N,3] x", {"x": [1, 50, 3]}, {"x": ["B", 50, 3]}),
    "a size of another input": (
        "float[batch,seq] x, float[seq,4] p",
        {"x": [1, 16]},
        {"x": ["batch", 16], "p": [16, 4]},
    ),
    "a size given by the other input": (
        "float[batch,seq] x, float[seq,4] p",
        {"p": [16, 4]},
        {"x": ["batch", 16], "p": [16, 4]},
    ),
    "a size given for the batch": (
        "float[N,3,H,W] x, float[2,N] h",
        {"x": [4, 3, 8, 6]},
        {"x": ["N", 3, 8, 6], "h": [2, "N"]},
    ),
    "two names": (
        "float[encoder_batch,8] x, float[decoder_batch,8] z",
        {},
        {"x": ["encoder_batch", 8], "z": ["decoder_batch", 8]},
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_one_symbol_means_one_thing(case):
    inputs, given, wanted = FOUND[case]
    outputs = ", ".join(f"y{i}" for i in range(inputs.count("float")))
    names = re.findall(r"\] (\w)", inputs)
    body = "  ".join(f"y{i} = Relu({name})" for i, name in enumerate(names))
    assert shapes(load(text_model(f"g ({inputs}) => ({outputs}) {{ {body} }}"), given)) == wanted


ONE = "g (float[a,b,8] x) => (y) { y = Relu(x) }"

GIVEN = {
    "an axis": ({"x": [4, 1, 8]}, {"x": 1}, [4, "b", 8]),
    "the first": ({"x": [1, 4, 8]}, {"x": 0}, ["a", 4, 8]),
    "none": ({"x": [4, 5, 8]}, {"x": None}, [4, 5, 8]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_a_batch_axis_that_is_given(case):
    sizes, axes, wanted = GIVEN[case]
    assert shapes(load(text_model(ONE), sizes, axes)) == {"x": wanted}


def test_a_batch_axis_is_that_of_all_inputs():
    model = text_model("g (float[a,b,8] x, float[b,2] z) => (y) { y = Relu(x) }")
    found = shapes(load(model, {"x": [4, 1, 8]}, {"x": 1}))
    assert found == {"x": [4, "b", 8], "z": ["b", 2]}


REFUSED = {
    "not open": ({}, {"x": 2}, "--batch-axis x=2 doesn't fit input 'x': that axis isn't open"),
    "too far": ({}, {"x": 3}, "--batch-axis x=3 doesn't fit input 'x': it has axes 0 to 2"),
    "no input": ({"x": [1, 4, 8]}, {"z": 0}, "no input 'z' to give a batch axis"),
    "none and open": ({}, {"x": None}, r"open dimensions \[a, b, 8\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_the_batch(case):
    sizes, axes, message = REFUSED[case]
    with pytest.raises(XbarcError, match=message) as caught:
        load(text_model(ONE), sizes, axes)
    assert "\n" not in str(caught.value)


HINTED = [
    "float[N,3,H,W] x",
    "float[steps,batch,8] x",
    "float[2,steps,8] x",
    "float[batch,seq] x, float[batch,seq,seq] m",
    "float[2,steps,8] x, float[3,steps] z",
]


@pytest.mark.parametrize("inputs", HINTED)
def test_hints_are_right(inputs, tmp_path, xbarc):
    """A command that follows them compiles."""
    names = re.findall(r"\] (\w)", inputs)
    outputs = ", ".join(f"y{i}" for i in range(len(names)))
    body = "  ".join(f"y{i} = Relu({name})" for i, name in enumerate(names))
    path = tmp_path / "net.onnx"
    onnx.save(text_model(f"g ({inputs}) => ({outputs}) {{ {body} }}"), path)
    compile_ = ["compile", path, "--target", "mca128", "-o", tmp_path / "net.xbar"]
    code, _, said = xbarc(*compile_)
    assert code == 1
    hints = re.findall(r"--input-shape \S+\d", said)
    assert xbarc(*compile_, *" ".join(hints).split())[0] == 0
    axes = re.findall(r"--batch-axis \S+\d", said)
    if axes:
        xbar = tmp_path / "other.xbar"
        assert xbarc(*compile_[:4], "-o", xbar, *" ".join(axes).split())[0] == 0


def test_axes_on_the_command_line(tmp_path, monkeypatch, xbarc):
    monkeypatch.chdir(tmp_path)
    onnx.save(text_model(ONE), "net.onnx")
    given = ["--input-shape", "x=4,1,8", "--batch-axis"]
    assert xbarc("compile", "net.onnx", "--target", "mca128", *given, "x=1")[0] == 0
    assert xbarc("opt", "net.onnx", "-o", "out.onnx", *given, "x=1")[0] == 0
    assert shapes(load("out.onnx")) == {"x": [4, "b", 8]}
    code, _, said = xbarc("opt", "net.onnx", "-o", "out.onnx", *given, "x")
    assert code == 2 and "--batch-axis x: written name=1, or name=none" in said
