"""fc-to-1x1: the same function as convolutions; compact: the best 1x1 on the pooled map."""

from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from shared import SHARED, needs_shared

from xbarc.frontends.onnx.importer import load
from xbarc.graph.attachments import attach
from xbarc.graph.run import Session, random_inputs, relative_error
from xbarc.passes.fc_to_1x1 import FcTo1x1
from xbarc.pipeline import Instrumentation, load_registry, run_graph_passes
from xbarc.support.errors import UsageError, XbarcError

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def converted(text, expected, samples=3, **options):
    """The pass on a model, its operators held to `expected`, its function and shapes to before."""
    model = load(text_model(text))
    return check(model, expected, random_inputs(model, samples, seed=1), **options)


def check(model, expected, feeds, **options):
    before = Session(model).run(feeds)
    outputs = [(v.name, v.shape, v.dtype) for v in model.graph.outputs]
    assert FcTo1x1(**options).apply(model, None) == (expected is not None)
    if expected is not None:
        assert [node.op_type for node in model.graph] == expected
    assert [(v.name, v.shape, v.dtype) for v in model.graph.outputs] == outputs
    after = Session(model).run(feeds)
    assert relative_error(before, after) < 1e-5
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    return model


def test_the_kernel_is_the_whole_map():
    model = converted(
        "g (float[N,3,4,5] x) => (float[N,7] y) <float[60,7] w, float[7] b> "
        "{ f = Flatten(x) y = Gemm(f, w, b) }",
        ["Conv", "Flatten"],
    )
    conv = next(iter(model.graph))
    assert conv.inputs[1].shape == [7, 3, 4, 5]
    assert conv.name == "Gemm"


@settings(max_examples=30, deadline=None)
@given(
    spatial=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    transposed=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, 2.0]),
    bias=st.sampled_from(["", ", b"]),
    reshape=st.booleans(),
)
def test_gemm(spatial, transposed, alpha, beta, bias, reshape):
    rows = 2 * int(np.prod(spatial))
    shape = f"5,{rows}" if transposed else f"{rows},5"
    flat = "Reshape(x, s) g0 = Relu(f)" if reshape else "Flatten(x) g0 = Relu(f)"
    model = text_model(
        f"g (float[N,2,{','.join(map(str, spatial))}] x) => (float[N,5] y) "
        f"<float[{shape}] w, float[5] b, int64[2] s> {{ f = {flat} "
        f"y = Gemm<transB={int(transposed)}, alpha={alpha}, beta={beta}>(g0, w{bias}) }}",
        s=[-1, rows],
    )
    model = load(model)
    check(model, ["Relu", "Conv", "Flatten"], random_inputs(model, 2, seed=2))


def test_a_chain_stays_four_dimensional():
    converted(
        "g (float[N,3,4,4] x) => (float[N,2] y) "
        "<float[48,6] u, float[6] a, float[6,5] v, float[5,2] w, float[2] c> {"
        " f = Flatten(x) m = MatMul(f, u) p = Add(a, m) r = Relu(p)"
        " n = MatMul(r, v) s = Sigmoid(n) o = MatMul(s, w) y = Add(o, c) }",
        ["Conv", "Relu", "Conv", "Sigmoid", "Conv", "Flatten"],
    )


def test_others_still_read_the_flat_values():
    converted(
        "g (float[N,3,2,2] x) => (float[N,4] y, float[N,4] r) <float[12,4] u, float[4,4] v> {"
        " f = Flatten(x) m = MatMul(f, u) r = Relu(m) n = MatMul(r, v) y = Add(n, m) }",
        ["Conv", "Flatten", "Relu", "Flatten", "Conv", "Flatten", "Add"],
    )


def test_a_flat_input_becomes_a_map_of_one_position():
    converted(
        "g (float[N,6] x) => (float[N,3] y) <float[6,4] u, float[4,3] v> "
        "{ m = MatMul(x, u) r = Tanh(m) y = MatMul(r, v) }",
        ["Unsqueeze", "Conv", "Tanh", "Conv", "Flatten"],
    )


