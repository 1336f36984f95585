"""How many threads a run has, and one of them for BLAS."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from xbarc.support.errors import UsageError

VARIABLE = "XBARC_THREADS"


def thread_count(asked: int | None = None) -> int:
    """Threads to use: what is `asked` for, else `XBARC_THREADS`, else one a core of this process.

    Cores that the process may not run on (an affinity mask, a batch system's share) don't count.
    Raises `UsageError` where that isn't a whole number from 1 up.
    """
    if asked is None and VARIABLE in os.environ:
        text = os.environ[VARIABLE]
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{VARIABLE}={text}: give a whole number of threads from 1 up")
        return int(text)
    if asked is not None:
        if asked < 1:
            raise UsageError(f"threads = {asked}: give a whole number from 1 up")
        return asked
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class _BlasLimit:
    """BLAS's number of threads belongs to the whole process: counted over all runs under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs = 0
        self.limits: threadpool_limits | None = None


_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """While any run is under way BLAS has one thread, for the workers share the cores already.

    The first run in sets that, the last one out restores what was, whatever order they end in.
    """
    with _limit.lock:
        if _limit.runs == 0:
            _limit.limits = threadpool_limits(limits=1, user_api="blas")
        _limit.runs += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.runs -= 1
            if _limit.runs == 0 and _limit.limits is not None:
                _limit.limits.restore_original_limits()
