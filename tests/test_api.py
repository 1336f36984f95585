"""Python: what `import xbarc` gives, and a program's methods beside the commands' documents."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from models import reference, text_model
from torch import nn

import xbarc as api
from xbarc.support.errors import UsageError, XbarcError

MODEL = text_model(
    """g (float[N,3,6,6] x) => (float[N,4] y) <float[8,3,3,3] w, float[8] b, float[8,4] f> {
  c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r) flat = Flatten(p) y = MatMul(flat, f) }"""
)
X = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype(np.float32)
Y = reference(MODEL, {"x": X})["y"].argmax(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


@pytest.fixture(scope="module")
def program():
    return api.compile(MODEL, "mca128", calibration=X)


def test_what_the_module_has():
    assert {"compile", "load", "Program", "__version__"} <= set(dir(api))
    code = "import sys, xbarc; print(xbarc.__version__, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [api.__version__, "False"]


def test_repr_is_one_line(program):
    assert repr(program) == "<xbarc.Program g for mca128: 2 layers on 2 crossbars>"
    assert "Energy" in program._repr_html_()
    assert repr(api.Program(program.module, {}, {}, program.target)) == (
        "<xbarc.Program for mca128>"
    )


def test_names_are_text_in_a_notebook(program):
    other = copy.copy(program)
    other.report = {**program.report, "model": "<script>alert(1)</script>"}
    assert "<script>" not in other._repr_html_()


def test_evaluate_is_run_json(program, tmp_path, xbarc):
    program.save(tmp_path / "m.xbar")
    np.savez(tmp_path / "x.npz", x=X, y=Y)
    words = ["--noise", "programming{sigma=0.2}", "--seed", "3"]
    run = ["run", tmp_path / "m.xbar", "--input", tmp_path / "x.npz", "--labels", "y", "--json"]
    told = json.loads(xbarc(*run, *words)[1])
    found = program.evaluate(X, Y, noise=words[1], seed=3)
    assert {**found, "images_per_second": 0} == {**told, "images_per_second": 0}
    assert program.evaluate(X, np.eye(4)[Y], ideal=True)["metric"] == "top1"
    assert "accuracy" not in program.evaluate(X)


@pytest.mark.parametrize(
    ("labels", "options", "error", "said"),
    [
        (Y[:3], {}, XbarcError, "3 labels for 40 samples"),
        (None, {"metric": "top1"}, UsageError, "give labels"),
        (Y, {"metric": "top-1"}, UsageError, "top1"),
        (Y, {"ideal": True, "noise": "read"}, UsageError, "ideal"),
        (np.zeros(40), {}, XbarcError, "integer class"),
    ],
)
def test_what_evaluate_refuses(program, labels, options, error, said):
    with pytest.raises(error, match=said):
        program.evaluate(X, labels, **options)


def test_the_other_documents(program, tmp_path, xbarc):
    program.save(tmp_path / "m.xbar")
    shown = xbarc("inspect", tmp_path / "m.xbar", "--json")[1]
    assert program.inspect() == json.loads(shown)
    assert [layer.name for layer in program.trace(X).layers] == [
        row["name"] for row in program.cost()["layers"]
    ]
    compared = program.compare(api.compile(MODEL, "mca64", calibration=X))
    assert compared["totals"]["crossbars"] == [2, 2]
    assert len(program.layers()) == 2
    program.write_report(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "How to repeat it" in page
    assert "m.xbar" not in page


@pytest.mark.parametrize("batch", [1, 5])
def test_a_torch_module(batch):
    torch.manual_seed(0)
    net = Net().train()
    program = api.compile(net, "mca128", calibration=X, example_inputs=torch.zeros(batch, 3, 6, 6))
    assert net.training
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(X)).numpy()
    found = program.run(X)
    (out,) = found.values()
    assert out.shape == wanted.shape
    assert np.abs(out - wanted).max() < 0.05 * np.abs(wanted).max()
    assert program.cost()["totals"]["macs"] == 8 * 27 * 16 + 32
    # The calibration data are an example too.
    again = api.compile(net, "mca128", calibration=X)
    np.testing.assert_array_equal(next(iter(again.run(X).values())), out)


def test_an_exported_program():
    torch.manual_seed(0)
    net = Net().eval()
    example = torch.from_numpy(X[:2])
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(net, (example,), dynamic_shapes=shapes)
    program = api.compile(exported, "mca128", calibration=X)
    with torch.no_grad():
        wanted = net(torch.from_numpy(X)).numpy()
    (out,) = program.run(X).values()
    assert np.abs(out - wanted).max() < 0.05 * np.abs(wanted).max()


def test_what_torch_cant_export_is_one_line():
    class Odd(nn.Module):
        def forward(self, x):
            return x[: int(x.sum().item())] if float(x.mean()) > 0 else x.numpy()

    with pytest.raises(XbarcError, match="torch can't export the module") as caught:
        api.compile(Odd(), "mca128", example_inputs=torch.zeros(2, 3))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="give example_inputs"):
        api.compile(Net(), "mca128")
