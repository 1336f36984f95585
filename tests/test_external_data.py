"""Tensors in files beside a model: read from the model's folder, whatever folder xbarc runs in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import google.protobuf.message
import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

import xbarc
from xbarc.driver.optimize import optimize
from xbarc.frontends.onnx.importer import load
from xbarc.graph.run import Session
from xbarc.support.errors import XbarcError

FILE = "weights.bin"

HEADER = '<ir_version: 10, opset_import: ["": 18, "local": 1]>'

PLACES = {
    "a small initialiser": "{ p = MatMul(x, m)  y = Mul(p, v) }",
    "a Constant": "{ c = Constant<value = float[4] {3.0, 1.0, 4.0, 1.5}>()  p = MatMul(x, m)"
    " y = Mul(p, c) }",
    "an attribute of another node": "{ p = MatMul(x, m)  f = ConstantOfShape<value = float[1]"
    " {2.5}>(s)  y = Mul(p, f) }",
    "a branch's initialiser": """{ p = MatMul(x, m)  h = ReduceMax<keepdims=0>(p)
        c = Greater(h, zero)
        y = If(c) <then_branch = t () => (a) <float[4] u = {5.0, 6.0, 7.0, 8.0}> { a = Mul(p, u) },
                   else_branch = e () => (b) { b = Mul(p, v) }> }""",
    "a branch's Constant": """{ p = MatMul(x, m)  h = ReduceMax<keepdims=0>(p)
        c = Greater(h, zero)
        y = If(c) <then_branch = t () => (a) { u = Constant<value = float[4] {5.0, 6.0, 7.0, 8.0}>()
                                               a = Mul(p, u) },
                   else_branch = e () => (b) { b = Mul(p, v) }> }""",
    "a loop's body": """{ p = MatMul(x, m)
        z = Loop(three, yes, p) <body = l (int64 i, bool go, float[N,4] q) => (more, r)
            <float[4] u = {0.5, 2.0, 1.5, 0.25}> { more = Identity(go)  r = Mul(q, u) }>
        y = Reshape(z, rows) }""",
    "a function": """{ p = MatMul(x, m)  y = local.scaled(p) }
        <domain: "local", opset_import: ["": 18]>
        scaled (a) => (b)
        { c = Constant<value = float[4] {3.0, 1.0, 4.0, 1.5}>()  b = Mul(a, c) }""",
    "a digital part": "{ p = MatMul(x, m)  q = PRelu(p, v)  y = Add(q, large) }",
}


def model(place: str) -> onnx.ModelProto:
    """A model with tensors in one place more than initialisers."""
    proto = onnx.parser.parse_model(
        HEADER
        + """g (float[N,4] x) => (y) <float[4] v = {0.5, 2.0, 0.25, 3.0}, float zero = {0.0},
        int64[1] s = {4}, int64[2] rows = {-1, 4}, int64 three = {3}, bool yes = {1}>"""
        + PLACES[place]
    )
    matrix = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(matrix, "m"))
    large = np.random.default_rng(1).standard_normal((500, 1, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(large, "large"))
    return proto


def tensors(message: google.protobuf.message.Message) -> Iterator[onnx.TensorProto]:
    """Every tensor in a message, however deep."""
    for _, value in message.ListFields():
        for item in value if hasattr(value, "__len__") else [value]:
            if isinstance(item, onnx.TensorProto):
                yield item
            elif isinstance(item, google.protobuf.message.Message):
                yield from tensors(item)


def save_apart(proto: onnx.ModelProto, folder: Path, location: str = FILE) -> Path:
    """The model with each of its tensors in one file beside it."""
    apart, data = onnx.ModelProto(), bytearray()
    apart.CopyFrom(proto)
    for tensor in tensors(apart):
        raw = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
        for field in ("float_data", "int32_data", "int64_data", "raw_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", len(data)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    folder.mkdir(exist_ok=True)
    (folder / Path(location).name).write_bytes(data)
    path = folder / "model.onnx"
    path.write_bytes(apart.SerializeToString())
    return path


@pytest.fixture(params=["an empty folder", "a folder with other weights"])
def elsewhere(request, tmp_path, monkeypatch):
    """The tests run there; what lies in the files of the model's names must not be read."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if request.param == "a folder with other weights":
        other = np.full(10_000, 7.0, np.float32).tobytes()
        for name in (FILE, "net.onnx.data", "weights"):
            (folder / name).write_bytes(other)
    monkeypatch.chdir(folder)
    return folder


X = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)


def run_plainly(proto: onnx.ModelProto | Path, x: np.ndarray = X) -> np.ndarray:
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    options = ort.SessionOptions()
    # In float, as xbarc runs it: fused integer operators round otherwise.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("place", PLACES)
def test_tensors_are_read_from_the_folder_of_the_model(place, tmp_path, elsewhere):
    proto = model(place)
    path = save_apart(proto, tmp_path / "model")
    sources = [path, str(path)]
    if place != "a function":  # onnx_ir itself doesn't say there where the file is
        sources.append(ir.load(path))
    for source in sources:
        found = Session(load(source)).run({"x": X})["y"]
        np.testing.assert_allclose(found, run_plainly(proto), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "a function"])
