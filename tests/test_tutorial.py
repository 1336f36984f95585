"""The tutorial as it stands: each page's commands and Python, in order, in one folder."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

from xbarc import cli

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/site/notebooks.py")
notebooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(notebooks)


def page(name):
    return (ROOT / "docs" / "tutorial" / f"{name}.md").read_text()


def command(line):
    """Run one in this process. Returns its exit code."""
    sys.argv = shlex.split(line)
    try:
        cli.call()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_the_pages_run_as_they_stand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    names = {}
    said = {}
    for name in notebooks.PAGES:
        for kind, content in notebooks.blocks(page(name)):
            if kind == "python":
                exec(compile(content, f"{name}.md", "exec"), names)
            elif kind == "sh":
                for line in content.splitlines():
                    if line.startswith("xbarc "):
                        assert command(line) == 0, (name, line, capsys.readouterr().err)
                        said[name, line.split()[1]] = capsys.readouterr().out
    # What the text says of them.
    assert "on the front" in said["sweep", "sweep"]
    assert "what differs" in said["mappings", "compare"].splitlines()[0]
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert {"sweep.csv", "sweep.html", "accuracy-energy.svg"} <= {
        path.name for path in (tmp_path / "sweep").iterdir()
    }
    accuracy = said["network", "run"].split("crossbars ")[1].split("%")[0]
    assert float(accuracy) > 90


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_page_is_a_notebook(name):
    made = json.loads(notebooks.notebook(page(name)))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    cells = made["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code")
        assert "```" not in cell["source"]
        if cell["cell_type"] == "code" and "xbarc " in cell["source"]:
            assert "import" in cell["source"] or cell["source"].startswith("!")


def test_every_page_is_in_the_order_of_the_site():
    listed = [
        line.strip().removeprefix("- tutorial/").removesuffix(".md")
        for line in (ROOT / "mkdocs.yml").read_text().splitlines()
        if "tutorial/" in line
    ]
    assert tuple(listed) == notebooks.PAGES
