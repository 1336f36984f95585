"""Whatever a model makes a library do, a command ends: in time, in memory, in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import text_model

from xbarc import cli
from xbarc.cli.output import LONGEST_LINE, shortened, shown
from xbarc.support import bounds
from xbarc.support.document import to_json
from xbarc.support.errors import UsageError, XbarcError, visible

MAIN = "from xbarc.cli import main; main()"

PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

LOOP = """g (float[N,4] x) => (float[M,4] y) <float[4,4] w, int64 trips, bool yes>
{{ m = MatMul(x, w)
   y = Loop(trips, yes, m) <body = b (int64 i, bool go, float[K,4] v) => (bool again, float[L,4] u)
       {{ again = Identity(go) {body} }}> }}"""

CRASH = """
import os, signal
from dataclasses import dataclass
from typing import ClassVar
from xbarc.pipeline import GraphPass

@dataclass(frozen=True)
class Crash(GraphPass):
    '''Ends as a library does that crashes.'''
    name = "crash"
    preserves: ClassVar[bool] = True

    def apply(self, model, target):
        os.kill(os.getpid(), signal.SIGSEGV)
"""


def loop(folder, body, trips=2**62):
    onnx.save(text_model(LOOP.format(body=body), trips=trips, yes=True), folder / "m.onnx")


def started(folder, *arguments, **options):
    command = [sys.executable, "-c", MAIN, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, **pipes, **options)


def ended(process, timeout=60):
    """Exit code and the lines of stderr."""
    _, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err
    return process.returncode, [line for line in err.splitlines() if "warning" not in line]


# --- Bounds ---------------------------------------------------------------------------------------


def test_a_loop_that_never_ends(tmp_path):
    loop(tmp_path, "u = Relu(v)")
    code, lines = ended(
        started(tmp_path, "compile", "m.onnx", "--target", "mca128", "--limits", "time=1")
    )
    assert code == 1
    assert lines == ["xbarc: the model runs too long: --limits time=3600 gives it an hour"]
    assert os.listdir(tmp_path) == ["m.onnx"]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the kernel has no such limit")
def test_a_loop_that_doubles_a_tensor(tmp_path):
    loop(tmp_path, "u = Concat<axis=0>(v, v)", trips=40)
    code, lines = ended(
        started(tmp_path, "compile", "m.onnx", "--target", "mca128", "--limits", "memory=200M")
    )
    assert code == 1
    (line,) = lines
    assert "it takes too much memory: --limits memory=8G allows more" in line


GROWING = """g (float[N,4] x) => (float[N,4] y) <float[4,4] w, bool yes>
{ m = MatMul(x, w) t = ReduceMax<keepdims=0>(x) trips = Cast<to=7>(t)
  a = Loop(trips, yes, m) <body = b (int64 i, bool go, float[K,4] v) => (bool again, float[L,4] u)
       { again = Identity(go) u = Concat<axis=0>(v, v) }>
  s = ReduceSum<keepdims=0>(a) y = Add(m, s) }"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the kernel has no such limit")
