"""pool-on-crossbar: averages as convolutions of equal weights, where every window counts alike."""

import numpy as np
import pytest
from models import snr_db, text_model

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.query import constant
from xbarc.graph.run import Session, random_inputs, relative_error
from xbarc.passes.pool_on_crossbar import PoolOnCrossbar
from xbarc.support.errors import UsageError


def model_of(node, shape="N,3,6,5", more=""):
    return load(text_model(f"g (float[{shape}] x) => (float[N,C,H,W] y) {more} {{ y = {node} }}"))


@pytest.mark.parametrize(
    "node",
    [
        "GlobalAveragePool(x)",
        "AveragePool<kernel_shape=[2,3], strides=[2,1]>(x)",
        "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
        'AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="VALID">(x)',
        "AveragePool<kernel_shape=[6,5], strides=[6,5]>(x)",
        "AveragePool<kernel_shape=[7,7], pads=[0,0,1,2]>(x)",
        "ReduceMean(x, a)",
    ],
)
def test_the_function_stays(node):
    model = model_of(node, more="<int64[2] a = {2, -1}>")
    name = next(iter(model.graph)).name
    feeds = random_inputs(model, 2, seed=1)
    before = Session(model).run(feeds)
    assert PoolOnCrossbar().apply(model, None)
    (conv,) = model.graph
    assert (conv.op_type, conv.name) == ("Conv", name)
    weights = constant(conv.inputs[1])
    assert weights.shape[:2] == (3, 1)
    assert len(np.unique(weights)) == 1
    assert relative_error(before, Session(model).run(feeds)) < 1e-5


def test_without_the_spatial_axes():
    model = load(
        text_model(
            "g (float[N,3,6,5] x) => (float[N,3] y) <int64[2] a = {2, 3}> "
            "{ y = ReduceMean<keepdims=0>(x, a) }"
        )
    )
    feeds = random_inputs(model, 2)
    before = Session(model).run(feeds)
    assert PoolOnCrossbar().apply(model, None)
    assert [n.op_type for n in model.graph] == ["Conv", "Flatten"]
    assert relative_error(before, Session(model).run(feeds)) < 1e-5


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", "pads without count_include_pad"),
        ("AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", "ceil_mode"),
        ('AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(x)', "auto_pad=SAME_UPPER"),
        ("ReduceMean(x, a)", "exactly the spatial axes"),
    ],
)
def test_windows_that_count_differently_are_kept(node, reason):
    model = model_of(node, more="<int64[1] a = {1}>")
    name = next(iter(model.graph)).name
    assert not PoolOnCrossbar().apply(model, None)
    with pytest.raises(UsageError, match=f"'{name}' can't be taken: .*{reason}"):
        PoolOnCrossbar(layers=(name,)).apply(model, None)


def test_every_conductance_of_a_column_is_the_same():
    source = text_model("g (float[N,3,6,5] x) => (float[N,3,1,1] y) { y = GlobalAveragePool(x) }")
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 5)).astype(np.float32)
    program = xbarc.compile(source, "mca128", calibration=x, passes="pool-on-crossbar")
    (name,) = [n for n in program.weights if "." not in n]
    assert (program.weights[name] == 127).all()
    assert snr_db(x.mean(axis=(2, 3), keepdims=True), program.run(x)["y"]) > 25
