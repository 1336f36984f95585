"""Which rows need which: held to setting all later input rows to noise and looking what moves."""

import numpy as np
import onnx_ir as ir
import pytest
from models import reference, text_model

from xbarc.graph.analysis.rows import row_needs

HEAD = "g (float[1,4,{h},6] x) => (float[1,{c},{o},{w}] y) "


def rows_that_move(model, count):
    """For each output row the rows of the input, counted from the first, that it depends on."""
    rng = np.random.default_rng(0)
    name = model.graph.input[0].name
    x = rng.normal(size=[d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])
    x = x.astype(np.float32)
    before = reference(model, {name: x})["y"]
    found = np.zeros(before.shape[2], int)
    for row in range(count):
        for sign in (5, -5):
            changed = x.copy()
            changed[:, :, row] += sign
            after = reference(model, {name: changed})["y"]
            found[np.any(after != before, axis=(0, 1, 3))] = row + 1
    return found


CASES = {
    "relu": ("{ y = Relu(x) }", 4, 9, 6, True),
    "max pooling": (
        "{ y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x) }", 4, 5, 3, True,
    ),
    "average pooling": ("{ y = AveragePool<kernel_shape=[2,1], strides=[2,1]>(x) }", 4, 4, 6, True),
    "convolution": (
        "<float[4,1,3,3] k> { y = Conv<group=4, dilations=[2,2], pads=[2,2,2,2]>(x, k) }",
        4, 9, 6, True,
    ),
    "automatic padding": (
        '{ y = MaxPool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(x) }', 4, 9, 6, False,
    ),
    "windows on windows": (
        "{ a = MaxPool<kernel_shape=[2,2]>(x) b = Sigmoid(a)"
        " y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(b) }",
        4, 3, 2, True,
    ),
    "channels side by side": ("{ a = Relu(x) y = Concat<axis=1>(a, x) }", 8, 9, 6, True),
    "softmax over channels": ("{ y = Softmax<axis=1>(x) }", 4, 9, 6, True),
    "softmax over rows": ("{ y = Softmax<axis=2>(x) }", 4, 9, 6, True),
    "a gate": ("{ a = GlobalAveragePool(x) b = Sigmoid(a) y = Mul(x, b) }", 4, 9, 6, True),
    "upsampling": (
        "<float[4] s = {1.0, 1.0, 2.0, 2.0}, float[0] e>"
        '{ y = Resize<mode="linear">(x, e, s) }', 4, 18, 12, False,
    ),
    "rows to columns": ("{ y = Transpose<perm=[0,1,3,2]>(x) }", 4, 6, 9, True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_needed(name):
    body, channels, rows, width, exact = CASES[name]
    model = text_model(HEAD.format(h=9, c=channels, o=rows, w=width) + body)
    (needs,) = row_needs(inferred(model))
    moved = rows_that_move(model, 9)
    assert (needs[0] >= moved).all()
    if exact:
        np.testing.assert_array_equal(needs[0], np.maximum.accumulate(moved))


def inferred(model):
    """With the shapes of values in between, as the compiler leaves them."""
    import onnx.shape_inference

    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def test_two_inputs_and_two_outputs():
    model = text_model(
        "g (float[1,2,8,8] x, float[1,2,8,8] z) => (float[1,2,8,8] y, float[1,2,1,1] s)"
        "{ y = Add(x, z) s = GlobalMaxPool(z) }"
    )
    y, s = row_needs(inferred(model))
    assert y[0].tolist() == y[1].tolist() == list(range(1, 9))
    assert list(s) == [1] and s[1].tolist() == [8]


def test_without_shapes_everything_waits():
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["": 18]>'
        "g (float[1,2,8,8] x) => (float[1,2,8,8] y) { a = Foo(x) y = Relu(a) }"
    )
    assert row_needs(model)[0][0].tolist() == [8] * 8


def test_a_vector_is_one_row():
    model = text_model("g (float[1,9] x) => (float[1,9] y) { y = Relu(x) }")
    assert row_needs(inferred(model))[0][0].tolist() == [1]
