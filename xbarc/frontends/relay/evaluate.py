"""A program's tree, evaluated once with ONNX values for tensors.

Each operator call becomes ONNX nodes by the table that Relax shares (`frontends.tvm_ops`): so
functions and closures are inlined, tuples and projections resolved, and a branch whose condition is
constant taken. Nothing recurses: expressions are evaluated by generators on a stack of their own.
"""

import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.relay.constants import Constants, Unknown
from xbarc.frontends.relay.parameters import Parameters
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
    Program,
    Projection,
    Scalar,
    TensorType,
    TupleOf,
)
from xbarc.frontends.tvm_ops import FAILED, OPERATORS, Builder, Unsupported
from xbarc.support.errors import XbarcError

MAX_CALLS = 100_000
"""More operator calls than this, functions inlined, is a recursion bomb and no network."""

MAX_STEPS = 1_000_000
"""Expressions evaluated: ten times what a program of 10,000 lines needs."""

MAX_DOTS = 4
"""Numbers that a name may end in: `%input.1` has one."""

DYNAMIC: dict[str, tuple[str, ...]] = {
    "dyn.broadcast_to": ("", "shape"),
    "dyn.expand_dims": ("", "axis"),
    "dyn.full": ("", "shape"),
    "dyn.image.resize2d": ("", "size", "roi"),
    "dyn.nn.pad": ("", "pad_width"),
    "dyn.nn.upsampling": ("", "scale_h", "scale_w"),
    "dyn.one_hot": ("", "", "", "depth"),
    "dyn.ones": ("shape",),
    "dyn.reshape": ("", "newshape"),
    "dyn.squeeze": ("", "axis"),
    "dyn.strided_slice": ("", "begin", "end", "strides"),
    "dyn.tile": ("", "reps"),
    "dyn.topk": ("", "k"),
    "dyn.zeros": ("shape",),
}
"""Which arguments are attributes of the operator without `dyn.`, by their order there."""


