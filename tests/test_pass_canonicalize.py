"""canonicalize: constants and known shapes folded, nothing idle left."""

import numpy as np
import onnx_ir as ir
import pytest

from xbarc.graph.query import constant
from xbarc.graph.run import random_inputs, same_function
from xbarc.passes.canonicalize import Canonicalize
from xbarc.support.errors import XbarcError

HEADER = '<ir_version: 8, opset_import: ["": 18]>'


def check(text: str, expected: list[str]) -> ir.Model:
    """Run the pass, hold the operators to `expected` and the function to what it was."""
    model = ir.from_onnx_text(HEADER + text)
    before = model.clone()
    outputs = [value.name for value in model.graph.outputs]
    assert Canonicalize().apply(model, None)
    assert [node.op_type for node in model.graph] == expected
    assert [value.name for value in model.graph.outputs] == outputs
    feeds = random_inputs(before, 3)
    assert same_function(before, model, feeds, rtol=1e-6) <= 1e-6
    assert not Canonicalize().apply(model, None), "a second run finds nothing"
    return model


def test_constants_computed_from_constants():
    model = check(
        """g (float[N,2] x) => (float[N,3] y) <float[3,2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}>
        { t = Transpose<perm=[1, 0]>(w)  h = Mul(t, t)  y = MatMul(x, h) }""",
        ["MatMul"],
    )
    (weight,) = model.graph.initializers.values()
    np.testing.assert_array_equal(constant(weight), [[1, 9, 25], [4, 16, 36]])


def test_known_part_of_an_unknown_shape():
    check(
        """g (float[N,4,2] x) => (float[N,8] y) <int64 i = {0}, int64[1] a = {0}, int64[1] m = {-1}>
        { s = Shape(x)  n = Gather(s, i)  u = Unsqueeze(n, a)  t = Concat<axis=0>(u, m)
          y = Reshape(x, t) }""",
        ["Reshape"],
    )


def test_expand_to_a_shape_that_follows_the_batch():
    model = check(
        """g (float[N,1] x) => (float[N,4] y) <int64[1] four = {4}>
        { s = Shape<end=1>(x)  t = Concat<axis=0>(s, four)  y = Expand(x, t) }""",
        ["Expand"],
    )
    (target,) = model.graph.initializers.values()
    assert constant(target).tolist() == [1, 4]


def test_two_open_dimensions_stay_computed():
    model = ir.from_onnx_text(
        HEADER + """g (float[N,M,4] x, int64[2] t) => (float[A,B] y) { y = Reshape(x, t) }"""
    )
    assert not Canonicalize().apply(model, None)
    assert [node.op_type for node in model.graph] == ["Reshape"]


def test_what_does_nothing_goes():
    check(
        """g (float[N,2] x) => (float[N,2] y)
        { a = Identity(x)  b, m = Dropout(a)  c = Relu(b)  d = Exp(x)  e = Flatten(c)
          y = Identity(e) }""",
        ["Relu"],
    )


def test_identity_from_an_input_to_an_output_stays():
    model = ir.from_onnx_text(
        HEADER + "g (float[N,2] x) => (float[N,2] y) { a = Identity(x)  y = Identity(a) }"
    )
    assert Canonicalize().apply(model, None)
    assert [node.op_type for node in model.graph] == ["Identity"]


def test_training_dropout_and_its_mask_stay():
    model = ir.from_onnx_text(
        HEADER + "g (float[N,2] x) => (float[N,2] y, bool[N,2] m) { y, m = Dropout(x) }"
    )
    assert not Canonicalize().apply(model, None)
    assert [node.op_type for node in model.graph] == ["Dropout"]


def test_dequantized_weights_keep_their_scales():
    check(
        """g (float[N,2] x) => (float[N,2] y)
        <int8[2,2] q = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}>
        { i = Identity(x)  d = DequantizeLinear(q, s, z)  y = MatMul(i, d) }""",
        ["DequantizeLinear", "MatMul"],
    )


def test_absurd_constants_are_refused():
    model = ir.from_onnx_text(
        HEADER
        + """g (float[N] x) => (float[N] y) <int64[3] s = {65536, 65536, 65536}>
        { c = ConstantOfShape(s)  m = ReduceMax<keepdims=0>(c)  y = Add(x, m) }"""
    )
    with pytest.raises(XbarcError, match=r"shape \[65536, 65536, 65536\]"):
        Canonicalize().apply(model, None)


@pytest.mark.parametrize(
    ("declared", "node", "said"),
    [
        ("int64 s = {3}", "ConstantOfShape(s)", "list of whole numbers"),
        ("float[1] s = {3.0}", "ConstantOfShape(s)", "list of whole numbers"),
        ("float[2,2] s = {1, 2, 3, 4}", "Transpose<perm = [0]>(s)", "no order of 2 axes"),
        ("int64[1] s = {3}", "ConstantOfShape<value = float[2] {1, 2}>(s)", "one number, not 2"),
    ],
)
def test_malformed_constants_are_refused(declared, node, said):
    text = f"g (float[N] x) => (float[N] y) <{declared}> {{ c = {node}  y = Add(x, c) }}"
    with pytest.raises(XbarcError, match=f"{node[:9]}.*{said}"):
        Canonicalize().apply(ir.from_onnx_text(HEADER + text), None)
