"""Relay's text format 0.0.5 as a tree: the grammar is `relay.lark`, the tree's nodes stand here.

Comments (`/* ... */`, nested, and `// ...`) are blanked before parsing, the `#[version = ...]` line
and the `#[metadata]` section are taken out. A type that a comment gives to a constant,
`meta[relay.Constant][3] /* ty=Tensor[(64), float32] */`, is kept: where no file holds the
constants it is all that is known of them.
"""

import base64
import binascii
import functools
import json
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarc.frontends.tvm_params import parse_tensor
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

if TYPE_CHECKING:
    import lark

VERSION = "0.0.5"

MAX_DEPTH = 10_000
"""Brackets within brackets; more is no program that a printer wrote."""

CONSTANT = "relay.Constant"


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and sizes; None where the size is open."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OtherType:
    """A tuple's, function's or algebraic type: nothing that xbarc reads."""

    text: str


Type = TensorType | OtherType | None


@dataclass(frozen=True, slots=True)
class Name:
    """`%x` or `%0`, with the sign."""

    text: str


@dataclass(frozen=True, slots=True)
class Global:
    """`@main`, with the sign."""

    text: str


@dataclass(frozen=True, slots=True)
class Operator:
    """`nn.conv2d`."""

    name: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """`1f`, `2i64`, `True`."""

    value: bool | int | float
    dtype: str


