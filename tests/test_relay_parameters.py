"""Which parameters of a Relay program are inputs, and which are weights."""

import numpy as np
import onnx_ir as ir
import pytest
from relay_programs import problem_of, program, run_text

from xbarc import compile as compile_model
from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs, SideWeights

X = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)


def test_inputs_can_be_named():
    text = program("add(nn.relu(%x), %mask)", {"x": X, "mask": X})
    loaded = load(text, Inputs(names=["mask", "x"]))
    assert [v.name for v in loaded.model.graph.inputs] == ["x", "mask"]
    random = load(text, Inputs(names=["%mask"]), SideWeights(seed=0))
    assert [v.name for v in random.model.graph.inputs] == ["mask"]
    assert random.random == ("x",)
    assert "%x" in problem_of(load, text, Inputs(names=["mask"]))
    problem = problem_of(load, text, Inputs(names=["x", "mash"]))
    assert "it has no parameter 'mash'; did you mean 'mask'?" in problem


def test_inputs_on_the_command_line(tmp_path, xbarc):
    (tmp_path / "net.relay").write_text(program("add(nn.relu(%x), %mask)", {"x": X, "mask": X}))
    for names, left in (("mask", ["mask"]), ("x, mask", ["x", "mask"])):
        given = ["--random-weights", "0", "--inputs", names, "-o", tmp_path / "net.onnx"]
        assert xbarc("opt", tmp_path / "net.relay", *given)[0] == 0
        assert [v.name for v in ir.load(tmp_path / "net.onnx").graph.inputs] == left
    code, _, said = xbarc("opt", tmp_path / "net.onnx", "--inputs", "x", "-o", tmp_path / "o.onnx")
    assert code == 2 and "names of inputs are for TVM Relay, not for ONNX" in said


# --- Found by what they feed ---------------------------------------------------------------------


def inputs_of(body, **shapes):
    """The inputs of a program whose weights are random."""
    text = program(body, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    loaded = load(text, weights=SideWeights(seed=0))
    names = [v.name for v in loaded.model.graph.inputs]
    assert sorted([*names, *loaded.random]) == sorted(shapes)
    return names


NORMALISED = """
    %0 = nn.conv2d(%data, %w, padding=[1, 1], channels=4, kernel_size=[3, 3]);
    %1 = add(%var, 1e-05f); %2 = sqrt(%1); %3 = divide(1f, %2); %4 = multiply(%3, %gamma);
    %5 = expand_dims(%4, axis=1, num_newaxis=2); %6 = multiply(%0, %5);
    %7 = negative(%mean); %8 = multiply(%7, %4); %9 = add(%8, %beta);
    %10 = expand_dims(%9, axis=1, num_newaxis=2); %11 = add(%6, %10); nn.relu(%11)"""
"""A batch normalisation as TVM's SimplifyInference writes it."""

VECTORS = {"gamma": (4,), "beta": (4,), "mean": (4,), "var": (4,)}


def test_a_simplified_normalisation_has_weights():
    assert inputs_of(NORMALISED, data=(1, 3, 8, 8), w=(4, 3, 3, 3), **VECTORS) == ["data"]


def test_a_simplified_normalisation_of_the_input():
    """The input itself meets an expression of weights first."""
    body = """
        %0 = add(%var, 2e-05f); %1 = sqrt(%0); %2 = divide(1f, %1);
        %3 = expand_dims(%2, axis=1, num_newaxis=2); %4 = multiply(%data, %3);
        %5 = negative(%mean); %6 = multiply(%5, %2); %7 = add(%6, %beta);
        %8 = expand_dims(%7, axis=1, num_newaxis=2); %9 = add(%4, %8); nn.conv2d(%9, %w)"""
    vectors = dict.fromkeys(("beta", "mean", "var"), (3,))
    assert inputs_of(body, data=(1, 3, 8, 8), w=(4, 3, 3, 3), **vectors) == ["data"]


def test_random_weights_of_a_simplified_program_give_numbers():
    shapes = {"data": (1, 3, 8, 8), "w": (4, 3, 3, 3), **VECTORS}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    text = program(NORMALISED, arrays)
    built = compile_model(text, random_weights=0)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert np.isfinite(built.run(x)["output"]).all()
    assert built.report["coverage"]["mac_share"] == 1


FEEDS = {
    # a body, the shapes of its parameters -> its inputs
    "a weight that is moved": (
        "%0 = nn.dense(%x, transpose(reshape(%w, newshape=[3, 4]), axes=[1, 0])); nn.relu(%0)",
        {"x": (2, 3), "w": (12,)},
        ["x"],
    ),
    "joined weights": (
        "%0 = concatenate((%a, %b), axis=0); nn.dense(%x, %0)",
        {"a": (2, 3), "b": (2, 3), "x": (2, 3)},
        ["x"],
    ),
    "joined inputs": (
        "%0 = concatenate((%a, %b), axis=0); nn.dense(%0, %w)",
        {"a": (2, 3), "b": (2, 3), "w": (4, 3)},
        ["a", "b"],
    ),
    "a bias in front": ("add(%b, nn.dense(%x, %w))", {"b": (4,), "x": (2, 3), "w": (4, 3)}, ["x"]),
    "a residual in front": (
        "add(%r, nn.dense(%x, %w))",
        {"r": (2, 4), "x": (2, 3), "w": (4, 3)},
        ["r", "x"],
    ),
    "a mean that is taken off": (
        "nn.dense(subtract(%x, %m), %w)",
        {"x": (2, 3), "m": (3,), "w": (4, 3)},
        ["x"],
    ),
    "a sum of two inputs": (
        "nn.dense(add(%x, %y), %w)",
        {"x": (2, 3), "y": (2, 3), "w": (4, 3)},
        ["x", "y"],
    ),
    "handed out": (
        "(nn.dense(%x, %w), %anchors)",
        {"x": (2, 3), "w": (4, 3), "anchors": (6,)},
        ["x"],
    ),
    "handed out, and all there is": ("(%x, %y)", {"x": (2, 3), "y": (4,)}, ["x", "y"]),
}


@pytest.mark.parametrize("case", FEEDS)
def test_what_a_parameter_feeds_says_what_it_is(case):
    body, shapes, inputs = FEEDS[case]
    assert inputs_of(body, **shapes) == inputs


def test_a_parameter_that_nothing_reads_goes():
    text = program("nn.relu(%x)", {"gamma": X, "x": X})
    assert [v.name for v in load(text).model.graph.inputs] == ["x"]
    named = load(text, Inputs(names=["x", "gamma"]))
    assert [v.name for v in named.model.graph.inputs] == ["gamma", "x"]


def test_declarations_of_types_are_skipped():
    declared = """type List[A] {
      Cons(A, List[A]),
      Nil,
    }
    type tensor_t { tensor_nil, tensor1(Tensor[(?), float32]), }
    """
    text = program("nn.relu(%x)", {"x": X}).replace("def @main", declared + "def @main")
    (found,) = run_text(text, {"x": X})
    np.testing.assert_array_equal(found, np.maximum(X, 0))