def test_channels_last():
    model = converted(
        "g (float[N,3,4,5] x) => (float[N,7] y) <float[60,7] w, int64[2] s = {-1, 60}> "
        "{ t = Transpose<perm=[0,2,3,1]>(x) f = Reshape(t, s) y = MatMul(f, w) }",
        ["Conv", "Flatten"],
    )
    assert next(iter(model.graph)).inputs[1].shape == [7, 3, 4, 5]


def test_channels_last_behind_an_activation():
    converted(
        "g (float[N,3,4,5] x) => (float[N,7] y) <float[60,7] w, int64[2] s = {-1, 60}> "
        "{ t = Transpose<perm=[0,2,3,1]>(x) f = Reshape(t, s) r = Relu(f) y = MatMul(r, w) }",
        ["Relu", "Conv", "Flatten"],
    )


def test_squeeze_and_excitation_loses_its_reshapes():
    converted(
        "g (float[N,8,5,5] x) => (float[N,8,5,5] y) "
        "<float[8,2] u, float[2,8] v, int64[2] s = {-1, 8}, int64[4] t = {-1, 8, 1, 1}> {"
        " p = GlobalAveragePool(x) f = Reshape(p, s) m = MatMul(f, u) r = Relu(m)"
        " n = MatMul(r, v) q = Reshape(n, t) g1 = Sigmoid(q) y = Mul(x, g1) }",
        ["GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"],
    )


def test_layers_chooses():
    text = (
        "g (float[N,6] x) => (float[N,3] y) <float[6,4] u, float[4,3] v> "
        "{ m = MatMul(x, u) y = MatMul(m, v) }"
    )
    model = load(text_model(text))
    assert FcTo1x1(layers=("MatMul_1",)).apply(model, None)
    assert [n.op_type for n in model.graph] == ["MatMul", "Unsqueeze", "Conv", "Flatten"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Gemm_3", "no layer 'Gemm_3': did you mean 'Gemm'"),
        ("MatMul", "'MatMul' can't be taken: its input has rank 3"),
        ("MatMul_1", "'MatMul_1' can't be taken: its weights aren't static"),
    ],
)
def test_layers_refused(layer, message):
    model = load(
        text_model(
            "g (float[2,5,6] x, float[2,4] z) => (float[2,5,3] y, float[2,2] q, float[2,2] o) "
            "<float[6,3] u, float[4,2] v> { y = MatMul(x, u) t = Transpose(z) o = MatMul(z, t) "
            "q = Gemm(z, v) }"
        )
    )
    with pytest.raises(UsageError, match=message):
        FcTo1x1(layers=(layer,)).apply(model, None)


# --- compact

HEAD = """g (float[N,4,3,3] x) => (float[N,5] y)
<float[36,8] u, float[8] a, float[8,5] v, float[5] c> {
  k = Relu(x) f = Flatten(k) m = Gemm(f, u, a) r = Relu(m) y = Gemm(r, v, c)
}"""


def compact(text, feeds=None, samples=200, **arrays):
    model = load(text_model(text, **arrays))
    feeds = feeds or random_inputs(model, samples, seed=3)
    attach(model, feeds)
    seen = Instrumentation(feeds=feeds)
    moved = run_graph_passes([FcTo1x1(mode="compact")], model, None, seen)
    return model, feeds, moved["fc-to-1x1"]


def test_compact_is_pooling_and_one_layer():
    model, feeds, moved = compact(HEAD)
    assert [n.op_type for n in model.graph] == ["Relu", "GlobalAveragePool", "Conv", "Flatten"]
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert (conv.name, conv.inputs[1].shape) == ("Gemm_1", [5, 4, 1, 1])
    assert Session(model).run(feeds)["y"].shape == (200, 5)
    assert 0 < moved < 1


