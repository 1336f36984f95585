"""The float network in a program: beside each run, whole, checked, and nothing but the network."""

import hashlib
import json
import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from models import text_model

from xbarc.api import compile, load
from xbarc.artifact import float_network
from xbarc.driver.evaluate import _beside
from xbarc.driver.float_run import float_output, float_outputs
from xbarc.graph.run import Session
from xbarc.support.errors import XbarcError

MODEL = """g (float[N,4,8,8] x) => (float[N,5] y)
<float[24,4,3,3] w, float[24] b, float[384,5] v> {
  c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
  f = Flatten(m) y = MatMul(f, v) }"""
X = np.random.default_rng(0).standard_normal((40, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    made = text_model(MODEL)
    made.graph.node[0].name, made.graph.node[-1].name = "conv1", "fc"
    made.graph.doc_string = "exported from /home/someone/secret"
    for node in made.graph.node:
        node.doc_string = 'File "/home/someone/secret/net.py", line 7'
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone/secret/net.py"
    return made


@pytest.fixture(scope="module")
def program(model):
    return compile(model, "mca128", calibration=X)


@pytest.fixture(scope="module")
def wanted(model):
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]


@pytest.fixture
def saved(program, tmp_path):
    program.save(tmp_path / "m.xbar")
    return tmp_path / "m.xbar"


def rehash(folder):
    """Mend the manifest, as who tampers would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_it_computes_what_the_model_does(program, saved, wanted):
    for found in (program, load(saved)):
        np.testing.assert_allclose(float_output(found, {"x": X}), wanted, atol=1e-5)


def test_it_is_plain_onnx(saved, wanted):
    onnx.checker.check_model(saved / "float.onnx")
    given = ort.InferenceSession(saved / "float.onnx").run(None, {"x": X})[0]
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_it_names_what_each_layer_computes(program, saved, model):
    network = load(saved).network()
    assert network.layers == program.network().layers
    assert set(network.layers) == {row["name"] for row in program.report["layers"]}
    source, result = network.layers["conv1"]
    sums = Session(network.model, [source, result]).run({"x": X})
    np.testing.assert_array_equal(sums[source], X)
    inside = ort.InferenceSession(
        onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
        .extract_model(["x"], ["c"])
        .SerializeToString()
    )
    np.testing.assert_allclose(sums[result], inside.run(None, {"x": X})[0], atol=1e-5)


def test_no_file_says_where_the_model_was_exported(saved):
    for path in saved.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path


def test_weights_elsewhere_are_refused(saved, tmp_path):
    (saved.parent / "other.data").write_bytes((saved / "float.data").read_bytes())
    changed = onnx.load(saved / "float.onnx", load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../other.data"
    onnx.save(changed, saved / "float.onnx")
    rehash(saved)
    with pytest.raises(XbarcError, match=r"lie in '\.\./other\.data', not in float\.data"):
        load(saved).network()


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x08\x07"])
def test_a_damaged_file_is_one_line(saved, content):
    (saved / "float.onnx").write_bytes(content)
    rehash(saved)
    with pytest.raises(XbarcError, match="is damaged: .*: compile the model again") as caught:
        load(saved).network()
    assert "\n" not in str(caught.value)


def test_weights_without_an_element_type_are_one_line(saved):
    changed = onnx.load(saved / "float.onnx", load_external_data=False)
    changed.graph.initializer[0].data_type = 0
    (saved / "float.onnx").write_bytes(changed.SerializeToString())
    rehash(saved)
    with pytest.raises(XbarcError, match="is damaged: weights '.*' have no element type"):
        load(saved).network()


def test_new_weights_have_their_own(program, model):
    other = text_model(MODEL, seed=7)
    other.graph.node[0].name, other.graph.node[-1].name = "conv1", "fc"
    updated = program.update_weights(other)
    want = ort.InferenceSession(other.SerializeToString()).run(None, {"x": X})[0]
    np.testing.assert_allclose(float_output(updated, {"x": X}), want, atol=1e-5)


def test_a_run_has_float_beside_it(saved, wanted, xbarc, tmp_path, monkeypatch):
    labels = wanted.argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 5
    np.savez(tmp_path / "x.npz", x=X, y=labels)
    code, out, _ = xbarc("run", saved, "--input", tmp_path / "x.npz", "--labels", "y", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["float"]["accuracy"] == 0.9
    crossbars = load(saved).run(X)["y"]
    assert told["float"]["agreement"] == (crossbars.argmax(1) == wanted.argmax(1)).mean()
    error = ((wanted - crossbars) ** 2).sum()
    ratio = 10 * np.log10((wanted**2).sum() / error)
    assert told["float"]["output_snr_db"] == pytest.approx(ratio, abs=1e-3)
    # The second time it comes from disk.
    monkeypatch.setattr("xbarc.driver.float_run.Session", None)
    code, out, _ = xbarc("run", saved, "--input", tmp_path / "x.npz", "--labels", "y")
    assert code == 0
    assert f"float 90.00% | crossbars {told['accuracy']:.2%} | agree" in out
    # Other data don't.
    np.savez(tmp_path / "x.npz", x=X[::-1], y=labels)
    code, _, err = xbarc("run", saved, "--input", tmp_path / "x.npz")
    assert code == 1
    assert "TypeError" in err
    code, out, _ = xbarc("run", saved, "--input", tmp_path / "x.npz", "--no-float", "--json")
    assert "float" not in json.loads(out)


def test_a_program_without_it_still_runs(program, tmp_path, xbarc):
    older = load_without(program, tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=X)
    code, out, _ = xbarc("run", older, "--input", tmp_path / "x.npz", "--json")
    assert code == 0
    assert "float" not in json.loads(out)


def load_without(program, path):
    program.save(path)
    manifest = json.loads((path / "manifest.json").read_text())
    for name in (float_network.GRAPH, float_network.DATA):
        del manifest["files"][name]
        (path / name).unlink()
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    ("factor", "said"),
    [(255.0, "are beyond its codes and are clipped"), (1 / 255, "of its codes' range"), (1, "")],
)
def test_data_scaled_unlike_the_calibration_are_told(saved, tmp_path, xbarc, factor, said):
    np.savez(tmp_path / "x.npz", x=X * np.float32(factor))
    code, out, err = xbarc("run", saved, "--input", tmp_path / "x.npz", "--json")
    assert code == 0
    codes = json.loads(out)["inputs"]["conv1"]
    assert codes["reach"] == [
        float(X.min() * np.float32(factor)),
        float(X.max() * np.float32(factor)),
    ]
    assert set(json.loads(out)["inputs"]) == {"conv1"}  # fc sees no data of the user's
    assert said in err
    assert ("scaled as the calibration data were" in err) == (factor != 1)


TWO_ENDS = """g (float[N,20] x) => (float[N,3] a, float[N,30] z)
<float[20,3] v, float[3,30] w> { a = MatMul(x, v) z = MatMul(a, w) }"""
FLAT = np.random.default_rng(1).standard_normal((8, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    compile(text_model(TWO_ENDS), "mca128", calibration=FLAT).save(folder / "m.xbar")
    np.savez(folder / "x.npz", x=FLAT, y=np.zeros(8, int))
    return folder


def ratio(wanted, got):
    wanted = wanted.astype(np.float64)
    return 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())


def test_every_output_stands_beside_float(two_ends, xbarc):
    asked = ("--input", two_ends / "x.npz", "--noise", "programming{sigma=0.3}", "--no-record")
    told = json.loads(xbarc("run", two_ends / "m.xbar", *asked, "--json")[1])
    out = load(two_ends / "m.xbar").run(FLAT, noise="programming{sigma=0.3}")
    session = ort.InferenceSession(text_model(TWO_ENDS).SerializeToString())
    wanted = dict(zip("az", session.run(None, {"x": FLAT}), strict=True))
    assert told["judged"] == "a"
    assert list(told["outputs"]) == ["a", "z"]
    for name, found in told["outputs"].items():
        assert found["snr_db"] == pytest.approx(ratio(wanted[name], out[name]), abs=1e-3)
        same = out[name].argmax(1) == wanted[name].argmax(1)
        assert found["agree"] == same.mean()
    assert told["float"]["output_snr_db"] == told["outputs"]["a"]["snr_db"]
    assert told["float"]["agreement"] == told["outputs"]["a"]["agree"]


def test_each_line_names_its_output_and_has_its_ratio(two_ends, xbarc):
    run = ("run", two_ends / "m.xbar", "--input", two_ends / "x.npz", "--no-record")
    figures = r"agree \d+\.\d\d% \| -?\d+\.\d\d dB"
    said = xbarc(*run)[1]
    for name in "az":
        assert re.search(rf"^against float      {name}: {figures} signal to noise$", said, re.M)
    said = xbarc(*run, "--labels", "y")[1]
    assert re.search(rf"^accuracy           a: float .* \| crossbars .* \| {figures} a", said, re.M)
    assert re.search(rf"^against float      z: {figures} signal to noise$", said, re.M)
    said = xbarc(*run, "--labels", "y", "--no-float")[1]
    assert re.search(r"^accuracy           a: crossbars \d+\.\d\d%$", said, re.M)
    assert "z: " not in said


def test_an_only_output_needs_no_name(xbarc, saved, tmp_path):
    np.savez(tmp_path / "x.npz", x=X)
    said = xbarc("run", saved, "--input", tmp_path / "x.npz", "--no-record")[1]
    assert re.search(r"^against float      agree .*% \| .* dB signal to noise$", said, re.M)


def test_a_ratio_is_null_where_outputs_are_alike_and_absent_where_there_is_no_signal():
    nothing = text_model("g (float[N,4] x) => (float[N,4] y) { z = Sub(x, x) y = Relu(z) }")
    told = compile(nothing, "mca128").evaluate(np.ones((2, 4), np.float32))
    assert told["outputs"] == {"y": {"agree": 1.0, "snr_db": None}}
    for wanted in (0.0, np.nan):
        assert _beside(np.ones((2, 4)), np.full((2, 4), wanted), None) == {"agree": 1.0}


def test_outputs_are_kept_each_by_its_name(two_ends, monkeypatch, tmp_path):
    monkeypatch.setenv("XBARC_CACHE", str(tmp_path))
    program = load(two_ends / "m.xbar")
    files = {"float.onnx": "1", "float.data": "2"}
    first = float_outputs(program, {"x": FLAT}, files)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    monkeypatch.setattr(program, "network", lambda: pytest.fail("it is computed again"))
    for name, array in float_outputs(program, {"x": FLAT}, files).items():
        np.testing.assert_array_equal(array, first[name])
