"""TVM's nodes as plain values.

A node is recognised by the name of its class, so nothing here imports apache-tvm.
"""

from collections.abc import Callable, Mapping
from typing import Any

from xbarc.frontends.tvm_ops import Dim

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "FloorDiv": lambda a, b: a // b,
    "FloorMod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}


def kind_of(node: Any) -> str:
    """The name of a node's type."""
    return type(node).__name__


def short_name(name: str) -> str:
    """An operator's name without its dialect."""
    return name.removeprefix("relax.")


def callee_name(node: Any) -> str:
    """A callee as an error line names it."""
    for field in ("name", "name_hint", "global_symbol"):
        if hasattr(node, field):
            return short_name(str(getattr(node, field)))
    return kind_of(node)


def function_called(module: Any, name: str) -> Any:
    """The module's Relax function of that name, or None."""
    for var, function in module.functions.items():
        if str(var.name_hint) == name:
            return function if kind_of(function) == "Function" else None
    return None


def size_of(expr: Any, sizes: Mapping[Any, Dim]) -> Dim:
    """A size as an int where it is known, else as text."""
    kind = kind_of(expr)
    if kind == "IntImm":
        return int(expr.value)
    if kind == "Var":
        return sizes.get(expr, str(expr.name))
    if kind == "Cast":
        return size_of(expr.value, sizes)
    if kind in ARITHMETIC:
        a, b = size_of(expr.a, sizes), size_of(expr.b, sizes)
        if isinstance(a, int) and isinstance(b, int):
            return ARITHMETIC[kind](a, b)
    return str(expr)


def attributes_of(attrs: Any) -> dict[str, Any]:
    """A call's attributes as plain values."""
    if attrs is None:
        return {}
    if kind_of(attrs) == "DictAttrs":
        return {str(key): _plain(value) for key, value in attrs.items()}
    fields = type(attrs).__tvm_ffi_type_info__.fields
    return {field.name: _plain(getattr(attrs, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    """An attribute's value as ints, floats, bools, strings, tuples or None."""
    if value is None or isinstance(value, bool | int | float):
        return value
    kind = kind_of(value)
    if kind == "IntImm":
        return bool(value.value) if str(value.ty) == "bool" else int(value.value)
    if kind in ("FloatImm", "StringImm"):
        return value.value
    if kind in ("Array", "list", "tuple"):
        return tuple(_plain(item) for item in value)
    return str(value)
