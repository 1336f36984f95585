"""A process that another one started for its own work."""

import ctypes
import os
import signal
from contextlib import suppress


def end_with(parent: int) -> None:
    """Have the kernel end this process when `parent`, the one that started it, ends.

    So what a killed command had started doesn't run on. Only Linux can do so.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
