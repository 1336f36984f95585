"""Rarer searches for garbage while objects are made by the million, of which nearly all stay.

Python looks for circles among objects each time 700 more are there. A compilation's graphs and tile
IR make these searches a fifth of its time, and they find next to nothing.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = 100_000
"""New objects between two searches."""


class _Inside:
    """How many blocks are under way, of all threads, and the thresholds from before."""

    lock = threading.Lock()
    count = 0
    before = gc.get_threshold()


@contextmanager
def rare_collections() -> Iterator[None]:
    """The block makes many objects that stay."""
    with _Inside.lock:
        _Inside.count += 1
        if _Inside.count == 1:
            _Inside.before = gc.get_threshold()
            if _Inside.before[0]:  # 0: the caller has switched them off
                gc.set_threshold(max(THRESHOLD, _Inside.before[0]), *_Inside.before[1:])
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if not _Inside.count:
                gc.set_threshold(*_Inside.before)
