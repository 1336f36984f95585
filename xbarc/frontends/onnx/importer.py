"""The ONNX importer: any ONNX model to the one form that the compiler's passes read.

What `load` gives:

- opset 18 or above (or the model's own where onnx has no conversion: `frontends.opset`);
- static weights as initialisers, wherever they stood (overridable inputs, Constant nodes,
  ConstantOfShape and whatever else can be computed without the inputs); graph inputs are true
  inputs;
- no functions, Identity, inference Dropout or dead nodes; shapes inferred, target shapes of Reshape
  constant where they can be;
- axis 0 of an input symbolic where the model leaves it open (the batch), all else static;
- QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger as Conv and MatMul between DequantizeLinear
  and QuantizeLinear (`frontends.qoperator`), other quantised operators as they were;
- unique node names, the model's own wherever it gave one.

Nothing in a model is executed but its operators, by onnxruntime, on its constants.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google.protobuf.json_format
import google.protobuf.message
import google.protobuf.text_format
import numpy as np
import onnx
import onnx.inliner
import onnx.parser
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from xbarc.frontends.onnx.opset import raise_opset
from xbarc.frontends.onnx.qoperator import to_qdq
from xbarc.graph.fold import lift_constants, simplify
from xbarc.graph.query import describe_dims, is_op, is_static, unique_name
from xbarc.graph.serialize import SMALL_BYTES, without_weights
from xbarc.support.errors import UsageError, XbarcError, nearest

MODERN_IR = 8
"""Before version 4 of ONNX's file format every initialiser had to be an input as well."""

MAX_NODES = 1_000_000
"""More nodes than this, functions inlined, is a recursion bomb and no network."""

MAX_CALL_DEPTH = 100

MAX_ELEMENTS = 1 << 31
"""The largest input or weight, in elements."""

CHECKED_ELEMENTS = 1 << 20
"""Weights are checked for NaN in blocks of this many elements."""

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "DequantizeLinear")

PARSE_ERRORS = (
    google.protobuf.message.DecodeError,
    google.protobuf.text_format.ParseError,
    google.protobuf.json_format.ParseError,
    onnx.parser.ParseError,
    UnicodeDecodeError,
)


