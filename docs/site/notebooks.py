"""The tutorial as notebooks: `python docs/site/notebooks.py build/notebooks`.

A page is text with fenced blocks. `python` blocks are cells; a line of an `sh` block that begins
with `xbarc` is a command.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGES = ("network", "report", "sweep", "mappings", "pruning", "first_pass")
"""In their order: each goes on with the files of the one before."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a page: (`text`, `python` or `sh`, content)."""
    at = 0
    for found in FENCE.finditer(text):
        if before := text[at : found.start()].strip():
            yield "text", before
        yield found[1], found[2].rstrip("\n")
        at = found.end()
    if rest := text[at:].strip():
        yield "text", rest


def notebook(text: str) -> str:
    """A page as a Jupyter notebook (nbformat 4)."""
    cells = []
    for number, (kind, content) in enumerate(blocks(text)):
        cell = {"id": f"cell-{number}", "metadata": {}, "source": content}
        if kind == "text":
            cells.append({"cell_type": "markdown", **cell})
            continue
        if kind == "sh":
            cell["source"] = "\n".join(f"!{line}" for line in content.splitlines())
        cells.append({"cell_type": "code", "execution_count": None, "outputs": [], **cell})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1) + "\n"


def main(folder: Path) -> None:
    """Write a notebook a page."""
    folder.mkdir(parents=True, exist_ok=True)
    tutorial = Path(__file__).parents[1] / "tutorial"
    for number, name in enumerate(PAGES, 1):
        text = (tutorial / f"{name}.md").read_text(encoding="utf-8")
        (folder / f"{number}_{name}.ipynb").write_text(notebook(text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
