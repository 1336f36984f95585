"""fold-batchnorm: the same function with fewer nodes, or nothing done."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarc.graph.query import constant
from xbarc.graph.run import random_inputs, same_function
from xbarc.passes.fold_batchnorm import FoldBatchNorm

HEADER = '<ir_version: 8, opset_import: ["": 18]>'
BN = "BatchNormalization(a, gamma, beta, mean, var)"


def model_of(text: str, **arrays: np.ndarray) -> ir.Model:
    """A model from text whose free names are these initialisers."""
    model = ir.from_onnx_text(HEADER + text)
    values = {
        value.name: value for node in model.graph for value in node.inputs if value is not None
    }
    for name, array in arrays.items():
        if name in values:
            values[name].const_value = ir.Tensor(array, name=name)
            values[name].shape, values[name].dtype = ir.Shape(array.shape), ir.DataType.FLOAT
            model.graph.register_initializer(values[name])
    return model


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {
        "gamma": normal(channels, seed=1),
        "beta": normal(channels, seed=2),
        "mean": normal(channels, seed=3),
        "var": np.abs(normal(channels, seed=4)) + np.float32(0.1),
    }


def check(model: ir.Model, expected: list[str]) -> ir.Model:
    """Run the pass, hold the operators to `expected` and the function to what it was."""
    before = model.clone()
    outputs = [value.name for value in model.graph.outputs]
    changed = FoldBatchNorm().apply(model, None)
    assert [node.op_type for node in model.graph] == expected
    assert changed == (len(before.graph) != len(model.graph))
    assert [value.name for value in model.graph.outputs] == outputs
    same_function(before, model, random_inputs(before, 2))
    return model


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("group", [1, 2])
def test_conv(bias, group):
    model = model_of(
        f"g (float[N,4,5,5] x) => (float[N,6,5,5] y) "
        f"{{ a = Conv<group={group}, pads=[1,1,1,1]>(x, w{bias})  y = {BN} }}",
        w=normal(6, 4 // group, 3, 3),
        b=normal(6, seed=9),
        **statistics(6),
    )
    next(iter(model.graph)).name = "the_conv"
    folded = check(model, ["Conv"])
    (conv,) = folded.graph
    assert conv.name == "the_conv"
    assert constant(conv.inputs[1]).dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    bias=st.booleans(),
)
def test_conv_transpose(groups, inputs, outputs, bias):
    channels = groups * outputs
    tail = ", b" if bias else ""
    model = model_of(
        f"g (float[N,{groups * inputs},4,4] x) => (float[N,{channels},H,W] y) {{ "
        f"a = ConvTranspose<group={groups}, strides=[2,2]>(x, w{tail})  y = {BN} }}",
        w=normal(groups * inputs, outputs, 2, 2),
        b=normal(channels, seed=9),
        **statistics(channels),
    )
    check(model, ["ConvTranspose"])


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias_shape", [None, (), (1,), (5,), (1, 5)])
def test_gemm(transposed, bias_shape):
    bias = "" if bias_shape is None else ", b"
    model = model_of(
        f"g (float[N,3] x) => (float[N,5] y) "
        f"{{ a = Gemm<alpha=0.5, beta=2.0, transB={transposed}>(x, w{bias})  y = {BN} }}",
        w=normal(5, 3) if transposed else normal(3, 5),
        b=normal(*(bias_shape or ()), seed=9) if bias_shape else np.array(0.7, np.float32),
        **statistics(5),
    )
    check(model, ["Gemm"])


def test_unnormalised_chain_of_constants():
    model = model_of(
        f"""g (float[N,2,4,4] x) => (float[N,3,4,4] y)
        {{ a = Conv(x, w)  n = {BN}  m = Mul(n, k)  p = Add(c, m)  q = Sub(p, one)
           y = Div(q, k) }}""",
        w=normal(3, 2, 1, 1),
        k=np.array([2, -3, 0.5], np.float32).reshape(3, 1, 1),
        c=normal(1, 3, 1, 1, seed=5),
        one=np.ones((), np.float32),
        **statistics(3),
    )
    check(model, ["Conv"])


@pytest.mark.parametrize("shape", [(4,), (3, 1, 4), (2, 3, 1, 1), (1, 1, 3, 1, 1)])
def test_constants_that_are_not_one_a_channel_stay(shape):
    output = "float[N,3,4,4]" if len(shape) < 5 else "float[1,N,3,4,4]"
    batch = 2 if shape == (2, 3, 1, 1) else "N"
    model = model_of(
        f"g (float[{batch},2,4,4] x) => ({output} y) {{ a = Conv(x, w)  y = Mul(a, k) }}",
        w=normal(3, 2, 1, 1),
        k=normal(*shape),
    )
    check(model, ["Conv", "Mul"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"a = Conv(x, w)  n = {BN}  y = Add(n, a)", ["Conv", "BatchNormalization", "Add"]),
        (f"a = Relu(x)  y = {BN}", ["Relu", "BatchNormalization"]),
        ("a = Conv(x, w)  y = Mul(a, a)", ["Conv", "Mul"]),
        ("a = Conv(x, w)  y = Div(k, a)", ["Conv", "Div"]),
        ("a = Conv(x, w)  y = Div(a, zero)", ["Conv", "Div"]),
        ("a = MatMul(x, m)  y = Add(a, m)", ["MatMul", "Add"]),
    ],
)
def test_what_cannot_be_folded_stays(body, expected):
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] y) {{ {body} }}",
        w=normal(2, 2, 1, 1),
        k=np.ones((1, 2, 1, 1), np.float32),
        zero=np.zeros((1, 2, 1, 1), np.float32),
        m=normal(2, 2),
        **statistics(2),
    )
    check(model, expected)


@pytest.mark.parametrize(
    "layer",
    ["r = Relu(w)  a = Conv(x, r)", "e = Relu(beta)  a = Conv(x, w, e)", "a = Conv(x, q)"],
    ids=["computed weights", "a computed bias", "integer weights"],
)
def test_a_layer_that_is_not_static_stays(layer):
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] y) {{ {layer}  y = {BN} }}",
        w=normal(2, 2, 1, 1),
        q=np.ones((2, 2, 1, 1), np.int8),
        **statistics(2),
    )
    nodes = [node.op_type for node in model.graph]
    assert FoldBatchNorm().apply(model, None) is False
    assert [node.op_type for node in model.graph] == nodes


def test_weights_that_would_overflow_stay():
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] y) {{ a = Conv(x, w)  y = {BN} }}",
        w=np.full((2, 2, 1, 1), 1e30, np.float32),
        **{**statistics(2), "gamma": np.array([1, 1e20], np.float32)},
    )
    assert FoldBatchNorm().apply(model, None) is False
    assert [node.op_type for node in model.graph] == ["Conv", "BatchNormalization"]


def test_an_output_before_the_normalisation_stays():
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] a, float[N,2,2,2] y) "
        f"{{ a = Conv(x, w)  y = {BN} }}",
        w=normal(2, 2, 1, 1),
        **statistics(2),
    )
    check(model, ["Conv", "BatchNormalization"])


def test_training_mode_stays():
    text = BN.replace("(", "<training_mode=1>(", 1)
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] y) {{ a = Conv(x, w)  y, m, v = {text} }}",
        w=normal(2, 2, 1, 1),
        **statistics(2),
    )
    assert not FoldBatchNorm().apply(model, None)


def test_a_weight_that_two_layers_share_is_copied():
    model = model_of(
        f"""g (float[N,2,2,2] x) => (float[N,2,2,2] y)
        {{ a = Conv(x, w, b)  n = {BN}  c = Conv(n, w, b)  y = Relu(c) }}""",
        w=normal(2, 2, 1, 1),
        b=normal(2, seed=8),
        **statistics(2),
    )
    folded = check(model, ["Conv", "Conv", "Relu"])
    first, second = list(folded.graph)[:2]
    np.testing.assert_array_equal(constant(second.inputs[1]), normal(2, 2, 1, 1))
    assert first.inputs[1].name != "w"


def test_arrays_are_replaced_not_written_to():
    weight = normal(2, 2, 1, 1)
    kept = weight.copy()
    model = model_of(
        f"g (float[N,2,2,2] x) => (float[N,2,2,2] y) {{ a = Conv(x, w)  y = {BN} }}",
        w=weight,
        **statistics(2),
    )
    FoldBatchNorm().apply(model, None)
    np.testing.assert_array_equal(weight, kept)
