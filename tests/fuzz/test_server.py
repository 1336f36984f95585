"""One input's end says nothing of the next: hangs, crashes and memory are each input's own."""

import os
import signal

import onnx
import pytest
from cases import LOOP, Workplace
from models import text_model

ENDLESS = ["compile", "endless.onnx", "-o", "out.xbar", "--target", "mca128"]
GOOD = ["opt", "m.onnx", "-o", "out.onnx"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Workplace(tmp_path_factory.mktemp("fuzz"))
    onnx.save(text_model(LOOP, trips=1 << 62, yes=True, k=[3]), made.folder / "endless.onnx")
    yield made
    made.server.close()


def test_a_hang_is_ended_and_the_next_input_runs(place):
    assert place.server.run(ENDLESS, str(place.folder), timeout=2).code is None
    assert place.server.run(GOOD, str(place.folder)).code == 0


def test_an_input_by_itself_is_supervised(place):
    end = place.server.run([*ENDLESS, "--limits", "time=1"], str(place.folder), alone=True)
    assert (end.code, end.err.count("\n")) == (1, 1)
    assert "the model runs too long" in end.err


def test_a_crash_is_ones_own(place):
    """A worker that dies is answered for; the plug-in stands for a fault in native code."""
    crash = f"import os\nos.kill(os.getpid(), {int(signal.SIGSEGV)})\n"
    (place.folder / "crash.py").write_text(crash)
    argv = [*GOOD, "--plugin", "crash.py"]
    assert place.server.run(argv, str(place.folder)).code == -signal.SIGSEGV
    assert place.server.run(GOOD, str(place.folder)).code == 0


def test_memory_is_counted_by_input(place):
    (place.folder / "large.py").write_text("x = bytearray(700 << 20)\ndel x\n")
    before = place.server.run(GOOD, str(place.folder)).megabytes
    large = place.server.run([*GOOD, "--plugin", "large.py"], str(place.folder)).megabytes
    after = place.server.run(GOOD, str(place.folder)).megabytes
    assert large > before + 650
    assert after < before + 200


def test_the_folder_is_as_it_was_before_each_input(place):
    before = {p.name: p.read_bytes() for p in place.good.rglob("*") if p.is_file()}
    (place.folder / "m.onnx").write_bytes(b"changed")
    (place.folder / "m.xbar" / "report.json").unlink()
    os.makedirs(place.folder / "out.xbar" / "deep")
    place._clean_up()
    after = {p.name: p.read_bytes() for p in place.folder.rglob("*") if p.is_file()}
    assert after == before
