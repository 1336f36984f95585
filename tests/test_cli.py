"""The command line as a user meets it: what it prints, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import reference, text_model

from xbarc import cli

MODEL = """
g (float[N,3,6,6] x) => (float[N,4] y) <float[4,3,3,3] w, float[4] b, float[4,4] f> {
    c = Conv(x, w, b)
    r = Relu(c)
    p = GlobalAveragePool(r)
    flat = Flatten(p)
    y = MatMul(flat, f)
}
"""
LAYER_KEYS = {
    "name", "op", "mapping", "matrix", "weights", "nonzero_weights", "tiles", "crossbars",
    "memristors", "utilization", "vectors", "activations", "cycles", "macs", "adc_conversions",
    "energy_pj", "latency_ns",
}  # fmt: skip
TOTAL_KEYS = {
    "weights", "memristors", "crossbars", "cores", "nodes", "utilization", "macs",
    "adc_conversions", "area_mm2", "energy_uj", "latency_us", "throughput_ips", "power_w",
    "programming_energy_uj", "programming_time_ms",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with model.onnx and data.npz (x, y: classes by onnxruntime)."""
    monkeypatch.chdir(tmp_path)
    model = text_model(MODEL)
    onnx.save(model, "model.onnx")
    x = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype(np.float32)
    np.savez("data.npz", x=x, y=reference(model, {"x": x})["y"].argmax(1))
    np.savez("calibration.npz", x=x)
    return tmp_path


@pytest.fixture
def xbarc(monkeypatch, capsys):
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xbarc", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def compiled(folder, xbarc):
    code, _, _ = xbarc(
        "compile", "model.onnx", "--target", "mca128", "--calibration", "calibration.npz"
    )
    assert code == 0
    return folder / "model.xbar"


def test_compile_says_what_landed_on_crossbars(folder, xbarc):
    code, out, err = xbarc("compile", "model.onnx", "--target", "mca128")
    assert code == 0
    assert "2 of 5 operators, 100.00% of the multiply-accumulates" in out
    assert "model.xbar" in out
    assert "generated inputs" in err
    assert (folder / "model.xbar" / "program.mlir").is_file()


def test_compile_json_is_the_report_and_nothing_else(folder, xbarc):
    code, out, _ = xbarc("compile", "model.onnx", "--target", "mca128", "--json", "-o", "o.xbar")
    assert code == 0
    assert json.loads(out) == json.loads((folder / "o.xbar" / "report.json").read_text())


