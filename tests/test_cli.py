"""The command line as a user meets it: what it prints, and how it ends."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import reference, text_model
from rich.console import Console

from xbarc.cli.output import table

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
    assert report["passes"] == ["canonicalize", "fold-batchnorm", "equalize", "im2col"]
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
    assert set(told) == {
        *("samples", "metric", "accuracy", "float", "images_per_second", "seed", "effects"),
        *("judged", "outputs", "inputs", "adc"),
    }
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


def test_opt_takes_only_the_target_of_the_file(compiled, xbarc):
    program = compiled / "program.mlir"
    assert xbarc("opt", program, "--target", "mca128")[0] == 0
    message = "program.mlir is for other crossbars than those of target 'mca64': give the target"
    refused(xbarc, 2, message, "opt", program, "--target", "mca64")
    refused(
        xbarc, 2, "target 'mca128", "opt", program, "--target", "mca128", "--set", "array.rows=64"
    )


ZERO_OUT = """
from dataclasses import dataclass
import numpy as np
import onnx_ir as ir
from xbarc.pipeline import GraphPass

@dataclass(frozen=True)
class SetOne(GraphPass):
    'b -> 1'
    name = "add-one"
    preserves = False

    def apply(self, model, target):
        value = model.graph.initializers["b"]
        value.const_value = ir.tensor(np.ones(4, np.float32), name="b")
        return True
