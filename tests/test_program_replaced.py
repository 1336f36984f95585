"""What `save` may replace, and that a program is there whole whatever happens meanwhile."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from faults import REFUSED, at_each
from models import text_model

import xbarc
from xbarc.artifact import runs, trials
from xbarc.support import files
from xbarc.support.errors import XbarcError

MODEL = """g (float[N,4] x) => (float[N,3] y) <float[4,5] v, float[5,3] w>
{ a = MatMul(x, v) b = Relu(a) y = MatMul(b, w) }"""


@pytest.fixture(scope="module")
def program():
    return xbarc.compile(text_model(MODEL), "mca128")


@pytest.fixture(scope="module")
def updated(program):
    return program.update_weights(text_model(MODEL, seed=1))


@pytest.fixture
def saved(program, tmp_path):
    program.save(tmp_path / "m.xbar")
    return tmp_path / "m.xbar"


@pytest.fixture
def fast_disk(monkeypatch):
    """A disk that takes no time to sync: the steps are there all the same."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


# --- What may be replaced -------------------------------------------------------------------------


def test_an_older_program_is_replaced_with_its_runs(program, updated, saved):
    runs.record(saved, runs.program_hash(saved), "x.npz", runs.Options(), {"samples": 1})
    (saved / "runs" / "20260101T000000.000000Z-1.tmp").write_text("cut sh")
    updated.save(saved)
    assert "runs" not in os.listdir(saved)
    assert os.listdir(saved.parent) == ["m.xbar"]


def test_a_damaged_program_is_replaced(program, saved):
    (saved / "program.mlir").write_text("damaged")
    (saved / "report.json").unlink()
    program.save(saved)
    assert xbarc.load(saved).target == program.target


def test_an_empty_directory_is_taken(program, tmp_path):
    (tmp_path / "m.xbar").mkdir()
    program.save(tmp_path / "m.xbar")
    assert xbarc.load(tmp_path / "m.xbar").target == program.target


@pytest.mark.parametrize(
    "name",
    ["note.txt", "digital/7.onnx", "digital/deep/note", "runs/note.json", ".git/config", "empty/"],
)
def test_what_stands_in_a_program_and_is_none_of_it(program, saved, name):
    if name.endswith("/"):
        (saved / name).mkdir()
    else:
        (saved / name).parent.mkdir(parents=True, exist_ok=True)
        (saved / name).write_text("mine")
    before = tree(saved)
    with pytest.raises(XbarcError, match=rf"also holds .*{name.split('/')[0]}") as error:
        program.save(saved)
    assert "\n" not in str(error.value)
    assert tree(saved) == before


def test_a_record_of_our_name_and_somebodys_content(program, saved):
    (saved / "runs").mkdir()
    (saved / "runs" / "20260101T000000.000000Z-1.json").write_text('{"mine": 1}')
    with pytest.raises(XbarcError, match="also holds runs/2026"):
        program.save(saved)


@pytest.mark.parametrize(
    "manifest",
    [
        {"name": "shop", "icons": [], "start_url": "/"},
        {"format": 1, "files": {}},
        {"format": 1, "files": {"program.mlir": "ab", "index.html": "0" * 64}},
        {"format": 1, "files": {"program.mlir": "ab"}},
        [],
    ],
)
def test_the_name_manifest_json_makes_no_program(program, tmp_path, manifest):
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text(json.dumps(manifest))
    (site / "index.html").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(XbarcError, match="exists and is no xbarc program"):
        program.save(site)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_program_is_never_replaced(program, tmp_path, what):
    path = tmp_path / "m.xbar"
    if what == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "thesis.tex").write_text("mine")
    with pytest.raises(XbarcError, match="exists and is no xbarc program"):
        program.save(path)
    assert os.listdir(tmp_path) == ["m.xbar"]
    assert (path if what == "file" else path / "thesis.tex").read_text() == "mine"


def test_a_link_is_not_replaced(program, saved):
    link = saved.parent / "latest.xbar"
    link.symlink_to(saved)
    with pytest.raises(XbarcError, match=r"latest\.xbar: it is a link to .*m\.xbar"):
        program.save(link)
    (saved.parent / "broken").symlink_to("nowhere")
    with pytest.raises(XbarcError, match="a link to nowhere"):
        program.save(saved.parent / "broken")
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["in.xbar", "digital/in.xbar", "digital/deep/in.xbar"])
def test_a_place_within_a_program(program, saved, name):
    with pytest.raises(XbarcError, match=r"m\.xbar is a compiled program: choose a place outside"):
        program.save(saved / name)


