"""Which of the things known by name an option such as `layers=...` means."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from xbarc.support.errors import UsageError, nearest


def named(names: Sequence[str], known: Collection[str], what: str) -> list[str]:
    """Those of `known` that `names` mean, in the order of `known`; all, where there are no names.

    A name is one of `known`, else a pattern as shells have them: `conv*`, `layer[12].?`. Raises
    `UsageError` ("no `what` 'cnv': ...") for a name that means nothing.
    """
    if not names:
        return list(known)
    chosen: set[str] = set()
    for name in names:
        found = matching(name, known)
        if not found:
            raise UsageError(f"no {what} {name!r}: {nearest(name, known)}")
        chosen.update(found)
    return [name for name in known if name in chosen]


def matching(name: str, known: Collection[str]) -> list[str]:
    """What one name or pattern means among `known`; nothing, where it fits none."""
    # A layer may itself be called `conv[1]`.
    return [name] if name in known else [k for k in known if fnmatchcase(k, name)]