"""


def test_json_has_no_infinity(folder, xbarc):
    Path("p.py").write_text(ZERO_OUT)
    text = "g (float[N,3] x) => (float[N,4] y) <float[3,4] w, float[4] b> { y = Gemm(x, w, b) }"
    onnx.save(text_model(text, w=np.zeros((3, 4)), b=np.zeros(4)), "zero.onnx")
    zero = ("compile", "zero.onnx", "--target", "mca128", "--plugin", "p.py", "--passes", "add-one")
    code, out, err = xbarc(*zero, "--json")
    assert code == 0, err

    def constant(name):
        pytest.fail(f"{name} is no JSON")

    assert json.loads(out, parse_constant=constant)["deviation"] == {"add-one": None}
    report = Path("zero.xbar/report.json").read_text()
    assert json.loads(report, parse_constant=constant)["deviation"] == {"add-one": None}
    assert "add-one: relative deviation infinite" in xbarc(*zero)[1]
    assert xbarc("report", "zero.xbar", "-o", "r.html")[0] == 0
    assert "add-one: relative deviation infinite" in Path("r.html").read_text()


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
        (2, "or 'mca128'", ["model.onnx", "--target", "mca12"]),
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
        (2, "percentile", ["model.onnx", "--target", "mca128", "--percentile", "0"]),
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
        ("has shape a scalar, the model takes", {"x": np.float32(1)}, ["--limit", "1"]),
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


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("has open dimensions", "g (float[N,0,8] x) => (float[N,0,8] y) { y = Relu(x) }"),
        (
            "MatMul 'MatMul': its weights have shape [8, 0]",
            "g (float[N,8] x) => (float[N,0] y) <float[8,0] w> { y = MatMul(x, w) }",
        ),
        (
            "has open dimensions [N, 8, H, W]: give its shape, such as --input-shape x=1,8,",
            "g (float[N,8,H,W] x) => (float[N,4,A,B] y) <float[4,8,1,1] w> { y = Conv(x, w) }",
        ),
    ],
)
def test_shapes_that_cannot_be_compiled(folder, xbarc, message, text):
    onnx.save(text_model(text), "shape.onnx")
    refused(xbarc, 1, message, "compile", "shape.onnx", "--target", "mca128", "-o", "o.xbar")
    assert not Path("o.xbar").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_calibration_that_is_not_finite_is_refused(folder, xbarc, value):
    x = X.copy()
    x[0, 0, 0, 0] = value
    np.savez("bad.npz", x=x)
    refused(
        xbarc, 1, "not finite", "compile", "model.onnx", "--target", "mca128",
        "--calibration", "bad.npz", "-o", "o.xbar",
    )  # fmt: skip
    assert not Path("o.xbar").exists()


def test_run_refuses_nan(compiled, xbarc):
    np.savez("bad.npz", x=np.full_like(X, np.nan))
    refused(xbarc, 1, "an activation is NaN", "run", compiled, "--input", "bad.npz")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_input(compiled, xbarc, value):
    np.savez("bad.npz", x=np.full_like(X, value))
    refused(xbarc, 1, "NaN or infinite", "run", compiled, "--input", "bad.npz")


@pytest.mark.parametrize(
    "labels", [np.int64(1), np.full(2, np.nan), np.array(["a", "b"]), np.ones(2, complex)]
)
def test_labels_that_are_no_classes(compiled, xbarc, labels):
    np.savez("bad.npz", x=X, y=labels)
    refused(xbarc, 1, "labels 'y' are ", "run", compiled, "--input", "bad.npz", "--labels", "y")


def test_pickles_are_never_loaded(folder, compiled, xbarc):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (Path("trapped"),))

    np.savez("trap.npz", x=np.array([Trap()], dtype=object))
    Path("trapped").unlink(missing_ok=True)
    message = "trap.npz: not an npz file of plain arrays: pickled objects are never loaded"
    refused(xbarc, 1, message, "run", compiled, "--input", "trap.npz")
    refused(
        xbarc, 1, message, "compile", "model.onnx", "--target", "mca128",
        "--calibration", "trap.npz", "-o", "o.xbar",
    )  # fmt: skip
    assert not Path("trapped").exists()


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0], [255, 255]])
def test_labels_of_other_classes(compiled, xbarc, labels):
    np.savez("bad.npz", x=X, y=np.array(labels))
    message = f"labels reach from {min(labels)} to {max(labels)}, the output has classes 0 to 3"
    refused(xbarc, 1, message, "run", compiled, "--input", "bad.npz", "--labels", "y")


def test_a_limit_within_a_fixed_batch(folder, xbarc):
    onnx.save(text_model(MODEL.replace("float[N,", "float[4,")), "four.onnx")
    assert xbarc("compile", "four.onnx", "--target", "mca128")[0] == 0
    with np.load("data.npz") as file:
        x, y = file["x"], file["y"]
    outputs = {}
    for limit in (1, 4, 6, 40, 99):
        for name, count in (("some.npz", 4), ("all.npz", 40)):
            np.savez(name, x=x[:count], y=y[:limit])
            given = min(limit, count)
            code, out, _ = xbarc(
                "run", "four.xbar", "--input", name, "--labels", "y", "--limit", limit,
                "--output", "out.npz", "--json",
            )  # fmt: skip
            assert code == 0
            assert json.loads(out)["samples"] == given
            outputs[limit, count] = np.load("out.npz")["y"]
            assert outputs[limit, count].shape == (given, 4)
    for found in outputs.values():
        assert np.array_equal(found, outputs[40, 40][: len(found)])


# --- Where results go ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "can't write folder: it exists and is no file"),
        (".", "can't write .: it exists and is no file"),
        ("pipe", "can't write pipe: it exists and is no file"),
        ("none/y.npz", "can't write none/y.npz: No such file or directory"),
        ("data.npz/y.npz", "can't write data.npz/y.npz: Not a directory"),
    ],
)
def test_an_output_that_cannot_be_written(compiled, xbarc, path, message):
    Path("folder").mkdir()
    os.mkfifo("pipe")
    before = sorted(compiled.parent.rglob("*"))
    refused(xbarc, 1, message, "run", compiled, "--input", "calibration.npz", "--output", path)
    refused(xbarc, 1, message, "opt", compiled / "program.mlir", "-o", path)
    assert sorted(compiled.parent.rglob("*")) == before
    assert Path("pipe").is_fifo()


def test_a_missing_folder_is_noticed_before_the_work(compiled, xbarc, monkeypatch):
    monkeypatch.setattr("xbarc.driver.evaluate.evaluate", lambda *_, **__: pytest.fail("simulated"))
    message = "can't write none/y.npz: No such file or directory"
    run = ("run", compiled, "--input", "calibration.npz", "--output", "none/y.npz")
    refused(xbarc, 1, message, *run)


def test_outputs_of_any_name_and_type(folder, xbarc):
    text = """g (float[N,4] x) => (float[N,2] file, float[N,2] allow_pickle, string[N,2] text)
    <float[4,2] w> { file = MatMul(x, w) allow_pickle = Neg(file) text = Cast<to=8>(file) }"""
    onnx.save(text_model(text), "names.onnx")
    np.savez("x.npz", x=np.ones((3, 4), np.float32))
    assert xbarc("compile", "names.onnx", "--target", "mca128")[0] == 0
    assert xbarc("run", "names.xbar", "--input", "x.npz", "--output", "y.npz")[0] == 0
    with np.load("y.npz", allow_pickle=False) as out:
        assert set(out.files) == {"file", "allow_pickle", "text"}
        np.testing.assert_array_equal(out["file"], -out["allow_pickle"])
        np.testing.assert_array_equal(out["text"].astype(np.float32), out["file"])


def test_outputs_replace_an_older_file_whole(compiled, xbarc, monkeypatch):
    Path("y.npz").write_bytes(b"older")

    def full(file, *_, **__):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = ("run", compiled, "--input", "calibration.npz", "--output", "y.npz")
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", full)
        refused(xbarc, 1, "can't write y.npz: No space left on device", *run)
    assert Path("y.npz").read_bytes() == b"older"
    assert not list(compiled.parent.glob(".y.npz*"))
    assert xbarc(*run)[0] == 0
    assert np.load("y.npz")["y"].shape == (40, 4)


def test_a_full_disk_while_compiling(folder, xbarc, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(folder.rglob("*"))
    compile_ = ("compile", "model.onnx", "--target", "mca128", "--calibration", "calibration.npz")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        refused(xbarc, 1, "can't write model.xbar: No space left on device", *compile_)
    assert sorted(folder.rglob("*")) == before


def test_ctrl_c_while_saving(folder, xbarc, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    before = sorted(folder.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        code, out, err = xbarc("compile", "model.onnx", "--target", "mca128")
    assert code == 130
    assert out == ""
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_foreign_output_is_refused_before_the_work(folder, xbarc, what, monkeypatch):
    if what == "file":
        Path("o.xbar").write_text("mine")
    else:
        Path("o.xbar").mkdir()
        (folder / "o.xbar" / "thesis.tex").write_text("mine")
    monkeypatch.setattr(
        "xbarc.driver.compile.compile_model", lambda *_, **__: pytest.fail("compiled")
    )
    message = "o.xbar exists and is no xbarc program: remove it, or choose another name"
    refused(xbarc, 1, message, "compile", "model.onnx", "--target", "mca128", "-o", "o.xbar")
    kept = Path("o.xbar") if what == "file" else Path("o.xbar/thesis.tex")
    assert kept.read_text() == "mine"


def test_help_of_every_command(xbarc):
    for command in ("compile", "run", "cost", "inspect", "opt", "passes", "targets"):
        code, out, err = xbarc(command, "--help")
        assert (code, err) == (0, "")
        assert f"xbarc {command}" in out


def test_the_json_keys_are_those_of_the_contract(compiled, xbarc):
    report = json.loads(xbarc("cost", compiled, "--json")[1])
    assert set(report["totals"]) >= TOTAL_KEYS
    for layer in report["layers"]:
        assert set(layer) >= LAYER_KEYS
    assert list(report)[:3] == ["model", "target", "passes"]
    assert {"layers", "totals", "deviation"} <= set(report)
    told = json.loads(xbarc("run", compiled, "--input", "calibration.npz", "--json")[1])
    assert set(told) == {
        *("samples", "judged", "outputs", "float", "images_per_second", "seed", "effects"),
        *("inputs", "adc"),
    }
    assert told["samples"] == 40


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
        "try:\n    xbarc.cli.call()\n"
        "except SystemExit:\n    pass\n"
        "slow = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'numba', 'xdsl', 'pydantic', 'torch'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "slow: []"


def test_a_narrow_screen_breaks_the_lines_of_words_and_keeps_figures_whole():
    made = table("figure", "ours", "kind", "note")
    made.add_row("crossbars of a network whose name is long", "1,112.5 mm2", "model", "word " * 40)
    text = io.StringIO()
    Console(width=70, file=text).print(made)
    assert "1,112.5 mm2  model" in text.getvalue()
    assert text.getvalue().count("word") == 40
    assert "…" not in text.getvalue()
