"""Running graphs: outputs by name, generated inputs, comparing two models, and clear refusals."""

import numpy as np
import onnx_ir as ir
import pytest
from models import text_model

from xbarc.graph.run import Session, largest_difference, random_inputs, same_function
from xbarc.simulator.byte_products import available, byte_product
from xbarc.simulator.steps.digital import digital_unit
from xbarc.support.errors import XbarcError

CHAIN = """<ir_version: 8, opset_import: ["": 18]>
g (float[N,4] x) => (float[N,4] y) <float[4] b = {1.0, 2.0, 3.0, 4.0}>
{ a = Add(x, b)  r = Relu(a)  y = Mul(r, r) }"""


def chain() -> ir.Model:
    return ir.from_onnx_text(CHAIN)


def test_any_value_can_be_asked_for():
    x = np.array([[-3.0, 0, 1, 2]], np.float32)
    result = Session(chain(), ["a", "y", "x", "b"]).run({"x": x})
    assert list(result) == ["a", "y", "x", "b"]
    np.testing.assert_array_equal(result["a"], x + np.arange(1, 5))
    np.testing.assert_array_equal(result["y"], np.maximum(result["a"], 0) ** 2)
    np.testing.assert_array_equal(result["x"], x)
    np.testing.assert_array_equal(result["b"], [1, 2, 3, 4])


def test_the_model_is_not_touched():
    model = chain()
    before = str(model)
    Session(model, ["a"]).run(random_inputs(model, 2))
    assert str(model) == before


@pytest.mark.parametrize("kind", ["array", "transposed", "one number repeated", "float16"])
def test_large_weights_stay_outside_the_protobuf(kind):
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    if kind == "transposed":
        weight = weight.T
    if kind == "one number repeated":
        weight = np.broadcast_to(np.float32(0.5), (64, 64))
    element = "float"
    if kind == "float16":
        weight, element = weight.astype(np.float16), "float16"
    model = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["": 18]>
        g ({element}[N,64] x) => ({element}[N,64] y) {{ y = MatMul(x, w) }}""",
        initializers=[],
    )
    value = next(node for node in model.graph).inputs[1]
    value.const_value = ir.Tensor(weight, name="w")
    model.graph.register_initializer(value)
    x = np.eye(64, dtype=weight.dtype)
    np.testing.assert_array_equal(Session(model).run({"x": x})["y"], weight)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"no data for the model's input 'x' of shape \[N, 4\]"),
        ({"z": np.zeros((1, 4), np.float32)}, "no input 'z'"),
        ({"x": np.zeros((1, 5), np.float32)}, "onnxruntime can't run the model"),
        ({"x": np.zeros((1, 4), np.int64)}, "onnxruntime can't run the model"),
    ],
)
def test_wrong_feeds_are_one_line(feeds, message):
    with pytest.raises(XbarcError, match=message) as caught:
        Session(chain()).run(feeds)
    assert "\n" not in str(caught.value)


def test_unknown_values_and_operators_are_one_line():
    with pytest.raises(XbarcError, match="no value 'yy'.*'y'"):
        Session(chain(), ["yy"])
    model = chain()
    next(iter(model.graph)).op_type = "NoSuchOperator"
    with pytest.raises(XbarcError, match="onnxruntime can't take the model") as caught:
        Session(model)
    assert "\n" not in str(caught.value)


def test_generated_inputs_follow_types_and_shapes():
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["": 18]>
        g (float[N,3] f, int64[N] i, bool[2] b, float16[N,1] h, uint8[N] u) => (float[N,3] y)
        { y = Relu(f) }"""
    )
    feeds = random_inputs(model, 500, seed=3)
    assert {name: array.shape for name, array in feeds.items()} == {
        "f": (500, 3),
        "i": (500,),
        "b": (2,),
        "h": (500, 1),
        "u": (500,),
    }
    assert [feeds[name].dtype for name in "fibhu"] == [
        np.float32,
        np.int64,
        np.bool_,
        np.float16,
        np.uint8,
    ]
    assert abs(feeds["f"].mean()) < 0.1
    assert abs(feeds["f"].std() - 1) < 0.1
    assert set(feeds["i"]) == set(feeds["u"]) == {0, 1}
    np.testing.assert_array_equal(feeds["f"], random_inputs(model, 500, seed=3)["f"])
    assert not np.array_equal(feeds["f"], random_inputs(model, 500, seed=4)["f"])


