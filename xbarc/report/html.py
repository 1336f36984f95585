"""HTML from Python: whatever isn't `Markup` is text, and is escaped."""

import html
import importlib.resources
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xbarc.support.errors import visible
from xbarc.support.files import written_whole

VOID = ("meta", "col", "wbr", "br")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable["Child"]
"""Text or markup, or any of these one after the other."""


@dataclass(frozen=True)
class Section:
    """A part of a page: what links to it, its heading, what is in it."""

    anchor: str
    heading: str
    body: Child


def text(value: str) -> Markup:
    """`value` as HTML text; what a page can't hold or show is written out."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(visible(value, "\n\t")))


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(text(c) if isinstance(c, str) else join(*c) for c in children))


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. `class_` is `class`, `data_key` is `data-key`; None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def plain(child: Child) -> str:
    """What is seen of a child: its text, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", join(child)))


def name_length(name: Child) -> int:
    """Characters of a name that are seen; a swatch takes two."""
    return len(plain(name)) + 2 * join(name).count("<i ")


def breakable(name: str) -> Markup:
    """A long name that may be broken after its separators."""
    parts = re.split(r"(?<=[/._:])(?=\w)", name)
    return Markup(tag("wbr").join(text(part) for part in parts))


def page(title: str, body: Child) -> Markup:
    """A whole document that needs nothing else: no script, no link to the outside."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="xbarc"),
        tag("title", title),
        tag("style", Markup(style())),
    )
    return Markup(f"<!DOCTYPE html>\n{tag('html', head, tag('body', body), lang='en')}\n")


def style() -> str:
    """The style sheet, without its comments and indentation."""
    sheet = importlib.resources.files("xbarc.report").joinpath("style.css")
    plain = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(line.strip() for line in plain.splitlines() if line.strip())


def write_page(path: Path, document: str) -> None:
    """Write a page, whole or not at all. Raises `XbarcError` where the disk refuses."""
    with written_whole(path) as file:
        file.write(document.encode())
