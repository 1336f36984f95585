"""Relay's grammar, `relay.lark`, and the tree that it makes."""

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import lark
import numpy as np

from xbarc.frontends.relay.tree import (
    Binding,
    Block,
    Branch,
    Call,
    Expr,
    Function,
    Global,
    Meta,
    Name,
    Operator,
    OtherType,
    Parameter,
    Program,
    Projection,
    Scalar,
    TensorType,
    TupleOf,
    Type,
)

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

NUMBER = re.compile(r"(-*)([^fi]*(?:inf)?|nan)(?:([fi])(\d*))?")

SCALARS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")


class TextError(Exception):
    """What the grammar allows and Relay doesn't."""


@functools.cache
def parser() -> lark.Lark:
    """The parser of a program without comments; it gives a `Program`."""
    grammar = files("xbarc.frontends.relay").joinpath("relay.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", lexer="basic", transformer=_Nodes())


def short(text: str) -> str:
    """The beginning of a text's first line, quoted."""
    line = text.splitlines()[0] if text else ""
    return repr(line if len(line) <= 30 else line[:30] + "...")


@dataclass(frozen=True, slots=True)
class _Size:
    size: int | None


class _Values(list[Any]):
    """A list of attribute values, apart from what the grammar's own lists are."""


class _Nothing:
    """`None`, apart from what the grammar leaves out."""


NOTHING = _Nothing()


class _Nodes(lark.Transformer[Any, Any]):
    """Makes the tree's nodes as the parser reduces its rules: nothing recurses."""

    def start(self, items: list[Any]) -> Program:
        if not isinstance(items[0], tuple):
            return Program({}, items[0])
        functions: dict[str, Function] = {}
        for name, function in items:
            if name in functions:
                raise TextError(f"{name} is defined twice")
            functions[name] = function
        return Program(functions, None)

    def definition(self, items: list[Any]) -> tuple[str, Function]:
        name, _, parameters, _, body = items
        return str(name), _function(parameters, body)

    def function(self, items: list[Any]) -> Function:
        _, parameters, _, body = items
        return _function(parameters, body)

    def parameters(self, items: list[Any]) -> list[Any]:
        return _bare(items)

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
        given = _bare(items)
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
        return TupleOf(tuple(_bare(items)))

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
        return _Values(_bare(items))

    def mapping(self, items: list[Any]) -> dict[str, Any]:
        return _unique(_bare(items))

    def pair(self, items: list[Any]) -> tuple[str, Any]:
        return str(items[0]).strip('"'), items[1]

    def tensor(self, items: list[Any]) -> TensorType:
        return TensorType(str(items[-1]), tuple(item.size for item in _bare(items[:-1])))

    def dimension(self, items: list[Any]) -> "_Size":
        text = str(items[0])
        return _Size(_whole(text) if text[0] in "-0123456789" else None)

    def scalar(self, items: list[Any]) -> Type:
        return TensorType(str(items[0]), ())

    def other_type(self, items: list[Any]) -> OtherType:
        return OtherType("an algebraic or function type")

    def tuple_type(self, items: list[Any]) -> OtherType:
        return OtherType("a tuple")


def _bare(items: list[Any]) -> list[Any]:
    return [item for item in items if item is not None]


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
            raise TextError(f"{name} is a parameter twice")
    return Function(tuple(given), body)


def _unique(pairs: list[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise TextError(f"attribute {name!r} is given twice")
        result[name] = _plain(value)
    return result


def _scalar(text: str) -> Scalar:
    """`1`, `2i64`, `1.5f16`, `1e-05f`, `-inff`: TVM's widths are 32 unless given."""
    found = NUMBER.fullmatch(text)
    if found is None:
        raise TextError(f"{text!r} isn't a number")
    sign = -1 if len(found[1]) % 2 else 1
    digits, suffix, width = found[2], found[3], found[4] or "32"
    is_float = suffix == "f" or (suffix is None and not digits.isdigit())
    dtype = ("float" if is_float else "int") + width
    if dtype not in SCALARS:
        raise TextError(f"{text!r} isn't a number: there is no type {dtype}")
    try:
        if is_float:
            return Scalar(sign * float(digits), dtype)
        value = sign * _whole(digits)
    except ValueError:
        raise TextError(f"{text!r} isn't a number") from None
    if suffix is None and not -(1 << 31) <= value < 1 << 31:
        dtype = "int64"
    if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise TextError(f"{text!r} isn't a number of type {dtype}")
    return Scalar(value, dtype)


def _whole(digits: str) -> int:
    """An int of at most 20 digits: more is no number that TVM writes."""
    if len(digits) > 20:
        raise TextError(f"{short(digits)} is too large a number")
    try:
        return int(digits)
    except ValueError:
        raise TextError(f"{short(digits)} isn't a whole number") from None
