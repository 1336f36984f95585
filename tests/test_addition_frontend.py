"""A frontend in a plug-in file: the one of docs/frontends.md."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import xbarc
from xbarc.support.errors import UsageError, XbarcError

DOCS = Path(__file__).parents[1] / "docs" / "frontends.md"

SIZES = [(6, 5), (5, 3)]


@pytest.fixture
def plugin(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "mlp.py"
    path.write_text(code)
    return path


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size).astype(np.float32) for size in SIZES]


@pytest.fixture
def network(tmp_path, weights):
    path = tmp_path / "net.mlp"
    path.write_text("\n".join(f"{k} {n}" for k, n in SIZES))
    np.savez(tmp_path / "net.npz", w0=weights[0], w1=weights[1])
    return path


X = np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32)


def expected(weights):
    value = X
    for weight in weights:
        value = np.maximum(value @ weight, 0)
    return value


@pytest.fixture
def command(xbarc):
    """Run a command line in this process: (exit code, stderr)."""

    def run(*arguments):
        code, _, err = xbarc(*arguments)
        return code, err

    return run


def check_program(program, weights):
    assert [layer["name"] for layer in program.cost()["layers"]] == ["layer0", "layer1"]
    wanted = expected(weights)
    assert np.abs(program.run(X)["y"] - wanted).max() < 0.05 * wanted.max()


def test_compile_takes_what_a_plugin_recognises(network, plugin, weights):
    for source in (network, str(network)):
        program = xbarc.compile(source, calibration=X, plugins=[plugin])
        check_program(program, weights)
        assert program.cost()["model"] == "net.mlp"


def test_the_command_line_does_too(command, network, plugin, weights, tmp_path):
    np.savez(tmp_path / "x.npz", x=X)
    out = tmp_path / "net.xbar"
    options = ("--calibration", tmp_path / "x.npz", "--plugin", plugin, "-o", out)
    code, said = command("compile", network, "--target", "mca128", *options)
    assert code == 0, said
    check_program(xbarc.load(out), weights)


def test_opt_writes_it_as_onnx(command, network, plugin, weights, tmp_path):
    code, said = command("opt", network, "--plugin", plugin, "-o", tmp_path / "net.onnx")
    assert code == 0, said
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(weights), rtol=1e-5)


def test_weights_of_the_same_network_are_updated(network, plugin, weights, tmp_path):
    program = xbarc.compile(network, calibration=X, plugins=[plugin])
    halves = [weight / 2 for weight in weights]
    np.savez(tmp_path / "net.npz", w0=halves[0], w1=halves[1])
    updated = program.update_weights(network, X, plugins=[plugin])
    np.testing.assert_array_equal(updated.weights["layer0"], program.weights["layer0"])
    assert not np.array_equal(updated.run(X)["y"], program.run(X)["y"])


# --- Refusals -------------------------------------------------------------------------------------


def test_a_file_that_nobody_recognises_is_one_line(command, network, tmp_path):
    known = r"TVM Relay \(\.relay\), TVM Relax \(\.json\), ONNX \(\.onnx\)"
    with pytest.raises(XbarcError, match=rf"isn't a model that xbarc reads: {known}$") as caught:
        xbarc.compile(network)
    assert "\n" not in str(caught.value)
    code, said = command("compile", network, "--target", "mca128", "-o", tmp_path / "net.xbar")
    assert code == 1
    assert re.fullmatch(rf"xbarc: .*net\.mlp isn't a model that xbarc reads: {known}\n", said)


def test_a_plugin_is_named_among_those_that_were_asked(plugin, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing of a network")
    with pytest.raises(XbarcError, match=r"multilayer perceptrons \(\.mlp\), ONNX \(\.onnx\)$"):
        xbarc.compile(tmp_path / "notes.txt", plugins=[plugin])


def test_a_missing_file_is_said_to_be_missing(plugin, tmp_path):
    with pytest.raises(XbarcError, match=r"missing\.txt can't be read: no such file$"):
        xbarc.compile(tmp_path / "missing.txt", plugins=[plugin])


@pytest.mark.parametrize("source", ["several\nlines", "x" * 5000])
def test_text_that_nobody_recognises_is_one_line(source):
    with pytest.raises(XbarcError, match=r"^the text isn't a model that xbarc reads: ") as caught:
        xbarc.compile(source)
    assert "\n" not in str(caught.value)


def test_what_the_frontend_refuses_is_said(network, plugin, tmp_path):
    network.write_text("6 4\n5 3")
    with pytest.raises(XbarcError, match=r"layer 0 is \(6, 4\), its weights are \(6, 5\)"):
        xbarc.compile(network, plugins=[plugin])


def test_a_failure_names_the_plugin_and_the_line(network, plugin):
    network.write_text("six 5")
    with pytest.raises(
        XbarcError, match=r"frontend 'mlp' of .*mlp\.py failed: ValueError at mlp\."
    ):
        xbarc.compile(network, plugins=[plugin])


def test_something_else_than_a_model_is_refused(network, plugin):
    plugin.write_text(plugin.read_text().replace("return Loaded(ir.Model", "return (ir.Model"))
    with pytest.raises(XbarcError, match=r"frontend 'mlp' of .* gives no Loaded, but Model"):
        xbarc.compile(network, plugins=[plugin])


def test_weights_that_it_does_not_take_are_refused(network, plugin):
    with pytest.raises(UsageError, match="params are for .*, not for multilayer perceptrons"):
        xbarc.compile(network, plugins=[plugin], params={"w": X})


def test_a_name_that_is_taken_names_both_owners(network, plugin):
    plugin.write_text(plugin.read_text().replace('Frontend("mlp"', 'Frontend("onnx"'))
    with pytest.raises(XbarcError, match=r"'onnx' is defined twice: by .*mlp\.py and by xbarc"):
        xbarc.compile(network, plugins=[plugin])
