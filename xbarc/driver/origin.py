"""What a program was made from."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbarc.frontends.registry import frontend_of
from xbarc.support.files import sha256_of


def plugin_words(plugins: Sequence[str | Path]) -> list[str]:
    """Plug-in files as the commands take them."""
    return [word for file in plugins for word in ("--plugin", Path(file).name)]


def describe_model(source: Any) -> dict[str, Any]:
    """The model's name and, where it is text or a file, its hash."""
    if isinstance(source, str) and not os.path.exists(source):
        frontend = frontend_of(source)
        name = "text" if frontend is None else frontend.name
        return {"name": name, "sha256": hashlib.sha256(source.encode()).hexdigest()}
    if isinstance(source, str | Path):
        return {"name": Path(source).name, "sha256": sha256_of(source)}
    name = getattr(getattr(source, "graph", None), "name", None) or "model"
    return {"name": name, "sha256": None}