MALFORMED = (
    ir.serde.SerdeError,
    AssertionError,
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading fields that contradict each other, or text that isn't UTF-8, ends in."""


def load(
    source: str | Path | onnx.ModelProto | ir.Model,
    input_shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> ir.Model:
    """Read an ONNX model (a file, or one in memory, which stays as it is).

    `input_shapes` gives whole shapes by input name and fixes the dimensions that the model leaves
    open. The first, where open, is the batch and stays open whatever is given for it, so that any
    batch can be run later; -1 or 0 keep a dimension as the model has it.

    Raises:
        XbarcError: the file isn't a valid model, an input's shape is open or contradicts
            `input_shapes`, a weight isn't finite, or something is absurdly large.
    """
    model = _deserialize(source)
    _check_limits(model)
    model = _inlined(model)
    model.ir_version = max(model.ir_version or 0, MODERN_IR)
    lift_constants(model)
    _read_weights(model)
    _check_graph(model)
    fix_inputs(model, input_shapes)
    raise_opset(model)
    lift_constants(model)
    simplify(model)
    if to_qdq(model):
        simplify(model)
    _check_weights(model)
    _name_nodes(model)
    return model


# --- Reading ------------------------------------------------------------------------------------


def _deserialize(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    if isinstance(source, ir.Model):
        try:
            _check_proto(without_weights(source), "the model")
        except MALFORMED as error:
            raise XbarcError(f"the model can't be read: {_root_cause(error)}") from error
        return source.clone()
    if not isinstance(source, str | Path | onnx.ModelProto):
        raise UsageError(
            "a model is a path, an onnx.ModelProto or an onnx_ir.Model, "
            f"not of type {type(source).__name__}"
        )
    proto = source if isinstance(source, onnx.ModelProto) else _read_file(Path(source))
    where = "the model" if isinstance(source, onnx.ModelProto) else str(source)
    if not proto.HasField("graph") or not proto.opset_import:
        raise XbarcError(f"{where} isn't an ONNX model: it has no graph or no opset")
    if not proto.graph.output:
        raise XbarcError(f"{where} has no outputs: nothing to compile")
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise XbarcError(f"initialiser {name!r} of {where} is sparse: store it as a dense tensor")
    try:
        _check_proto(proto, where)
        model = ir.from_proto(proto)
    except MALFORMED as error:
        raise XbarcError(f"{where} can't be read: {_root_cause(error)}") from error
    if not isinstance(source, onnx.ModelProto):
        folder = os.path.dirname(os.path.abspath(source))
        ir.external_data.set_base_dir(model.graph, folder)
    return model


def _read_file(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except PARSE_ERRORS as error:
        raise XbarcError(f"{path} isn't an ONNX model, or is cut short: {_line(error)}") from error
    except OSError as error:
        raise XbarcError(f"{path} can't be read: {error.strerror}") from error


def _check_proto(proto: onnx.ModelProto, where: str) -> None:
    """onnx's own checker, on a copy whose large tensors are inputs: it stays in Python's heap."""
    skeleton = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    skeleton.opset_import.extend(proto.opset_import)
    skeleton.functions.extend(proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name or "graph"
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    for value in (*graph.input, *graph.output):
        # The checker asks for a rank, and for an output's type; onnxruntime and some exporters
        # don't. Inferring them here would expand functions, which aren't known to end yet.
        if not value.type.WhichOneof("value"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    given = {value.name for value in proto.graph.input}

    def add_input(name: str, tensor: onnx.TensorProto) -> None:
        if name not in given:
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            graph.input.append(info)

    for tensor in proto.graph.initializer:
        add_input(tensor.name, tensor)
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.ByteSize() > SMALL_BYTES and node.output:
            values = [attr.t for attr in node.attribute if attr.name == "value"]
            if values:
                add_input(node.output[0], values[0])
                continue
        graph.node.append(node)
    try:
        onnx.checker.check_model(skeleton)
    except onnx.checker.ValidationError as error:
        raise XbarcError(f"{where} isn't a valid ONNX model: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _line(error)


# --- Limits -------------------------------------------------------------------------------------


def _check_limits(model: ir.Model) -> None:
    """Refuse function calls that never end, nest absurdly or multiply beyond `MAX_NODES`."""
    sizes: dict[ir.OperatorIdentifier, tuple[int, int]] = {}
    waiting = set(model.functions)
    while waiting:
        ready = [name for name in waiting if not _calls(model.functions[name]) & waiting]
        if not ready:
            culprit = min(name for _, name, _ in waiting)
            raise XbarcError(f"function {culprit!r} calls itself: ONNX has no recursion")
        for name in ready:
            sizes[name] = _expanded(model.functions[name].all_nodes(), sizes)
        waiting.difference_update(ready)
    nodes, depth = _expanded(model.graph.all_nodes(), sizes)
    if nodes > MAX_NODES or depth > MAX_CALL_DEPTH:
        raise XbarcError(
            f"the model has {nodes} nodes with its functions inlined, {depth} calls deep: "
            f"more than {MAX_NODES} nodes or {MAX_CALL_DEPTH} calls is no network"
        )


def _calls(function: ir.Function) -> set[ir.OperatorIdentifier]:
    return {node.op_identifier() for node in function.all_nodes()}


def _expanded(
    nodes: Iterator[ir.Node], sizes: Mapping[ir.OperatorIdentifier, tuple[int, int]]
) -> tuple[int, int]:
    total, depth = 0, 0
    for node in nodes:
        size, calls = sizes.get(node.op_identifier(), (1, -1))
        total, depth = total + size, max(depth, calls + 1)
    return total, depth


def _inlined(model: ir.Model) -> ir.Model:
    if not model.functions:
        return model
    try:
        common_passes.InlinePass()(model)
        common_passes.RemoveUnusedFunctionsPass()(model)
    except (ir.passes.PassError, ir.passes.PreconditionError, ValueError) as error:
        raise XbarcError(f"the model's functions can't be inlined: {_root_cause(error)}") from error
    return model


# --- Weights ------------------------------------------------------------------------------------


def _read_weights(model: ir.Model) -> None:
    """Every initialiser as an array: decoded once, or mapped from its file."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        name = str(value.name)
        _check_tensor(name, tensor)
        try:
            array = tensor.numpy()
        except (ValueError, AssertionError, TypeError, OSError) as error:
            raise XbarcError(f"initialiser {name!r} can't be read: {_line(error)}") from error
        if not isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=name)
        value.shape, value.dtype = ir.Shape(array.shape), tensor.dtype


def _check_tensor(name: str, tensor: ir.TensorProtocol) -> None:
    shape = tensor.shape.numpy()
    if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise XbarcError(f"initialiser {name!r} has the absurd shape {list(shape)}")
    if isinstance(tensor, ir.ExternalTensor):
        if not tensor.base_dir:
            raise XbarcError(
                f"initialiser {name!r} is stored in another file: load the model from its path"
            )
        return
    if not isinstance(tensor, ir.serde.TensorProtoTensor):
        return
    proto = tensor.raw
    if math.prod(shape) and not _has_data(proto):
        raise XbarcError(f"initialiser {name!r} of shape {list(shape)} has no data")
    if proto.HasField("raw_data") and len(proto.raw_data) != tensor.nbytes:
        raise XbarcError(
            f"initialiser {name!r} of shape {list(shape)} needs {tensor.nbytes} bytes "
            f"and has {len(proto.raw_data)}"
        )


def _has_data(proto: onnx.TensorProto) -> bool:
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    return proto.HasField("raw_data") or any(len(getattr(proto, field)) for field in fields)


def _check_weights(model: ir.Model) -> None:
    """Refuse NaN and infinity in what a linear operator multiplies by or adds.

    Elsewhere they may be meant: the bounds of a Clip, the mask of an attention.
    """
    checked: set[ir.Value] = set()
    for node in model.graph:
        if not is_op(node, *WEIGHTED):
            continue
        for value in node.inputs:
            if value is None or value in checked or not is_static(value):
                continue
            checked.add(value)
            if value.const_value is not None and not _is_finite(value.const_value.numpy()):
                raise XbarcError(
                    f"initialiser {value.name!r} has NaN or infinite values: "
                    "the training diverged or the file is damaged"
                )


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return True
    if not any(array.strides):
        return bool(np.isfinite(array[(0,) * array.ndim]))
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
    return all(
        np.isfinite(flat[start : start + CHECKED_ELEMENTS]).all()
        for start in range(0, flat.size, CHECKED_ELEMENTS)
    )


# --- The graph ----------------------------------------------------------------------------------


def _check_graph(model: ir.Model) -> None:
    graph = model.graph
    try:
        without_weights(model)  # what every later step starts from
    except MALFORMED as error:
        raise XbarcError(f"the model's attributes can't be read: {_root_cause(error)}") from error
    if "ai.onnx" in graph.opset_imports:
        graph.opset_imports.setdefault("", graph.opset_imports.pop("ai.onnx"))
    if not graph.outputs:
        raise XbarcError("the model has no outputs: nothing to compile")
    for value, kind in (
        *((v, "input") for v in graph.inputs),
        *((v, "output") for v in graph.outputs),
    ):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise XbarcError(
                f"{kind} {value.name!r} is no tensor but {value.type}: "
                "xbarc compiles models from tensors to tensors"
            )
        if kind == "input" and (value.dtype is None or value.dtype == ir.DataType.UNDEFINED):
            raise XbarcError(f"input {value.name!r} has no element type: the model must declare it")


# --- Inputs -------------------------------------------------------------------------------------


def fix_inputs(model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> None:
    """Give each input its static shape, but for a symbolic batch."""
    inputs = {str(value.name): value for value in model.graph.inputs}
    problems = [
        f"the model has no input {name!r} to give a shape; {nearest(name, inputs)}"
        for name in input_shapes
        if name not in inputs
    ]
    shapes = {
        name: ir.Shape([_open(dim) for dim in value.shape.dims])
        for name, value in inputs.items()
        if value.shape is not None
    }
    fixed: dict[str, int] = {}
    misfits = set()
    for name in inputs:
        if name in input_shapes:
            problem = _apply_shape(name, shapes, list(input_shapes[name]), fixed)
            if problem:
                problems.append(problem)
                misfits.add(name)
    batch = _batch_name(shapes)
    for name, value in inputs.items():
        if name not in shapes:
            problems.append(_ask_shape(name, None))
            continue
        shape = shapes[name]
        for axis, dim in enumerate(shape.dims):
            if isinstance(dim, ir.SymbolicDim):
                if axis == 0:
                    shape[0] = dim.value or batch
                elif dim.value in fixed:
                    shape[axis] = fixed[dim.value]
        if name in misfits:
            continue
        if any(isinstance(dim, ir.SymbolicDim) for dim in shape.dims[1:]):
            problems.append(_ask_shape(name, shape))
        elif math.prod(dim for dim in shape.dims if isinstance(dim, int)) > MAX_ELEMENTS:
            problems.append(f"input {name!r} has the absurd shape {describe_dims(shape)}")
        value.shape = shape
    if problems:
        raise XbarcError("\n".join(dict.fromkeys(problems)))


def _open(dim: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """Exporters write an unknown dimension as a symbol, nothing, 0 or -1."""
    if isinstance(dim, int):
        return dim if dim > 0 else ir.SymbolicDim(None)
    return dim if dim.value else ir.SymbolicDim(None)


def _batch_name(shapes: Mapping[str, ir.Shape]) -> str:
    used = {
        dim.value
        for shape in shapes.values()
        for dim in shape.dims[1:]
        if isinstance(dim, ir.SymbolicDim)
    }
    return next(name for name in ("N", "batch", "xbarc_batch") if name not in used)


def _apply_shape(
    name: str, shapes: dict[str, ir.Shape], given: list[int], fixed: dict[str, int]
) -> str | None:
    """Write the given dimensions into `shapes[name]`; what is wrong with them, or None."""
    asked = f"--input-shape {name}={','.join(map(str, given))}"
    if name not in shapes:
        shapes[name] = ir.Shape([None] * len(given))
    shape = shapes[name]
    if len(given) != len(shape):
        return (
            f"{asked} has {len(given)} dimensions, input {name!r} has {len(shape)}: "
            f"{describe_dims(shape)}"
        )
    for axis, (dim, wanted) in enumerate(zip(shape.dims, given, strict=True)):
        if wanted <= 0 or (axis == 0 and isinstance(dim, ir.SymbolicDim)):
            continue
        if isinstance(dim, int):
            if dim != wanted:
                return (
                    f"{asked} contradicts the model: dimension {axis} of input {name!r} is {dim} "
                    f"in {describe_dims(shape)}"
                )
            continue
        if dim.value and fixed.setdefault(dim.value, wanted) != wanted:
            return f"{asked} makes dimension {dim.value!r} {wanted}, it was {fixed[dim.value]}"
        shape[axis] = wanted
    return None


def _ask_shape(name: str, shape: ir.Shape | None) -> str:
    example = [1, 3, 48, 192]
    if shape is not None:
        example = [
            dim if isinstance(dim, int) else (1 if axis == 0 else 224)
            for axis, dim in enumerate(shape.dims)
        ]
    return (
        f"input {name!r} has open dimensions {describe_dims(shape)}: "
        f"give its shape, such as --input-shape {name}={','.join(map(str, example))}"
    )


# --- Names --------------------------------------------------------------------------------------


def _name_nodes(model: ir.Model) -> None:
    """A unique name for every node, the model's own where it has one."""
    nodes = list(model.graph.all_nodes())
    counts = Counter(node.name for node in nodes if node.name)
    taken = set(counts)
    kept: set[str] = set()
    for node in nodes:
        if node.name and node.name not in kept:
            kept.add(node.name)
            continue
        node.name = unique_name(node.name or node.op_type, taken)
