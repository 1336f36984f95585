"""onnxruntime may end the process; the next try says at which node."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from xbarc.graph import crashes
from xbarc.graph.run import Session
from xbarc.support.errors import XbarcError

OVERFLOW = """<ir_version: 8, opset_import: ["": 18]>
g (float[N,1] x) => (float[N,1] y)
<int32[1] least = {-2147483648}, float zero = {0.0}, int32[1] one = {1}> {
    [nothing] n = Mul(x, zero)  [integer] i = Cast<to=6>(n)  [minus] m = Sub(i, one)
    [culprit] q = Div(least, m)  [float] f = Cast<to=1>(q)  [sum] y = Add(x, f) }"""
"""The least integer by -1 has no result; processors of x86 raise a fault."""


@pytest.fixture
def crashing(tmp_path):
    """A model that ends a process; skipped where this onnxruntime has an answer."""
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(OVERFLOW), path)
    return path


def compile_in_a_process(path, tmp_path):
    code = "import sys; from xbarc.cli.app import main; sys.argv[0] = 'xbarc'; main()"
    command = [sys.executable, "-c", code, "compile", str(path), "--target", "mca128"]
    environment = {**os.environ, "XBARC_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        [*command, "-o", str(tmp_path / "net.xbar")],
        capture_output=True,
        env=environment,
        text=True,
    )


def test_the_second_try_says_which_node(crashing, tmp_path):
    first = compile_in_a_process(crashing, tmp_path)
    if first.returncode in (0, 1):
        pytest.skip("this onnxruntime gives a result for the least integer by -1")
    assert not (tmp_path / "net.xbar").exists()
    again = compile_in_a_process(crashing, tmp_path)
    assert again.returncode == 1
    (line,) = (line for line in again.stderr.splitlines() if "crashes" in line)
    assert "onnxruntime crashes at Div 'culprit' (SIGFPE)" in line
    assert len(list((tmp_path / "cache/tried").iterdir())) == 1  # the next try says so too


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XBARC_CACHE", str(tmp_path))
    return tmp_path / "tried"


PLAIN = '<ir_version: 8, opset_import: ["": 18]> g (float[N] x) => (float[N] y) { y = Relu(x) }'


def model():
    return ir.from_proto(onnx.parser.parse_model(PLAIN))


def test_a_try_leaves_nothing_behind(cache_folder):
    Session(model()).run({"x": np.ones(3, np.float32)})
    assert list(cache_folder.iterdir()) == []
    with pytest.raises(XbarcError):
        Session(model()).run({"x": np.ones((3, 3), np.float32)})
    assert list(cache_folder.iterdir()) == []


def test_a_process_that_was_killed_costs_one_more_try(cache_folder, monkeypatch):
    """A model that is not at fault runs: its mark was left by a process that somebody ended."""
    tried = []
    fault = crashes._fault
    monkeypatch.setattr(crashes, "_fault", lambda *given: tried.append(1) or fault(*given))
    marks = []
    watched = crashes._digest
    monkeypatch.setattr(crashes, "_digest", lambda proto: marks.append(watched(proto)) or marks[-1])
    Session(model())
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    (cache_folder / f"{marks[-1]}.run").write_text(ended.stdout)
    found = Session(model()).run({"x": np.array([-1, 2], np.float32)})
    np.testing.assert_array_equal(found["y"], [0, 2])
    assert len(tried) == 1
    assert list(cache_folder.iterdir()) == []


def test_the_mark_of_a_living_process_is_its_own(cache_folder, monkeypatch):
    monkeypatch.setattr(crashes, "_fault", lambda *_: pytest.fail("no try is due"))
    marks = []
    digest = crashes._digest
    monkeypatch.setattr(crashes, "_digest", lambda proto: marks.append(digest(proto)) or marks[-1])
    Session(model())
    (cache_folder / f"{marks[-1]}.run").write_text(str(os.getpid()))
    Session(model()).run({"x": np.ones(3, np.float32)})


ENDLESS = """<ir_version: 8, opset_import: ["": 18]>
g (float[N] x) => (float[N] y) <int64 trips = {9223372036854775807}, bool yes = {1}> {
    y = Loop(trips, yes, x) <body = b (int64 i, bool go, float[N] v) => (bool again, float[N] u)
        { again = Identity(go) u = Identity(v) }> }"""

ASKING = """
import sys
import time
from pathlib import Path
import numpy as np, onnx, onnx_ir as ir
from xbarc.graph import crashes
model = ir.load(sys.argv[1])
crashes._fault(model, list(model.graph), {"x": np.ones(3, np.float32)})
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux ends a child with its parent")
def test_a_try_ends_with_the_command_that_asks_for_it(tmp_path):
    path = tmp_path / "endless.onnx"
    onnx.save(onnx.parser.parse_model(ENDLESS), path)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", ASKING, str(path)]
    with subprocess.Popen(command, env=environment) as asking:
        wait(lambda: tries(tmp_path), "it begins")
        time.sleep(0.5)
        assert tries(tmp_path)
        asking.kill()
    wait(lambda: not tries(tmp_path), "it ends")


def tries(folder):
    """Processes that try a model in this folder, with onnxruntime's library in use."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            tried = b"xbarc.graph.tried" in words and any(
                word.startswith(bytes(folder)) for word in words
            )
            if tried and b"onnxruntime" in (process / "maps").read_bytes():
                found.append(process.name)
    return found


def wait(until, what):
    for _ in range(300):
        if until():
            return
        time.sleep(0.1)
    pytest.fail(f"30 s went by before {what}")
