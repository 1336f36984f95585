"""Layers are called as their node is; where that is a number, as the author calls them."""

import logging

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.query import unique_name


def names(source):
    """Of the nodes that multiply, in order."""
    layers = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    return [node.name for node in load(source).graph if node.op_type in layers]


def layer(node_name, weight, op="MatMul"):
    """A model of one layer, its node and its weight so called."""
    w = np.ones((4, 4), np.float32)
    node = onnx.helper.make_node(op, ["x", weight], ["y"], name=node_name)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [value("x", 1, ["N", 4])],
        [value("y", 1, ["N", 4])],
        [onnx.numpy_helper.from_array(w, weight)],
    )
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
    )


CALLED = {
    # the node's name, the weight's name -> the layer's
    "nothing": ("", "res1.0.conv1.weight", "res1.0.conv1"),
    "a number": ("17", "fc.weight", "fc"),
    "torch's number": ("node_Conv_307", "res1.0.conv1.weight", "res1.0.conv1"),
    "torch's number of an operation": ("node_linear_4", "head.fc.weight", "head.fc"),
    "an operator's number": ("MatMul_12", "fc.weight", "fc"),
    "an operator": ("MatMul", "fc.weight", "fc"),
    "a projection": ("", "attention.in_proj_weight", "attention.in_proj"),
    "keras's weight": ("", "model/dense_1/kernel:0", "model/dense_1"),
    "mxnet's weight": ("", "stage1_unit1_conv1_weight", "stage1_unit1_conv1"),
    "onnxruntime's weight": ("", "fc.weight_quantized", "fc"),
    "the author's": ("classifier", "fc.weight", "classifier"),
    "lower case": ("matmul1", "fc.weight", "matmul1"),
    "a path of torch's": ("/res1/conv1/Conv", "fc.weight", "/res1/conv1/Conv"),
    "a path of tf2onnx": ("model/dense/MatMul", "dense/kernel:0", "model/dense/MatMul"),
    "a number, and a weight of no layer": ("MatMul_12", "onnx::MatMul_217", "MatMul_12"),
    "nothing, and a weight of no layer": ("", "217", "MatMul"),
}


@pytest.mark.parametrize("case", CALLED)
def test_what_a_layer_is_called(case):
    node, weight, wanted = CALLED[case]
    model = layer(node, weight)
    assert names(model) == [wanted]
    program = xbarc.compile(model)
    assert [row["name"] for row in program.report["layers"]] == [wanted]


def test_names_are_unique_and_the_same_every_time():
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[N,4] x) => (float[N,4] y)
        { a = MatMul(x, fc.weight)  [fc] b = MatMul(a, k)  c = MatMul(b, fc.weight)
          y = MatMul(c, fc.weight) }"""
    text = text.replace("fc.weight", "w")
    model = onnx.parser.parse_model(text)
    for name in ("w", "k"):
        array = np.eye(4, dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.input[:] = ["fc.weight" if name == "w" else name for name in node.input]
    model.graph.initializer[0].name = "fc.weight"
    wanted = ["fc_1", "fc", "fc_2", "fc_3"]
    assert names(model) == wanted
    assert names(model) == wanted


class Block(torch.nn.Module):
    """A residual block."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.conv2 = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        """Two convolutions, and what came."""
        return torch.relu(self.conv2(torch.relu(self.bn1(self.conv1(x)))) + x)


class Network(torch.nn.Module):
    """Layers in modules of modules; `mix` meets a batch of vectors, where torch writes a MatMul."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.res1 = torch.nn.Sequential(Block(), Block())
        self.mix = torch.nn.Linear(8, 8)
        self.fc = torch.nn.Linear(4, 10)

    def forward(self, x):
        """Ten classes."""
        return self.fc(self.mix(self.res1(self.stem(x))).mean((2, 3)))


MODULES = ["stem", *(f"res1.{i}.conv{j}" for i in (0, 1) for j in (1, 2)), "mix", "fc"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The network as torch's exporter writes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("torch") / "net.onnx"
    with torch.no_grad():
        given = (torch.randn(2, 3, 8, 8),)
        torch.onnx.export(
            Network().eval(), given, path, dynamo=True, verbose=False, external_data=False
        )
    return path


def test_what_torch_exports(exported):
    assert names(exported) == MODULES


def test_what_onnxruntime_quantises_of_it(exported, tmp_path):
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(exported, tmp_path / "dynamic.onnx")
    # It drops what torch noted, and the weights of `mix`, which torch transposed, are a number.
    known = [
        name for name in names(tmp_path / "dynamic.onnx") if not name.startswith("node_MatMul")
    ]
    assert known == [name for name in MODULES if name != "mix"]


def test_what_torchs_older_exporter_writes(tmp_path):
    """Its nodes have the modules' paths: they stay."""
    path = tmp_path / "net.onnx"
    torch.onnx.export(Network().eval(), (torch.randn(2, 3, 8, 8),), path, dynamo=False)
    graph = onnx.load(path).graph
    own = [n.name for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    assert names(path) == own
    assert own[1] == "/res1/res1.0/conv1/Conv"


def test_a_name_that_thousands_want_is_counted_on():
    """Numbers without gaps, and none looked up again from 1: 20,000 took minutes."""
    taken, last = {"Relu_2"}, {}
    names = [unique_name("Relu", taken, last) for _ in range(20_000)]
    assert names[:4] == ["Relu", "Relu_1", "Relu_3", "Relu_4"]
    assert len(set(names)) == 20_000
    assert names[-1] == "Relu_20000"
