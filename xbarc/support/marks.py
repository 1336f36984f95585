"""Marks on disk of models that are being tried (`xbarc.graph.crashes`).

Apart from what makes them, so that ending a command imports nothing that is large.
"""

from contextlib import suppress

from xbarc.support.cache_folder import folder

TRIED = "tried"
"""Their folder in the cache; each has the number of its process in it."""


def forget(process: int) -> None:
    """Remove the marks of a process that was ended on purpose: it didn't crash."""
    root = folder()
    if root is None:
        return
    for mark in (root / TRIED).glob("*"):
        with suppress(OSError):
            if mark.read_text() == str(process):
                mark.unlink()
