"""JSON documents: what the command line prints and `report.json` holds."""

import json
import math
from typing import Any


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
    """The text of `document`, which ends without a new line."""
    return json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False)
