"""A mapping pass that finds no layer to map is warned of, and compiles all the same."""

import onnx
import pytest
from models import text_model

import xbarc as package

NET = """g (float[N,3,8,8] x) => (float[N,6,8,8] y) <float[8,3,3,3] v, float[6,8,1,1] w> {
  a = Conv<pads=[1,1,1,1]>(x, v) y = Conv(a, w) }"""
DENSE = "g (float[N,20] x) => (float[N,6] y) <float[20,6] w> { y = MatMul(x, w) }"


def warned(xbarc, folder, text, passes):
    """The passes that `compile` warns of."""
    model = text_model(text)
    for i, node in enumerate(model.graph.node):
        node.name = f"l{i}"
    onnx.save(model, folder / "m.onnx")
    command = ("compile", folder / "m.onnx", "--target", "mca128", "--passes", passes)
    code, _, err = xbarc(*command, "-o", folder / "m.xbar")
    assert code == 0
    lines = [line for line in err.splitlines() if "mapped nothing" in line]
    return [line.split("'")[1] for line in lines]


@pytest.mark.parametrize(
    ("text", "passes", "idle"),
    [
        (NET, "kernel-first,sub-image", ["sub-image"]),
        (NET, "im2col,sub-image,map", ["sub-image", "map"]),
        (NET, "im2col{layers=l0},kernel-first", []),
        (NET, "im2col{layers=l0},kernel-first,im2col,schedule", ["im2col"]),
        (NET, "map,place", []),
        (NET, "", []),
        (DENSE, "sub-image", ["sub-image"]),
        (DENSE, "map", []),
    ],
)
def test_a_pass_that_maps_nothing_is_named(text, passes, idle, tmp_path, xbarc):
    assert warned(xbarc, tmp_path, text, passes) == idle


def test_a_model_without_layers_is_warned_of_once(tmp_path, xbarc):
    relu = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
    assert warned(xbarc, tmp_path, relu, "sub-image") == []


def test_python_says_nothing(recwarn):
    package.compile(text_model(NET), "mca128", passes="kernel-first,sub-image")
    assert not recwarn.list
