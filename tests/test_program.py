"""A program on disk: whole, reproducible, checked, and nothing but data."""

import copy
import hashlib
import json
import os
import shutil
import stat

import numpy as np
import onnx
import pytest
import safetensors.numpy
from models import text_model

import xbarc
from xbarc.support.errors import XbarcError

MODEL = """g (float[N,4,8,8] x) => (float[N,5] y)
<float[8,4,3,3] w, float[8] b, float[8,1,3,3] d, float[128,5] v> {
  c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
  e = Conv<group=8, pads=[1,1,1,1]>(m, d) f = Flatten(e) y = MatMul(f, v) }"""


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).standard_normal((6, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def program(inputs):
    return xbarc.compile(text_model(MODEL), "mca128", calibration=inputs, bias_correction=False)


@pytest.fixture
def saved(program, tmp_path):
    program.save(tmp_path / "m.xbar")
    return tmp_path / "m.xbar"


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


# --- Round trip ---------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(program, saved, inputs):
    loaded = xbarc.load(saved)
    assert loaded.module.is_structurally_equivalent(program.module)
    assert loaded.target == program.target
    assert loaded.report == program.report
    assert loaded.digital == program.digital
    assert loaded.origin == program.origin
    assert set(loaded.weights) == set(program.weights)
    for name, array in program.weights.items():
        assert loaded.weights[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.weights[name], array)
    before, after = program.run(inputs), loaded.run(inputs)
    assert before["y"].tobytes() == after["y"].tobytes()


def test_the_files_are_those_of_the_contract(saved):
    assert set(tree(saved)) == {
        "program.mlir",
        "weights.safetensors",
        "target.toml",
        "report.json",
        "manifest.json",
        "digital/0.onnx",
        "digital/1.onnx",
        "float.onnx",
        "float.data",
    }
    manifest = json.loads((saved / "manifest.json").read_text())
    digests = {n: hashlib.sha256(c).hexdigest() for n, c in tree(saved).items()}
    del digests["manifest.json"]
    assert manifest["files"] == digests
    assert manifest["passes"] == ["canonicalize", "fold-batchnorm", "im2col"]
    assert {"python", "onnx", "onnxruntime", "xdsl"} <= set(manifest["versions"])


def test_the_source_models_hash_is_kept(tmp_path, inputs):
    onnx.save(text_model(MODEL), tmp_path / "m.onnx")
    xbarc.compile(tmp_path / "m.onnx", "mca128", calibration=inputs).save(tmp_path / "m.xbar")
    manifest = json.loads((tmp_path / "m.xbar" / "manifest.json").read_text())
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert manifest["model"] == {"name": "m.onnx", "sha256": digest}


def test_the_report_is_the_cost(saved):
    assert json.loads((saved / "report.json").read_text()) == xbarc.load(saved).cost()


def test_the_report_before_saving_is_the_report_after(program, saved):
    assert json.loads((saved / "report.json").read_text()) == program.cost()


def test_compiling_twice_gives_the_same_bytes(tmp_path, inputs):
    for name in ("one", "two"):
        xbarc.compile(text_model(MODEL), "mca128", calibration=inputs).save(tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_saving_what_was_loaded_gives_the_same_bytes(saved, tmp_path):
    xbarc.load(saved).save(tmp_path / "again.xbar")
    assert tree(tmp_path / "again.xbar") == tree(saved)


def test_running_twice_gives_the_same_bits(program, inputs):
    assert program.run(inputs)["y"].tobytes() == program.run(inputs)["y"].tobytes()
    assert program.run(inputs, batch=1)["y"].tobytes() == program.run(inputs)["y"].tobytes()


def test_a_program_is_as_readable_as_other_files(saved):
    (saved.parent / "other").touch()
    mode = stat.S_IMODE((saved.parent / "other").stat().st_mode)
    for file in saved.rglob("*"):
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_program_may_be_moved(saved, tmp_path, inputs):
    shutil.copytree(saved, tmp_path / "elsewhere" / "other name")
    shutil.rmtree(saved)
    assert xbarc.load(tmp_path / "elsewhere" / "other name").run(inputs)["y"].shape == (6, 5)


# --- In Python ---------------------------------------------------------------------------------


def test_lists_are_as_good_as_arrays(program, inputs):
    expected = program.run(inputs)["y"]
    np.testing.assert_array_equal(program.run(inputs.tolist())["y"], expected)
    np.testing.assert_array_equal(program.run({"x": inputs.tolist()})["y"], expected)
    again = xbarc.compile(
        text_model(MODEL), calibration={"x": inputs.tolist()}, bias_correction=False
    )
    np.testing.assert_array_equal(again.run(inputs)["y"], expected)


@pytest.mark.parametrize("given", [[[1.0], [1.0, 2.0]], {"x": [[1.0], [1.0, 2.0]]}, None, "x"])
def test_what_is_no_array(program, given):
    with pytest.raises(XbarcError) as error:
        program.run(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (12, {}, "not of type int"),
        (text_model(MODEL), {"percentile": 50}, "above 50 and at most 100, not 50"),
        (text_model(MODEL), {"percentile": "99"}, "above 50 and at most 100, not '99'"),
        (text_model(MODEL), {"percentile": float("nan")}, "above 50 and at most 100, not nan"),
        (
            text_model(MODEL),
            {"target": xbarc.load_target("mca128"), "overrides": ["adc.bits=3"]},
            "overrides need a target by name",
        ),
    ],
)
def test_a_wrong_call(model, options, said):
    with pytest.raises(xbarc.UsageError, match=said) as error:
        xbarc.compile(model, **options)
    assert "\n" not in str(error.value)


def test_the_cost_is_the_callers_own(program):
    program.cost()["totals"].clear()
    assert program.cost()["totals"]


def test_crossbars_are_programmed_once(program, inputs, tmp_path, monkeypatch):
    from xbarc.simulator import interpreter as run

    prepared = []

    class Counted(run.Simulator):
        def __init__(self, *arguments, **options):
            prepared.append(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(run, "Simulator", Counted)
    program.save(tmp_path / "m.xbar")
    fresh = xbarc.load(tmp_path / "m.xbar")
    first, second = fresh.run(inputs)["y"], fresh.run(inputs)["y"]
    np.testing.assert_array_equal(first, second)
    assert len(prepared) == 1
    fresh.save(tmp_path / "again.xbar")
    assert tree(tmp_path / "again.xbar") == tree(tmp_path / "m.xbar")
    assert "_prepared" not in repr(fresh)
    # Another target is another machine.
    fresh.target = xbarc.load_target("mca128", ["adc.bits=2"])
    assert not np.array_equal(fresh.run(inputs)["y"], first)
    assert len(prepared) == 2


def test_a_program_that_ran_can_be_copied(program, inputs):
    expected = program.run(inputs)["y"]
    np.testing.assert_array_equal(copy.copy(program).run(inputs)["y"], expected)
    assert "_prepared" not in vars(copy.copy(program))


# --- Damage -------------------------------------------------------------------------------------

FILES = ["program.mlir", "weights.safetensors", "target.toml", "report.json", "digital/0.onnx"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_noticed(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(XbarcError, match=f"{name} was changed after it was compiled") as error:
        xbarc.load(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(saved, name):
    (saved / name).unlink()
    with pytest.raises(XbarcError, match=f"{name}: No such file or directory"):
        xbarc.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_noticed(saved, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(XbarcError, match="was changed"):
        xbarc.load(saved)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[]", "it lists no files"),
        (b"{}", "it lists no files"),
        (b'{"files": []}', "it lists no files"),
        (b'{"files": {}, "format": 99}', "of format 99, this xbarc reads 1"),
        (b'{"files": {}, "format": 1}', "doesn't name program.mlir"),
    ],
)
def test_a_damaged_manifest(saved, content, said):
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(XbarcError, match=said) as error:
        xbarc.load(saved)
    assert "\n" not in str(error.value)


def test_what_is_no_program(saved, tmp_path):
    with pytest.raises(XbarcError, match="no such program"):
        xbarc.load(tmp_path / "absent")
    with pytest.raises(XbarcError, match="not a directory"):
        xbarc.load(saved / "program.mlir")
    with pytest.raises(XbarcError, match=r"it has no manifest\.json"):
        xbarc.load(tmp_path)


# --- Malice: whoever writes the files can also write their hashes ---------------------------------


def resign(folder, **added):
    """Write the manifest anew, so that all hashes hold."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["files"] |= added
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "digital/../../secret",
        "digital/..",
        "digital/a/b.onnx",
        "other.txt",
        "digital/0.onnx\n",
        "program.mlir/x",
        "",
    ],
)
def test_a_manifest_names_only_a_programs_files(saved, name):
    (saved.parent / "secret").write_text("secret")
    resign(saved, **{name: hashlib.sha256(b"secret").hexdigest()})
    with pytest.raises(XbarcError, match="names a file that no program has"):
        xbarc.load(saved)


@pytest.mark.parametrize("name", ["report.json", "digital/0.onnx"])
def test_links_out_of_the_folder_are_not_followed(saved, name):
    outside = saved.parent / "outside"
    (saved / name).rename(outside)
    (saved / name).symlink_to(outside)
    with pytest.raises(XbarcError, match=f"{name} leads out of the program"):
        xbarc.load(saved)


def test_a_pipe_is_not_waited_for(saved):
    (saved / "report.json").unlink()
    os.mkfifo(saved / "report.json")
    with pytest.raises(XbarcError, match=r"report\.json is no file"):
        xbarc.load(saved)


@pytest.mark.parametrize(
    ("name", "said"),
    [("target.toml", "doesn't name target.toml"), ("digital/0.onnx", "no file digital/0.onnx")],
)
def test_a_manifest_without_one_of_the_files(saved, name, said):
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["files"][name]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(XbarcError, match=said):
        xbarc.load(saved)


def edit(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    resign(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("program.mlir", "xbar.mvm", "xbar.mwm", r"program\.mlir:\d+:\d+: "),
        ("program.mlir", "<128 x 128", "<512 x 512", "mapped for other crossbars than target.toml"),
        ("program.mlir", "xbar.crossbar =", "xbar.crosbar =", "mapped for other crossbars"),
        ("program.mlir", "digital/0.onnx", "digital/9.onnx", "no file digital/9.onnx"),
        ("program.mlir", "@MatMul", "@Other", "has no array 'Other'"),
        ("program.mlir", 'for "MatMul"', 'bias for "MatMul"', "has no array 'MatMul.bias'"),
        ("target.toml", "rows = 128", "rows = -1", "array.rows"),
        ("target.toml", "rows = 128", "rows = ", "not TOML"),
        ("report.json", "{", "[", "report.json|Expecting"),
    ],
)
def test_parts_that_do_not_fit(saved, name, old, new, said):
    edit(saved, name, old, new)
    with pytest.raises(XbarcError, match=said) as error:
        xbarc.load(saved)
    assert "\n" not in str(error.value)


def test_a_report_that_is_none(saved):
    (saved / "report.json").write_text("[]")
    resign(saved)
    with pytest.raises(XbarcError, match="report.json is damaged"):
        xbarc.load(saved)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("MatMul", np.zeros((128, 4), np.int8)),
        ("MatMul", np.zeros((128, 5), np.float32)),
        ("MatMul.scale", np.zeros(5, np.int64)),
        ("MatMul.scale", np.zeros((1, 5))),
    ],
)
def test_arrays_that_do_not_fit(saved, name, array):
    arrays = safetensors.numpy.load_file(saved / "weights.safetensors")
    safetensors.numpy.save_file({**arrays, name: array}, saved / "weights.safetensors")
    resign(saved)
    with pytest.raises(XbarcError, match=f"array '{name}' is "):
        xbarc.load(saved)


def test_a_weights_file_that_is_none(saved):
    (saved / "weights.safetensors").write_bytes(b"\xff" * 100)
    resign(saved)
    with pytest.raises(XbarcError, match=r"m\.xbar: "):
        xbarc.load(saved)


def test_a_digital_part_that_is_no_model(saved, inputs):
    (saved / "digital" / "0.onnx").write_bytes(b"\xff" * 100)
    resign(saved)
    with pytest.raises(XbarcError, match=r"^digital/0\.onnx: "):
        xbarc.load(saved).run(inputs)


def _as_initializer(part, tensor):
    part.graph.initializer.append(tensor)


def _as_sparse_initializer(part, tensor):
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [8], range(8))
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[16])
    part.graph.sparse_initializer.append(sparse)


def _in_a_function(part, tensor):
    opset = onnx.helper.make_opsetid("", 18)
    node = onnx.helper.make_node("Constant", [], ["t"], value=tensor)
    part.functions.append(onnx.helper.make_function("own", "F", [], ["t"], [node], [opset]))


def _in_a_branch(part, tensor):
    node = onnx.helper.make_node("Constant", [], ["t"], value=tensor)
    branch = onnx.helper.make_graph([node], "b", [], [])
    part.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=branch))


@pytest.mark.parametrize(
    "put", [_as_initializer, _as_sparse_initializer, _in_a_function, _in_a_branch]
)
def test_a_digital_part_reads_no_other_file(saved, inputs, tmp_path, monkeypatch, put):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"\0" * 8 * 4)
    part = onnx.load(saved / "digital" / "0.onnx")
    tensor = onnx.TensorProto(name="s", data_type=1, dims=[8], data_location=1)
    tensor.external_data.add(key="location", value="secret")
    put(part, tensor)
    onnx.save(part, saved / "digital" / "0.onnx", save_as_external_data=False)
    resign(saved)
    with pytest.raises(XbarcError, match="which a program never reads"):
        xbarc.load(saved).run(inputs)


def test_a_digital_part_of_other_inputs(saved, inputs):
    part = text_model(
        "g (float[N,8,8,8] a, float[N] b) => (float[N,8,4,4] c) "
        "{ c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) }"
    )
    onnx.save(part, saved / "digital" / "0.onnx")
    resign(saved)
    with pytest.raises(XbarcError, match=r"digital/0\.onnx takes 2 inputs, the program gives 1"):
        xbarc.load(saved).run(inputs)
