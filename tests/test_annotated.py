"""`xbarc inspect --onnx`: the network as its authors named it, each node with where it runs."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from models import text_model
from typer.testing import CliRunner

import xbarc
from xbarc.artifact.float_network import FloatNetwork
from xbarc.cli import app
from xbarc.report import annotated
from xbarc.report.annotated import write_annotated
from xbarc.support.errors import XbarcError

MODEL = """g (float[N,4,8,8] x) => (float[N,5] y)
<float[4,4,3,3] w, float[4] b, float[256,5] v, float[5] c> {
  a = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(a) s = Add(r, x)
  f = Flatten(s) m = MatMul(f, v) y = Add(m, c) }"""
X = np.random.default_rng(0).standard_normal((8, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def program():
    model = text_model(MODEL)
    for node, name in zip(
        model.graph.node, ("stem", "act", "skip", "flat", "head", "bias"), strict=True
    ):
        node.name = name
    return xbarc.compile(model, "mca128", calibration=X)


@pytest.fixture(scope="module")
def nodes(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("annotated") / "a.onnx"
    assert write_annotated(program, path) == [path]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return path, {node.name: node for node in model.graph.node}


def entries(node):
    return {p.key.removeprefix("xbarc."): p.value for p in node.metadata_props}


def test_nodes_on_crossbars_say_what_report_json_says(program, nodes):
    rows = {row["name"]: row for row in program.report["layers"]}
    assert set(rows) == {"stem", "head"}
    for name, row in rows.items():
        told = entries(nodes[1][name])
        assert told["on"] == "crossbars"
        assert told["layer"] == name
        assert told["mapping"] == row["mapping"]
        assert int(told["tiles"]) == row["tiles"]
        assert int(told["crossbars"]) == row["crossbars"]
        assert float(told["energy_pj"]) == pytest.approx(sum(row["energy_pj"].values()), rel=1e-5)
        assert told["matrix"] == " x ".join(map(str, row["matrix"]))
        assert nodes[1][name].doc_string.startswith(f"On crossbars: layer {name}, im2col")


def test_digital_nodes_name_the_file_that_has_them(program, nodes):
    for name in ("act", "skip", "bias"):
        told = entries(nodes[1][name])
        assert told["on"] == "digital"
        file = onnx.load_from_string(program.digital[told["part"]])
        assert nodes[1][name].output[0] in {o for n in file.graph.node for o in n.output}
        assert nodes[1][name].doc_string == f"Digital, in {told['part']}"


def test_it_runs_and_gives_what_the_float_network_gives(program, nodes):
    session = ort.InferenceSession(nodes[0])
    (got,) = session.run(None, {"x": X})
    wanted = ort.InferenceSession(text_model(MODEL).SerializeToString()).run(None, {"x": X})[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_program_keeps_its_own_network_as_it_is(program, nodes):
    for node in program.network().model.graph:
        assert not node.doc_string
        assert not any(key.startswith("xbarc.") for key in node.metadata_props)


def test_large_weights_lie_beside_it(program, tmp_path, monkeypatch):
    monkeypatch.setattr(annotated, "LARGE_BYTES", 100)
    path = tmp_path / "a.onnx"
    assert write_annotated(program, path) == [path, tmp_path / "a.onnx.data"]
    assert (tmp_path / "a.onnx.data").stat().st_size > 100
    assert ort.InferenceSession(path).run(None, {"x": X})[0].shape == (8, 5)


def test_by_the_command_line(program, tmp_path):
    program.save(tmp_path / "m.xbar")
    run = CliRunner()
    done = run.invoke(
        app, ["inspect", str(tmp_path / "m.xbar"), "--onnx", str(tmp_path / "a.onnx")]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "a.onnx")
    onnx.checker.check_model(str(tmp_path / "a.onnx"))
    both = run.invoke(
        app, ["inspect", str(tmp_path / "m.xbar"), "--onnx", str(tmp_path / "b.onnx"), "--json"]
    )
    assert "leave out the other options" in str(both.exception)


def test_without_a_float_network_it_says_so(program, tmp_path):
    bare = xbarc.Program(
        program.module, program.weights, program.digital, program.target, report=program.report
    )
    with pytest.raises(XbarcError, match="no float network"):
        write_annotated(bare, tmp_path / "a.onnx")


def test_a_layer_has_all_nodes_between_what_it_reads_and_computes(program):
    network = program.network()
    found = annotated.layers_of(FloatNetwork(network.model, {"all": ("x", "y")}), network.model)
    assert {node.name for node in found} == {node.name for node in network.model.graph}