def test_a_digital_part_takes_memory_by_the_size_of_its_data(tmp_path):
    """Not by the machine's: the loop doubles as often as the run's inputs say."""
    onnx.save(text_model(GROWING, yes=True), tmp_path / "m.onnx")
    np.savez(tmp_path / "few.npz", x=np.ones((2, 4), np.float32))
    np.savez(tmp_path / "many.npz", x=np.full((2, 4), 40, np.float32))
    compiled = ("compile", "m.onnx", "--target", "mca128", "--calibration", "few.npz")
    assert ended(started(tmp_path, *compiled))[0] == 0
    # In a process of its own: this one's children have been many.
    command = [sys.executable, "-c", MAIN, "run", "m.xbar", "--input", "many.npz"]
    measured = [sys.executable, "-c", PEAK, *command]
    done = subprocess.run(measured, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    code, peak = done.stdout.split()[-2:]
    assert code == "1"
    assert "--limits memory=8G allows more" in done.stderr.splitlines()[-1]
    assert int(peak) << 10 < bounds.LEAST_MEMORY + (1 << 30)


@pytest.mark.parametrize("how", ["once", "twice"])
def test_ctrl_c_ends_what_python_cant_stop(tmp_path, how):
    loop(tmp_path, "u = Relu(v)")
    process = started(tmp_path, "compile", "m.onnx", "--target", "mca128")
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and _cpu_seconds(process.pid) < 4:
        time.sleep(0.1)  # until it loops
    process.send_signal(signal.SIGINT)
    if how == "twice":
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    assert ended(process) == (130, ["xbarc: interrupted"])


def test_ctrl_c_ends_workers_too(tmp_path):
    """Two trials that never end: what they keep open would keep whoever reads it waiting."""
    onnx.save(text_model(GROWING.replace("Concat<axis=0>(v, v)", "Relu(v)"), yes=True),
              tmp_path / "m.onnx")  # fmt: skip
    np.savez(tmp_path / "few.npz", x=np.ones((2, 4), np.float32))
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 2.0**60, np.float32), labels=np.zeros(2, int))
    compiled = ("compile", "m.onnx", "--target", "mca128", "--calibration", "few.npz")
    assert ended(started(tmp_path, *compiled))[0] == 0
    trials = ("--noise", "read{sigma=0.1}", "--trials", "2", "--workers", "2")
    process = started(tmp_path, "run", "m.xbar", "--input", "x.npz", "--labels", "labels", *trials)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and len(_family(process.pid)) < 4:
        time.sleep(0.1)  # the child, the tracker of its resources, two workers
    time.sleep(3)
    family = _family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    time.sleep(0.5)
    assert [pid for pid in family if _runs(pid)] == []
    assert ended(process) == (130, ["xbarc: interrupted"])


def test_ending_a_command_imports_nothing_large():
    """It would take longer than two seconds on a busy machine."""
    code = (
        "import sys; from xbarc.cli import supervise; supervise._kill(1 << 30)\n"
        "print([name for name in ('numpy', 'onnx', 'onnx_ir') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _family(pid):
    """The processes that a process started, and those that these did."""
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_family(child)]
    return found


def _runs(pid):
    with suppress(OSError):
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    return False


