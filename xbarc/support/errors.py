"""What xbarc raises when its input, not its code, is at fault."""

import difflib
import re
from collections.abc import Iterable

CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that move a terminal's cursor, end a line, turn text around, or are none."""


def visible(text: str, keep: str = "") -> str:
    """`text` with what isn't shown, or forges lines and colours, written out.

    Names in models and programs are somebody's text. Characters of `keep` stay.
    """
    return CONTROL.sub(lambda m: m[0] if m[0] in keep else _written_out(m[0]), text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


class XbarcError(Exception):
    """The model, data or program can't be compiled or run: exit code 1.

    Each cause says what is wrong, where, and what to do; it is one line, whatever names are in it.
    """

    @property
    def causes(self) -> tuple[str, ...]:
        """The lines."""
        return tuple(visible(str(cause)) for cause in self.args)

    def __str__(self) -> str:
        return "\n".join(self.causes)


class UsageError(XbarcError):
    """The call itself is wrong (an unknown pass, target or key): exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line about an unknown `name`: the nearest known ones, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(known) if known else "none")