def test_cost_json_has_the_contracts_keys(compiled, xbarc):
    code, out, err = xbarc("cost", compiled, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["model"] == "model.onnx"
    assert report["target"] == "mca128"
    assert report["passes"] == ["canonicalize", "fold-batchnorm", "im2col"]
    assert report["deviation"] == {}
    assert all(set(layer) >= LAYER_KEYS for layer in report["layers"])
    assert set(report["totals"]) >= TOTAL_KEYS
    assert "total" in report["totals"]["area_mm2"]
    assert "total" in report["totals"]["energy_uj"]
    assert [layer["op"] for layer in report["layers"]] == ["Conv", "MatMul"]


def test_run_json_has_the_contracts_keys(compiled, xbarc):
    code, out, err = xbarc("run", compiled, "--input", "data.npz", "--labels", "y", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert set(told) >= {"samples", "accuracy", "images_per_second", "seed", "effects", "adc"}
    assert told["samples"] == 40
    assert told["accuracy"] >= 0.9
    assert all(set(a) == {"saturated", "lossless"} for a in told["adc"].values())
    assert len(told["adc"]) == 2


def test_run_writes_outputs_under_the_models_names(compiled, xbarc):
    code, _, _ = xbarc("run", compiled, "--input", "calibration.npz", "--output", "out.npz")
    assert code == 0
    with np.load("out.npz") as file:
        assert file.files == ["y"]
        assert file["y"].shape == (40, 4)


def test_batch_and_limit_change_no_result(compiled, xbarc):
    for name, options in (("a", ["--batch", "3"]), ("b", []), ("c", ["--limit", "7"])):
        code, _, _ = xbarc(
            "run", compiled, "--input", "calibration.npz", "--output", f"{name}.npz", *options
        )
        assert code == 0
    a, b, c = (np.load(f"{name}.npz")["y"] for name in "abc")
    assert np.array_equal(a, b)
    assert np.array_equal(a[:7], c)


def test_a_target_key_changes_the_result(folder, xbarc):
    energy, outputs = [], []
    for bits in (8, 3):
        xbarc(
            "compile", "model.onnx", "--target", "mca128", "-o", f"{bits}.xbar",
            "--calibration", "calibration.npz", "--set", f"adc.bits={bits}",
            "--set", "inputs.bits=6",
        )  # fmt: skip
        code, out, _ = xbarc("cost", f"{bits}.xbar", "--json")
        assert code == 0
        energy.append(json.loads(out)["totals"]["energy_uj"]["total"])
        xbarc("run", f"{bits}.xbar", "--input", "calibration.npz", "--output", f"{bits}.npz")
        outputs.append(np.load(f"{bits}.npz")["y"])
    assert not np.array_equal(*outputs)


def test_ideal_makes_a_clipping_converter_lossless(folder, xbarc):
    xbarc(
        "compile", "model.onnx", "--target", "mca128", "--calibration", "calibration.npz",
        "--set", "adc.bits=2",
    )  # fmt: skip
    told = []
    for options in ([], ["--ideal"]):
        code, out, _ = xbarc("run", "model.xbar", "--input", "calibration.npz", "--json", *options)
        assert code == 0
        told.append(json.loads(out)["adc"])
    assert max(a["saturated"] for a in told[0].values()) > 0
    assert all(a == {"saturated": 0, "lossless": True} for a in told[1].values())


def test_inspect_shows_tiles_and_what_collapses(compiled, xbarc):
    code, out, _ = xbarc("inspect", compiled, "--json", "--tiles")
    assert code == 0
    first, second = json.loads(out)["layers"]
    assert first["matrix"] == [27, 4]
    assert first["tile_list"] == [[0, 27, 0, 4]]
    assert first["collapsed"] == 1
    code, out, _ = xbarc("inspect", compiled, "--layer", second["name"])
    assert code == 0
    assert second["name"] in out
    assert first["name"] not in out


def test_opt_maps_what_compile_lowered(folder, xbarc):
    code, _, _ = xbarc("compile", "model.onnx", "--target", "mca128", "--dump-dir", "dump")
    assert code == 0
    (lowered,) = folder.glob("dump/*-lowered.mlir")
    code, out, err = xbarc("opt", lowered, "--passes", "im2col")
    assert (code, err) == (0, "")
    assert out == (folder / "model.xbar" / "program.mlir").read_text()


def test_passes_and_targets_are_listed_and_described(xbarc):
    code, out, _ = xbarc("passes")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"canonicalize", "im2col"}
    code, out, _ = xbarc("passes", "im2col")
    assert code == 0
    assert "layers: tuple[str, ...]" in out
    code, out, _ = xbarc("targets")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"mca64", "mca128", "mca256"}
    code, out, _ = xbarc("targets", "mca128")
    assert code == 0
    assert "source =" in out
    code, out, _ = xbarc("targets", "mca128", "--json", "--set", "array.rows=32")
    assert code == 0
    assert json.loads(out)["array"]["rows"] == 32


def test_a_targets_own_file_works_as_its_name(folder, xbarc):
    _, text, _ = xbarc("targets", "mca64")
    Path("mine.toml").write_text(text.replace('"mca64"', '"mine"'))
    assert xbarc("compile", "model.onnx", "--target", "mine.toml", "-o", "mine.xbar")[0] == 0
    assert xbarc("compile", "model.onnx", "--target", "mca64", "-o", "own.xbar")[0] == 0
    mine, own = (
        json.loads((folder / f"{n}.xbar/report.json").read_text()) for n in ("mine", "own")
    )
    assert mine["totals"] == own["totals"]
    assert mine["target"] == "mine"


