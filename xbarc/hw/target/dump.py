"""A target as a document, and as TOML that reads back to it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from xbarc.hw.target.schema import Target

BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML reads without quotes."""


def described(target: Target) -> dict[str, Any]:
    """The resolved target as a document: no key that says nothing."""

    def said(values: Mapping[str, Any], of: str = "") -> dict[str, Any]:
        # An effect's table without options does say something.
        return {
            k: said(v, k) if isinstance(v, Mapping) else v
            for k, v in values.items()
            if v not in ({}, "") or k == "description" or (of == "device" and v == {})
        }

    return said(target.model_dump(exclude_none=True))


def dump_target(target: Target) -> str:
    """The resolved target as TOML text; `parse_target` reads it back."""
    lines: list[str] = []

    def table(values: Mapping[str, Any], path: str) -> None:
        plain = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
        if path and (plain or not values):
            lines.extend(["", f"[{path}]"])
        lines.extend(f"{k} = {_toml(v)}" for k, v in plain.items())
        for k, v in values.items():
            if isinstance(v, Mapping):
                key = k if BARE.fullmatch(k) else json.dumps(k, ensure_ascii=False)
                table(v, f"{path}.{key}" if path else key)

    table(described(target), "")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's escapes are a subset of what a basic TOML string reads.
    return json.dumps(str(value), ensure_ascii=False)
