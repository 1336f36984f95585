"""equalize: the function stays, and the channels use the codes."""

import numpy as np
import onnx
import pytest
from models import reference, snr_db, text_model

import xbarc
from xbarc.frontends.registry import load
from xbarc.graph.attachments import attach, figures_of
from xbarc.graph.run import same_function
from xbarc.passes.equalize import Equalize

PAIR = """g (float[N,4,8,8] x) => (float[N,4,8,8] y)
<float[16,4,1,1] w, float[16] b, float[16,1,3,3] k, float[16] kb, float[4,16,1,1] v> {{
  a = Conv(x, w, b)
  {activation}
  d = Conv<group=16,pads=[1,1,1,1]>(r, k, kb)
  e = Relu(d)
  y = Conv(e, v)
}}"""
SIZES = 2.0 ** -(np.arange(16).reshape(16, 1, 1, 1) ** 0.7)
"""Channels of the first convolution: the last 7 octaves below the first."""


def uneven(activation, *, text=PAIR, gain=1, **more):
    rng = np.random.default_rng(0)
    w = gain * rng.standard_normal((16, 4, 1, 1)) * SIZES
    b = 0.1 * rng.standard_normal(16) * SIZES.ravel()
    k = rng.standard_normal((16, 1, 3, 3)) / SIZES / 3
    return text_model(text.format(activation=activation), opset=20, w=w, b=b, k=k, **more)


def images(samples=16, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, 4, 8, 8)).astype(np.float32)


def equalized(model, x, **options):
    """The model before and after, and which layers had their inputs scaled."""
    before = load(model).model
    after = before.clone()
    attach(after, {"x": x})
    Equalize(**options).apply(after, None)
    same_function(before, after, {"x": x})
    return after, figures_of(after)["equalize"]


def of_type(model, op_type):
    return [node for node in model.graph if node.op_type == op_type]


def sizes_of(conv):
    """The largest weight of each filter."""
    return np.abs(conv.inputs[1].const_value.numpy()).max(axis=(1, 2, 3))


@pytest.mark.parametrize(
    "activation",
    [
        "r = Relu(a)",
        "r = LeakyRelu<alpha=0.1>(a)",
        "r = AveragePool<kernel_shape=[1,1]>(a)",
        "m = Relu(a)\n  r = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(m)",
    ],
)
def test_factors_go_into_the_weights_around_what_commutes(activation):
    model = uneven(activation)
    after, done = equalized(model, images())
    first, depthwise, _ = of_type(after, "Conv")
    assert depthwise.name in done["folded"]
    assert done["digital"] == []
    assert len(after.graph) == len(model.graph.node)
    was = np.ptp(np.log2(sizes_of(of_type(load(model).model, "Conv")[0])))
    assert np.ptp(np.log2(sizes_of(first))) < was - 4


def test_relu6_gets_a_limit_for_each_channel():
    activation = "r = Clip(a, low, high)"
    text = PAIR.replace("float[16] kb,", "float[16] kb, float low, float high,")
    model = uneven(activation, text=text, gain=4, low=0, high=6)
    after, done = equalized(model, images())
    assert done["digital"] == []
    (limit,) = of_type(after, "Min")
    assert limit.inputs[1].const_value.shape == (16, 1, 1)
    assert of_type(after, "Clip") == []


@pytest.mark.parametrize("activation", ["s = Sigmoid(a)\n  r = Mul(a, s)", "r = HardSwish(a)"])
def test_behind_what_does_not_commute_the_digital_unit_scales(activation):
    after, done = equalized(uneven(activation), images())
    assert len(done["digital"]) == 1
    (layer,) = (n for n in after.graph if n.name == done["digital"][0])
    assert layer.inputs[0].producer().op_type == "Mul"
    alone, left = equalized(uneven(activation), images(), digital=False)
    assert left["digital"] == []
    assert len(alone.graph) == len(after.graph) - 1


def test_a_normalisation_takes_the_factors_of_all_that_read_it():
    text = """g (float[N,6,16] x) => (float[N,6,8] y)
    <float[16] g1, float[16] b1, float[16,8] q, float[16,8] k> {
      n = LayerNormalization(x, g1, b1)
      s = MatMul(n, q)
      t = MatMul(n, k)
      y = Mul(s, t)
    }"""
    gain = np.ones(16)
    gain[3] = 40
    x = np.random.default_rng(0).standard_normal((8, 6, 16)).astype(np.float32)
    model = text_model(text, g1=gain)
    after, done = equalized(model, x)
    assert len(done["folded"]) == 1
    (norm,) = of_type(after, "LayerNormalization")
    scale = norm.inputs[1].const_value.numpy()
    assert scale[3] / np.median(scale) < 20


def test_channels_alike_are_left_alone():
    text = PAIR.format(activation="r = Relu(a)")
    alike = np.ones((16, 4, 1, 1))
    model = text_model(
        text,
        w=alike,
        b=np.zeros(16),
        k=np.ones((16, 1, 3, 3)),
        kb=np.zeros(16),
        v=alike[:4].repeat(4, 1),
    )
    after, done = equalized(model, images())
    assert done == {"folded": [], "digital": []}
    assert len(after.graph) == len(model.graph.node)


def test_the_depthwise_layer_reads_more_of_its_codes():
    model, x, test = uneven("r = Relu(a)"), images(32), images(8, seed=1)
    want = reference(model, {"x": test})["y"]
    found = {
        equalize: xbarc.compile(
            model, calibration=x, equalize=equalize, overrides=["adc.mode=lossless"]
        ).run(test)["y"]
        for equalize in (False, True)
    }
    assert snr_db(want, found[True]) > snr_db(want, found[False]) + 10


def test_update_weights_uses_the_same_factors(tmp_path):
    old, x = uneven("r = HardSwish(a)"), images(32)
    program = xbarc.compile(old, calibration=x)
    assert program.report["pass_figures"]["equalize"]["digital"]
    program.save(tmp_path / "p.xbar")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in old.graph.initializer}
    new = uneven("r = HardSwish(a)", v=-weights["v"])
    updated = xbarc.load(tmp_path / "p.xbar").update_weights(new, x)
    assert updated.digital == program.digital
    assert snr_db(-program.run(x)["y"], updated.run(x)["y"]) > 40
