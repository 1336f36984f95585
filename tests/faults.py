"""Faults of a disk: each thing that is written, renamed or synced fails in turn.

`at_each` runs an action in a child process, first to count its steps, then once for each step and
kind of fault: the disk is full, an I/O error, or the process is killed at that step. A write fails
half-way.
"""

import builtins
import contextlib
import ctypes
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import safetensors.numpy

from xbarc.support import files
from xbarc.support.errors import XbarcError

KINDS = {"full": errno.ENOSPC, "error": errno.EIO, "killed": None}
STEPS = ("rename", "replace", "fsync", "mkdir", "write", "ftruncate", "unlink")
UNDONE, DONE, REFUSED = 3, 0, 1


@dataclass
class Fault:
    """The fault at step `at` (0: none), and the steps so far."""

    kind: str
    at: int
    steps: list[str] = field(default_factory=list)

    def step(self, what: str) -> int | None:
        """Count a step; the error that it ends in, None where it succeeds."""
        self.steps.append(what)
        if len(self.steps) != self.at:
            return None
        code = KINDS[self.kind]
        if code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        # Of what can't be removed something stays, and no line says otherwise.
        return None if what == "unlink" else code

    def fail(self, what: str) -> None:
        code = self.step(what)
        if code is not None:
            raise OSError(code, os.strerror(code))


class _Written:
    """An open file, a write to which may fail half-way."""

    def __init__(self, file, fault):
        self._file, self._fault = file, fault

    def write(self, data):
        half = data[: len(data) // 2]
        before = self._file.tell() if self._file.seekable() else 0
        self._file.write(half)
        self._file.flush()
        self._fault.fail("write")
        self._file.seek(before)
        return self._file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def __getattr__(self, name):
        return getattr(self._file, name)


@contextlib.contextmanager
def _faulty(fault: Fault, *, exchange: bool) -> Iterator[None]:
    """Every step that changes a disk asks `fault` first; for a child process of one's own."""
    for name in STEPS:
        setattr(os, name, _asking(fault, name, getattr(os, name)))
    plain = io.open

    def opening(file, mode="r", *rest, **options):
        if not set(mode) & set("wax+"):
            return plain(file, mode, *rest, **options)
        fault.fail("open")
        return _Written(plain(file, mode, *rest, **options), fault)

    io.open = builtins.open = opening
    library = files._libc

    def linked(name):
        if name == "renameat2" and not exchange:
            return None
        function = library(name)

        def asking(*arguments):
            code = fault.step(name)
            if code is None:
                return function(*arguments)
            ctypes.set_errno(code)
            return -1

        return asking

    files._libc = linked
    save = safetensors.numpy.save_file

    def save_file(arrays, path):
        save(arrays, path)
        whole = os.path.getsize(path)
        os.truncate(path, whole // 2)
        fault.fail("save_file")
        save(arrays, path)

    safetensors.numpy.save_file = save_file
    yield


def _asking(fault: Fault, name: str, function: Callable):
    def asking(*arguments, **options):
        fault.fail(name)
        return function(*arguments, **options)

    return asking


def _in_child(action: Callable[[], None], fault: Fault, exchange: bool) -> tuple[int, int]:
    """How the action ended under a fault, and how many steps it took."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = UNDONE
        try:
            with _faulty(fault, exchange=exchange):
                action()
            status = DONE
        except (XbarcError, OSError) as error:
            status = REFUSED if isinstance(error, XbarcError) and "\n" not in str(error) else UNDONE
        finally:
            os.close(reading)
            os.closerange(writing + 1, writing + 2)
            ctypes.CDLL(None).write(writing, b"%08d" % len(fault.steps), 8)
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        steps = int(pipe.read() or 0)
    _, status = os.waitpid(child, 0)
    return (-signal.SIGKILL if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), steps


def at_each(
    action: Callable[[], None], reset: Callable[[], None], *, exchange: bool = True
) -> Iterator[tuple[str, int, int]]:
    """The kind of fault, its step, and how the action ended, for every kind and step in turn.

    `reset` brings back what was there before the action. Ends where an action under a fault ended
    in anything but what it should: done (the fault was no matter), a line, or killed.
    """
    reset()
    status, steps = _in_child(action, Fault("full", 0), exchange)
    assert status == DONE and steps > 3
    for kind in KINDS:
        for at in range(1, steps + 1):
            reset()
            status, _ = _in_child(action, Fault(kind, at), exchange)
            wanted = (-signal.SIGKILL,) if kind == "killed" else (DONE, REFUSED)
            assert status in wanted, (kind, at, status)
            yield kind, at, status
