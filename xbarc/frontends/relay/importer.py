"""The Relay importer: a program as text, and its weights, to an ONNX graph.

TVM dropped Relay after 0.19; its text format stays readable here without TVM. The text becomes a
tree (`frontends.relay_text`), the tree is evaluated once with ONNX values for tensors, and each
operator call becomes ONNX nodes by the table that Relax shares (`frontends.tvm_ops`): so functions
and closures are inlined, tuples and projections resolved, and a branch whose condition is constant
taken. Nothing recurses: expressions are evaluated by generators on a stack of their own.

The parameters of `@main` that the given weights name become initialisers, the others inputs. One
that is used as weights are (as a later argument of an operator, never as its first, its only one or
in a tuple) and isn't given is a missing weight, unless the caller names it as an input.
"""

import itertools
import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.limits import MAX_ELEMENTS
from xbarc.frontends.relay.text import (
    CONSTANT,
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
    Type,
    parse,
)
from xbarc.frontends.source import Loaded, Options
from xbarc.frontends.tvm_ops import FAILED, OPERATORS, Builder, Unsupported, onnx_dtype
from xbarc.frontends.tvm_params import read_params
from xbarc.support.data import Array, as_arrays, load_npz
from xbarc.support.errors import UsageError, XbarcError

MAX_CALLS = 100_000
"""More operator calls than this, functions inlined, is a recursion bomb and no network."""

MAX_STEPS = 1_000_000
"""Expressions evaluated: ten times what a program of 10,000 lines needs."""

MAX_DOTS = 4
"""Numbers that a name may end in: `%input.1` has one."""

LISTED = 30
"""Missing weights that an error names."""

VIEWS = ("cast", "copy", "expand_dims", "layout_transform", "reshape", "squeeze", "transpose")
"""A weight may pass through these first."""

INDEXED = ("gather", "gather_nd", "take")
"""The data of these is the index, unless that is constant: the other is a table, as of words."""

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

PAIRED = ("add", "divide", "equal", "maximum", "minimum", "multiply", "power", "subtract", "matmul")
"""Of two parameters in one of these, both are data."""


def load_relay(text: str, where: str, options: Options) -> Loaded:
    """Import Relay text; `where` begins each error line.

    The parameters of `input_shapes` are inputs, however they are used. Where the import must be
    complete, missing weights are an error; else missing parameters stay inputs.

    Raises:
        XbarcError: the text can't be read, an operator or a type isn't known (all are named), or
            weights are missing or don't fit.
    """
    weights, inputs = options.weights, options.input_shapes
    program = parse(text, where)
    params = _params(weights.params)
    constants = {**program.constants, **_constants(weights.constants)}
    first = _import(program, where, params, constants, weights.seed, inputs)
    if not first.missing or (not options.complete and weights.seed is None):
        first.check_constants()
        return Loaded(first.finish(), tuple(first.random))
    if weights.seed is None:
        raise XbarcError(_missing(where, first.missing))
    rng = np.random.default_rng(weights.seed)
    generated = {
        name: _random(rng, kind) for name, kind in first.missing.items() if name.startswith("%")
    }
    params |= {name[1:]: array for name, array in generated.items()}
    second = _import(program, where, params, constants, weights.seed, inputs)
    if second.missing:
        raise XbarcError(_missing(where, second.missing))
    return Loaded(second.finish(), (*(name[1:] for name in generated), *second.random))


def _params(given: str | Path | Mapping[str, Any] | None) -> dict[str, Array]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return as_arrays(given)
    return read_params(given)


def _constants(given: str | Path | Mapping[str, Any] | Sequence[Any] | None) -> dict[int, Array]:
    if given is None:
        return {}
    if not isinstance(given, str | Path | Mapping):
        return dict(enumerate(as_arrays({str(i): array for i, array in enumerate(given)}).values()))
    arrays = as_arrays(given) if isinstance(given, Mapping) else load_npz(given)
    found: dict[int, Array] = {}
    for name, array in arrays.items():
        index = re.search(r"(\d+)\D*$", name)
        if index is None:
            raise UsageError(f"constant {name!r}: its name doesn't end in an index, as c0 does")
        if int(index[1]) in found:
            raise UsageError(f"two constants have the index {index[1]}")
        found[int(index[1])] = array
    return found


