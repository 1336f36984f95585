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

from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir

from xbarc.frontends.onnx.inputs import fix_inputs
from xbarc.frontends.relax.kernels import library_call
from xbarc.frontends.relax.nodes import (
    attributes_of,
    callee_name,
    function_called,
    kind_of,
    short_name,
    size_of,
)
from xbarc.frontends.relax.weights import Params, array_of, weights_of
from xbarc.frontends.source import Inputs
from xbarc.frontends.tvm_ops import FAILED, OPERATORS, Builder, Dim, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.relax_only import OPERATORS as RELAX
from xbarc.support.errors import XbarcError

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


def load_relax(
    module: Any,
    params: Params | None = None,
    given: Inputs | None = None,
    name: str = "the Relax module",
) -> ir.Model:
    """The ONNX graph of an `IRModule`'s function `main`.

    `params` are weights: arrays by parameter name, or what `relax.frontend.detach_params` gives
    (`{"main": [array, ...]}`, for the last parameters in order). `given` fixes sizes that
    are open, as for an ONNX model; `name` is the module's in error lines.

    Raises:
        UsageError: `params` names no parameter, or has none of its shape and type.
        XbarcError: there is no function `main`, a weight is missing, a size stays open, or
            something has no counterpart: one line a cause, everything at once.
    """
    main = function_called(module, "main")
    if main is None:
        raise XbarcError(f"{name} has no Relax function 'main': nothing to compile")
    weights = weights_of(main, params, name)
    walk = _Walk(module)
    parameters = [str(var.name) for var in main.params]
    inputs = [
        None if key in weights else walk.input(key, var.ty)
        for key, var in zip(parameters, main.params, strict=True)
    ]
    walk.b.check(name)
    walk.fix_inputs(given or Inputs())
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
        if kind_of(ty) == "TupleType":
            return tuple(self.input(f"{name}_{i}", field) for i, field in enumerate(ty.fields))
        if kind_of(ty) != "TensorType" or kind_of(ty.shape) != "ShapeExpr":
            self.b.note(f"parameter {name!r} is {ty}: an input is a tensor of known rank")
            return FAILED
        try:
            dtype = onnx_dtype(str(ty.dtype))
        except Unsupported as error:
            self.b.note(f"parameter {name!r}: {error}")
            return FAILED
        return self.b.input(name, dtype, self.dims(ty.shape))

    def fix_inputs(self, given: Inputs) -> None:
        """Give each input its static shape, but for the batch."""
        graph = ir.Graph(self.b.inputs, [], nodes=[], opset_imports={"": 1})
        fix_inputs(ir.Model(graph, ir_version=10), given.shapes, given.batch_axes)
        self.b.inputs = list(graph.inputs)
        graph.inputs.clear()

    def bind_sizes(self, ty: Any, value: Any) -> None:
        """Note what the symbols in a type are, once its value is known."""
        if kind_of(ty) == "TupleType" and isinstance(value, tuple):
            for field, item in zip(ty.fields, value, strict=True):
                self.bind_sizes(field, item)
        symbols: Sequence[Any] = ()
        sizes: Sequence[Dim] = ()
        if kind_of(ty) == "ShapeType" and isinstance(value, tuple):
            symbols, sizes = ty.values or (), value
        elif kind_of(ty) == "TensorType" and kind_of(ty.shape) == "ShapeExpr":
            symbols = ty.shape.values
            sizes = self.b.dims(value) if getattr(value, "shape", None) is not None else ()
        for symbol, size in zip(symbols, sizes, strict=False):
            if kind_of(symbol) == "Var":
                self.sizes[symbol] = size

    def dims(self, shape: Any) -> tuple[Dim, ...]:
        """A ShapeExpr's sizes: ints, or the text of what stays open."""
        return tuple(size_of(dim, self.sizes) for dim in shape.values)

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
        visit = getattr(self, f"_{kind_of(expr).lower()}", None)
        if visit is None:
            self.b.note(f"{kind_of(expr)}: no such expression is known to xbarc")
            return FAILED
        return visit(expr, values)

    def _seqexpr(self, expr: Any, values: dict[Any, Any]) -> Any:
        for block in expr.blocks:
            for binding in block.bindings:
                value = self.expression(binding.value, values)
                self.bind_sizes(getattr(binding, "ty", None), value)
                what = callee_name(getattr(binding.value, "op", None))
                values[binding.var] = self.held(value, binding.var.ty, what)
        return self.expression(expr.body, values)

    def _var(self, expr: Any, values: dict[Any, Any]) -> Any:
        if expr in values:
            return values[expr]
        if kind_of(expr.ty) == "PrimType":
            return size_of(expr, self.sizes)
        raise XbarcError(f"variable {str(expr.name)!r} is used before it has a value")

    _dataflowvar = _var

    def _genericconst(self, expr: Any, values: dict[Any, Any]) -> ir.Value:
        if expr not in self.constants:
            self.constants[expr] = self.b.constant(array_of(expr.value))
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
        if kind_of(callee) != "Op":
            return self.inlined(call, callee, values)
        name = str(callee.name)
        if name == "relax.null_value":
            return None
        if name in CODE:
            self.b.note(
                f"{short_name(name)} of {callee_name(call.args[0])}: compiled code isn't a network"
            )
            return FAILED
        attrs = attributes_of(call.attrs)
        if name.startswith("relax.call_tir"):
            return self.kernel(call, name, values)
        if name in TYPED_BY_RESULT:
            attrs["dtype"] = str(call.ty.dtype)
        args = [self.expression(arg, values) for arg in call.args]
        return self.b.call(short_name(name), args, attrs)

    def inlined(self, call: Any, callee: Any, values: dict[Any, Any]) -> Any:
        """A call of a function of the module, or of one bound to a variable."""
        if kind_of(callee) == "GlobalVar":
            function = function_called(self.module, str(callee.name_hint))
        else:
            function = callee if kind_of(callee) == "Function" else values.get(callee)
        if function is None or kind_of(function) != "Function":
            self.b.note(f"call of {callee_name(callee)}: not a Relax function of the module")
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
            what = f"{short_name(name)} of {callee_name(call.args[0])}"
            self.b.note(
                f"{what}: a kernel without a counterpart; "
                "import the module before TVM's passes lower it"
            )
            return FAILED
        operator, attrs = known
        args = self.expression(call.args[1], values)
        return self.b.call(operator, args, attrs)

    def held(self, value: Any, ty: Any, what: str) -> Any:
        """`value`, once it is seen to have the type that TVM says; open sizes are taken from it."""
        if kind_of(ty) == "TupleType" and isinstance(value, tuple):
            return tuple(
                self.held(item, field, what) for item, field in zip(value, ty.fields, strict=False)
            )
        if not isinstance(value, ir.Value) or kind_of(ty) != "TensorType":
            return value
        if str(ty.dtype) and value.dtype is not None and value.dtype != onnx_dtype(str(ty.dtype)):
            self.b.note(f"{what}: gives {value.dtype.name} where TVM says {ty.dtype}")
            return FAILED
        if kind_of(ty.shape) != "ShapeExpr":
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


def _flat(value: Any) -> Iterable[ir.Value]:
    """The tensors of a result; tuples in tuples become one list."""
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, ir.Value):
        yield value
    else:
        raise XbarcError(f"'main' returns {value!r}: a result is a tensor, or a tuple of them")
