"""What the operator table writes an ONNX graph with: names, constants, nodes and their shapes."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from xbarc.graph.query import describe_dims
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

OPSET = 20
"""The opset that the table writes. From 21 on onnxruntime moves a DequantizeLinear past a Transpose
and leaves types that contradict each other."""

IR_VERSION = 9

LISTED = 40
"""Lines that one error has at most."""

IGNORED = frozenset(
    {
        "auto_scheduler_rewritten_layout",
        "meta_schedule_original_shape",
        "schedule_rule",
    }
)
"""Attributes that say how TVM is to compute, not what."""

Dim = int | str | None
Operator = Callable[..., Any]


class Unsupported(XbarcError):  # noqa: N818
    """An operator, or a setting of it, that has no counterpart here; said without its name."""


MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What attributes of the wrong type or arguments of the wrong rank end in."""


class Failed:
    """Stands for the result of an operator that couldn't be imported."""


FAILED = Failed()

SHORT_DTYPES = {"bool": "BOOL", "float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def onnx_dtype(name: str) -> ir.DataType:
    """`float32` as ONNX's FLOAT. Raises `Unsupported` for what ONNX has no type for."""
    key = SHORT_DTYPES.get(name, name.upper())
    if key not in ir.DataType.__members__ or key in ("UNDEFINED", "STRING"):
        raise Unsupported(f"element type {name!r} has no counterpart in ONNX")
    return ir.DataType[key]


class _Names:
    """Names that are taken; a thousand equal ones are told apart without trying each number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2` ... where that is taken."""
        name = wanted
        while name in self._taken:
            self._counts[wanted] = self._counts.get(wanted, 0) + 1
            name = f"{wanted}_{self._counts[wanted]}"
        self._taken.add(name)
        return name


class Builder:
    """An ONNX graph that grows node by node; `ir.Value` carries each value's type and shape.

    `problems` collects what couldn't be imported, so that one error names it all.
    """

    def __init__(self, operators: Mapping[str, Operator]):
        self.operators = operators
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.problems: dict[str, int] = {}
        self._initializers: list[ir.Value] = []
        self._node_names = _Names()
        self._value_names = _Names()
        self._whole: dict[str, ir.Value] = {}
        self._label = "node"

    # --- Values

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[Dim]) -> ir.Value:
        """A new graph input; a dimension is a size, a symbol's name, or None."""
        value = ir.Value(
            name=self._value_names.unique(name),
            type=ir.TensorType(dtype),
            shape=ir.Shape(list(shape)),
        )
        self.inputs.append(value)
        return value

    def constant(self, array: Array, name: str = "constant") -> ir.Value:
        """A static value that shares `array`."""
        tensor = ir.Tensor(np.asarray(array))
        value = ir.Value(
            name=self._value_names.unique(name),
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
            const_value=tensor,
        )
        self._initializers.append(value)
        return value

    def static(self, value: Any) -> Array | None:
        """The array of a static value, or of a plain number; None where a run computes it."""
        if isinstance(value, ir.Value):
            if value.const_value is None or value.is_graph_input():
                return None
            return value.const_value.numpy()
        return None if value is None else np.asarray(value)

    def ints(self, values: Sequence[int] | int) -> ir.Value:
        """An int64 constant: axes, a shape, pads."""
        return self.constant(np.asarray(values, np.int64), f"{self._label}.const")

    def like(self, number: Any, value: ir.Value) -> ir.Value:
        """`number` (a plain one or an array) as a constant of the element type of `value`."""
        dtype = self.dtype(value).numpy()
        return self.constant(np.asarray(number).astype(dtype), f"{self._label}.const")

    # --- What is known of a value

    def dtype(self, value: ir.Value) -> ir.DataType:
        """The element type. Raises `Unsupported` where it isn't known."""
        if value.dtype is None:
            raise Unsupported("needs the element type of its argument, which isn't known")
        return value.dtype

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """Sizes, symbols' names, None where unknown. Raises `Unsupported` without a rank."""
        if value.shape is None:
            raise Unsupported("needs the rank of its argument, which isn't known")
        return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape.dims)

    def sizes_of(self, value: ir.Value, axes: Iterable[int] | None = None) -> tuple[int, ...]:
        """The sizes of these axes, of all by default. Raises `Unsupported` where one is open."""
        dims = self.dims(value)
        sizes = []
        for axis in range(len(dims)) if axes is None else axes:
            size = dims[axis]
            if not isinstance(size, int):
                raise Unsupported(f"needs a static shape, not {describe_dims(value.shape)}")
            sizes.append(size)
        return tuple(sizes)

    def rank(self, value: ir.Value) -> int:
        """The number of dimensions. Raises `Unsupported` where it isn't known."""
        return len(self.dims(value))

    def axis(self, value: ir.Value, axis: int) -> int:
        """`axis` from the front. Raises `Unsupported` where the value has no such axis."""
        rank = self.rank(value)
        if not -rank <= axis < rank:
            raise Unsupported(f"axis {axis} of a value of {rank} dimensions")
        return axis % rank

    # --- Nodes

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        outputs: int = 1,
        part: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """A new node of the default domain; its first output, typed by onnx's inference.

        Attributes that are None are left out. The node has the call's name, with `part` behind it
        where it is only a step on the way.
        """
        given = {name: value for name, value in attributes.items() if value is not None}
        node = ir.node(op_type, list(inputs), given, num_outputs=outputs)
        node.name = self._node_names.unique(self._label + (part and f".{part}"))
        for index, output in enumerate(node.outputs):
            suffix = f".{index}" if index else ""
            output.name = self._value_names.unique(f"{node.name}.out{suffix}")
        self._infer(node)
        self.nodes.append(node)
        return node.outputs[0]

    def ops(
        self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """A new node's outputs."""
        first = self.op(op_type, *inputs, outputs=outputs, **attributes)
        producer = first.producer()
        assert producer is not None
        return tuple(producer.outputs)

    def _infer(self, node: ir.Node) -> None:
        types, data = {}, {}
        for value in node.inputs:
            if value is None or value.dtype is None:
                continue
            name = str(value.name)
            shape = None if value.shape is None else self.dims(value)
            types[name] = onnx.helper.make_tensor_type_proto(value.dtype.value, shape)
            array = self.static(value)
            if array is not None and array.size <= 64 and array.dtype.kind in "bif":
                data[name] = onnx.numpy_helper.from_array(array, name)
        if any(value is not None and value.name not in types for value in node.inputs):
            return
        try:
            schema = onnx.defs.get_schema(node.op_type, OPSET, "")
            inferred = onnx.shape_inference.infer_node_outputs(
                schema,
                ir.serde.serialize_node(node),
                types,
                data,
                opset_imports=[onnx.helper.make_opsetid("", OPSET)],
                ir_version=IR_VERSION,
            )
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
            RuntimeError,
            ValueError,
        ) as error:
            shapes = " and ".join(describe_dims(v.shape) for v in node.inputs if v is not None)
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Unsupported(f"doesn't fit its arguments {shapes}: {why}") from error
        for output in node.outputs:
            if output.name in inferred:
                _adopt(output, inferred[output.name])

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """`x` with sizes `shape` (-1: what is left, 0: as in `x`); at once where it is static."""
        array = self.static(x)
        if array is not None:
            sizes = [array.shape[i] if size == 0 else size for i, size in enumerate(shape)]
            if _same_size(array.shape, sizes):
                return self.constant(array.reshape(sizes), str(x.name))
        dims = self.dims(x) if x.shape is not None else (None,)
        wanted = [dims[i] if size == 0 and i < len(dims) else size for i, size in enumerate(shape)]
        if not _same_size(dims, wanted):
            raise Unsupported(f"doesn't fit: {describe_dims(x.shape)} to {list(shape)}")
        return self.op("Reshape", x, self.ints(shape), part="reshape")

    def shape(self, dims: Sequence[Dim]) -> ir.Value:
        """Sizes as a shape; a symbol is read off the input that has it while running.

        Raises `Unsupported` for a size that no input has.
        """
        if all(isinstance(dim, int) for dim in dims):
            return self.ints([int(dim) for dim in dims if isinstance(dim, int)])
        parts = [self.ints([dim]) if isinstance(dim, int) else self._open(dim) for dim in dims]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, part="shape", axis=0)

    def _open(self, symbol: str | None) -> ir.Value:
        for value in self.inputs:
            if self.dims(value)[:1] == (symbol,):  # the only axis that stays open
                return self.op("Shape", value, part="size", start=0, end=1)
        raise Unsupported(f"needs the size {symbol}, which no input has")

    def transpose(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """`x` with its axes in that order; at once where `x` is static or itself a transpose."""
        if x.shape is not None and sorted(axes) != list(range(self.rank(x))):
            raise Unsupported(f"{self.rank(x)} dimensions where {len(axes)} are known")
        if list(axes) == list(range(len(axes))):
            return x
        array = self.static(x)
        if array is not None:
            return self.constant(array.transpose(axes), str(x.name))
        node = x.producer()
        if node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
            first = node.attributes["perm"].as_ints()
            return self.transpose(node.inputs[0], [first[axis] for axis in axes])
        return self.op("Transpose", x, part="transpose", perm=list(axes))

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`x` as `dtype`; floats to integers by truncation, as in TVM."""
        if x.dtype == dtype:
            return x
        float_ = self.whole(x)
        if float_ is not None and float_.dtype == dtype:
            return float_
        return self.op("Cast", x, part="cast", to=dtype.value)

    def integral(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Floats that are whole numbers as integers; cast back, they are `x` itself."""
        result = self.cast(x, dtype)
        self._whole[str(result.name)] = x
        return result

    def whole(self, x: ir.Value) -> ir.Value | None:
        """The floats that `integral` made the integers `x` from."""
        return self._whole.get(str(x.name))

    # --- Calls

    def call(
        self, name: str, args: Sequence[Any], attrs: Mapping[str, Any], label: str = ""
    ) -> Any:
        """What operator `name` of the table gives, or `FAILED`, noted in `problems`.

        An argument that is `FAILED`, or a tuple with one in it, fails without a note of its own.
        """
        function = self.operators.get(name)
        if function is None:
            self.note(f"{name}: no such operator is known to xbarc")
            return FAILED
        if any(_has_failed(arg) for arg in args):
            return FAILED
        self._label = label or name.rpartition(".")[2]
        try:
            return function(self, *args, **_accepted(function, attrs, len(args)))
        except Unsupported as error:
            self.note(f"{name}: {error}")
        except MALFORMED as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self.note(f"{name}: its arguments and attributes don't fit each other: {why}")
        return FAILED

    def note(self, problem: str) -> None:
        """Add a problem; the same one twice is counted."""
        self.problems[problem] = self.problems.get(problem, 0) + 1

    def check(self, where: str) -> None:
        """Raises `XbarcError` with all problems, a line each, where there are any."""
        if not self.problems:
            return
        lines = [
            f"{where}: {text}" + (f" ({count} times)" if count > 1 else "")
            for text, count in self.problems.items()
        ]
        if len(lines) > LISTED:
            lines[LISTED:] = [f"{where}: and {len(lines) - LISTED} problems more"]
        raise XbarcError(*lines)

    def model(self, outputs: Sequence[ir.Value], names: Sequence[str], name: str) -> ir.Model:
        """The finished model; its outputs get `names`."""
        results = []
        for wanted, value in zip(names, outputs, strict=True):
            # An Identity gives an output that is an input, a constant or an output already its
            # own name; the importer drops those that aren't needed.
            self._label = "output"
            result = self.op("Identity", value)
            result.name = self._value_names.unique(wanted)
            results.append(result)
        graph = ir.Graph(
            self.inputs,
            results,
            nodes=self.nodes,
            initializers=[value for value in self._initializers if value.uses()],
            opset_imports={"": OPSET},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="xbarc")


def _same_size(source: Sequence[Dim], wanted: Sequence[Dim]) -> bool:
    """Whether as many elements fit both, as far as sizes are known; -1 is what is left."""
    if not all(isinstance(size, int) for size in (*source, *wanted)):
        return True
    size = math.prod(int(n or 0) for n in source)
    rest = math.prod(int(n or 0) for n in wanted if n != -1)
    if -1 not in wanted:
        return size == rest
    return wanted.count(-1) == 1 and (size % rest == 0 if rest else not size)


def _adopt(value: ir.Value, proto: onnx.TypeProto) -> None:
    if proto.tensor_type.elem_type:
        value.type = ir.TensorType(ir.DataType(proto.tensor_type.elem_type))
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is not None:
        value.shape = shape


def _has_failed(arg: Any) -> bool:
    return arg is FAILED or (isinstance(arg, tuple) and any(_has_failed(item) for item in arg))


def _accepted(function: Operator, attrs: Mapping[str, Any], args: int) -> dict[str, Any]:
    """The attributes that `function` takes. Raises `Unsupported` for any other."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if args > len(positional) and not variadic:
        raise Unsupported(f"takes {len(positional)} arguments at most, not {args}")
    given = {name: value for name, value in attrs.items() if name not in IGNORED}
    taken = {p.name for p in positional[:args]}
    known = {p.name for p in parameters} - taken
    unknown = sorted(set(given) - known)
    if unknown and not any_keyword:
        raise Unsupported(f"attribute {', '.join(map(repr, unknown))} isn't known to xbarc")
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in taken
        and p.name not in given
    ]
    if missing:
        raise Unsupported(f"lacks {', '.join(map(repr, missing))}")
    return given