@dataclass(frozen=True, slots=True)
class Meta:
    """`meta[relay.Constant][3]`."""

    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class TupleOf:
    """`(%x, %y)`."""

    fields: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """`%1.0`."""

    of: "Expr"
    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """`f(arguments, attribute=value)`."""

    function: "Expr"
    arguments: tuple["Expr", ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`%x: Tensor[(1, 3), float32]`."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Binding:
    """`let %x = value;`, `%0 = value;`, or `free_var %x;` where there is no value."""

    name: str
    type: Type
    value: "Expr | None"


@dataclass(frozen=True, slots=True)
class Block:
    """Bindings and what they are for."""

    bindings: tuple[Binding, ...]
    result: "Expr"


@dataclass(frozen=True, slots=True)
class Function:
    """`fn (parameters) { body }`, or a definition."""

    parameters: tuple[Parameter, ...]
    body: "Expr"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if (condition) { then } else { otherwise }`."""

    condition: "Expr"
    then: "Expr"
    otherwise: "Expr"


Expr = (
    Name
    | Global
    | Operator
    | Scalar
    | Meta
    | TupleOf
    | Projection
    | Call
    | Block
    | Function
    | Branch
)


@dataclass(frozen=True)
class Program:
    """Definitions by name, or an expression by itself (a printed function, say).

    `constants` are those of the metadata section, `constant_types` those that comments tell.
    """

    functions: dict[str, Function]
    body: Expr | None
    constants: dict[int, Array] = field(default_factory=dict)
    constant_types: dict[int, TensorType] = field(default_factory=dict)


# --- Before parsing ------------------------------------------------------------------------------

PIECE = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*|\*/|^[ \t]*#\[metadata\]|meta\[relay\.Constant\]\[\d+\]',
    re.MULTILINE,
)

COMMENT_EDGE = re.compile(r"/\*|\*/")
"""All that counts within a comment, where quotes and slashes are text."""

CONSTANT_TYPE = re.compile(r"\s*/\*\s*ty=(?:Tensor\[\(([\d, ]*)\),\s*(\w+)\]|(\w+))")

HEADER = re.compile(r'\A\s*#\[version\s*=\s*"([^"\n]*)"\][ \t]*')

OPEN, CLOSE = "([{", ")]}"


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


# --- Parsing -------------------------------------------------------------------------------------


def parse(text: str, where: str) -> Program:
    """The program that the text says; `where` begins each error line.

    Raises:
        XbarcError: it isn't Relay, or is of another version; with line and column.
    """
    import lark

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
    _check_depth(program, where)
    try:
        tree: Program = _parser().parse(program)  # type: ignore[assignment]
    except lark.exceptions.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise _error(program, at, where, f"{_short(program[at:])} isn't Relay") from None
    except lark.exceptions.UnexpectedToken as error:
        if error.token.type == "$END":
            raise XbarcError(f"{where}: the program is cut short") from None
        line = program.splitlines()[error.line - 1]
        refused = REFUSED.search(line)
        what = f"{_short(str(error.token))} isn't expected here"
        if refused:
            what = f"{refused[0]!r} isn't imported: algebraic data and references have no tensors"
        raise XbarcError(f"{where}:{error.line}:{error.column}: {what}") from None
    except lark.exceptions.VisitError as error:
        raise XbarcError(f"{where}: {error.orig_exc}") from None
    except _TextError as error:
        raise XbarcError(f"{where}: {error}") from None
    return Program(tree.functions, tree.body, _metadata_constants(metadata, where), types)


REFUSED = re.compile(r"\b(?:match|type|extern|ref_read|ref_write|ref)\b")


def _short(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    return repr(line if len(line) <= 30 else line[:30] + "...")


class _TextError(Exception):
    """What the grammar allows and Relay doesn't."""


@functools.cache
def _parser() -> "lark.Lark":
    import lark

    grammar = files("xbarc.frontends.relay").joinpath("relay.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", lexer="basic", transformer=_transformer())


def _transformer() -> "lark.Transformer[Any, Any]":
    """Makes the tree's nodes as the parser reduces its rules: nothing recurses."""
    import lark

    def bare(items: list[Any]) -> list[Any]:
        return [item for item in items if item is not None]

    class Nodes(lark.Transformer):  # type: ignore[type-arg]
        def start(self, items: list[Any]) -> Program:
            if not isinstance(items[0], tuple):
                return Program({}, items[0])
            functions: dict[str, Function] = {}
            for name, function in items:
                if name in functions:
                    raise _TextError(f"{name} is defined twice")
                functions[name] = function
            return Program(functions, None)

        def definition(self, items: list[Any]) -> tuple[str, Function]:
            name, _, parameters, _, body = items
            return str(name), _function(parameters, body)

        def function(self, items: list[Any]) -> Function:
            _, parameters, _, body = items
            return _function(parameters, body)

        def parameters(self, items: list[Any]) -> list[Any]:
            return bare(items)

        def parameter(self, items: list[Any]) -> Parameter:
            return Parameter(str(items[0]), items[1])

        def type_params(self, items: list[Any]) -> None:
            return None

        def body(self, items: list[Any]) -> Expr:
            result: Expr = items[-1]
            return Block(tuple(items[:-1]), result) if len(items) > 1 else result

        def let(self, items: list[Any]) -> Binding:
            return Binding(str(items[0]), items[1], items[2])

        def bind(self, items: list[Any]) -> Binding:
            return Binding(str(items[0]), None, items[1])

        def free_var(self, items: list[Any]) -> Binding:
            return Binding(str(items[0]), items[1], None)

        def infix(self, items: list[Any]) -> Call:
            return Call(Operator(INFIX[str(items[1])]), (items[0], items[2]), {})

        def call(self, items: list[Any]) -> Call:
            arguments, attributes = items[1] or ((), {})
            return Call(items[0], arguments, attributes)

        def arguments(self, items: list[Any]) -> tuple[tuple[Expr, ...], dict[str, Any]]:
            given = bare(items)
            attributes = [item for item in given if isinstance(item, tuple)]
            return tuple(i for i in given if not isinstance(i, tuple)), _unique(attributes)

        def attribute(self, items: list[Any]) -> tuple[str, Any]:
            return str(items[0]), items[1]

        def projection(self, items: list[Any]) -> Projection:
            return Projection(items[0], _whole(items[1][1:]))

        def name(self, items: list[Any]) -> Name:
            return Name(str(items[0]))

        def global_name(self, items: list[Any]) -> Global:
            return Global(str(items[0]))

        def operator(self, items: list[Any]) -> Operator:
            return Operator(str(items[0]))

        def number(self, items: list[Any]) -> Scalar:
            return _scalar(str(items[0]))

        def truth(self, items: list[Any]) -> Scalar:
            return Scalar(items[0] == "True", "bool")

        def meta(self, items: list[Any]) -> Meta:
            kind, _, index = str(items[0])[5:-1].partition("][")
            return Meta(kind, _whole(index))

        def tuple_of(self, items: list[Any]) -> TupleOf:
            return TupleOf(tuple(bare(items)))

        def branch(self, items: list[Any]) -> Branch:
            return Branch(*items)

        def plain_number(self, items: list[Any]) -> int | float:
            return _scalar(str(items[0])).value

        def string(self, items: list[Any]) -> str:
            return re.sub(r"\\(.)", r"\1", str(items[0])[1:-1])

        def plain_truth(self, items: list[Any]) -> bool:
            return bool(items[0] == "True")

        def none(self, items: list[Any]) -> "_Nothing":
            return NOTHING

        def word(self, items: list[Any]) -> str:
            return str(items[0])

        def values(self, items: list[Any]) -> "_Values":
            return _Values(bare(items))

        def mapping(self, items: list[Any]) -> dict[str, Any]:
            return _unique(bare(items))

        def pair(self, items: list[Any]) -> tuple[str, Any]:
            return str(items[0]).strip('"'), items[1]

        def tensor(self, items: list[Any]) -> TensorType:
            return TensorType(str(items[-1]), tuple(item.size for item in bare(items[:-1])))

        def dimension(self, items: list[Any]) -> "_Size":
            text = str(items[0])
            return _Size(_whole(text) if text[0] in "-0123456789" else None)

        def scalar(self, items: list[Any]) -> Type:
            return TensorType(str(items[0]), ())

        def other_type(self, items: list[Any]) -> OtherType:
            return OtherType("an algebraic or function type")

        def tuple_type(self, items: list[Any]) -> OtherType:
            return OtherType("a tuple")

    return Nodes()


INFIX = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "<": "less",
    ">": "greater",
    "<=": "less_equal",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
}


@dataclass(frozen=True, slots=True)
class _Size:
    size: int | None


class _Values(list[Any]):
    """A list of attribute values, apart from what the grammar's own lists are."""


class _Nothing:
    """`None`, apart from what the grammar leaves out."""


NOTHING = _Nothing()


def _plain(value: Any) -> Any:
    """An attribute's value in Python's own types."""
    if isinstance(value, _Values):
        return tuple(_plain(item) for item in value)
    return None if value is NOTHING else value


def _function(parameters: list[Any] | None, body: Expr) -> Function:
    given = [item for item in parameters or () if isinstance(item, Parameter)]
    names = [parameter.name for parameter in given]
    for name in names:
        if names.count(name) > 1:
            raise _TextError(f"{name} is a parameter twice")
    return Function(tuple(given), body)


def _unique(pairs: list[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _TextError(f"attribute {name!r} is given twice")
        result[name] = _plain(value)
    return result


NUMBER = re.compile(r"(-*)([^fi]*(?:inf)?|nan)(?:([fi])(\d*))?")


def _scalar(text: str) -> Scalar:
    """`1`, `2i64`, `1.5f16`, `1e-05f`, `-inff`: TVM's widths are 32 unless given."""
    found = NUMBER.fullmatch(text)
    if found is None:
        raise _TextError(f"{text!r} isn't a number")
    sign = -1 if len(found[1]) % 2 else 1
    digits, suffix, width = found[2], found[3], found[4] or "32"
    is_float = suffix == "f" or (suffix is None and not digits.isdigit())
    dtype = ("float" if is_float else "int") + width
    if dtype not in SCALARS:
        raise _TextError(f"{text!r} isn't a number: there is no type {dtype}")
    try:
        if is_float:
            return Scalar(sign * float(digits), dtype)
        value = sign * _whole(digits)
    except ValueError:
        raise _TextError(f"{text!r} isn't a number") from None
    if suffix is None and not -(1 << 31) <= value < 1 << 31:
        dtype = "int64"
    if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise _TextError(f"{text!r} isn't a number of type {dtype}")
    return Scalar(value, dtype)


SCALARS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")


def _whole(digits: str) -> int:
    """An int of at most 20 digits: more is no number that TVM writes."""
    if len(digits) > 20:
        raise _TextError(f"{_short(digits)} is too large a number")
    try:
        return int(digits)
    except ValueError:
        raise _TextError(f"{_short(digits)} isn't a whole number") from None
