"""Models of half precision: as converters write them, and malformed ones."""

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from models import reference, snr_db, text_model
from onnxruntime.transformers.float16 import convert_float_to_float16

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.support.errors import XbarcError

CLIPPED = """g (float[N,3,8,8] x) => (float[N,5] y)
    <float[6,3,3,3] w, float[6] b, float[96,5] f>
    { c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w, b)  r = Clip<min=0.0, max=6.0>(c)
      l = Flatten(r)  y = MatMul(l, f) }"""
"""A Clip of opset 10 has its bounds as attributes, a Pad its value."""

PADDED = """g (float[N,3,8,8] x) => (float[N,6,4,4] y) <float[6,3,3,3] w, float[6] b>
    { p = Pad<pads=[0,0,1,1,0,0,1,1], value=0.5>(x)  y = Conv<strides=[2,2]>(p, w, b) }"""

MODERN = """g (float[N,3,8,8] x) => (float[N,6,1,1] y)
    <float[6,3,3,3] w, float[6] b, float[6] s, float[6] o, float[6] m, float[6] v>
    { c = Conv(x, w, b)  n = BatchNormalization(c, s, o, m, v)  r = Relu(n)
      y = GlobalAveragePool(r) }"""

MODELS = {"clipped": (CLIPPED, 10), "padded": (PADDED, 10), "modern": (MODERN, 18)}

X = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("keep", [True, False])
def test_what_onnxruntimes_converter_writes(name, keep):
    """With the types of inputs and outputs kept, it leaves Casts behind what reads them."""
    text, opset = MODELS[name]
    model = text_model(text, opset=opset, v=np.linspace(0.5, 1.5, 6))
    expected = reference(model, {"x": X})["y"]
    half = convert_float_to_float16(model, keep_io_types=keep)
    x = X if keep else X.astype(np.float16)
    program = xbarc.compile(half, calibration=x)
    assert program.report["coverage"]["mac_share"] == 1
    found = program.run(x)["y"]
    assert found.dtype == x.dtype
    assert snr_db(expected, found) > 30


def test_nodes_in_any_order():
    """A loop's body takes from outside what stands behind it, too."""
    model = text_model(
        """g (float[N,4] x) => (float[N,4] y) <int64 three = {3}, bool yes = {1}, float[4,4] w>
        { m = MatMul(x, w)  d = Relu(x)
          y = Loop(three, yes, m) <body = l (int64 i, bool go, float[N,4] q) => (more, r)
              { more = Identity(go)  r = Add(q, d) }> }"""
    )
    feeds = {"x": X[:, 0, 0, :4].copy()}
    expected = reference(model, feeds)["y"]
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    nodes = list(model.graph.node)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(nodes))
    found = xbarc.compile(shuffled, calibration=feeds).run(feeds)["y"]
    assert snr_db(expected, found) > 30
    assert shuffled.graph.node[0].op_type == "Loop"  # the caller's own stays


def test_nodes_in_a_circle_are_refused():
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) { a = Add(x, b)  b = Relu(a)  y = Relu(b) }"
    )
    with pytest.raises(XbarcError, match="topologically sorted") as caught:
        load(model)
    assert "\n" not in str(caught.value)


def constants(body, **arrays):
    model = text_model(f"g (float[N,4] x) => (float[N,4] y) {{ {body}  y = MatMul(x, c) }}")
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


SINGLE, HALF = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float16)

MALFORMED = {
    "Add": "c = Add(a, b)",
    "Concat": "c = Concat<axis=0>(a, b)",
    "MatMul": "c = MatMul(a, b)",
}


@pytest.mark.parametrize("op", MALFORMED)
def test_constants_of_two_types_are_refused_in_one_line(op):
    model = constants(MALFORMED[op], a=SINGLE, b=HALF)
    with pytest.raises(XbarcError, match=f"{op} 'c' isn't valid: .*float16") as caught:
        xbarc.compile(model)
    assert "\n" not in str(caught.value)


def test_operands_of_two_types_are_refused_in_one_line():
    model = constants("c = Identity(b)", b=HALF)
    with pytest.raises(XbarcError, match="bound to different types") as caught:
        xbarc.compile(model)
    assert "\n" not in str(caught.value)
