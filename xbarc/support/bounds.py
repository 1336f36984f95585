"""Bounds for what runs a stranger's graph: seconds and memory (`--limits`).

A model may hold a loop that never ends, or one that doubles a tensor. onnxruntime runs it in C++,
where Python can't stop it. So the command line does its work in a child process
(`xbarc.cli.supervise`): `guarded` puts down in shared memory until when the child must be back, and
the parent ends it where it isn't. Memory is a limit of the kernel on the child's data, so it is
refused before it is taken.

Only the command line sets bounds. A Python program that calls xbarc has those of its own process.
"""

import mmap
import os
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xbarc.support.errors import UsageError, XbarcError

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

LEAST_MEMORY = 3 << 29
"""Bytes that any graph may take, weights and inputs not counted."""

OF_DATA = 8
"""Times its weights and inputs that a graph may take beside that."""

PER_THREAD = 16 << 20
"""Bytes that a thread of the runtime may take for itself."""

VERBOSE = "XBARC_VERBOSE"
"""The environment variable under which onnxruntime logs to stderr."""

SLOTS = 256
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class Limits:
    """`seconds` for one run of a graph; `memory` in bytes (None: by the graph's own size)."""

    seconds: float = 600.0
    memory: int | None = None


def parse_limits(text: str) -> Limits | None:
    """`time=600,memory=8G` as limits, None for `none`. Raises `UsageError` on any other."""
    if text.strip() == "none":
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(time|memory)=(\d{1,15}(?:\.\d{1,6})?)([kmgtKMGT]?)\s*", part)
        if match is None or (match[1] == "time" and match[3]) or float(match[2]) <= 0:
            raise UsageError(
                f"--limits {text}: written time=600,memory=8G (seconds and bytes), or none"
            )
        found[match[1]] = float(match[2]) * _UNITS[match[3].lower()]
    memory = int(found["memory"]) if "memory" in found else None
    return Limits(found.get("time", Limits.seconds), memory)


class Watch:
    """Until when each thread of a child must be back: read by its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * SLOTS)
        self.limits: Limits | None = Limits()
        self._lock = threading.Lock()
        self._inside = 0
        self._before: tuple[int, int] | None = None

    @property
    def overdue(self) -> bool:
        """Whether a run of a graph has taken longer than it may."""
        ends = struct.unpack(f"{SLOTS}d", self._memory[:])
        now = time.monotonic()
        return any(0 < end < now for end in ends)

    def enter(self, size: int | None) -> int:
        """A run of a graph with so many bytes of weights and inputs begins; its slot."""
        assert self.limits is not None
        with self._lock:
            free = (i for i in range(SLOTS) if not any(self._memory[8 * i : 8 * i + 8]))
            slot = next(free, SLOTS - 1)
            self._put(slot, time.monotonic() + self.limits.seconds)
            self._inside += 1
            if self._inside == 1:
                self._before = _limit_memory(self.limits.memory, size)
        return slot

    def leave(self, slot: int) -> None:
        """The run is over."""
        with self._lock:
            self._put(slot, 0.0)
            self._inside -= 1
            if not self._inside and self._before is not None and resource is not None:
                resource.setrlimit(resource.RLIMIT_DATA, self._before)
                self._before = None

    def _put(self, slot: int, value: float) -> None:
        self._memory[8 * slot : 8 * slot + 8] = struct.pack("d", value)


_watch: Watch | None = None
# Of the process, as its memory is: threads that run a graph share both.


def watched_by(watch: Watch) -> None:
    """From now on this process, a child, keeps to bounds."""
    global _watch
    _watch = watch


def set_limits(text: str | None) -> None:
    """The limits of this process as `--limits` says. Raises `UsageError`."""
    if text is not None:
        limits = parse_limits(text)
        if _watch is not None:
            _watch.limits = limits


@contextmanager
def guarded(size: int | None = 0) -> Iterator[None]:
    """The block runs a stranger's graph with `size` bytes of weights and inputs.

    None: beside other threads, whose work takes memory too, so half of the machine's is theirs.

    Raises `XbarcError` where there is no memory for it.
    """
    watch = _watch
    if watch is None or watch.limits is None:
        yield
        return
    slot = watch.enter(size)
    try:
        yield
    except MemoryError:
        raise XbarcError(f"the model takes too much memory{more()}") from None
    finally:
        watch.leave(slot)


def more() -> str:
    """The end of a line about a graph that was refused memory; empty without bounds."""
    if _watch is None or _watch.limits is None:
        return ""
    return ": --limits memory=8G allows more"


def _limit_memory(memory: int | None, size: int | None) -> tuple[int, int] | None:
    """Set the kernel's limit on this process's data; the limits before it."""
    now = _data()
    if resource is None or now is None:
        return None
    if memory is not None:
        budget = memory
    elif size is None:
        budget = max(LEAST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    else:
        budget = LEAST_MEMORY + OF_DATA * size
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + budget + PER_THREAD * (os.cpu_count() or 1)
    for other in (soft, hard):
        if other != resource.RLIM_INFINITY:
            wanted = min(wanted, other)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    return soft, hard


def _data() -> int | None:
    """Bytes of data that this process has; None where the system doesn't say."""
    with suppress(OSError, IndexError, ValueError):
        status = Path("/proc/self/status").read_bytes()
        return int(status.split(b"VmData:")[1].split()[0]) << 10
    return None
