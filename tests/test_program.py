"""A compiled program on disk: whole, reproducible, checked."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc import XbarcError

MODEL = """
g (float[N,3,6,6] x) => (float[N,4] y) <float[4,3,3,3] w, float[4] b, float[4,4] f> {
    c = Conv(x, w, b)
    r = Relu(c)
    p = GlobalAveragePool(r)
    flat = Flatten(p)
    y = MatMul(flat, f)
}
"""


@pytest.fixture(scope="module")
def program():
    return xbarc.compile(text_model(MODEL), "mca128")


@pytest.fixture
def saved(program, tmp_path):
    path = tmp_path / "out.xbar"
    program.save(path)
    return path


def contents(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_what_is_loaded_computes_what_was_saved(program, saved):
    x = np.random.default_rng(0).standard_normal((5, 3, 6, 6)).astype(np.float32)
    before, after = program.run(x), xbarc.load(saved).run(x)
    assert before.keys() == after.keys() == {"y"}
    assert np.array_equal(before["y"], after["y"])


def test_the_files_are_the_contracts(saved):
    names = {n for n in contents(saved) if not n.startswith("digital/")}
    assert names == {
        "program.mlir",
        "weights.safetensors",
        "target.toml",
        "report.json",
        "manifest.json",
    }
    manifest = json.loads((saved / "manifest.json").read_text())
    assert set(manifest["files"]) == set(contents(saved)) - {"manifest.json"}
    assert manifest["passes"] == ["canonicalize", "fold-batchnorm", "im2col"]
    assert json.loads((saved / "report.json").read_text()) == xbarc.load(saved).cost()


def test_compiling_twice_gives_the_same_bytes(saved, tmp_path):
    again = tmp_path / "again.xbar"
    xbarc.compile(text_model(MODEL), "mca128").save(again)
    assert contents(again) == contents(saved)


def test_an_older_program_is_replaced_whole(saved, program):
    (saved / "digital" / "left.onnx").write_bytes(b"from before")
    program.save(saved)
    assert "digital/left.onnx" not in contents(saved)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_something_else_is_never_overwritten(program, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(XbarcError, match="no xbarc program"):
        program.save(folder)
    file = tmp_path / "file"
    file.write_text("years of work")
    with pytest.raises(XbarcError, match="no xbarc program"):
        program.save(file)
    assert contents(tmp_path) == {"mine/thesis.tex": b"years of work", "file": b"years of work"}


def test_an_empty_directory_may_be_used(program, tmp_path):
    program.save(tmp_path)
    assert (tmp_path / "manifest.json").is_file()


@pytest.mark.parametrize("failing", ["program.mlir", "report.json", "manifest.json"])
def test_a_full_disk_leaves_nothing_behind(program, saved, failing, monkeypatch):
    before = contents(saved)
    write_text = Path.write_text

    def full(self, *args, **kwargs):
        if self.name == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(XbarcError, match="can't write .*: No space left on device"):
        program.save(saved)
    monkeypatch.undo()
    assert contents(saved) == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_an_interrupt_leaves_nothing_behind(program, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("xbarc.program._sha256", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.save(tmp_path / "out.xbar")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_swap_puts_the_older_program_back(program, saved, monkeypatch):
    before = contents(saved)
    rename = Path.rename

    def fail_at_the_last_step(self, target):
        if Path(target) == saved and self.name.startswith(f".{saved.name}."):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_last_step)
    with pytest.raises(XbarcError, match="Input/output error"):
        program.save(saved)
    monkeypatch.undo()
    assert contents(saved) == before


@pytest.mark.parametrize(
    "name", ["program.mlir", "weights.safetensors", "target.toml", "report.json", "digital/0.onnx"]
)
def test_a_changed_file_is_found_by_its_hash(saved, name):
    path = saved / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(XbarcError, match=f"{name} was changed"):
        xbarc.load(saved)


@pytest.mark.parametrize("name", ["program.mlir", "weights.safetensors", "digital/0.onnx"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(XbarcError, match=f"{name}: No such file"):
        xbarc.load(saved)


def edit_manifest(saved, change):
    path = saved / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "digital/../../x.onnx", "run.py"])
def test_nothing_outside_the_program_is_read(saved, name):
    edit_manifest(saved, lambda m: m["files"].update({name: "0" * 64}))
    with pytest.raises(XbarcError, match="names a file that no program has"):
        xbarc.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "of format 99"),
        (lambda m: m.pop("files"), "lists no files"),
        (lambda m: m["files"].pop("target.toml"), "doesn't name target.toml"),
        (lambda m: m["files"].pop("digital/0.onnx"), "no file digital/0.onnx"),
    ],
)
def test_a_damaged_manifest_is_named(saved, change, message):
    edit_manifest(saved, change)
    with pytest.raises(XbarcError, match=message):
        xbarc.load(saved)


def test_what_is_no_program_is_refused(tmp_path):
    with pytest.raises(XbarcError, match="no such program"):
        xbarc.load(tmp_path / "nothing")
    with pytest.raises(XbarcError, match="it has no manifest.json"):
        xbarc.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(XbarcError, match="is damaged"):
        xbarc.load(tmp_path)


def test_a_program_can_be_moved(saved, tmp_path):
    moved = tmp_path / "elsewhere" / "p"
    moved.parent.mkdir()
    shutil.move(saved, moved)
    assert xbarc.load(moved).cost()["target"] == "mca128"
