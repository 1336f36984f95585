"""Processes that another one started for its own work."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TRACKER = b"resource_tracker"
"""In the command of Python's own process that clears up behind others; it ends by itself."""


def end_with(parent: int) -> None:
    """Have the kernel end this process when `parent`, the one that started it, ends.

    So what a killed command had started doesn't run on. Only Linux can do so.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before that
            os._exit(1)


def kill_all(process: int) -> None:
    """Kill a process and those that it started; where the system doesn't tell, only itself.

    Processes that outlive their starter keep its output open: who reads that waits for them.
    """
    for one in [process, *_started_by(process)]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _started_by(process: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                if TRACKER not in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield child
                    yield from _started_by(child)
