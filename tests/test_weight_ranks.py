"""Weights that have fewer axes than their operator takes: refused by name, whatever else it has."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import xbarc
from xbarc.support.errors import XbarcError

LEAST = {"Conv": 3, "ConvTranspose": 3, "Gemm": 2, "MatMul": 1}


def model(op, rank, axes, bias):
    """`op` of an input of `axes` axes by weights of `rank` axes, each of 4 entries."""
    arrays = {"w": np.ones([4] * rank, np.float32)}
    if bias is not None:
        arrays["b"] = np.ones(bias, np.float32)
    node = helper.make_node(op, ["x", *arrays], ["y"], name="layer")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *[4] * (axes - 1)])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("op", "rank"), [(op, rank) for op, least in LEAST.items() for rank in range(least)]
)
def test_weights_of_few_axes_are_refused(op, rank):
    for axes, bias in itertools.product((2, 3, 4), (None,) if op == "MatMul" else (None, (), 4)):
        with pytest.raises(XbarcError, match=rf"^{op} 'layer': its weights have shape ") as caught:
            xbarc.compile(model(op, rank, axes, bias), "mca64")
        assert f"fewer axes than {LEAST[op]}" in str(caught.value)
