"""The parameters of a program: which are inputs, which are weights, which weights are missing.

Those that the given weights name become initialisers, the others inputs. Relay doesn't mark a
weight: one that is used as weights are (as a later argument of an operator, never as its first, its
only one or in a tuple) and isn't given is a missing weight, unless the caller names it as an input.
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

VIEWS = ("cast", "copy", "expand_dims", "layout_transform", "reshape", "squeeze", "transpose")
"""A weight may pass through these first."""

INDEXED = ("gather", "gather_nd", "take")
"""The data of these is the index, unless that is constant: the other is a table, as of words."""

PAIRED = ("add", "divide", "equal", "maximum", "minimum", "multiply", "power", "subtract", "matmul")
"""Of two parameters in one of these, both are data."""


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
        self._origin: dict[int, str] = {}
        self._used: set[str] = set()
        self._data: set[str] = set(inputs)

    def missing(self) -> dict[str, TensorType]:
        """Inputs that are used as weights are, by name as the program writes it."""
        return {
            f"%{name}": kind
            for name, (_, kind) in self._inputs.items()
            if (name in self._used - self._data if self._names is None else name not in self._names)
        }

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
        self._origin[id(value)] = plain
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

    def note_roles(self, name: str, arguments: Sequence[Any]) -> None:
        """Note which parameters a call of an operator takes as data."""
        if name in INDEXED and len(arguments) > 1 and self._builder.static(arguments[1]) is None:
            arguments = [arguments[1], arguments[0], *arguments[2:]]
        for place, argument in enumerate(arguments):
            origin = self._origin.get(id(argument))
            if isinstance(argument, tuple):
                for item in argument:
                    self.note_data(item)
            if origin is None:
                continue
            self._used.add(origin)
            first = self._origin.get(id(arguments[0]))
            if (place == 0 and name not in VIEWS) or (first and name in PAIRED):
                self._data.add(origin)

    def note_data(self, value: Any) -> None:
        """Note that `value`, where it is a parameter, is data."""
        origin = self._origin.get(id(value))
        if origin is not None:
            self._data.add(origin)

    def note_view(self, name: str, arguments: Sequence[Any], result: Any) -> None:
        """What is only another view of a parameter is used as that parameter."""
        if name in VIEWS and arguments and isinstance(result, ir.Value):
            origin = self._origin.get(id(arguments[0]))
            if origin is not None:
                self._origin[id(result)] = origin

    def _error(self, what: str) -> XbarcError:
        return XbarcError(f"{self._where}: {what}")
