"""JSON documents: what the command line prints and `report.json` holds."""

import json
import math
from typing import Any

from xbarc.support.errors import CONTROL


def finite(document: Any) -> Any:
    """`document` with None (null) for each NaN and infinity, which JSON doesn't know."""
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def to_json(document: Any) -> str:
    """The text of `document`, which ends without a new line.

    Characters that a terminal would obey are escaped, as JSON escapes them.
    """
    text = json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False)
    return CONTROL.sub(lambda m: m[0] if m[0] == "\n" else f"\\u{ord(m[0]):04x}", text)
