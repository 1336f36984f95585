# ruff: noqa: E501  (a model is one line of text)
"""Every form of an operator that stands on crossbars, against onnxruntime.

A lossless converter, 16-bit weights and inputs, calibrated on the inputs run: what is left is
rounding, and a wrong layout, axis, pad or scale is far from it.
"""

import math

import numpy as np
import onnx
import onnx.helper
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import random_array, reference, text_model
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import VerifyException

import xbarc
from xbarc.cli.compile import summary
from xbarc.hw.quantization import InputScale
from xbarc.ir.dialect import DigitalOp, MvmOp, QuantizeOp, WeightsOp
from xbarc.lowering.lower import accumulator_bits
from xbarc.report.page.overview import notes
from xbarc.support.errors import XbarcError

LOSSLESS = ("adc.mode=lossless", "weights.bits=16", "inputs.bits=16")
TOLERANCE = 1e-3


def inputs_of(model, batch=3, seed=1):
    """Random arrays for the inputs; a dimension with a name is `batch` long."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else batch for d in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        array = random_array(rng, shape, dtype)
        feeds[value.name] = array * dtype.type(3) if dtype.kind == "f" else array
    return feeds


def check(model, feeds=None, *, crossbar=None, overrides=LOSSLESS, target="mca128"):
    """Compile, run, compare; `crossbar`: how many operators must land on crossbars."""
    feeds = inputs_of(model) if feeds is None else feeds
    program = xbarc.compile(model, target, calibration=feeds, overrides=overrides)
    found = program.run(feeds)
    expected = reference(model, feeds)
    assert list(found) == list(expected)
    for name, want in expected.items():
        assert found[name].shape == want.shape
        assert found[name].dtype == want.dtype
        # In half precision onnxruntime itself is that far off.
        tolerance = 1e-2 if want.dtype == np.float16 else TOLERANCE
        scale = np.maximum(1, np.abs(want.astype(np.float64)))
        assert np.max(np.abs(found[name] - want.astype(np.float64)) / scale, initial=0) <= tolerance
    if crossbar is not None:
        assert program.report["coverage"]["crossbar_operators"] == crossbar
    return program


# --- Conv ---------------------------------------------------------------------------------------

CONV = {
    "1d": "g (float[N,4,20] x) => (float[N,5,M] y) <float[5,4,3] w> { y = Conv(x, w) }",
    "2d": "g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,3,2] w> { y = Conv(x, w) }",
    "3d": "g (float[N,2,6,5,7] x) => (float[N,5,D,H,W] y) <float[5,2,3,2,2] w, float[5] b> { y = Conv<pads=[1,0,1,0,1,2], strides=[2,1,2]>(x, w, b) }",
    "bias": "g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,3,3] w, float[5] b> { y = Conv(x, w, b) }",
    "strides": "g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv<strides=[2,3]>(x, w) }",
    "pads that differ on each side": "g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv<pads=[0,1,2,3]>(x, w) }",
    "dilations": "g (float[N,4,12,12] x) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv<dilations=[2,3], pads=[2,2,2,2]>(x, w) }",
    "dilations and strides": "g (float[N,4,12,12] x) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv<dilations=[3,2], strides=[2,3], pads=[3,0,1,4]>(x, w) }",
    "pads wider than the kernel": "g (float[N,2,3,3] x) => (float[N,3,H,W] y) <float[3,2,2,2] w> { y = Conv<pads=[3,4,4,3]>(x, w) }",
    "groups": "g (float[N,6,8,8] x) => (float[N,4,H,W] y) <float[4,3,3,3] w, float[4] b> { y = Conv<group=2, pads=[1,1,1,1]>(x, w, b) }",
    "groups larger than a crossbar": "g (float[N,60,4,4] x) => (float[N,24,H,W] y) <float[24,30,3,3] w> { y = Conv<group=2>(x, w) }",
    "depthwise": "g (float[N,20,8,8] x) => (float[N,20,H,W] y) <float[20,1,3,3] w> { y = Conv<group=20, pads=[1,1,1,1], strides=[2,2]>(x, w) }",
    "depthwise with a multiplier": "g (float[N,6,8,8] x) => (float[N,18,H,W] y) <float[18,1,3,3] w> { y = Conv<group=6>(x, w) }",
    "depthwise 1d": "g (float[N,6,16] x) => (float[N,6,W] y) <float[6,1,5] w> { y = Conv<group=6, dilations=[2]>(x, w) }",
    "SAME_UPPER": 'g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,2,3] w> { y = Conv<auto_pad="SAME_UPPER", strides=[2,3]>(x, w) }',
    "SAME_LOWER": 'g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,2,4] w> { y = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, w) }',
    "VALID": 'g (float[N,4,9,8] x) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv<auto_pad="VALID", strides=[2,1]>(x, w) }',
    "1x1": "g (float[N,40,5,5] x) => (float[N,30,H,W] y) <float[30,40,1,1] w> { y = Conv(x, w) }",
    "the kernel is the whole map": "g (float[N,4,5,6] x) => (float[N,7,H,W] y) <float[7,4,5,6] w> { y = Conv(x, w) }",
    "more rows and columns than a crossbar": "g (float[N,30,5,5] x) => (float[N,50,H,W] y) <float[50,30,3,3] w, float[50] b> { y = Conv(x, w, b) }",
    "a static batch": "g (float[2,4,9,8] x) => (float[2,5,H,W] y) <float[5,4,3,3] w> { y = Conv(x, w) }",
    "half precision": "g (float16[N,4,9,8] x) => (float16[N,5,H,W] y) <float16[5,4,3,3] w, float16[5] b> { y = Conv(x, w, b) }",
}

GEMM = {
    "plain": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float[7] b> { y = Gemm(x, w, b) }",
    "no bias": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w> { y = Gemm(x, w) }",
    "transB": "g (float[N,40] x) => (float[N,7] y) <float[7,40] w, float[7] b> { y = Gemm<transB=1>(x, w, b) }",
    "transA": "g (float[40,5] x) => (float[5,7] y) <float[40,7] w, float[7] b> { y = Gemm<transA=1>(x, w, b) }",
    "transA and transB": "g (float[40,5] x) => (float[5,7] y) <float[7,40] w> { y = Gemm<transA=1, transB=1>(x, w) }",
    "alpha and beta": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float[7] b> { y = Gemm<alpha=0.25, beta=-2.0>(x, w, b) }",
    "alpha negative": "g (float[N,40] x) => (float[N,7] y) <float[7,40] w> { y = Gemm<alpha=-1.5, transB=1>(x, w) }",
    "alpha zero": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float[7] b> { y = Gemm<alpha=0.0>(x, w, b) }",
    "bias [1, n]": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float[1,7] b> { y = Gemm(x, w, b) }",
    "bias [1]": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float[1] b> { y = Gemm(x, w, b) }",
    "bias scalar": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w, float b> { y = Gemm<beta=0.5>(x, w, b) }",
    "bias [m, 1]": "g (float[3,40] x) => (float[3,7] y) <float[40,7] w, float[3,1] b> { y = Gemm(x, w, b) }",
    "bias [m, n]": "g (float[3,40] x) => (float[3,7] y) <float[40,7] w, float[3,7] b> { y = Gemm<beta=0.5>(x, w, b) }",
    "moving bias": "g (float[N,40] x, float[7] b) => (float[N,7] y) <float[40,7] w> { y = Gemm<beta=0.5>(x, w, b) }",
    "one column, bias of a row": "g (float[3,40] x) => (float[3,1] y) <float[40,1] w, float[3,1] b> { y = Gemm(x, w, b) }",
    "square, bias of a row": "g (float[7,40] x) => (float[7,7] y) <float[40,7] w, float[7,1] b> { y = Gemm(x, w, b) }",
    "double": "g (double[N,40] x) => (double[N,7] y) <double[40,7] w, double[7] b> { y = Gemm<alpha=0.5, beta=0.5>(x, w, b) }",
    "half": "g (float16[N,40] x) => (float16[N,7] y) <float16[40,7] w, float16[7] b> { y = Gemm(x, w, b) }",
}

MATMUL = {
    "x w": "g (float[N,40] x) => (float[N,7] y) <float[40,7] w> { y = MatMul(x, w) }",
    "w x": "g (float[40,6] x) => (float[7,6] y) <float[7,40] w> { y = MatMul(w, x) }",
    "batched x w": "g (float[N,3,4,40] x) => (float[N,3,4,7] y) <float[40,7] w> { y = MatMul(x, w) }",
    "w batched x": "g (float[N,3,40,4] x) => (float[N,3,7,4] y) <float[7,40] w> { y = MatMul(w, x) }",
    "vector x": "g (float[40] x) => (float[7] y) <float[40,7] w> { y = MatMul(x, w) }",
    "w vector x": "g (float[40] x) => (float[7] y) <float[7,40] w> { y = MatMul(w, x) }",
    "vector w": "g (float[N,5,40] x) => (float[N,5] y) <float[40] w> { y = MatMul(x, w) }",
    "vector w first": "g (float[N,40,5] x) => (float[N,5] y) <float[40] w> { y = MatMul(w, x) }",
    "vector x, vector w": "g (float[40] x) => (float y) <float[40] w> { y = MatMul(x, w) }",
    "a w with an axis of 1": "g (float[N,5,40] x) => (float[N,5,7] y) <float[1,40,7] w> { y = MatMul(x, w) }",
    "double": "g (double[N,40] x) => (double[N,7] y) <double[40,7] w> { y = MatMul(x, w) }",
    "half": "g (float16[N,40] x) => (float16[N,7] y) <float16[40,7] w> { y = MatMul(x, w) }",
    "a static batch": "g (float[4,40] x) => (float[4,7] y) <float[40,7] w> { y = MatMul(x, w) }",
    "larger than a crossbar": "g (float[N,300] x) => (float[N,50] y) <float[300,50] w> { y = MatMul(x, w) }",
    "transposed by a node": "g (float[N,40] x) => (float[N,7] y) <float[7,40] w> { t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) }",
}


@pytest.mark.parametrize("text", CONV.values(), ids=CONV)
def test_conv(text):
    check(text_model(text), crossbar=1)


@pytest.mark.parametrize("text", GEMM.values(), ids=GEMM)
def test_gemm(text):
    check(text_model(text), crossbar=1)


@pytest.mark.parametrize("text", MATMUL.values(), ids=MATMUL)
def test_matmul(text):
    check(text_model(text), crossbar=1)


BATCHED_WEIGHTS = {
    "a matrix a head": ("float[N,3,5,20] x", "float[3,20,7] w", "MatMul(x, w)", "N,3,5,7", 3),
    "on the left": ("float[N,3,20,5] x", "float[3,7,20] w", "MatMul(w, x)", "N,3,7,5", 3),
    "two stacks": ("float[2,3,5,20] x", "float[2,3,20,7] w", "MatMul(x, w)", "2,3,5,7", 6),
    "one x for all": ("float[N,1,5,20] x", "float[3,20,7] w", "MatMul(x, w)", "N,3,5,7", 3),
    "one w of a stack": ("float[N,3,5,20] x", "float[1,20,7] w", "MatMul(x, w)", "N,3,5,7", 1),
    "a matrix for a stack": ("float[5,20] x", "float[3,20,7] w", "MatMul(x, w)", "3,5,7", 3),
    "a stack for stacks": ("float[2,5,20] x", "float[3,2,20,7] w", "MatMul(x, w)", "3,2,5,7", 6),
    "a vector for a stack": ("float[20] x", "float[3,20,7] w", "MatMul(x, w)", "3,7", 3),
    "a stack for a vector": ("float[20] x", "float[3,7,20] w", "MatMul(w, x)", "3,7", 3),
}


@pytest.mark.parametrize("form", BATCHED_WEIGHTS.values(), ids=BATCHED_WEIGHTS)
def test_batched_weights(form):
    x, w, product, shape, count = form
    check(text_model(f"g ({x}) => (float[{shape}] y) <{w}> {{ y = {product} }}"), crossbar=count)


def test_batched_weights_take_the_codes_that_the_model_made():
    program = check(
        text_model(
            """g (float[N,3,5,20] x) => (float[N,3,5,7] y) <float[3,20,7] w, float s = {0.25}, int8 z = {3}>
            { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }"""
        ),
        crossbar=3,
    )
    scales = [op.scale.value.data for op in program.module.walk() if isinstance(op, QuantizeOp)]
    assert scales == [1, 1, 1]  # codes as they are


def test_conv_with_a_moving_bias():
    check(
        text_model(
            "g (float[N,4,8,8] x, float[5] b) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv(x, w, b) }"
        ),
        crossbar=1,
    )


@st.composite
def convolutions(draw):
    """Conv text over its whole attribute space, and input channels and sizes that fit."""
    rank = draw(st.integers(1, 3))

    def some(low, high, count=rank):
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, strides, dilations = some(1, 3), some(1, 3), some(1, 3)
    groups, in_each, out_each = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
    )
    auto = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # onnxruntime has no SAME padding for dilated kernels.
    dilations = dilations if auto in ("NOTSET", "VALID") else [1] * rank
    pads = some(0, 3, 2 * rank) if auto == "NOTSET" else [0] * (2 * rank)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    sizes = [
        max(1, e - pads[i] - pads[i + rank]) + extra
        for i, (e, extra) in enumerate(zip(extent, some(0, 4), strict=True))
    ]
    batch = draw(st.sampled_from(["N", "1", "2"]))
    bias = draw(st.booleans())
    attributes = [f"strides={strides}", f"dilations={dilations}", f"group={groups}"]
    attributes.append(f"pads={pads}" if auto == "NOTSET" else f'auto_pad="{auto}"')
    channels, columns = groups * in_each, groups * out_each
    x = ",".join(map(str, [batch, channels, *sizes]))
    w = ",".join(map(str, [columns, in_each, *kernel]))
    y = ",".join([batch, str(columns), *[f"D{i}" for i in range(rank)]])
    weights = f"float[{w}] w" + (f", float[{columns}] b" if bias else "")
    return (
        f"g (float[{x}] x) => (float[{y}] y) <{weights}> "
        f"{{ y = Conv<{', '.join(attributes)}>(x, w{', b' if bias else ''}) }}"
    )


@given(convolutions(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_any_convolution(text, seed):
    model = text_model(text, seed=seed)
    check(model, inputs_of(model, seed=seed), crossbar=1)


@given(
    rank=st.integers(1, 4),
    side=st.integers(0, 1),
    k=st.integers(1, 40),
    n=st.integers(1, 20),
    stack=st.integers(0, 3),
    vector=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_matmul(rank, side, k, n, stack, vector):
    assume(not (stack and (rank < 3 or vector)))
    outer = [2, 3, 4][: max(0, rank - 2)]
    if stack:
        outer[-1] = stack
    other = [5] if rank > 1 else []
    x = [*outer, *other, k] if side else [*outer, k, *other]
    w = [k] if vector else [k, n] if side else [n, k]
    w = [stack, *w] if stack else w
    y = np.matmul(*(np.zeros(s) for s in ((x, w) if side else (w, x)))).shape

    def shape(dims):
        return f"[{','.join(map(str, dims))}]" if len(dims) else ""

    product = "MatMul(x, w)" if side else "MatMul(w, x)"
    model = text_model(
        f"g (float{shape(x)} x) => (float{shape(y)} y) <float{shape(w)} w> {{ y = {product} }}"
    )
    check(model, crossbar=max(1, stack))


# --- Quantised models ---------------------------------------------------------------------------

SCALES = "float xs = {0.05}, float ys = {0.07}"
WS = "{0.01, 0.02, 0.03, 0.015, 0.012}"
BIAS = "{100, -200, 300, 0, 50}"

# What an integer model computes is exact but for the last rounding, which may fall either way.
QUANTIZED = {
    "QDQ, one scale": """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {120}, float ws = {0.01}, int8 wz = {0}, int8[5,4,3,3] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear(w, ws, wz) y = Conv<pads=[1,1,1,1]>(d, v) }""",
    "QDQ, a scale a channel": """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.05}, int8 xz = {-7}, float[5] ws = WS, int8[5] wz = {0,0,0,0,0}, int8[5,4,3,3] w, int32[5] b = BIAS, float[5] bs = WS>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=0>(w, ws, wz) c = DequantizeLinear<axis=0>(b, bs)
          y = Conv<pads=[1,1,1,1]>(d, v, c) }""",
    "QDQ, weights with zero points": """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {3}, float[5] ws = WS, uint8[5] wz = {128, 0, 255, 7, 100}, uint8[5,4,3,3] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=0>(w, ws, wz) y = Conv<pads=[1,1,1,1], strides=[2,2]>(d, v) }""",
    "QDQ, depthwise": """g (float[N,5,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {77}, float[5] ws = WS, int8[5] wz = {0,0,0,0,0}, int8[5,1,3,3] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=0>(w, ws, wz) y = Conv<pads=[1,1,1,1], group=5>(d, v) }""",
    "QDQ, MatMul": """g (float[N,40] x) => (float[N,5] y)
        <float xs = {0.05}, uint8 xz = {120}, float[5] ws = WS, int8[5] wz = {0,0,0,0,0}, int8[40,5] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=1>(w, ws, wz) y = MatMul(d, v) }""",
    "QDQ, MatMul, weights on the left": """g (float[40,6] x) => (float[5,6] y)
        <float xs = {0.05}, uint8 xz = {120}, float[5] ws = WS, int8[5] wz = {1,2,3,4,5}, int8[5,40] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=0>(w, ws, wz) y = MatMul(v, d) }""",
    "QDQ, Gemm": """g (float[N,40] x) => (float[N,5] y)
        <float xs = {0.05}, int8 xz = {5}, float[5] ws = WS, int8[5] wz = {0,0,0,0,0}, int8[5,40] w, float[5] b>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear<axis=0>(w, ws, wz) y = Gemm<transB=1, alpha=0.5, beta=2.0>(d, v, b) }""",
    "QDQ, only the weights": """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float ws = {0.01}, int8[5,4,3,3] w>
        { v = DequantizeLinear(w, ws) y = Conv(x, v) }""",
    "QDQ, only the input": """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {120}, float[5,4,3,3] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz) y = Conv<pads=[1,0,1,0]>(d, w) }""",
    "QDQ, only the weights, a scale an input channel": """g (float[N,5,6,6] x) => (float[N,3,H,W] y)
        <float[5] ws = WS, int8[3,5,3,3] w>
        { v = DequantizeLinear<axis=1>(w, ws) y = Conv(x, v) }""",
    "ConvInteger": """g (uint8[N,4,6,6] x) => (int32[N,5,H,W] y)
        <uint8 xz = {120}, int8[5,4,3,3] w, int8 wz = {3}> { y = ConvInteger<pads=[1,1,1,1]>(x, w, xz, wz) }""",
    "ConvInteger, no zero points": """g (uint8[N,4,6,6] x) => (int32[N,5,H,W] y)
        <uint8[5,4,3,3] w> { y = ConvInteger(x, w) }""",
    "MatMulInteger": """g (uint8[N,40] x) => (int32[N,5] y)
        <uint8 xz = {120}, int8[40,5] w, int8[5] wz = {0,1,2,3,4}> { y = MatMulInteger(x, w, xz, wz) }""",
    "MatMulInteger, no zero points": """g (int8[N,40] x) => (int32[N,5] y)
        <int8[40,5] w> { y = MatMulInteger(x, w) }""",
    "QLinearConv": """g (uint8[N,4,6,6] x) => (uint8[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {120}, float[5] ws = WS, int8[5] wz = {0,0,0,0,0}, int8[5,4,3,3] w, float ys = {0.5}, uint8 yz = {128}, int32[5] b = BIAS>
        { y = QLinearConv<pads=[1,1,1,1]>(x, xs, xz, w, ws, wz, ys, yz, b) }""",
    "QLinearConv, depthwise, one scale": """g (uint8[N,5,6,6] x) => (uint8[N,5,H,W] y)
        <float xs = {0.05}, uint8 xz = {12}, float ws = {0.01}, uint8 wz = {130}, uint8[5,1,3,3] w, float ys = {0.1}, uint8 yz = {100}>
        { y = QLinearConv<pads=[1,1,1,1], group=5, strides=[2,1]>(x, xs, xz, w, ws, wz, ys, yz) }""",
    "QLinearMatMul": """g (uint8[N,40] x) => (uint8[N,5] y)
        <float xs = {0.05}, uint8 xz = {120}, float ws = {0.01}, uint8 wz = {110}, uint8[40,5] w, float ys = {0.3}, uint8 yz = {128}>
        { y = QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz) }""",
}


@pytest.mark.parametrize("text", QUANTIZED.values(), ids=QUANTIZED)
def test_quantised(text):
    model = text_model(text.replace("BIAS", BIAS).replace("WS", WS))
    check(model, crossbar=1)


def test_quantised_activations_of_16_bits():
    model = text_model(
        """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <float xs = {0.0005}, uint16 xz = {30000}, float ws = {0.01}, int8[5,4,3,3] w>
        { q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
          v = DequantizeLinear(w, ws) y = Conv<pads=[1,1,1,1]>(d, v) }""",
        opset=21,
    )
    check(model, crossbar=1)


def test_inputs_of_16_bits_are_the_codes():
    model = text_model(
        """g (uint16[N,40] q) => (float[N,5] y) <float s = {0.001}, uint16 z = {30000}, float[40,5] w>
        { d = DequantizeLinear(q, s, z) y = MatMul(d, w) }""",
        opset=21,
    )
    (layer,) = check(model, crossbar=1).inspect()["layers"]
    assert layer["inputs"] == "ui16" and layer["zero_point"] == 30000


@pytest.mark.parametrize(("rows", "bits"), [(1, 32), (1 << 16, 32), ((1 << 16) + 1, 64)])
def test_sums_have_32_bits_where_all_of_a_column_fit(rows, bits):
    """8 bits of an input, 7 of a weight without its sign, and one for each time that rows double:
    31 fit beside the sign."""
    assert accumulator_bits(InputScale(1.0, 8, signed=False), 8, rows) == bits


def test_a_quantised_model_keeps_its_own_integers():
    text = QUANTIZED["QDQ, a scale a channel"].replace("BIAS", BIAS).replace("WS", WS)
    w = np.random.default_rng(0).integers(-127, 128, (5, 4, 3, 3))
    model = text_model(text, w=w)
    program = check(model, crossbar=1, overrides=("adc.mode=lossless", "weights.bits=5"))
    (weights,) = (op for op in program.module.walk() if isinstance(op, WeightsOp))
    assert weights.weight_bits == 8
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    np.testing.assert_array_equal(program.weights[weights.symbol], stored["w"].reshape(5, -1).T)
    np.testing.assert_allclose(program.weights[f"{weights.symbol}.scale"], stored["ws"], rtol=1e-6)


BITS4 = """g (float[N,6] x) => (float[N,4] y) <int4[6,4] w, float[4] s = {0.1, 0.2, 0.3, 0.4}>
    { v = DequantizeLinear(w, s) y = MatMul(x, v) }"""


@pytest.mark.parametrize(
    ("kind", "low", "high", "bits"), [("int4", -7, 7, 4), ("int4", -8, 7, 5), ("uint4", 0, 15, 5)]
)
def test_integers_of_4_bits_take_no_more_than_they_need(kind, low, high, bits):
    model = text_model(BITS4.replace("int4[6,4] w, ", ""), opset=21)
    w = np.resize([low, high, 1, 2, 3], (6, 4))
    number = getattr(onnx.TensorProto, kind.upper())
    model.graph.initializer.append(onnx.helper.make_tensor("w", number, w.shape, w.flatten()))
    feeds = inputs_of(model)
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=LOSSLESS)
    (weights,) = (op for op in program.module.walk() if isinstance(op, WeightsOp))
    assert weights.weight_bits == bits
    np.testing.assert_array_equal(program.weights[weights.symbol], w)
    # onnxruntime itself rounds the activations there to 8 bits.
    expected = feeds["x"] @ (w * np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(program.run(feeds)["y"], expected, atol=TOLERANCE)


def test_weights_of_8_bit_floats_are_real_numbers():
    model = text_model(BITS4.replace("int4[6,4] w, ", ""), opset=21)
    w = np.linspace(-0.9, 0.9, 24)
    kind = onnx.TensorProto.FLOAT8E4M3FN
    model.graph.initializer.append(onnx.helper.make_tensor("w", kind, (6, 4), w))
    check(model, crossbar=1)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("zero", [False, True], ids=["no zero point", "zero point"])
def test_weights_quantised_in_blocks(axis, zero):
    shape = (3, 7) if axis == 0 else (6, 4)
    size = ",".join(map(str, shape))
    model = text_model(
        f"""g (float[N,6] x) => (float[N,7] y)
        <int8[6,7] w, float[{size}] s, int8[{size}] z>
        {{ v = DequantizeLinear<axis={axis}, block_size=2>(w, s{", z" if zero else ""}) y = MatMul(x, v) }}""",
        opset=21,
    )
    check(model, crossbar=1)


@pytest.mark.parametrize("scale", ["0.0", "-0.05"])
def test_activations_with_a_scale_that_is_none(scale):
    model = text_model(
        """g (uint8[N,40] q) => (float[N,5] y) <float xs = {SCALE}, float[40,5] w>
        { d = DequantizeLinear(q, xs) y = MatMul(d, w) }""".replace("SCALE", scale)
    )
    check(model, crossbar=1)


# --- Graphs -------------------------------------------------------------------------------------

GRAPHS = {
    "one weight for two layers": (
        """g (float[N,4,6,6] x) => (float[N,4,6,6] y) <float[4,4,3,3] w>
        { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) y = Conv<pads=[1,1,1,1]>(b, w) }""",
        2,
    ),
    "one input for two layers": (
        """g (float[N,40] x) => (float[N,7] y, float[N,5] z) <float[40,7] w, float[40,5] v>
        { y = MatMul(x, w) z = MatMul(x, v) }""",
        2,
    ),
    "an output that is also read": (
        """g (float[N,40] x) => (float[N,7] y, float[N,5] z) <float[40,7] w, float[7,5] v>
        { y = MatMul(x, w) r = Relu(y) z = MatMul(r, v) }""",
        2,
    ),
    "an output that is an input": (
        "g (float[N,40] x) => (float[N,7] y, float[N,40] z) <float[40,7] w> { y = MatMul(x, w) z = Identity(x) }",
        1,
    ),
    "the same value twice": (
        "g (float[N,40] x) => (float[N,7] y, float[N,7] z) <float[40,7] w> { y = MatMul(x, w) z = Identity(y) }",
        1,
    ),
    "an output that is a constant": (
        "g (float[N,40] x) => (float[N,7] y, float[3] z) <float[40,7] w, float[3] c> { y = MatMul(x, w) z = Identity(c) }",
        1,
    ),
    "a residual around a layer": (
        """g (float[N,8,6,6] x) => (float[N,8,6,6] y) <float[8,8,3,3] w, float[8,8,1,1] v>
        { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = Conv(b, v) d = Add(c, x) y = Relu(d) }""",
        2,
    ),
    "a digital value that two stages read": (
        """g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] v>
        { a = Sigmoid(x) b = MatMul(a, w) c = Mul(a, b) d = MatMul(c, v) e = Add(a, d) y = Mul(e, c) }""",
        2,
    ),
    "an If": (
        """g (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] w>
        { a = MatMul(x, w)
          y = If(c) <then_branch = t () => (float[N,8] p) { p = Relu(a) },
                     else_branch = e () => (float[N,8] q) { q = Add(a, x) }> }""",
        1,
    ),
    "an If whose branch is an outer value": (
        """g (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] w>
        { a = MatMul(x, w)
          y = If(c) <then_branch = t () => (float[N,8] p) { p = Identity(a) },
                     else_branch = e () => (float[N,8] q) { q = Identity(x) }> }""",
        1,
    ),
    "a moving MatMul": (
        """g (float[N,5,8] x) => (float[N,5,5] y) <float[8,8] w>
        { a = MatMul(x, w) t = Transpose<perm=[0,2,1]>(x) y = MatMul(a, t) }""",
        1,
    ),
    "a ConvTranspose": (
        "g (float[N,4,5,5] x) => (float[N,3,H,W] y) <float[4,3,2,2] w> { y = ConvTranspose<strides=[2,2]>(x, w) }",
        1,
    ),
    "nothing to map": ("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }", 0),
    "nothing at all": ("g (float[N,8] x) => (float[N,8] y) { y = Identity(x) }", 0),
    "batch folded into rows": (
        """g (float[N,6,8] x) => (float[N,6,5] y) <int64[2] s = {-1, 8}, int64[3] r = {-1, 6, 5}, float[8,5] w, float[5] b>
        { a = Reshape(x, s) m = Gemm(a, w, b) y = Reshape(m, r) }""",
        1,
    ),
    "no rows vary": (
        "g (float[1,40] x) => (float[1,7] y) <float[40,7] w> { y = MatMul(x, w) }",
        1,
    ),
    "a weight of zeros": (
        "g (float[N,4] x) => (float[N,3] y) <float[4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[3] b> { y = Gemm(x, w, b) }",
        1,
    ),
    "a column of zeros": (
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {0, 1, 0, 2}> { y = MatMul(x, w) }",
        1,
    ),
}


@pytest.mark.parametrize(("text", "crossbar"), GRAPHS.values(), ids=GRAPHS)
def test_graph(text, crossbar):
    check(text_model(text), crossbar=crossbar)


def test_inputs_of_zeros():
    model = text_model(MATMUL["x w"])
    check(model, {"x": np.zeros((3, 40), np.float32)}, crossbar=1)


@pytest.mark.parametrize("batch", [1, 2, 5, 67])
def test_a_program_runs_any_batch(batch):
    model = text_model(
        """g (float[N,6,8] x) => (float[N,30] y) <int64[2] s = {-1, 8}, float[8,5] w, int64[2] r = {-1, 30}>
        { a = Reshape(x, s) m = MatMul(a, w) y = Reshape(m, r) }"""
    )
    feeds = inputs_of(model, batch=7)
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=LOSSLESS)
    # Shapes that the calibration didn't see, ranges that it did.
    x = np.resize(feeds["x"], (batch, 6, 8))
    (y,) = program.run({"x": x}).values()
    np.testing.assert_allclose(y, reference(model, {"x": x})["y"], atol=TOLERANCE)


def test_layers_that_share_an_input_share_its_codes():
    program = check(text_model(GRAPHS["one input for two layers"][0]), crossbar=2)
    assert sum(op.name == "xbar.quantize" for op in program.module.walk()) == 1


def test_layers_are_called_as_their_nodes():
    model = text_model(GRAPHS["one weight for two layers"][0])
    names = ["block/conv.1", 'a "quoted" é']
    for node, name in zip((n for n in model.graph.node if n.op_type == "Conv"), names, strict=True):
        node.name = name
    program = check(model, crossbar=2)
    assert [layer["name"] for layer in program.report["layers"]] == names


@pytest.mark.parametrize("names", [("a", "a.scale"), ("a.bias", "a"), ("a.scale", "a")])
def test_a_node_called_as_anothers_arrays(names):
    text = """g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8] b, float[8,8] v, float[8] c>
        { a = Gemm(x, w, b) r = Relu(a) y = Gemm(r, v, c) }"""
    model = text_model(text)
    for node, name in zip((n for n in model.graph.node if n.op_type == "Gemm"), names, strict=True):
        node.name = name
    program = check(model, crossbar=2)
    assert len({op.symbol for op in program.module.walk() if isinstance(op, WeightsOp)}) == 2


def test_digital_parts_are_as_few_as_can_be():
    program = check(text_model(GRAPHS["a residual around a layer"][0]), crossbar=2)
    assert sum(isinstance(op, DigitalOp) for op in program.module.walk()) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ("array.encoding=offset",),
        ("array.slices_in=arrays", "array.polarity_in=arrays"),
        ("array.encoding=offset", "array.slices_in=arrays", "array.cell_bits=3"),
        ("inputs.signed=twos-complement",),
        ("inputs.dac_bits=4", "array.cell_bits=4"),
        ("array.rows=20", "array.cols=40"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["groups", "depthwise", "pads that differ on each side"])
def test_every_encoding(form, overrides):
    check(text_model(CONV[form]), crossbar=1, overrides=(*LOSSLESS, *overrides))


OLD = {
    "a moving bias": "g (float[N,40] x, float[7] b) => (float[N,7] y) <float[40,7] w> { y = Gemm<beta=0.5>(x, w, b) }",
    "a bias a row": "g (float[3,40] x) => (float[3,7] y) <float[40,7] w, float[3,1] b> { y = Gemm(x, w, b) }",
    "a vector": "g (float[N,5,40] x) => (float[N,5] y) <float[40] w> { y = MatMul(x, w) }",
    "a vector first": "g (float[N,40,5] x) => (float[N,5] y) <float[40] w> { y = MatMul(w, x) }",
    "a stack": "g (float[N,3,5,20] x) => (float[N,3,5,7] y) <float[3,20,7] w> { y = MatMul(x, w) }",
    "one x for a stack": "g (float[5,20] x) => (float[3,5,7] y) <float[3,20,7] w> { y = MatMul(x, w) }",
    "a vector for a stack": "g (float[20] x) => (float[3,7] y) <float[3,20,7] w> { y = MatMul(x, w) }",
    "a convolution": "g (float[N,4,8,8] x, float[5] b) => (float[N,5,H,W] y) <float[5,4,3,3] w> { y = Conv(x, w, b) }",
}


@pytest.mark.parametrize("opset", [7, 9, 11])
@pytest.mark.parametrize("text", OLD.values(), ids=OLD)
def test_a_model_that_keeps_its_old_opset(text, opset):
    # Hardmax means something else from opset 13 on, so that such a model isn't raised.
    text = text.replace("(float", "(float[2,2] h, float", 1).replace("=> (", "=> (float[2,2] k, ")
    text = text.replace("{ y", "{ k = Hardmax(h) y")
    check(text_model(text, opset=opset))


@pytest.mark.parametrize("size", [1e-31, 1e-37])
@pytest.mark.parametrize("percentile", [100, 99.9])
def test_tiny_activations(size, percentile):
    model = text_model(MATMUL["x w"], w=np.full((40, 7), 1e30))
    x = np.random.default_rng(0).random((3, 40)).astype(np.float32) * np.float32(size)
    program = xbarc.compile(
        model, "mca128", calibration=x, overrides=LOSSLESS, percentile=percentile
    )
    np.testing.assert_allclose(program.run(x)["y"], reference(model, {"x": x})["y"], rtol=1e-2)


@pytest.mark.parametrize("percentile", [100, 99])
def test_a_narrow_range(percentile):
    model = text_model(MATMUL["x w"])
    x = np.ones((3, 40), np.float32)
    x[0, 0] += 1e-7
    program = xbarc.compile(
        model, "mca128", calibration=x, overrides=LOSSLESS, percentile=percentile
    )
    np.testing.assert_allclose(program.run(x)["y"], reference(model, {"x": x})["y"], rtol=1e-2)


# --- What can't be ------------------------------------------------------------------------------


def test_all_layers_that_cannot_stand_are_named():
    model = text_model(
        """g (float[N,4,6,6] x) => (float[N,5,H,W] y)
        <uint8[5,4,3,3] w, float ws = {0.01}, uint8[5,5,1,1] v>
        { a = DequantizeLinear(w, ws) one = Conv(x, a) r = Relu(one) b = DequantizeLinear(v, ws) y = Conv(r, b) }"""
    )
    for node, name in zip((n for n in model.graph.node if n.op_type == "Conv"), "ab", strict=True):
        node.name = f"conv {name}"
    overrides = ("weights.bits=2", "array.cols=8", "array.cell_bits=1")
    with pytest.raises(XbarcError) as error:
        xbarc.compile(model, "mca128", calibration=inputs_of(model), overrides=overrides)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, "ab", strict=True):
        assert f"'conv {name}'" in line and "a crossbar has 8" in line


def test_reasons_for_staying_digital():
    program = check(text_model(GRAPHS["a moving MatMul"][0]))
    (reason,) = program.report["coverage"]["digital_reasons"].values()
    assert reason == "MatMul: its weights change at run time"
    share = program.report["coverage"]["mac_share"]
    assert math.isclose(share, 5 * 8 * 8 / (5 * 8 * 8 + 5 * 8 * 5))


def test_constants_of_a_digital_part_stand_in_the_models_order():
    names = list("hbfadcge")
    declared = ", ".join(f"float[5] {name}" for name in names)
    model = text_model(
        f"""g (float[N,5] x) => (float[N,5] y) <{declared}>
        {{ p = Add(x, a) q = Mul(p, b) r = Add(q, c) s = Mul(r, d) t = Add(s, e) u = Mul(t, f)
           v = Add(u, g) y = Mul(v, h) }}"""
    )
    (content,) = check(model, crossbar=0).digital.values()
    assert [t.name for t in onnx.load_from_string(content).graph.initializer] == names


def test_every_mvm_is_by_im2col():
    program = check(text_model(CONV["2d"]))
    assert [op.by.data for op in program.module.walk() if isinstance(op, MvmOp)] == ["im2col"]


@pytest.mark.parametrize("percentile", [100, 99])
def test_activations_that_are_not_finite(percentile):
    model = text_model(
        "g (float[N,8] x) => (float[N,4] y) <float[8,4] w> { r = Relu(x) l = Log(r) y = MatMul(l, w) }"
    )
    with pytest.raises(XbarcError, match=r"^MatMul 'MatMul': activations reach from -inf to "):
        xbarc.compile(model, "mca128", calibration=inputs_of(model), percentile=percentile)


def test_what_the_verifier_finds_is_one_line(monkeypatch):
    def wrong(*_, **__):
        raise VerifyException("a tensor\nof no shape")

    monkeypatch.setattr(ModuleOp, "verify", wrong)
    model = text_model(MATMUL["x w"])
    with pytest.raises(XbarcError, match=r"^the model .* tile IR: a tensor of no shape$"):
        xbarc.compile(model, "mca128", calibration=inputs_of(model))


NOT_COUNTED = {
    "a Loop": (
        """g (float[N,8] x, int64 n, bool c) => (float[N,8] y) <float[8,8] w, float[8,8] v>
        { a = MatMul(x, w)
          y = Loop(n, c, a) <body = b (int64 i, bool c1, float[N,8] s) => (bool c2, float[N,8] t) {
            c2 = Identity(c1) t = MatMul(s, v) }> }""",
        "MatMul: in the body of a Loop",
    ),
    "an If": (
        """g (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] w, float[8,8] v>
        { a = MatMul(x, w)
          y = If(c) <then_branch = t () => (float[N,8] p) { p = MatMul(a, v) },
                     else_branch = e () => (float[N,8] q) { q = Identity(a) }> }""",
        "MatMul: in the body of an If",
    ),
    "an Einsum": (
        """g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] v>
        { a = MatMul(x, w) y = Einsum<equation="ij,jk->ik">(a, v) }""",
        "Einsum: Einsum has no mapping",
    ),
    "an LSTM": (
        """g (float[N,2,8] x) => (float[N,1,2,4] y) <float[8,8] m, float[1,16,8] w, float[1,16,4] r>
        { a = MatMul(x, m) y = LSTM<hidden_size=4>(a, w, r) }""",
        "LSTM: each of its steps waits for the step before: recurrence has no mapping",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_a_share_of_what_cannot_be_counted_is_not_claimed(text, reason):
    model = text_model(text)
    feeds = inputs_of(model) | ({"n": np.array(3), "c": np.array(True)} if "bool c" in text else {})
    feeds = {i.name: feeds[i.name] for i in model.graph.input}
    program = check(model, feeds, crossbar=1)
    covered = program.report["coverage"]
    assert covered["mac_share"] is None
    assert list(covered["digital_reasons"].values()) == [reason]
    assert "not all multiply-accumulates can be counted" in "\n".join(summary(program.report))
    assert "not all multiply-accumulates can be counted" in notes(program.report)


def test_an_einsum_of_one_operand_multiplies_nothing():
    model = text_model(
        """g (float[N,8] x) => (float[N] y) <float[8,8] w>
        { a = MatMul(x, w) y = Einsum<equation="ij->i">(a) }"""
    )
    assert check(model, crossbar=1).report["coverage"]["mac_share"] == 1