def test_a_graph_that_no_importer_has_seen_runs_too(place, tmp_path, elsewhere):
    proto = model(place)
    found = Session(ir.load(save_apart(proto, tmp_path / "model"))).run({"x": X})["y"]
    np.testing.assert_allclose(found, run_plainly(proto), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_a_program_holds_its_tensors_itself(place, tmp_path, elsewhere):
    proto = model(place)
    path = save_apart(proto, tmp_path / "model")
    xbarc.compile(path, calibration=X).save(tmp_path / "net.xbar")
    path.with_name(FILE).unlink()
    found = xbarc.load(tmp_path / "net.xbar").run(X)
    wanted = xbarc.compile(proto, calibration=X).run(X)
    np.testing.assert_array_equal(found["y"], wanted["y"])


@pytest.mark.parametrize("place", PLACES)
def test_an_optimised_model_holds_its_tensors_itself(place, tmp_path, elsewhere):
    proto = model(place)
    path = save_apart(proto, tmp_path / "model")
    optimize(path, tmp_path / "out" / "small.onnx")
    found = run_plainly(tmp_path / "out" / "small.onnx")
    np.testing.assert_allclose(found, run_plainly(proto), rtol=1e-5, atol=1e-6)


def test_what_onnx_saves(tmp_path, elsewhere, monkeypatch):
    proto = model("a Constant")
    expected = run_plainly(proto)
    folder = tmp_path / "model"
    folder.mkdir()
    settings = {"save_as_external_data": True, "size_threshold": 0, "convert_attribute": True}
    with monkeypatch.context() as patch:
        patch.chdir(folder)  # onnx asks there whether it would overwrite a file
        onnx.save(proto, "net.onnx", location=FILE, **settings)
        onnx.save(proto, "each.onnx", all_tensors_to_one_file=False, **settings)
    for name in ("net.onnx", "each.onnx"):
        found = Session(load(folder / name)).run({"x": X})["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_torch_saves(tmp_path, elsewhere):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.PReLU(4),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 5),
    ).eval()
    x = torch.randn(2, 1, 6, 6)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "net.onnx"
    torch.onnx.export(network, (x,), path, external_data=True, dynamo=True, verbose=False)
    assert path.with_name("net.onnx.data").is_file()
    with torch.no_grad():
        expected = network(x).numpy()
    (found,) = Session(load(path)).run({"input": x.numpy()}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_weights_of_four_bits(tmp_path, elsewhere):
    """Such tensors are never handed over beside the protobuf, however large."""
    codes = np.random.default_rng(0).integers(-8, 8, (64, 64))
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[N,64] x) => (y) <float s = {0.1}>
        { w = DequantizeLinear(q, s)  y = MatMul(x, w) }"""
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(codes.astype(ml_dtypes.int4), "q"))
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    expected = run_plainly(proto, x)
    path = save_apart(proto, tmp_path / "model")
    found = Session(load(path)).run({"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# --- Refusals -------------------------------------------------------------------------------------


def refusal(source: Path | onnx.ModelProto | ir.Model) -> str:
    with pytest.raises(XbarcError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_paths_that_lead_out_of_the_folder_are_refused(place, tmp_path, elsewhere):
    folder = tmp_path / "model"
    for location in (f"../{FILE}", str(tmp_path / FILE)):
        path = save_apart(model(place), folder, location)
        (tmp_path / FILE).write_bytes((folder / FILE).read_bytes())
        assert "outside" in refusal(path)
    path = save_apart(model(place), folder, "link.bin")
    (folder / "link.bin").unlink()
    (folder / "link.bin").symlink_to(tmp_path / FILE)
    assert "outside" in refusal(path)


@pytest.mark.parametrize("place", PLACES)
def test_files_that_are_missing_or_cut_short_are_refused(place, tmp_path, elsewhere):
    path = save_apart(model(place), tmp_path / "model")
    (path.parent / FILE).unlink()
    assert "can't be read" in refusal(path)
    (path.parent / FILE).write_bytes(b"12")
    assert "can't be read" in refusal(path)


@pytest.mark.parametrize("place", PLACES)
def test_a_model_in_memory_has_no_folder(place, tmp_path, elsewhere):
    path = save_apart(model(place), tmp_path / "model")
    proto = onnx.load(path, load_external_data=False)
    assert "load the model from its path" in refusal(proto)
    assert "load the model from its path" in refusal(ir.from_proto(proto))


@pytest.mark.parametrize("where", ["the graph", "a branch"])
def test_sparse_tensors_are_refused(where, tmp_path, elsewhere):
    proto = model("a branch's initialiser")
    graph = proto.graph
    if where == "a branch":
        (node,) = [node for node in graph.node if node.op_type == "If"]
        graph = node.attribute[0].g
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4]))
    path = save_apart(proto, tmp_path / "model")
    assert "sparse" in refusal(path)


def test_a_sparse_constant_is_refused(tmp_path, elsewhere):
    proto = model("a Constant")
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = onnx.helper.make_sparse_tensor(values, indices, [4])
    (node,) = [node for node in proto.graph.node if node.op_type == "Constant"]
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    path = save_apart(proto, tmp_path / "model")
    assert "sparse" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_isnt_waited_for(tmp_path):
    """Opening one waits for a writer; the child is there so that this test ends too."""
    model = onnx.parser.parse_model(
        HEADER + "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }"
    )
    tensor = onnx.TensorProto(name="w", dims=[4, 4], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value="pipe")
    model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "m.onnx")
    os.mkfifo(tmp_path / "pipe")
    code = "import xbarc; xbarc.compile('m.onnx')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "initialiser 'w' lies in 'pipe', which is no ordinary file" in done.stderr
