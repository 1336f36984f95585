"""Relay's text format 0.0.5: from a file's text to the tree.

Comments (`/* ... */`, nested, and `// ...`) are blanked before parsing, the `#[version = ...]` line
and the `#[metadata]` section are taken out. A type that a comment gives to a constant,
`meta[relay.Constant][3] /* ty=Tensor[(64), float32] */`, is kept: where no file holds the
constants it is all that is known of them. Declarations of algebraic types are blanked too: what
uses one is refused where it stands.
"""

import base64
import binascii
import json
import re

import lark

from xbarc.frontends.relay.grammar import TextError, parser, short
from xbarc.frontends.relay.tree import CONSTANT, Program, TensorType
from xbarc.frontends.tvm_params import parse_tensor
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

VERSION = "0.0.5"

MAX_DEPTH = 10_000
"""Brackets within brackets; more is no program that a printer wrote."""

PIECE = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*|\*/|^[ \t]*#\[metadata\]|meta\[relay\.Constant\]\[\d+\]',
    re.MULTILINE,
)

COMMENT_EDGE = re.compile(r"/\*|\*/")
"""All that counts within a comment, where quotes and slashes are text."""

CONSTANT_TYPE = re.compile(r"\s*/\*\s*ty=(?:Tensor\[\(([\d, ]*)\),\s*(\w+)\]|(\w+))")

HEADER = re.compile(r'\A\s*#\[version\s*=\s*"([^"\n]*)"\][ \t]*')

TYPE = re.compile(r"^[ \t]*(?:extern\s+)?type\s+[A-Za-z_]\w*\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}", re.M)
"""A declaration of algebraic data: TVM prints those of its prelude into every program."""

OPEN, CLOSE = "([{", ")]}"

REFUSED = re.compile(r"\b(?:match|type|extern|ref_read|ref_write|ref)\b")
"""What a line that can't be read begins with, where xbarc reads none of it."""


def parse(text: str, where: str) -> Program:
    """The program that the text says; `where` begins each error line.

    Raises:
        XbarcError: it isn't Relay, or is of another version; with line and column.
    """
    header = HEADER.match(text)
    if header is None:
        raise XbarcError(
            f'{where} lacks the first line of Relay text, #[version = "{VERSION}"]: '
            "astext() writes it"
        )
    if header[1] != VERSION:
        raise XbarcError(f"{where} is Relay text of version {header[1]!r}: {VERSION} is read")
    body = " " * header.end() + text[header.end() :]
    body = text[: header.end()].count("\n") * "\n" + body if "\n" in header[0] else body
    program, metadata, types = _without_comments(body, where)
    program = TYPE.sub(lambda found: _blank(found[0]), program)
    _check_depth(program, where)
    try:
        tree: Program = parser().parse(program)  # type: ignore[assignment]
    except lark.exceptions.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise _error(program, at, where, f"{short(program[at:])} isn't Relay") from None
    except lark.exceptions.UnexpectedToken as error:
        if error.token.type == "$END":
            raise XbarcError(f"{where}: the program is cut short") from None
        line = program.splitlines()[error.line - 1]
        refused = REFUSED.search(line)
        what = f"{short(str(error.token))} isn't expected here"
        if refused:
            what = f"{refused[0]!r} isn't imported: algebraic data and references have no tensors"
        raise XbarcError(f"{where}:{error.line}:{error.column}: {what}") from None
    except lark.exceptions.VisitError as error:
        raise XbarcError(f"{where}: {error.orig_exc}") from None
    except TextError as error:
        raise XbarcError(f"{where}: {error}") from None
    return Program(tree.functions, tree.body, _metadata_constants(metadata, where), types)


# --- Before parsing ------------------------------------------------------------------------------


def _without_comments(text: str, where: str) -> tuple[str, str, dict[int, TensorType]]:
    """The program with spaces for comments, the metadata behind it, and constants' types."""
    kept: list[str] = []
    types: dict[int, TensorType] = {}
    depth = start = at = 0
    while piece := (COMMENT_EDGE if depth else PIECE).search(text, at):
        found, at = piece.group(), piece.end()
        if found == "/*":
            if not depth:
                kept.append(text[start : piece.start()])
                start = piece.start()
            depth += 1
        elif found == "*/":
            if not depth:
                raise _error(text, piece.start(), where, "a comment ends that didn't begin")
            depth -= 1
            if not depth:
                kept.append(_blank(text[start : piece.end()]))
                start = piece.end()
        elif found.startswith("//"):
            kept.append(text[start : piece.start()])
            start = piece.end()
        elif found.endswith("#[metadata]"):
            kept.append(text[start : piece.start()])
            return "".join(kept), text[piece.end() :], types
        elif found.startswith("meta"):
            given = CONSTANT_TYPE.match(text, piece.end())
            if given:
                sizes = [int(size) for size in (given[1] or "").split(",") if size.strip()]
                index = int(found[:-1].rpartition("[")[2])
                types[index] = TensorType(given[2] or given[3], tuple(sizes))
    if depth:
        raise XbarcError(f"{where}: a comment doesn't end")
    kept.append(text[start:])
    return "".join(kept), "", types


def _blank(comment: str) -> str:
    """As many lines and columns without text."""
    return "".join("\n" if char == "\n" else " " for char in comment)


def _error(text: str, at: int, where: str, what: str) -> XbarcError:
    line = text.count("\n", 0, at) + 1
    return XbarcError(f"{where}:{line}:{at - text.rfind(chr(10), 0, at)}: {what}")


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for piece in re.finditer(r'"(?:[^"\\\n]|\\.)*"|[()\[\]{}]', text):
        char = piece.group()
        depth += (char in OPEN) - (char in CLOSE)
        if depth > MAX_DEPTH:
            what = f"more than {MAX_DEPTH} brackets within brackets"
            raise _error(text, piece.start(), where, what)


# --- Metadata ------------------------------------------------------------------------------------


def _metadata_constants(text: str, where: str) -> dict[int, Array]:
    """The constants that a metadata section holds in base64; none where it holds none."""
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
        nodes, blobs = document["nodes"], document.get("b64ndarrays", [])
        table = nodes[document["root"]]
        place = table.get("keys", []).index(CONSTANT)
        found = {}
        for index, node in enumerate(nodes[table["data"][place]]["data"]):
            blob = blobs[int(nodes[node]["attrs"]["data"])]
            data = base64.b64decode(blob, validate=True)
            found[index] = parse_tensor(data, f"{where}: constant {index} of the metadata")
    except (
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
        binascii.Error,
    ):
        # Not of the one form that TVM 0.8 to 0.19 write: its constants are missing then.
        return {}
    return found
