"""A command's work in a child process, so that it ends whatever a library does in C++.

The parent hands on signals and waits. It ends the child where Ctrl-C doesn't, and where a
stranger's graph runs longer than it may (`xbarc.support.bounds`). A crash ends in one line.
"""

import faulthandler
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn

from xbarc.cli.failure import bug_line, complain
from xbarc.support.bounds import Watch, watched_by
from xbarc.support.marks import forget
from xbarc.support.process import end_with

INTERRUPTED = 130
ENDING = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGALRM", "SIGPIPE")
"""Signals by which a process is asked to end: no fault of its own."""

PATIENCE = 1.5
"""Seconds that a child has to end by itself after Ctrl-C."""

_ASKED = (signal.SIGINT, signal.SIGTERM)


def supervised(call: Callable[[], NoReturn]) -> NoReturn:
    """Do `call`, which raises `SystemExit`, in a child process; exit as it does.

    In this process where the system can't fork, or threads are about already.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        call()
    watch, crash = Watch(), tempfile.TemporaryFile()  # noqa: SIM115  # the child writes to it
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if not child:
        os.close(reading)
        end_with(parent)
        _work(call, watch, crash)
    os.close(writing)
    asked = _Asked(child)
    while not select.select([reading], [], [], 0.05)[0]:
        if asked.overdue:
            _kill(child)
        if watch.overdue and not asked.at:
            _kill(child)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                complain("the model runs too long: --limits time=3600 gives it an hour")
                sys.exit(1)
            sys.exit(os.waitstatus_to_exitcode(status))
    _, status = os.waitpid(child, 0)
    sys.exit(_code(status, asked, crash))


class _Asked:
    """Whether a signal asked for an end, and when; handed on to the child."""

    def __init__(self, child: int) -> None:
        self.child, self.at, self.times, self.by = child, 0.0, 0, 0
        for number in _ASKED:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.at, self.by = self.at or time.monotonic(), number
        self.times += 1
        with suppress(ProcessLookupError):
            os.kill(self.child, number)

    @property
    def overdue(self) -> bool:
        """Whether the child has had its time, or was asked twice."""
        return self.times > 1 or bool(self.at and time.monotonic() > self.at + PATIENCE)


def _work(call: Callable[[], NoReturn], watch: Watch, crash: IO[bytes]) -> NoReturn:
    """The child: it never returns."""
    signal.signal(signal.SIGINT, _once)
    faulthandler.enable(crash)
    watched_by(watch)
    code = 1
    try:
        call()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        _end(code)


def _end(code: int) -> NoReturn:
    """What was registered to be done at the end is done, but nobody is waited for."""
    import atexit

    atexit._run_exitfuncs()
    os._exit(code)


def _once(number: int, frame: object) -> NoReturn:
    # A terminal's Ctrl-C comes twice: to the group, and from the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _kill(child: int) -> None:
    """End the child on purpose: nothing that it was about to try has crashed."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    forget(child)


def _code(status: int, asked: _Asked, crash: IO[bytes]) -> int:
    """The exit code; says why in a line where the child didn't."""
    code = os.waitstatus_to_exitcode(status)
    if asked.by == signal.SIGINT and (code < 0 or code == INTERRUPTED):
        complain("interrupted")
        return INTERRUPTED
    if asked.by == signal.SIGTERM and code < 0:
        complain("ended by SIGTERM")
        return 128 + signal.SIGTERM
    if code == -signal.SIGKILL:
        complain("killed: perhaps there wasn't enough memory, or somebody ended it")
        return 1
    name = signal.Signals(-code).name if code < 0 else ""
    if name in ENDING:  # somebody ended the child alone
        complain(f"ended by {name}")
        return 128 - code
    if name:
        crash.seek(0)
        complain(bug_line(f"a library crashed ({name})", crash.read().decode(errors="replace")))
        return 1
    return code
