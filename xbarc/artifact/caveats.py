"""Where the caveats of a report stand: beside which of its totals, by their numbers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def stands_at(of: Collection[str], key: str) -> bool:
    """Whether a caveat of these keys stands beside a figure; one of a table, beside its total."""
    return key in of or (key.endswith(".total") and key.removesuffix(".total") in of)


def mark(numbers: Sequence[int]) -> str:
    """The numbers of a figure's caveats: `[1, 3]`; nothing where it has none."""
    return f"[{', '.join(map(str, numbers))}]" if numbers else ""


def marks(caveats: Sequence[Mapping[str, Any]], *keys: str) -> str:
    """The mark of figures that stand together, of one program, whose report has these `caveats`."""
    return mark(
        [
            i + 1
            for i, caveat in enumerate(caveats)
            if any(stands_at(caveat["of"], key) for key in keys)
        ]
    )
