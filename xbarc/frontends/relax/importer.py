"""The Relax importer: a module of apache-tvm to an ONNX graph.

The walk of a module, by what stands in it:

- the function `main`; its parameters are inputs, but for those that `params` gives or that stand
  behind `num_input`, which are weights;
- blocks of bindings, in order; a binding's value is an expression, MatchCast binds the sizes that
  its type names;
- expressions: variables, constants, tuples and projections, shapes, plain numbers, calls;
- a call of an operator goes to the table (`frontends.tvm_ops`), a call of another Relax function is
  inlined, `call_tir` is an operator where its kernel is one of TVM's own library
  (`kernels`), anything else is refused by name;
- the type that TVM gave each binding is held against the one that the table's nodes have: a
  contradiction is an error of this importer, and said.

Nodes are recognised by the names of their classes, so this file needs no import of apache-tvm.
Reading a module from a file is `serialized`'s business.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.inputs import fix_inputs
from xbarc.frontends.relax.kernels import library_call
from xbarc.frontends.tvm_ops import FAILED, OPERATORS, Builder, Dim, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.relax_only import OPERATORS as RELAX
from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError

MAX_DEPTH = 100
"""Calls, tuples and expressions that may stand inside each other."""

CODE = (
    "relax.call_builtin_with_ctx",
    "relax.call_dps_packed",
    "relax.call_inplace_packed",
    "relax.call_pure_packed",
    "relax.call_py_func",
)
"""Calls of compiled code, which says nothing of what it computes."""

TYPED_BY_RESULT = ("relax.argmax", "relax.argmin", "relax.one_hot")
"""Operators whose element type only the result's type tells."""

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "FloorDiv": lambda a, b: a // b,
    "FloorMod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}

Params = Mapping[str, Any]


def load_relax(
    module: Any,
    params: Params | None = None,
    input_shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    name: str = "the Relax module",
) -> ir.Model:
    """The ONNX graph of an `IRModule`'s function `main`.

    `params` are weights: arrays by parameter name, or what `relax.frontend.detach_params` gives
    (`{"main": [array, ...]}`, for the last parameters in order). `input_shapes` fixes sizes that
    are open, as for an ONNX model; `name` is the module's in error lines.

    Raises:
        UsageError: `params` names no parameter, or has none of its shape and type.
        XbarcError: there is no function `main`, a weight is missing, a size stays open, or
            something has no counterpart: one line a cause, everything at once.
    """
    main = _function(module, "main")
    if main is None:
        raise XbarcError(f"{name} has no Relax function 'main': nothing to compile")
    weights = _weights(main, params, name)
    walk = _Walk(module)
    parameters = [str(var.name) for var in main.params]
    inputs = [
        None if key in weights else walk.input(key, var.ty)
        for key, var in zip(parameters, main.params, strict=True)
    ]
    walk.b.check(name)
    walk.fix_inputs(input_shapes)
    values = [
        walk.b.constant(weights[key], key) if value is None else value
        for key, value in zip(parameters, inputs, strict=True)
    ]
    for var, value in zip(main.params, values, strict=True):
        walk.bind_sizes(var.ty, value)
    result = walk.function(main, values)
    walk.b.check(name)
    outputs = list(_flat(result))
    if not outputs:
        raise XbarcError(f"{name} has no outputs: nothing to compile")
    names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    return walk.b.model(outputs, names, "main")


# --- Weights ------------------------------------------------------------------------------------


def _weights(main: Any, params: Params | None, where: str) -> dict[str, Array]:
    """The arrays of the parameters that are weights, by name."""
    # TVM's ONNX importer may give two parameters one name: an initialiser that is also an input.
    names = [str(var.name) for var in main.params]
    shapes = {str(var.name): var.ty for var in main.params}
    attrs = dict(main.attrs) if main.attrs is not None else {}
    given = _by_name(names, params, attrs.get("params"))
    unknown = [key for key in given if key not in shapes]
    if unknown:
        raise UsageError(
            f"{where} has no parameter {', '.join(map(repr, unknown))}: "
            f"its parameters are {', '.join(map(repr, names))}"
        )
    arrays = {key: _array(value) for key, value in given.items()}
    problems = [
        f"parameter {key!r} is {array.dtype}{list(array.shape)}, but {where} takes {wanted}"
        for key, array in arrays.items()
        if (wanted := _misfit(shapes[key], array)) is not None
    ]
    if problems:
        raise UsageError("\n".join(problems))
    inputs = [key for key in names if key not in arrays]
    declared = int(attrs.get("num_input", len(names)))
    # Counted, since initialisers that are inputs as well may stand before the inputs.
    missing = [f"{key!r} {shapes[key]}" for key in names[declared:] if key in inputs]
    if missing and len(inputs) > declared:
        raise XbarcError(
            f"{where} has no weights for its parameters {', '.join(missing)}: give them in params"
        )
    return arrays


