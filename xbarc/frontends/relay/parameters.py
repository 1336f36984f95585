"""The parameters of a program: which are inputs, which are weights, which weights are missing.

Those that the given weights name become initialisers, the others inputs. Relay doesn't mark a
weight, so one that isn't given is found by what it feeds. What is computed from parameters and
constants alone, by arithmetic and moves, is an *expression* of them and shares their fate:

- Where an expression is an operator's first argument, an item of a tuple or a result, its
  parameters are inputs.
- Where it is a later argument (the second of `nn.conv2d`, of `nn.bias_add`), or is broadcast to
  what it is added to or multiplied by, they are weights.
- Two expressions of one shape in one sum or product share their fate.

An input on any path is an input. Beside such inputs, a parameter that is only handed out as a
result is a weight, and one that nothing reads goes. The caller may name the inputs instead.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from xbarc.frontends.relay.tree import TensorType, Type
from xbarc.frontends.relay.weights import describe, fits
from xbarc.frontends.tvm_ops import Builder, Unsupported, onnx_dtype
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError, nearest

VIEWS = (
    "broadcast_to",
    "cast",
    "copy",
    "expand_dims",
    "layout_transform",
    "repeat",
    "reshape",
    "squeeze",
    "strided_slice",
    "tile",
    "transpose",
)
"""Moves: what comes out is an expression of what goes in."""

UNARY = (
    "abs",
    "ceil",
    "clip",
    "exp",
    "floor",
    "log",
    "negative",
    "round",
    "rsqrt",
    "sqrt",
    "square",
)
"""Arithmetic of one operand."""

BINARY = ("add", "divide", "equal", "maximum", "minimum", "multiply", "power", "subtract")
"""Arithmetic of two operands."""

JOINED = ("concatenate", "stack")
"""What comes out is an expression of the items, where all of them are one."""

INDEXED = ("gather", "gather_nd", "take")
"""The data of these is the index, unless that is constant: the other is a table, as of words."""

Names = frozenset[str]


class Parameters:
    """Parameters by name, and what their uses say of them."""

    def __init__(
        self,
        where: str,
        params: Mapping[str, Array],
        inputs: Iterable[str],
        builder: Builder,
        names: Iterable[str] | None = None,
    ):
        """`params` are weights by name, `inputs` parameters that are inputs in any case.

        `names`, where it is given, are all inputs: whatever else isn't given is missing.
        """
        self._where, self._params, self._builder = where, params, builder
        self._names = None if names is None else frozenset(name.lstrip("%") for name in names)
        self._inputs: dict[str, tuple[ir.Value, TensorType]] = {}
        self._origins: dict[int, Names] = {}
        self._used: set[str] = set()
        self._handed: set[str] = set()
        self._data: set[str] = set(inputs)

    def missing(self) -> dict[str, TensorType]:
        """Inputs that are used as weights are, by name as the program writes it."""
        if self._names is not None:
            weights = self._inputs.keys() - self._names
        else:
            handed = self._handed if self._data else set()
            weights = (self._used | handed) - self._data
        return {f"%{name}": kind for name, (_, kind) in self._inputs.items() if name in weights}

    def unread(self) -> list[ir.Value]:
        """Inputs that nothing reads, beside others that something does."""
        if self._names is not None or not self._data:
            return []
        known = self._used | self._handed | self._data
        return [value for name, (value, _) in self._inputs.items() if name not in known]

    def value(self, name: str, kind: Type) -> Any:
        """An input of the model, or a weight of that name."""
        plain = name[1:]
        if plain in self._inputs:
            return self._inputs[plain][0]
        if kind is not None and not isinstance(kind, TensorType):
            raise self._error(f"parameter {name} is {kind.text}: tensors are imported")
        array = self._given(plain)
        if array is not None:
            if kind is not None and not fits(array, kind):
                given = describe(TensorType(str(array.dtype), array.shape))
                raise self._error(f"parameter {name} is {describe(kind)}, its weights are {given}")
            return self._builder.constant(array, plain)
        if kind is None:
            raise self._error(f"parameter {name} has no type and no weights are given for it")
        try:
            dtype = onnx_dtype(kind.dtype)
        except Unsupported as error:
            raise self._error(f"parameter {name}: {error}") from None
        value = self._builder.input(plain, dtype, kind.shape)
        self._inputs[plain] = value, kind
        self._origins[id(value)] = frozenset([plain])
        return value

    def _given(self, name: str) -> Array | None:
        """A parameter's weights. TVM prints `193` and `_w`, that begin with no letter, with a v."""
        if name in self._params or not re.match(r"v[^A-Za-z]", name):
            return self._params.get(name)
        return self._params.get(name[1:])

    def check(self, names: Iterable[str]) -> None:
        """Refuse weights of which none is a parameter's, and inputs that are no parameters."""
        taken = [name[1:] for name in names]
        for name in sorted(self._names or ()):
            if name not in taken and name not in self._inputs:
                raise self._error(f"it has no parameter {name!r}; {nearest(name, taken)}")
        if self._params and taken and all(self._given(name) is None for name in taken):
            known = ", ".join(sorted(self._params)[:5])
            raise self._error(f"none of its parameters is among the given weights ({known} ...)")

    def note_call(self, name: str, arguments: Sequence[Any], result: Any) -> None:
        """Note what a call of an operator says of the parameters in its arguments."""
        if name in INDEXED and len(arguments) > 1 and self._builder.static(arguments[1]) is None:
            arguments = [arguments[1], arguments[0], *arguments[2:]]
        if name in (*VIEWS, *UNARY) and arguments:
            self._derive(result, self._of(arguments[0]))
            for later in arguments[1:]:
                self._used |= self._of(later)
        elif name in BINARY and len(arguments) == 2:
            self._note_pair(arguments[0], arguments[1], result)
        elif name == "matmul" and all(self._of(argument) for argument in arguments):
            self._data |= self._of(tuple(arguments))
        elif name in JOINED and arguments and self._all_expressions(arguments[0]):
            self._derive(result, self._of(arguments[0]))
        else:
            self._note_places(arguments)

    def _note_places(self, arguments: Sequence[Any]) -> None:
        """The first argument and items of tuples are data, later arguments are used as weights."""
        for place, argument in enumerate(arguments):
            names = self._of(argument)
            self._used |= names
            if place == 0 or isinstance(argument, tuple):
                self._data |= names

    def _note_pair(self, left: Any, right: Any, result: Any) -> None:
        """Two operands of arithmetic: constants, expressions, or what inputs decide."""
        first, second = self._of(left), self._of(right)
        left_smaller, right_smaller = _broadcast(left, result), _broadcast(right, result)
        if first and second:
            if left_smaller != right_smaller:
                # The smaller is a weight of the larger, whatever that is.
                self._used |= first if left_smaller else second
                self._derive(result, second if left_smaller else first)
            else:
                self._derive(result, first | second)
        elif first or second:
            other = right if first else left
            if self._builder.static(other) is not None:
                self._derive(result, first | second)
                return
            self._used |= first | second
            if first and not left_smaller:
                self._data |= first

    def note_result(self, value: Any) -> None:
        """Note that the program gives `value`: an expression's parameters are data."""
        names = self._of(value)
        if any(value is given for given, _ in self._inputs.values()):
            self._handed |= names
        else:
            self._data |= names

    def _of(self, value: Any) -> Names:
        """The parameters that an expression is made of; of a tuple, those of its items."""
        if isinstance(value, tuple):
            return frozenset().union(*(self._of(item) for item in value))
        return self._origins.get(id(value), frozenset())

    def _all_expressions(self, value: Any) -> bool:
        """Whether each item of a tuple is an expression of parameters, or a constant."""
        return isinstance(value, tuple) and all(
            self._of(item) or self._builder.static(item) is not None for item in value
        )

    def _derive(self, result: Any, names: Names) -> None:
        """Note that a call's results are an expression of these parameters."""
        for value in result if isinstance(result, tuple) else (result,):
            if names and isinstance(value, ir.Value):
                self._origins[id(value)] = names

    def _error(self, what: str) -> XbarcError:
        return XbarcError(f"{self._where}: {what}")


def _broadcast(value: Any, result: Any) -> bool:
    """Whether arithmetic has repeated `value` to the larger shape of its result."""
    if not isinstance(value, ir.Value) or not isinstance(result, ir.Value):
        return False
    if value.shape is None or result.shape is None:
        return False
    sizes = value.shape.dims, result.shape.dims
    return len(sizes[0]) < len(sizes[1]) or any(a == 1 != b for a, b in zip(*sizes, strict=True))
