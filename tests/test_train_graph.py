"""ONNX graphs as torch modules: the same outputs, and weights back in the same graph."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from models import text_model
from shared import SHARED, needs_shared

from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs
from xbarc.graph.run import Session, random_inputs
from xbarc.support.errors import XbarcError
from xbarc.train.graph import Graph, write_back

NEAR = 1e-4

SHAPES = {
    "micro_kws_fp32": {},
    "mnist-8": {},
    "mnist_mlp_256x4": {},
    "mobilenetv1_025_vww96": {},
    "ppocr_cls_se": {"x": [1, 3, 48, 192]},
    "resnet20_cifar10": {},
    "super_resolution": {},
    "ultraface_slim_320": {},
    "unet_sed": {},
}


def compared(model):
    """What torch and onnxruntime make of random inputs."""
    feeds = random_inputs(model, 2)
    with torch.no_grad():
        found = Graph(model)({name: torch.from_numpy(x) for name, x in feeds.items()})
    for name, wanted in Session(model).run(feeds).items():
        got = found[name].numpy()
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= NEAR * max(1.0, np.abs(wanted).max()), name


@needs_shared
@pytest.mark.parametrize("name", SHAPES)
def test_outputs_are_those_of_onnxruntime(name):
    path = SHARED / "models" / f"{name}.onnx"
    compared(load(path, Inputs(SHAPES[name])).model)


def test_shapes_worked_out_in_the_graph():
    compared(
        load(
            text_model(
                """g (float[N,3,8,8] x) => (float[N,M] y) <float[4,3,3,3] w, int64[1] two> {
                    c = Conv <auto_pad="SAME_LOWER", strides=[2,2]> (x, w)
                    s = Shape <start=0, end=1> (x)
                    last = Constant <value_ints=[-1]> ()
                    t = Concat <axis=0> (s, last)
                    y = Reshape (c, t)
                }""",
                two=[2],
            )
        ).model
    )


def mlp():
    return load(
        text_model(
            """g (float[N,6] x) => (float[N,3] y)
               <float[6,5] w1, float[5] b1, float[5,3] w2> {
                h = MatMul(x, w1)
                a = Add(h, b1)
                r = Relu(a)
                y = MatMul(r, w2)
            }"""
        )
    ).model


def test_weights_come_back_into_the_same_graph():
    model = mlp()
    before = {name: v.const_value.numpy().copy() for name, v in model.graph.initializers.items()}
    graph = Graph(model, ["w1", "b1"])
    with torch.no_grad():
        for parameter in graph.weights.values():
            parameter.add_(1)
    arrays = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}
    assert all(np.array_equal(arrays[n], before[n]) for n in before)  # the model isn't written to
    write_back(model, graph.arrays())
    for name, value in model.graph.initializers.items():
        moved = value.const_value.numpy() - before[name]
        assert np.allclose(moved, 0 if name == "w2" else 1, atol=1e-6), name
    compared(model)


def test_a_graph_that_shares_parameters():
    graph = Graph(mlp(), ["w1"])
    other = Graph.sharing(graph)
    with torch.no_grad():
        graph.weights["w1"].zero_()
    assert other.weights["w1"] is graph.weights["w1"]
    x = torch.ones(2, 6)
    assert torch.equal(other({"x": x})["y"], graph({"x": x})["y"])


def test_every_node_without_a_function_is_named_at_once():
    model = text_model(
        """g (float[N,4,4] x) => (float[N,4,4] z, float[N,4,4] d) {
            z = Bernoulli(x)
            d = RandomNormalLike(x)
        }"""
    )
    with pytest.raises(XbarcError) as caught:
        Graph(ir.from_proto(model))
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["Bernoulli", "RandomNormalLike"]


def test_a_quantised_model_is_refused_with_what_to_do():
    model = text_model(
        """g (float[N,4] x) => (float[N,4] y) <float[1] s> {
            q = QuantizeLinear(x, s)
            y = DequantizeLinear(q, s)
        }""",
        s=[0.1],
    )
    with pytest.raises(XbarcError, match="give the float model"):
        Graph(ir.from_proto(model))


def test_an_attribute_that_the_table_does_not_know_is_refused():
    model = text_model(
        "g (float[N,1,4,4] x) => (float[N,1,2,2] y) "
        "{ y = AveragePool <kernel_shape=[2,2], strides=[2,2], new_mode=1> (x) }"
    )
    with pytest.raises(XbarcError, match="attribute 'new_mode'"):
        Graph(ir.from_proto(model))


@pytest.mark.parametrize(("target", "any_batch"), [([1, 8], True), ([8], False)])
def test_a_fixed_batch_is_several_where_only_shapes_say_it(target, any_batch):
    """Reshape to [1, 8] is to [2, 8] for two; one that mixes samples stays as it is."""
    model = load(
        text_model(
            f"""g (float[1,8] x) => (float y) <int64[{len(target)}] s, float[8,2] w> {{
                r = Reshape(x, s)
                y = MatMul(r, w)
            }}""".replace("float y", "float[1,2] y" if any_batch else "float[2] y"),
            s=target,
        )
    ).model
    graph = Graph(model)
    x = torch.from_numpy(np.random.default_rng(0).random((4, 8), np.float32))
    assert graph.takes_any_batch({"x": x}) is any_batch
    if any_batch:
        apart = torch.cat([graph({"x": x[i : i + 1]})["y"] for i in range(4)])
        assert torch.allclose(graph({"x": x})["y"], apart)