def _by_name(names: list[str], params: Params | None, attached: Any) -> dict[str, Any]:
    """`params`, or those attached to the function, by parameter name."""
    if params is None:
        params = {} if attached is None else {"main": list(attached)}
    if list(params) == ["main"] and not hasattr(params["main"], "shape"):
        values = list(params["main"])
        if len(values) > len(names):
            raise UsageError(f"params has {len(values)} weights, 'main' {len(names)} parameters")
        return dict(zip(names[len(names) - len(values) :], values, strict=True))
    return {str(key): value for key, value in params.items()}


def _array(value: Any) -> Array:
    """A tensor of TVM or torch, or an array."""
    if hasattr(value, "detach"):
        value = value.detach()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _misfit(ty: Any, array: Array) -> str | None:
    """What the parameter takes, where that isn't `array`."""
    if _kind(ty) != "TensorType":
        return str(ty)
    sizes = None if ty.shape is None else [_size(dim, {}) for dim in ty.shape.values]
    fits = sizes is None or (
        len(sizes) == array.ndim
        and all(a == s for a, s in zip(array.shape, sizes, strict=True) if isinstance(s, int))
    )
    return None if fits and str(ty.dtype) in ("", str(array.dtype)) else str(ty)


# --- The walk -----------------------------------------------------------------------------------