def test_inputs_that_are_too_large_to_generate():
    """Known before memory is taken: 2^30 bytes and more."""
    text = "g (uint8[N,32768] q) => (uint8[N,32768] y) { y = Identity(q) }"
    model = ir.from_onnx_text(CHAIN.partition(">")[0] + ">" + text)
    with pytest.raises(XbarcError, match="has 1073741824 values, too many to generate"):
        random_inputs(model, 32768)
    assert random_inputs(model, 1)["q"].dtype == np.uint8


def test_generated_inputs_need_known_shapes():
    model = chain()
    model.graph.inputs[0].shape = ir.Shape(["N", "H"])
    with pytest.raises(XbarcError, match=r"'x' has unknown dimensions \[N, H\]"):
        random_inputs(model, 1)


def test_same_function_measures_and_refuses():
    before, after = chain(), chain()
    feeds = random_inputs(before, 3)
    assert same_function(before, after, feeds) == 0.0
    bias = after.graph.initializers["b"]
    bias.const_value = ir.Tensor(np.array([1, 2, 3, 4.5], np.float32))
    with pytest.raises(XbarcError, match="output 'y' differs by"):
        same_function(before, after, feeds)
    assert same_function(before, after, feeds, rtol=10) > 0.1


def test_deviation_sees_shapes_types_and_nan():
    one = np.ones(3, np.float32)
    assert largest_difference(one, one[:2]) is None
    assert largest_difference(one, one.astype(np.float64)) is None
    nan = np.array([1, np.nan, 1], np.float32)
    assert largest_difference(one, nan) == float("inf")
    assert largest_difference(nan, nan.copy()) == 0.0
    assert largest_difference(one, one * 3) == 2.0
    assert largest_difference(np.array([0, 255], np.uint8), np.array([255, 255], np.uint8)) == 255


def test_quantised_operators_are_the_same_on_every_processor():
    """Pairs of 255 x 127 don't fit 16 bits, in which processors without VNNI add them."""
    model = text_model(
        """g (float[N,40] x) => (float[N,3] y)
        <float s = {1.0}, uint8 z = {0}, int8 zw = {0}, int8[40,3] w>
        { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
          v = DequantizeLinear(w, s, zw) y = MatMul(d, v) }""",
        w=np.full((40, 3), 127, np.int8),
    )
    x = np.full((2, 40), 255, np.float32)
    (found,) = Session(ir.from_proto(model)).run({"x": x}).values()
    digital = digital_unit(model.SerializeToString(), "digital.onnx")
    for products in (found, *digital(x)):
        np.testing.assert_array_equal(products, np.full((2, 3), 40 * 255 * 127))


def test_products_of_bytes_are_those_of_integers():
    """Every code and weight at its ends, both types of codes, and shapes that fill no register."""
    rng = np.random.default_rng(0)
    for n, k, v in [(1, 1, 1), (5, 130, 7), (16, 128, 33), (40, 300, 64)]:
        weights = rng.choice(np.array([-128, -1, 0, 127], np.int8), (n, k))
        for kind in (np.uint8, np.int8):
            codes = rng.choice(np.array([0, 1, 128, 255], np.uint8), (k, v)).view(kind)
            expected = weights.astype(np.int64) @ codes.astype(np.int64)
            np.testing.assert_array_equal(byte_product(weights, codes), expected)
    assert available(128) and not available(1 << 20)