def _cpu_seconds(pid):
    """What the child of a process has used."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            (child,) = file.read().split()
        with open(f"/proc/{child}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_somebody_ends_the_child_alone(tmp_path):
    """It is told as what it is, not as a bug."""
    loop(tmp_path, "u = Relu(v)", trips=1)
    (tmp_path / "crash.py").write_text(CRASH.replace("SIGSEGV", "SIGTERM"))
    arguments = ["compile", "m.onnx", "--target", "mca128", "--passes", "crash"]
    assert ended(started(tmp_path, *arguments, "--plugin", "crash.py")) == (
        143,
        ["xbarc: ended by SIGTERM"],
    )


def test_a_library_that_crashes(tmp_path):
    onnx.save(text_model(LOOP.format(body="u = Relu(v)"), trips=1, yes=True), tmp_path / "m.onnx")
    (tmp_path / "crash.py").write_text(CRASH)
    arguments = ["compile", "m.onnx", "--target", "mca128", "--passes", "crash"]
    process = started(
        tmp_path, *arguments, "--plugin", "crash.py", env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    code, lines = ended(process)
    assert code == 1
    (line,) = lines
    (file,) = tmp_path.glob("xbarc-bug-*.txt")
    assert line.startswith("xbarc: a bug in xbarc: a library crashed (SIGSEGV): please send ")
    assert str(file) in line
    assert "crash.py" in file.read_text() and "onnxruntime 1" in file.read_text()


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("time=5", bounds.Limits(5)),
        ("memory=2G", bounds.Limits(memory=2 << 30)),
        ("time=0.5, memory=300m", bounds.Limits(0.5, 300 << 20)),
        ("none", None),
    ],
)
def test_limits_are_read(text, limits):
    assert bounds.parse_limits(text) == limits


@pytest.mark.parametrize(
    "text", ["", "time", "time=", "time=0", "time=5G", "memory=-1", "cpu=1", "time=1e9", "9" * 5000]
)
def test_limits_that_are_none(text):
    with pytest.raises(UsageError, match="written time=600,memory=8G"):
        bounds.parse_limits(text)


# --- What nobody foresaw --------------------------------------------------------------------------


def test_an_unforeseen_exception_is_a_line_and_a_file(xbarc, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("xbarc.api.load", lambda path: [][1])
    code, out, err = xbarc("cost", "m.xbar")
    (file,) = tmp_path.glob("xbarc-bug-*.txt")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("xbarc: a bug in xbarc: IndexError at test_supervise.py:")
    assert str(file) in err
    said = file.read_text()
    assert "Traceback" in said and "'m.xbar'" in said and "numpy 2" in said


# --- What is printed ------------------------------------------------------------------------------

NASTY = "a\x1b[31m\nxbarc: all is well\u202e\x9b[/]"


def test_names_are_text_everywhere(tmp_path, xbarc, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = text_model("g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul(x, w) }")
    model.graph.node[0].name = NASTY
    onnx.save(model, "m.onnx")
    np.savez("x.npz", x=np.ones((2, 4), np.float32))
    shown_once = False
    for command in (
        ("compile", "m.onnx", "--target", "mca128", "-o", "m.xbar"),
        ("cost", "m.xbar"),
        ("cost", "m.xbar", "--json"),
        ("inspect", "m.xbar"),
        ("inspect", "m.xbar", "--floorplan"),
        ("inspect", "m.xbar", "--layer", NASTY, "--tiles"),
        ("inspect", "m.xbar", "--layer", NASTY + "!"),
        ("run", "m.xbar", "--input", "x.npz"),
        ("compare", "m.xbar", "m.xbar"),
        ("report", "m.xbar", "-o", "r.html"),
    ):
        code, out, err = xbarc(*command)
        assert code in (0, 1), command
        for line in (out + err).split("\n"):
            assert line == visible(line), command
            assert not line.startswith("xbarc: all is well"), command
        shown_once |= "[/]" in out
    assert shown_once
    assert json.loads(xbarc("cost", "m.xbar", "--json")[1])["layers"][0]["name"] == NASTY
    page = (tmp_path / "r.html").read_text()
    assert page == visible(page, "\n\t")


def test_an_error_is_a_line_a_cause():
    error = XbarcError("one \x1b[0m\n", "two")
    assert str(error) == "one \\x1b[0m\\n\ntwo"
    assert error.causes == ("one \\x1b[0m\\n", "two")


def test_no_line_is_longer_than_a_few_of_a_terminal(xbarc):
    code, _, err = xbarc("compile", "m" * 2000, "--target", "mca128")
    assert code == 1
    assert max(map(len, err.splitlines())) <= LONGEST_LINE
    assert len(shortened("a" * 1000)) <= LONGEST_LINE
    assert shortened("a" * LONGEST_LINE) == "a" * LONGEST_LINE


def test_documents():
    assert to_json({"a\x9b": "\u202e\n"}) == '{\n "a\\u009b": "\\u202e\\n"\n}'
    assert shown({"a\n": ["\x1b", 1]}) == {"a\\n": ["\\x1b", 1]}


def test_set_takes_no_line_breaks(xbarc):
    for text in ("array.rows=64\narray.cols=1", "name=a\x1b[0m"):
        code, _, err = xbarc("compile", "m.onnx", "--target", "mca128", "--set", text)
        assert code == 2
        assert "control character" in err


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 3000, "{a=" * 3000])
@pytest.mark.parametrize("option", ["--set", "--passes", "--noise"])
def test_absurd_values(xbarc, option, value):
    text = {"--set": f"array.rows={value}", "--passes": f"prune{{sparsity={value}}}"}
    command = ("compile", "m.onnx", "--target", "mca128", option, text.get(option, ""))
    if option == "--noise":
        command = ("devices", f"x{value}")
    code, _, err = xbarc(*command)
    assert code == 2
    assert max(map(len, err.splitlines())) <= LONGEST_LINE
    assert cli.app is not None