@pytest.mark.parametrize("name", [".", "..", "sub/.."])
def test_a_path_without_a_name(program, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(XbarcError, match="name the folder|no such"):
        program.save(name)


def test_a_parent_that_is_a_file(program, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(XbarcError, match=r"can't write .*m\.xbar: (Not a directory|File exists)"):
        program.save(tmp_path / "file" / "m.xbar")


# --- Records of runs ------------------------------------------------------------------------------


def keep(path):
    return runs.record(path, runs.program_hash(path), "x.npz", runs.Options(), {"samples": 1})


def test_only_our_own_records_make_room(saved, monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 2)
    (saved / "runs").mkdir()
    theirs = [saved / "runs" / n for n in ("0.json", "00000000T000000.000000Z-1.json")]
    for file in theirs:
        file.write_text('{"mine": 1}')
    ours = [keep(saved) for _ in range(4)]
    assert [f.exists() for f in theirs] == [True, True]
    assert [f.exists() for f in ours] == [False, False, True, True]


def test_runs_are_not_kept_through_a_link(saved, monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 0)
    other = saved.parent / "data"
    other.mkdir()
    (other / "20260101T000000.000000Z-1.json").write_bytes(runs.BEGIN + b"1}")
    (saved / "runs").symlink_to(other)
    before = tree(other)
    with pytest.raises(XbarcError, match="runs is a link to .*data"):
        keep(saved)
    with pytest.raises(XbarcError, match="runs is a link to .*data"):
        trials.file_of(saved, "0" * 16)
    assert tree(other) == before
    assert runs.recorded(saved)[0] == []
    assert "is a link" in runs.recorded(saved)[1][0]
    assert trials.recorded(saved) == ([], [])


# --- Whatever happens meanwhile -------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed"])
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_every_fault_of_a_disk_leaves_one_whole_program(
    program, updated, tmp_path, there, exchange, fast_disk
):
    path = tmp_path / "w" / "m.xbar"
    program.save(tmp_path / "old.xbar")
    updated.save(tmp_path / "new.xbar")
    old, new = tree(tmp_path / "old.xbar"), tree(tmp_path / "new.xbar")
    assert old != new

    def reset():
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        path.parent.mkdir()
        if there:
            shutil.copytree(tmp_path / "old.xbar", path)

    ends = set()
    for kind, at, status in at_each(lambda: updated.save(path), reset, exchange=exchange):
        what = f"{kind} at step {at}"
        ends.add((kind, status))
        if path.exists():
            found = tree(path)
            assert found == new or (there and found == old), what
            assert status != REFUSED or found == old, what
        elif there:
            # Only a kill between two renames: the next run finds the old program.
            assert kind == "killed" and not exchange, what
            with pytest.raises(XbarcError, match=r"a run was killed .* stands at .*\.old"):
                xbarc.load(path)
        if kind != "killed":
            assert os.listdir(path.parent) == (["m.xbar"] if path.exists() else []), what
        updated.save(path)  # clears what a killed run left
        assert os.listdir(path.parent) == ["m.xbar"], what
        assert tree(path) == new, what
    assert {("full", REFUSED), ("error", REFUSED), ("killed", -signal.SIGKILL)} <= ends


def test_every_fault_of_a_disk_leaves_the_records_whole(program, tmp_path, fast_disk):
    path = tmp_path / "m.xbar"
    program.save(path)
    keep(path)
    first = tree(path)

    def reset():
        shutil.rmtree(path)
        for name, content in first.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    for kind, at, _ in at_each(lambda: keep(path), reset):
        found = tree(path)
        assert {n: found[n] for n in first} == first, f"{kind} at step {at}"
        kept = runs.recorded(path)
        assert len(kept[0]) in (0, 1, 2) and len(kept[0]) + len(kept[1]) <= 2


def test_every_fault_of_a_disk_leaves_an_output_whole(tmp_path, fast_disk):
    path = tmp_path / "w" / "y.npz"

    def reset():
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        path.parent.mkdir()
        path.write_bytes(b"old")

    def write():
        with files.written_whole(path) as file:
            file.write(b"new content")

    for kind, at, status in at_each(write, reset):
        what = f"{kind} at step {at}"
        assert path.read_bytes() in (b"old", b"new content"), what
        if kind != "killed":
            assert status != REFUSED or path.read_bytes() == b"old", what
            assert os.listdir(path.parent) == ["y.npz"], what
        write()
        assert os.listdir(path.parent) == ["y.npz"], what


def test_what_a_living_run_writes_is_left_alone(program, saved):
    name = f".m.xbar.{os.getpid()}.abcd{{}}"
    busy = saved.with_name(name.format(".new"))
    busy.mkdir()
    descriptor = os.open(busy, os.O_RDONLY)
    files.claim(descriptor)
    program.save(saved)
    assert busy.exists()
    os.close(descriptor)
    (busy / "thesis.tex").write_text("mine")
    program.save(saved)
    assert busy.exists()  # not ours, whatever it is called
    (busy / "thesis.tex").unlink()
    program.save(saved)
    assert not busy.exists()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_between_two_renames_brings_the_old_program_back(
    program, saved, monkeypatch, failure
):
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise failure
        return rename(self, target)

    before = tree(saved.parent)
    with monkeypatch.context() as patch:
        patch.setattr("xbarc.artifact.folder.exchange", lambda *_: False)
        patch.setattr(Path, "rename", second_fails)
        with pytest.raises((XbarcError, KeyboardInterrupt)):
            program.save(saved)
    assert len(calls) == 3
    assert tree(saved.parent) == before


# --- Outputs of other commands --------------------------------------------------------------------


def test_outputs_that_would_destroy_something(saved, tmp_path):
    data = tmp_path / "x.npz"
    np.savez(data, x=np.zeros((1, 4), np.float32))
    (tmp_path / "link").symlink_to(data)
    for path, said in (
        (saved / "report.json", "is a compiled program"),
        (saved / "digital" / "y.npz", "is a compiled program"),
        (saved, "exists and is no file"),
        (tmp_path / "link", "a link to"),
        (data, "it is what is read"),
        (tmp_path / "absent" / "y", "No such file or directory"),
    ):
        with pytest.raises(XbarcError, match=said):
            files.check_output(path, reads=(None, data))
    files.check_output(tmp_path / "y.npz", reads=(data,))
