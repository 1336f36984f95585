"""What mkdocs adds to the pages of this folder: the reference, made from the code itself.

Links that lead out of `docs/` show where they lead instead: the site holds nothing else.
"""

import html
import inspect
import re
from collections.abc import Iterator

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from xbarc.cli import app
from xbarc.pipeline.registry import load_registry

OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?:examples|benchmarks|passes|targets|tests|[A-Z]+\.md)[^)]*)\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    for name, text in {"commands": commands(), "passes": passes(), "python": PYTHON}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Say the places of files outside, without links."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)


def commands() -> str:
    """Each command: what it does, its options, examples."""
    root = typer.main.get_command(app)
    lines = ["# Commands", ""]
    for name, command in root.commands.items():
        lines += [f"## xbarc {name}", "", inspect.cleandoc(command.help or ""), ""]
        lines += ["| option | value | meaning |", "|---|---|---|"]
        lines += [_row(parameter) for parameter in command.params if parameter.name != "help"]
        examples = (command.epilog or "").split("\n\n")[1:]
        lines += ["", "```sh", *examples, "```", ""]
    return "\n".join(lines)


def _row(parameter: object) -> str:
    words = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    shown = parameter.metavar or ""
    if not words.startswith("`-"):
        words, shown = f"`{shown or parameter.name}`", ""
    told = (getattr(parameter, "help", "") or "").replace("|", "\\|").replace("[", "\\[")
    need = " Required." if parameter.required else ""
    # In a table, code can't hold a bar as it is.
    form = f"<code>{html.escape(shown).replace('|', '&#124;')}</code>" if shown else ""
    return f"| {words} | {form} | {told}{need} |"


def passes() -> str:
    """Each pass: its docstring, and its options."""
    registry = load_registry()
    lines = ["# Passes", "", "Options are written in braces: `prune{sparsity=0.5}`.", ""]
    for name in registry.names:
        cls = registry.load(name)
        lines += [f"## {name}", "", *_shown(inspect.getdoc(cls) or ""), ""]
    return "\n".join(lines)


def _shown(text: str) -> Iterator[str]:
    """A docstring, its indented drawings as code."""
    inside = False
    for line in text.splitlines():
        drawn = line.startswith("    ") or (inside and not line.strip())
        if drawn != inside:
            yield "```text" if drawn else "```\n"
            inside = drawn
        yield line[4:] if drawn else line
    if inside:
        yield "```"


PYTHON = """# Python

::: xbarc.api
    options:
      members: [compile, load, Program]
      filters: ["!^_"]

::: xbarc.hw.target.load_target

::: xbarc.support.errors
"""