# --- What goes wrong: one line a cause, no traceback, nothing left behind ------------------------


def refused(xbarc, code, message, *arguments):
    found, out, err = xbarc(*arguments)
    assert found == code, err
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert all(line.startswith(("xbarc: ", "  ")) for line in err.splitlines()), err


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (1, "nothing.onnx", ["nothing.onnx", "--target", "mca128"]),
        (2, "did you mean 'mca128'", ["model.onnx", "--target", "mca12"]),
        (1, "mine.toml: No such file", ["model.onnx", "--target", "mine.toml"]),
        (2, "did you mean 'im2col'", ["model.onnx", "--target", "mca128", "--passes", "im2kol"]),
        (2, "no option 'l'", ["model.onnx", "--target", "mca128", "--passes", "im2col{l=a}"]),
        (2, "no unmapped", ["model.onnx", "--target", "mca128", "--passes", "im2col{layers=a}"]),
        (2, "can't be read", ["model.onnx", "--target", "mca128", "--passes", "im2col{"]),
        (2, "did you mean 'rows'", ["model.onnx", "--target", "mca128", "--set", "array.row=1"]),
        (2, "array.rows = 0", ["model.onnx", "--target", "mca128", "--set", "array.rows=0"]),
        (2, "written key.path=value", ["model.onnx", "--target", "mca128", "--set", "array.rows"]),
        (2, "can't hold a weight", ["model.onnx", "--target", "mca128", "--set", "array.cols=7"]),
        (2, "name=1,3,48,192", ["model.onnx", "--target", "mca128", "--input-shape", "x=a"]),
        (1, "did you mean 'x'", ["model.onnx", "--target", "mca128", "--input-shape", "xx=1"]),
        (2, "p.py: no such file", ["model.onnx", "--target", "mca128", "--plugin", "p.py"]),
        (1, "c.npz: No such file", ["model.onnx", "--target", "mca128", "--calibration", "c.npz"]),
        (1, "model.onnx", ["model.onnx", "--target", "mca128", "--calibration", "model.onnx"]),
        (1, "no xbarc program", ["model.onnx", "--target", "mca128", "-o", "data.npz"]),
        (1, "percentile", ["model.onnx", "--target", "mca128", "--percentile", "0"]),
        (2, "no such pass", ["model.onnx", "--target", "mca128", "--print-ir-after", "prune"]),
    ],
)  # fmt: skip
def test_compile_refuses(folder, xbarc, code, message, arguments):
    before = sorted(folder.rglob("*"))
    refused(xbarc, code, message, "compile", *arguments)
    assert sorted(folder.rglob("*")) == before


def broken_model(kind):
    model = text_model(MODEL)
    content = model.SerializeToString()
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not a model"
    if kind == "truncated":
        return content[: len(content) // 2]
    weights = next(i for i in model.graph.initializer if i.name == "w")
    array = onnx.numpy_helper.to_array(weights).copy()
    array.flat[0] = np.nan if kind == "nan" else np.inf
    weights.CopyFrom(onnx.numpy_helper.from_array(array, "w"))
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "nan", "infinite"])
def test_a_broken_model_is_refused(folder, xbarc, kind):
    Path("bad.onnx").write_bytes(broken_model(kind))
    message = "'w'" if kind in ("nan", "infinite") else "bad.onnx"
    before = sorted(folder.rglob("*"))
    refused(xbarc, 1, message, "compile", "bad.onnx", "--target", "mca128")
    assert sorted(folder.rglob("*")) == before


def test_a_directory_is_no_model(folder, xbarc):
    Path("folder").mkdir()
    refused(xbarc, 1, "folder", "compile", "folder", "--target", "mca128")