class _Walk:
    """What is known on the way: the values of variables, the sizes of symbols."""

    def __init__(self, module: Any):
        self.module = module
        self.b = Builder({**OPERATORS, **RELAX})
        self.sizes: dict[Any, Dim] = {}
        self.constants: dict[Any, ir.Value] = {}
        self.depth = 0

    def input(self, name: str, ty: Any) -> Any:
        """A graph input for a parameter, a tuple of them for a tuple."""
        if _kind(ty) == "TupleType":
            return tuple(self.input(f"{name}_{i}", field) for i, field in enumerate(ty.fields))
        if _kind(ty) != "TensorType" or _kind(ty.shape) != "ShapeExpr":
            self.b.note(f"parameter {name!r} is {ty}: an input is a tensor of known rank")
            return FAILED
        try:
            dtype = onnx_dtype(str(ty.dtype))
        except Unsupported as error:
            self.b.note(f"parameter {name!r}: {error}")
            return FAILED
        return self.b.input(name, dtype, self.dims(ty.shape))

    def fix_inputs(self, input_shapes: Mapping[str, Sequence[int]]) -> None:
        """Give each input its static shape, but for the batch."""
        graph = ir.Graph(self.b.inputs, [], nodes=[], opset_imports={"": 1})
        fix_inputs(ir.Model(graph, ir_version=10), input_shapes)
        self.b.inputs = list(graph.inputs)
        graph.inputs.clear()

    def bind_sizes(self, ty: Any, value: Any) -> None:
        """Note what the symbols in a type are, once its value is known."""
        if _kind(ty) == "TupleType" and isinstance(value, tuple):
            for field, item in zip(ty.fields, value, strict=True):
                self.bind_sizes(field, item)
        symbols: Sequence[Any] = ()
        sizes: Sequence[Dim] = ()
        if _kind(ty) == "ShapeType" and isinstance(value, tuple):
            symbols, sizes = ty.values or (), value
        elif _kind(ty) == "TensorType" and _kind(ty.shape) == "ShapeExpr":
            symbols = ty.shape.values
            sizes = self.b.dims(value) if getattr(value, "shape", None) is not None else ()
        for symbol, size in zip(symbols, sizes, strict=False):
            if _kind(symbol) == "Var":
                self.sizes[symbol] = size

    def dims(self, shape: Any) -> tuple[Dim, ...]:
        """A ShapeExpr's sizes: ints, or the text of what stays open."""
        return tuple(_size(dim, self.sizes) for dim in shape.values)

    def function(self, function: Any, args: Sequence[Any]) -> Any:
        """The result of a function's body, its parameters being `args`."""
        values = dict(zip(function.params, args, strict=True))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise XbarcError(f"Relax functions call each other more than {MAX_DEPTH} deep")
        result = self.expression(function.body, values)
        self.depth -= 1
        return result

    def expression(self, expr: Any, values: dict[Any, Any]) -> Any:
        """An expression's value: an `ir.Value`, a tuple of values, a plain value, or FAILED."""
        visit = getattr(self, f"_{_kind(expr).lower()}", None)
        if visit is None:
            self.b.note(f"{_kind(expr)}: no such expression is known to xbarc")
            return FAILED
        return visit(expr, values)

    def _seqexpr(self, expr: Any, values: dict[Any, Any]) -> Any:
        for block in expr.blocks:
            for binding in block.bindings:
                value = self.expression(binding.value, values)
                self.bind_sizes(getattr(binding, "ty", None), value)
                what = _callee(getattr(binding.value, "op", None))
                values[binding.var] = self.held(value, binding.var.ty, what)
        return self.expression(expr.body, values)

    def _var(self, expr: Any, values: dict[Any, Any]) -> Any:
        if expr in values:
            return values[expr]
        if _kind(expr.ty) == "PrimType":
            return _size(expr, self.sizes)
        raise XbarcError(f"variable {str(expr.name)!r} is used before it has a value")

    _dataflowvar = _var

    def _genericconst(self, expr: Any, values: dict[Any, Any]) -> ir.Value:
        if expr not in self.constants:
            self.constants[expr] = self.b.constant(_array(expr.value))
        return self.constants[expr]

    def _tuple(self, expr: Any, values: dict[Any, Any]) -> Any:
        return tuple(self.expression(field, values) for field in expr.fields)

    def _tuplegetitem(self, expr: Any, values: dict[Any, Any]) -> Any:
        items = self.expression(expr.tuple_value, values)
        if items is FAILED:
            return FAILED
        if not isinstance(items, tuple) or not 0 <= expr.index < len(items):
            raise XbarcError(f"index {expr.index} of what has no such item")
        return items[expr.index]

    def _shapeexpr(self, expr: Any, values: dict[Any, Any]) -> Any:
        return self.dims(expr)

    def _intimm(self, expr: Any, values: dict[Any, Any]) -> Any:
        return bool(expr.value) if str(expr.ty) == "bool" else int(expr.value)

    def _floatimm(self, expr: Any, values: dict[Any, Any]) -> Any:
        return float(expr.value)

    def _stringimm(self, expr: Any, values: dict[Any, Any]) -> Any:
        return str(expr.value)

    def _datatypeimm(self, expr: Any, values: dict[Any, Any]) -> Any:
        return str(expr.value)

    def _function(self, expr: Any, values: dict[Any, Any]) -> Any:
        return expr

    def _call(self, call: Any, values: dict[Any, Any]) -> Any:
        callee = call.op
        if _kind(callee) != "Op":
            return self.inlined(call, callee, values)
        name = str(callee.name)
        if name == "relax.null_value":
            return None
        if name in CODE:
            self.b.note(f"{_short(name)} of {_callee(call.args[0])}: compiled code isn't a network")
            return FAILED
        attrs = _attributes(call.attrs)
        if name.startswith("relax.call_tir"):
            return self.kernel(call, name, values)
        if name in TYPED_BY_RESULT:
            attrs["dtype"] = str(call.ty.dtype)
        args = [self.expression(arg, values) for arg in call.args]
        return self.b.call(_short(name), args, attrs)

    def inlined(self, call: Any, callee: Any, values: dict[Any, Any]) -> Any:
        """A call of a function of the module, or of one bound to a variable."""
        if _kind(callee) == "GlobalVar":
            function = _function(self.module, str(callee.name_hint))
        else:
            function = callee if _kind(callee) == "Function" else values.get(callee)
        if function is None or _kind(function) != "Function":
            self.b.note(f"call of {_callee(callee)}: not a Relax function of the module")
            return FAILED
        args = [self.expression(arg, values) for arg in call.args]
        if any(arg is FAILED for arg in args):
            return FAILED
        for var, arg in zip(function.params, args, strict=True):
            self.bind_sizes(var.ty, arg)
        return self.function(function, args)

    def kernel(self, call: Any, name: str, values: dict[Any, Any]) -> Any:
        """A call of a TIR kernel: as the operator that TVM's library made it of."""
        known = library_call(self.module, call) if name == "relax.call_tir" else None
        if known is None:
            self.b.note(
                f"{_short(name)} of {_callee(call.args[0])}: a kernel without a counterpart; "
                "import the module before TVM's passes lower it"
            )
            return FAILED
        operator, attrs = known
        args = self.expression(call.args[1], values)
        return self.b.call(operator, args, attrs)

    def held(self, value: Any, ty: Any, what: str) -> Any:
        """`value`, once it is seen to have the type that TVM says; open sizes are taken from it."""
        if _kind(ty) == "TupleType" and isinstance(value, tuple):
            return tuple(
                self.held(item, field, what) for item, field in zip(value, ty.fields, strict=False)
            )
        if not isinstance(value, ir.Value) or _kind(ty) != "TensorType":
            return value
        if str(ty.dtype) and value.dtype is not None and value.dtype != onnx_dtype(str(ty.dtype)):
            self.b.note(f"{what}: gives {value.dtype.name} where TVM says {ty.dtype}")
            return FAILED
        if _kind(ty.shape) != "ShapeExpr":
            return value
        sizes = self.dims(ty.shape)
        if value.shape is None:
            value.shape = ir.Shape(list(sizes))
            return value
        found = self.b.dims(value)
        pairs = list(zip(found, sizes, strict=False))
        known = {dim for given in self.b.inputs for dim in self.b.dims(given)}
        if len(found) != len(sizes) or any(
            a != s for a, s in pairs if isinstance(a, int) and (isinstance(s, int) or s in known)
        ):
            self.b.note(f"{what}: gives shape {list(found)} where TVM says {list(sizes)}")
            return FAILED
        if not value.is_initializer():
            value.shape = ir.Shape([s if a is None else a for a, s in pairs])
        return value