def test_compact_finds_what_pooling_can_express():
    """A head that averages first: the fit is the head itself."""
    w = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    text = (
        "g (float[N,4,3,3] x) => (float[N,5] y) <float[36,5] u, float[5] c> "
        "{ f = Flatten(x) y = Gemm(f, u, c) }"
    )
    model, _, moved = compact(text, u=np.repeat(w, 9, axis=0) / 9)
    assert moved < 1e-3
    # One layer behind a map of several places is pooled as well.
    assert [n.op_type for n in model.graph] == ["GlobalAveragePool", "Conv", "Flatten"]


def test_compact_is_the_least_squares_optimum():
    model, feeds, _ = compact(HEAD)
    original = load(text_model(HEAD))
    wanted = Session(original).run(feeds)["y"].astype(np.float64)
    pooled = np.maximum(feeds["x"], 0).mean(axis=(2, 3))
    joint = np.column_stack([pooled, np.ones(len(pooled))])
    best = joint @ np.linalg.lstsq(joint, wanted, rcond=None)[0]
    found = Session(model).run(feeds)["y"]
    assert np.allclose(found, best, atol=1e-3 * np.abs(best).max())


def test_compact_without_data_says_so():
    with pytest.raises(XbarcError, match="give --calibration"):
        FcTo1x1(mode="compact").apply(load(text_model(HEAD)), None)


def test_compact_after_global_pooling_keeps_the_function():
    text = (
        "g (float[N,4,3,3] x) => (float[N,5] y) <float[4,5] u, float[5] c> "
        "{ p = GlobalAveragePool(x) f = Flatten(p) y = Gemm(f, u, c) }"
    )
    _, _, moved = compact(text)
    assert moved < 1e-6


def test_compact_needs_a_feature_map():
    model = load(
        text_model("g (float[N,6] x) => (float[N,3] y) <float[6,3] u> { y = MatMul(x, u) }")
    )
    assert not FcTo1x1(mode="compact").apply(model, None)
    with pytest.raises(UsageError, match="no feature map leads to it"):
        FcTo1x1(mode="compact", layers=("MatMul",)).apply(model, None)


def test_it_says_when_it_keeps_the_function():
    assert FcTo1x1().keeps_function
    assert not FcTo1x1(mode="compact").keeps_function
    assert "unless its options say otherwise" in str(load_registry().describe("fc-to-1x1"))
    assert "unless" not in str(load_registry().describe("canonicalize"))


# --- real networks

REAL = {
    "mnist-8": 1,
    "mnist_mlp_256x4": 5,
    "micro_kws_fp32": 3,
    "micro_kws_qdq": 0,
    "micro_kws_qoperator": 0,
    "mobilenetv1_025_vww96": 1,
    "ppocr_cls_se": 1,
    "resnet20_cifar10": 1,
    "super_resolution": 0,
    "ultraface_slim_320": 0,
    "unet_sed": 0,
}
SHAPES = {"ppocr_cls_se": {"x": [1, 3, 48, 192]}}


def linear(model):
    return sum(n.op_type in ("Gemm", "MatMul") for n in model.graph)


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_exact_on_real_networks(name):
    model = load(SHARED / "models" / f"{name}.onnx", SHAPES.get(name, {}))
    before = linear(model)
    check(
        model,
        None if not REAL[name] else [n.op_type for n in _expected(model)],
        random_inputs(model, 1, seed=4),
    )
    assert before - linear(model) == REAL[name]


def _expected(model):
    clone = model.clone()
    FcTo1x1().apply(clone, None)
    return clone.graph


@pytest.mark.parametrize(
    "name", ["bvlc_alexnet", "inception_v1", "resnet50", "shufflenet", "squeezenet", "densenet121"]
)
def test_exact_on_the_onnx_packages_networks(name):
    model = load(LIGHT / f"light_{name}.onnx")
    layers = linear(model)
    before = Session(model).run(feeds := random_inputs(model, 1, seed=5))
    assert FcTo1x1().apply(model, None) == (layers > 0)
    assert linear(model) == 0
    assert relative_error(before, Session(model).run(feeds)) < 1e-5