def test_a_zero_size_input_is_refused(folder, xbarc):
    text = "g (float[1,0] x) => (float[1,2] y) <float[1,2] w> { y = MatMul(x, w) }"
    onnx.save(text_model(text.replace("<float[1,2] w>", "<float[0,2] w>")), "zero.onnx")
    refused(xbarc, 1, "x", "compile", "zero.onnx", "--target", "mca128")


X = np.zeros((2, 3, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("message", "arrays", "options"),
    [
        ("2 x 3 x 6, the model takes batch x 3 x 6 x 6", {"x": X[..., 0]}, []),
        ("2 x 3 x 6 x 5", {"x": X[..., :5]}, []),
        ("has type complex64", {"x": X.astype(np.complex64)}, []),
        ("has type <U1", {"x": np.full(X.shape, "a")}, []),
        ("no data for input 'x' (arrays given: a, b)", {"a": X, "b": X}, []),
        ("no sample", {"x": X[:0]}, []),
        ("has no array 'z'", {"x": X, "y": np.zeros(2, int)}, ["--labels", "z"]),
        ("1 entries for 2 samples", {"x": X, "y": np.zeros(1, int)}, ["--labels", "y"]),
        ("doesn't fit an output", {"x": X, "y": np.zeros((2, 9), int)}, ["--labels", "y"]),
        ("pickle", {"x": np.array([object()])}, []),
    ],
)
def test_run_refuses(compiled, xbarc, message, arrays, options):
    np.savez("bad.npz", **arrays)
    refused(xbarc, 1, message, "run", compiled, "--input", "bad.npz", *options)


def test_run_refuses_what_is_no_npz(compiled, xbarc):
    Path("text.npz").write_text("hello")
    refused(xbarc, 1, "text.npz: not an npz file", "run", compiled, "--input", "text.npz")
    np.save("one.npy", X)
    refused(xbarc, 1, "one.npy: a single array", "run", compiled, "--input", "one.npy")
    content = Path("data.npz").read_bytes()
    Path("half.npz").write_bytes(content[: len(content) // 2])
    refused(xbarc, 1, "half.npz: not an npz file", "run", compiled, "--input", "half.npz")
    refused(xbarc, 1, "none.npz: No such file", "run", compiled, "--input", "none.npz")


@pytest.mark.parametrize("command", ["run", "cost", "inspect"])
def test_a_tampered_program_is_refused(compiled, xbarc, command):
    program = compiled / "program.mlir"
    program.write_text(program.read_text().replace("axis 1", "axis 0", 1))
    options = ["--input", "data.npz"] if command == "run" else []
    refused(xbarc, 1, "program.mlir was changed", command, compiled, *options)


def test_inspect_and_opt_refuse(compiled, xbarc):
    refused(xbarc, 1, "no layer 'conv'", "inspect", compiled, "--layer", "conv")
    refused(xbarc, 1, "none.mlir: No such file", "opt", "none.mlir")
    Path("bad.mlir").write_text("builtin.module {\n  xbar.weights @a : 3xi8\n}")
    refused(xbarc, 1, "bad.mlir:3:1: weights are written", "opt", "bad.mlir")
    refused(xbarc, 2, "works on ONNX graphs", "opt", "bad.mlir", "--passes", "canonicalize")
    refused(xbarc, 2, "unknown pass", "passes", "im2")
    refused(xbarc, 2, "unknown target", "targets", "mca")


def test_the_real_command_ends_with_its_exit_codes(folder):
    command = Path(sys.executable).parent / "xbarc"
    for code, arguments in (
        (0, ["--help"]),
        (0, ["--version"]),
        (2, ["compile"]),
        (2, ["nonsense"]),
        (2, ["compile", "model.onnx", "--target", "mca12"]),
        (1, ["compile", "none.onnx", "--target", "mca128"]),
    ):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_help_imports_nothing_slow():
    script = (
        "import sys; sys.argv = ['xbarc', '--help']\n"
        "import xbarc.cli\n"
        "try:\n    xbarc.cli.main()\n"
        "except SystemExit:\n    pass\n"
        "slow = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'numba', 'xdsl', 'pydantic', 'torch'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "slow: []"