# --- Nodes as plain values ----------------------------------------------------------------------


def _kind(node: Any) -> str:
    return type(node).__name__


def _short(name: str) -> str:
    return name.removeprefix("relax.")


def _callee(node: Any) -> str:
    """A callee as an error line names it."""
    for field in ("name", "name_hint", "global_symbol"):
        if hasattr(node, field):
            return _short(str(getattr(node, field)))
    return _kind(node)


def _function(module: Any, name: str) -> Any:
    """The module's Relax function of that name, or None."""
    for var, function in module.functions.items():
        if str(var.name_hint) == name:
            return function if _kind(function) == "Function" else None
    return None


def _flat(value: Any) -> Iterable[ir.Value]:
    """The tensors of a result; tuples in tuples become one list."""
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, ir.Value):
        yield value
    else:
        raise XbarcError(f"'main' returns {value!r}: a result is a tensor, or a tuple of them")


def _size(expr: Any, sizes: Mapping[Any, Dim]) -> Dim:
    """A size as an int where it is known, else as text."""
    kind = _kind(expr)
    if kind == "IntImm":
        return int(expr.value)
    if kind == "Var":
        return sizes.get(expr, str(expr.name))
    if kind == "Cast":
        return _size(expr.value, sizes)
    if kind in ARITHMETIC:
        a, b = _size(expr.a, sizes), _size(expr.b, sizes)
        if isinstance(a, int) and isinstance(b, int):
            return ARITHMETIC[kind](a, b)
    return str(expr)


def _attributes(attrs: Any) -> dict[str, Any]:
    """A call's attributes as plain values."""
    if attrs is None:
        return {}
    if _kind(attrs) == "DictAttrs":
        return {str(key): _plain(value) for key, value in attrs.items()}
    fields = type(attrs).__tvm_ffi_type_info__.fields
    return {field.name: _plain(getattr(attrs, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    """An attribute's value as ints, floats, bools, strings, tuples or None."""
    if value is None or isinstance(value, bool | int | float):
        return value
    kind = _kind(value)
    if kind == "IntImm":
        return bool(value.value) if str(value.ty) == "bool" else int(value.value)
    if kind in ("FloatImm", "StringImm"):
        return value.value
    if kind in ("Array", "list", "tuple"):
        return tuple(_plain(item) for item in value)
    return str(value)
