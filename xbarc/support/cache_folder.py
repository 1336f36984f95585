"""Where xbarc keeps things from run to run; apart, so that asking imports nothing that is large."""

import os
from contextlib import suppress
from pathlib import Path

VARIABLE = "XBARC_CACHE"


def folder() -> Path | None:
    """Where xbarc keeps things; None where it is to keep nothing."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        return Path(asked) if asked else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # any other is to be ignored, as the XDG specification says
        return Path(base) / "xbarc"
    with suppress(RuntimeError):  # no home
        return Path.home() / ".cache" / "xbarc"
    return None