@dataclass
class _Scope:
    """Names that stand for values, and the scope around."""

    outer: "_Scope | None" = None
    values: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> Any:
        """The value, or None where there is no such name."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        return None


@dataclass(frozen=True, eq=False)
class _Closure:
    function: Function
    scope: _Scope
    name: str


Steps = Generator[Any, Any, Any]


class Evaluation:
    """A program on its way to a graph: first `run`, then `missing` and `finish`."""

    def __init__(
        self,
        program: Program,
        where: str,
        builder: Builder,
        parameters: Parameters,
        constants: Constants,
    ):
        """`where` begins each error line; all share the builder."""
        self.program, self.where, self.builder = program, where, builder
        self.parameters, self.constants = parameters, constants
        self._active: list[Function] = []
        self._calls = self._steps = 0
        self._result: Any = None
        self._names: list[str] = []

    def run(self) -> None:
        """Evaluate the program. Raises `XbarcError` where something has no counterpart in ONNX."""
        main = self._main()
        if isinstance(main, _Closure):
            body: Expr = main.function.body
            scope = _Scope(main.scope)
            for parameter in main.function.parameters:
                scope.values[parameter.name] = self.parameters.value(parameter.name, parameter.type)
            self._active.append(main.function)
            self._result = self._drive(self._evaluate(body, scope))
            self._names = _result_names(body)
        self.builder.check(self.where)
        for value in _flat(self._result):
            self.parameters.note_result(value)
        named = self.program.functions.get("@main")
        self.parameters.check(p.name for p in (named.parameters if named else ()))

    @property
    def missing(self) -> dict[str, TensorType | None]:
        """Weights that the program lacks, by name, as far as they are known."""
        return {**self.parameters.missing(), **self.constants.missing}

    def finish(self) -> ir.Model:
        """The model."""
        outputs = list(_flat(self._result))
        if not outputs or not all(isinstance(value, ir.Value) for value in outputs):
            raise XbarcError(
                f"{self.where}: the program's result is no tensor and no tuple of them"
            )
        names = self._names
        if len(names) != len(outputs):
            names = ["output"]
            if len(outputs) > 1:
                names = [f"output_{index}" for index in range(len(outputs))]
        for value in self.parameters.unread():
            self.builder.inputs.remove(value)
        return self.builder.model(outputs, names, "main")

    def _main(self) -> _Closure | None:
        """The function that is the model, or None where an expression is, evaluated already."""
        functions = self.program.functions
        if self.program.body is not None:
            value = self._drive(self._evaluate(self.program.body, _Scope()))
            if isinstance(value, _Closure):
                return value
            self._result = value
            self._names = _result_names(self.program.body)
            return None
        name = "@main" if "@main" in functions else next(iter(functions))
        if name != "@main" and len(functions) > 1:
            known = ", ".join(functions)
            raise XbarcError(f"{self.where}: none of its functions is @main: {known}")
        return _Closure(functions[name], _Scope(), name)

    def _fail(self, what: str) -> XbarcError:
        return XbarcError(f"{self.where}: {what}")

    def _drive(self, steps: Steps) -> Any:
        """Run a generator that yields generators: a call stack of its own."""
        stack, value = [steps], None
        while stack:
            try:
                stack.append(stack[-1].send(value))
                value = None
            except StopIteration as stop:
                stack.pop()
                value = stop.value
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise self._fail("its functions, inlined, never come to an end")
        return value

    def _evaluate(self, expr: Expr, scope: _Scope, label: str = "") -> Steps:
        match expr:
            case Name(text):
                value = scope.find(text)
                if value is None:
                    raise self._fail(f"{text} isn't defined where it is used")
                return value
            case Global(text):
                if text not in self.program.functions:
                    raise self._fail(f"function {text} isn't defined")
                return _Closure(self.program.functions[text], _Scope(), text)
            case Operator():
                return expr
            case Scalar(value, dtype):
                return self.builder.constant(np.asarray(value, dtype), "scalar")
            case Meta(kind, index):
                return self.constants.value(kind, index)
            case TupleOf(fields):
                return tuple((yield from self._each(fields, scope)))
            case Projection(of, index):
                named = scope.find(_dotted(expr))
                if named is not None:
                    return named
                return self._project((yield self._evaluate(of, scope)), index)
            case Block(bindings, result):
                inner = _Scope(scope)
                for binding in bindings:
                    bound = yield self._bind(binding, inner)
                    if binding.name in inner.values:
                        inner = _Scope(inner)  # a closure keeps what the name was
                    inner.values[binding.name] = bound
                return (yield self._evaluate(result, inner, label))
            case Function():
                return _Closure(expr, scope, label or "fn")
            case Branch(condition, then, otherwise):
                chosen = self._choose((yield self._evaluate(condition, scope)))
                if chosen is None:
                    return FAILED
                return (yield self._evaluate(then if chosen else otherwise, scope, label))
            case Call():
                return (yield self._call(expr, scope, label))

    def _each(self, exprs: Iterable[Expr], scope: _Scope) -> Generator[Any, Any, list[Any]]:
        values = []
        for expr in exprs:
            value = yield self._evaluate(expr, scope)
            values.append(value)
        return values

    def _bind(self, binding: Binding, scope: _Scope) -> Steps:
        if binding.value is None:
            return self.parameters.value(binding.name, binding.type)
        label = binding.name[1:]
        named = "" if label.isdigit() else label
        return (yield self._evaluate(binding.value, scope, named))

    def _call(self, call: Call, scope: _Scope, label: str) -> Steps:
        callee = yield self._evaluate(call.function, scope)
        arguments = yield from self._each(call.arguments, scope)
        if isinstance(callee, Operator):
            return self._operator(callee.name, arguments, call.attributes, label)
        if callee is FAILED:
            return FAILED
        if not isinstance(callee, _Closure):
            raise self._fail("a tensor is called as if it were a function")
        function = callee.function
        if len(arguments) != len(function.parameters):
            raise self._fail(
                f"{callee.name} takes {len(function.parameters)} arguments, not {len(arguments)}"
            )
        if any(function is active for active in self._active):
            raise self._fail(f"{callee.name} calls itself: recursion isn't imported")
        self._active.append(function)
        inner = _Scope(callee.scope)
        for parameter, value in zip(function.parameters, arguments, strict=True):
            inner.values[parameter.name] = value
        result = yield self._evaluate(function.body, inner)
        self._active.pop()
        return result

    def _operator(
        self, name: str, arguments: Sequence[Any], attributes: Mapping[str, Any], label: str
    ) -> Any:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise self._fail(f"more than {MAX_CALLS} operator calls is no network")
        names = DYNAMIC.get(name, ())
        name = name.removeprefix("dyn.") if names else name
        if name in OPERATORS:
            arguments = self.constants.guessed(name, arguments, attributes)
        elif any(isinstance(argument, Unknown) for argument in arguments):
            arguments = [FAILED if isinstance(a, Unknown) else a for a in arguments]
        for value in _flat(tuple(arguments)):
            if not isinstance(value, ir.Value) and value is not FAILED:
                self.builder.note(f"{name}: a function as an argument isn't imported")
                return FAILED
        given = arguments
        if names:
            try:
                arguments, attributes = self._settled(names, arguments, attributes)
            except Unsupported as error:
                self.builder.note(f"dyn.{name}: {error}")
                return FAILED
        result = self.builder.call(name, arguments, attributes, label)
        self.parameters.note_call(name, given, result)
        return result

    def _settled(
        self, names: Sequence[str], arguments: Sequence[Any], attributes: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of a `dyn.` operator, those that `names` names as attributes.

        Raises `Unsupported` where one isn't constant.
        """
        given = {key: value for key, value in attributes.items() if value not in (None, ())}
        kept = []
        for name, argument in itertools.zip_longest(names[: len(arguments)], arguments):
            if not name or argument is FAILED:
                kept.append(argument)
                continue
            array = self.builder.static(argument)
            if array is None:
                raise Unsupported(f"needs a constant {name}")
            given[name] = array.tolist()
        return kept, given

    def _project(self, value: Any, index: int) -> Any:
        if value is FAILED:
            return FAILED
        if not isinstance(value, tuple):
            raise self._fail(f".{index} of what is no tuple")
        if index >= len(value):
            raise self._fail(f".{index} of a tuple of {len(value)}")
        return value[index]

    def _choose(self, condition: Any) -> bool | None:
        """What a constant condition says; None, noted, where the inputs decide."""
        if condition is FAILED:
            return None
        array = self.builder.static(condition) if isinstance(condition, ir.Value) else None
        if array is None or array.size != 1:
            self.builder.note("if: its condition isn't constant")
            return None
        return bool(array.reshape(()))


def _dotted(expr: Expr) -> str:
    """`%input.1` as the name that it may be; nothing for what is no name."""
    indices: list[int] = []
    while isinstance(expr, Projection) and len(indices) < MAX_DOTS:
        indices.append(expr.index)
        expr = expr.of
    return ".".join([expr.text, *map(str, reversed(indices))]) if isinstance(expr, Name) else ""


def _flat(value: Any) -> Iterable[Any]:
    """The values of nested tuples, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(reversed(item))
        else:
            yield item


def _result_names(body: Expr) -> list[str]:
    """The names of what the body gives, where all of it has names by `let`."""
    while isinstance(body, Block):
        body = body.result
    parts = body.fields if isinstance(body, TupleOf) else (body,)
    names = [part.text[1:] for part in parts if isinstance(part, Name)]
    if len(names) < len(parts) or any(name.isdigit() for name in names):
        return []
    return names
