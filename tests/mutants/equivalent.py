"""Changes that no test can notice, and why: `equivalent.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from changes import Change

FILE = Path(__file__).parent / "equivalent.toml"


@dataclass(frozen=True)
class Equivalent:
    """Reasons by file, the text of a line, and what becomes of it."""

    reasons: dict[tuple[str, str, str], str]

    def why(self, change: Change) -> str | None:
        """Why a change makes no difference; None where it should."""
        return self.reasons.get((change.file, change.text, f"{change.old} -> {change.new}"))


def load() -> Equivalent:
    """What the file lists. A line is known by its text, so the list outlives other changes."""
    listed = tomllib.loads(FILE.read_text()).get("change", [])
    return Equivalent({(e["file"], e["line"], e["becomes"]): e["why"] for e in listed})