def _missing(where: str, missing: Mapping[str, TensorType | None]) -> str:
    options = []
    if any(name.startswith("%") for name in missing):
        options.append("--params FILE")
    if any(not name.startswith("%") for name in missing):
        options.append("--constants FILE.npz")
    known = all(kind is not None for kind in missing.values())
    random = ", or --random-weights SEED for a cost study" if known else ""
    inputs = "; --input-shape names an input" if "--params FILE" in options else ""
    count = f"{len(missing)} weights are" if len(missing) > 1 else "1 weight is"
    lines = [f"{where}: {count} missing; give {' and '.join(options)}{random}{inputs}"]
    for name, kind in list(missing.items())[:LISTED]:
        lines.append(f"  {name}  {_describe(kind)}")
    if len(missing) > LISTED:
        lines.append(f"  and {len(missing) - LISTED} more")
    return "\n".join(lines)


def _describe(kind: TensorType | None) -> str:
    if kind is None:
        return "of unknown shape"
    sizes = ", ".join("?" if size is None else str(size) for size in kind.shape)
    return f"{kind.dtype} [{sizes}]"


def _random(rng: np.random.Generator, kind: TensorType | None) -> Array:
    """Weights that keep the scale of activations; vectors between 0.5 and 1.5, as variances are."""
    assert kind is not None
    shape = [size or 1 for size in kind.shape]
    if math.prod(shape) > MAX_ELEMENTS or min(shape, default=1) < 0:
        raise XbarcError(f"random weights of the absurd shape {shape}")
    dtype = onnx_dtype(kind.dtype).numpy()
    if dtype.kind in "biu":
        return rng.integers(0, 2 if dtype.kind == "b" else 8, shape).astype(dtype)
    if sum(size > 1 for size in shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    return (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(dtype)


# --- Evaluating ----------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class _Unknown:
    """A constant of which not even the shape is known."""

    index: int


Steps = Generator[Any, Any, Any]


def _import(
    program: Program,
    where: str,
    params: Mapping[str, Array],
    constants: Mapping[int, Array],
    seed: int | None,
    inputs: Iterable[str],
) -> "_Importer":
    importer = _Importer(program, where, params, constants, seed, inputs)
    importer.run()
    return importer


class _Importer:
    def __init__(
        self,
        program: Program,
        where: str,
        params: Mapping[str, Array],
        constants: Mapping[int, Array],
        seed: int | None,
        inputs: Iterable[str],
    ):
        self.program, self.where = program, where
        self.params, self.constants = params, constants
        self.rng = None if seed is None else np.random.default_rng([seed, 1])
        self.builder = Builder(OPERATORS)
        self.random: list[str] = []
        self.missing: dict[str, TensorType | None] = {}
        self._metas: dict[int, ir.Value] = {}
        self._inputs: dict[str, tuple[ir.Value, TensorType]] = {}
        self._origin: dict[int, str] = {}
        self._used: set[str] = set()
        self._data: set[str] = set(inputs)
        self._active: list[Function] = []
        self._calls = self._steps = 0
        self._result: Any = None
        self._names: list[str] = []

    def run(self) -> None:
        """Evaluate the program; what is missing is in `missing`."""
        main = self._main()
        if isinstance(main, _Closure):
            body: Expr = main.function.body
            scope = _Scope(main.scope)
            for parameter in main.function.parameters:
                scope.values[parameter.name] = self._parameter(parameter.name, parameter.type)
            self._active.append(main.function)
            self._result = self._drive(self._evaluate(body, scope))
            self._names = _result_names(body)
        self.builder.check(self.where)
        for value in _flat(self._result):
            self._note_data(value)
        self._check_params()
        weights = {
            f"%{name}": kind
            for name, (_, kind) in self._inputs.items()
            if name in self._used - self._data
        }
        self.missing = {**weights, **self.missing}

    def check_constants(self) -> None:
        """Raises `XbarcError` where constants are missing."""
        constants = {n: kind for n, kind in self.missing.items() if not n.startswith("%")}
        if constants:
            raise XbarcError(_missing(self.where, constants))

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
                return self._meta(kind, index)
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
            return self._parameter(binding.name, binding.type)
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
            arguments = self._guessed(name, arguments, attributes)
        elif any(isinstance(argument, _Unknown) for argument in arguments):
            arguments = [FAILED if isinstance(a, _Unknown) else a for a in arguments]
        for value in _flat(tuple(arguments)):
            if not isinstance(value, ir.Value) and value is not FAILED:
                self.builder.note(f"{name}: a function as an argument isn't imported")
                return FAILED
        self._note_roles(name, arguments)
        if names:
            try:
                arguments, attributes = self._settled(names, arguments, attributes)
            except Unsupported as error:
                self.builder.note(f"dyn.{name}: {error}")
                return FAILED
        result = self.builder.call(name, arguments, attributes, label)
        if name in VIEWS and arguments and isinstance(result, ir.Value):
            origin = self._origin.get(id(arguments[0]))
            if origin is not None:
                self._origin[id(result)] = origin
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

    # --- Weights

    def _parameter(self, name: str, kind: Type) -> Any:
        """An input of the model, or a weight of that name."""
        plain = name[1:]
        if plain in self._inputs:
            return self._inputs[plain][0]
        if kind is not None and not isinstance(kind, TensorType):
            raise self._fail(f"parameter {name} is {kind.text}: tensors are imported")
        array = self._given(plain)
        if array is not None:
            if kind is not None and not _fits(array, kind):
                given = _describe(TensorType(str(array.dtype), array.shape))
                raise self._fail(f"parameter {name} is {_describe(kind)}, its weights are {given}")
            return self.builder.constant(array, plain)
        if kind is None:
            raise self._fail(f"parameter {name} has no type and no weights are given for it")
        try:
            dtype = onnx_dtype(kind.dtype)
        except Unsupported as error:
            raise self._fail(f"parameter {name}: {error}") from None
        value = self.builder.input(plain, dtype, kind.shape)
        self._inputs[plain] = value, kind
        self._origin[id(value)] = plain
        return value

    def _given(self, name: str) -> Array | None:
        """A parameter's weights. TVM prints `193` and `_w`, that begin with no letter, with a v."""
        if name in self.params or not re.match(r"v[^A-Za-z]", name):
            return self.params.get(name)
        return self.params.get(name[1:])

    def _check_params(self) -> None:
        """Weights of which none is a parameter's are another program's."""
        taken = [parameter.name[1:] for parameter in self._parameters()]
        if self.params and taken and all(self._given(name) is None for name in taken):
            names = ", ".join(sorted(self.params)[:5])
            raise self._fail(f"none of its parameters is among the given weights ({names} ...)")

    def _parameters(self) -> Iterable[Any]:
        functions = self.program.functions
        return functions["@main"].parameters if "@main" in functions else ()

    def _meta(self, kind: str, index: int) -> Any:
        name = f"meta[{kind}][{index}]"
        if kind != CONSTANT:
            self.builder.note(f"{name}: of metadata only constants are read")
            return FAILED
        if index not in self._metas:
            known = self.program.constant_types.get(index)
            array = self.constants.get(index)
            if array is None and known is None:
                return _Unknown(index)
            if array is not None and known is not None and not _fits(array, known):
                given = _describe(TensorType(str(array.dtype), array.shape))
                raise self._fail(f"{name} is {_describe(known)}, and {given} is given")
            self._metas[index] = self._constant(index, array, known)
        return self._metas[index]

    def _constant(self, index: int, array: Array | None, kind: TensorType | None) -> ir.Value:
        if array is None and self.rng is not None:
            array = _random(self.rng, kind)
            self.random.append(f"constant_{index}")
        elif array is None:
            assert kind is not None
            self.missing[f"meta[{CONSTANT}][{index}]"] = kind
            zero = np.zeros((), onnx_dtype(kind.dtype).numpy())
            array = np.broadcast_to(zero, [size or 1 for size in kind.shape])
        return self.builder.constant(array, f"constant_{index}")

    def _guessed(
        self, name: str, arguments: Sequence[Any], attributes: Mapping[str, Any]
    ) -> list[Any]:
        """The arguments, with constants of unknown shape replaced by what fits the operator."""
        given = list(arguments)
        for place, argument in enumerate(given):
            if not isinstance(argument, _Unknown):
                continue
            kind = None
            if place and isinstance(given[0], ir.Value):
                kind = _expected(self.builder, name, given[0], attributes)
            if argument.index in self._metas:
                given[place] = self._metas[argument.index]
            elif kind is None:
                self.missing[f"meta[{CONSTANT}][{argument.index}]"] = None
                given[place] = FAILED
            else:
                given[place] = self._constant(argument.index, None, kind)
                self._metas[argument.index] = given[place]
        return given

    def _note_roles(self, name: str, arguments: Sequence[Any]) -> None:
        """Which parameters are data: see the module's docstring."""
        if name in INDEXED and len(arguments) > 1 and self.builder.static(arguments[1]) is None:
            arguments = [arguments[1], arguments[0], *arguments[2:]]
        for place, argument in enumerate(arguments):
            origin = self._origin.get(id(argument))
            if isinstance(argument, tuple):
                for item in argument:
                    self._note_data(item)
            if origin is None:
                continue
            self._used.add(origin)
            first = self._origin.get(id(arguments[0]))
            if (place == 0 and name not in VIEWS) or (first and name in PAIRED):
                self._data.add(origin)

    def _note_data(self, value: Any) -> None:
        origin = self._origin.get(id(value))
        if origin is not None:
            self._data.add(origin)


def _dotted(expr: Expr) -> str:
    """`%input.1` as the name that it may be; nothing for what is no name."""
    indices: list[int] = []
    while isinstance(expr, Projection) and len(indices) < MAX_DOTS:
        indices.append(expr.index)
        expr = expr.of
    return ".".join([expr.text, *map(str, reversed(indices))]) if isinstance(expr, Name) else ""


def _fits(array: Array, kind: TensorType) -> bool:
    return (
        str(array.dtype) == kind.dtype
        and array.ndim == len(kind.shape)
        and all(a == s for a, s in zip(array.shape, kind.shape, strict=True) if s is not None)
    )


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


def _expected(
    b: Builder, name: str, x: ir.Value, attributes: Mapping[str, Any]
) -> TensorType | None:
    """The type of a constant that an operator takes beside `x`, where its attributes tell."""
    try:
        dims, dtype = b.sizes_of(x), b.dtype(x).numpy().name
    except Unsupported:
        return None
    if not dims:
        return TensorType(dtype, ())
    channels = dims[1] if len(dims) > 1 else dims[0]
    kernel = attributes.get("kernel_size")
    out, groups = attributes.get("channels"), attributes.get("groups", 1)
    if name in ("nn.conv1d", "nn.conv2d", "nn.conv3d"):
        if kernel is None or out is None or {"data_layout", "kernel_layout"} & set(attributes):
            return None
        return TensorType(dtype, (out, channels // groups, *kernel))
    if name == "nn.dense":
        units = attributes.get("units")
        return None if units is None else TensorType(dtype, (units, dims[-1]))
    if name in ("nn.batch_norm", "nn.bias_add", "nn.prelu", "nn.layer_norm"):
        axis = attributes.get("axis", -1 if name == "nn.layer_norm" else 1)
        if not -len(dims) <= axis < len(dims):
            return None
        return TensorType(dtype, (dims[axis],))
    if name in ("add", "multiply", "subtract", "divide"):
        return TensorType(dtype, (channels, *[1] * (len(dims) - 2)))
    return None
