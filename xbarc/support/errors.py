"""What xbarc raises when its input, not its code, is at fault."""

import difflib
from collections.abc import Iterable


class XbarcError(Exception):
    """The model, data or program can't be compiled or run: exit code 1.

    The message says what is wrong, where, and what to do; one line a cause.
    """


class UsageError(XbarcError):
    """The call itself is wrong (an unknown pass, target or key): exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line about an unknown `name`: the nearest known ones, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(known) if known else "none")
