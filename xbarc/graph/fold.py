"""Folding: what doesn't depend on the inputs is computed once and becomes an initialiser."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from xbarc.graph.query import (
    ONNX_DOMAINS,
    attribute,
    constant,
    describe,
    dims,
    has_subgraph,
    input_at,
    is_op,
    is_static,
    unique_name,
    value_names,
)
from xbarc.graph.run import Session
from xbarc.graph.shapes import infer_shapes
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

MAX_CONSTANT_BYTES = 1 << 30
"""The largest tensor that is computed from constants; more is taken for a mistake or an attack."""

MAX_ROUNDS = 8
"""A fold may make another shape known; a chain deeper than this stays in the graph, still right."""

KEPT = frozenset(
    {
        "Constant",  # lift_constants has taken all but a graph's outputs
        # how a weight was quantised must stay readable
        "DequantizeLinear",
        # a fresh result each run
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

Known = tuple[list[int | None], tuple[int, ...]]
"""What is known of a small integer tensor (0-D or 1-D) computed from shapes: its elements, None for
each that depends on a symbolic dimension, and its shape."""

FOLDED_TYPES = frozenset("biuf")
"""numpy's kinds that onnxruntime takes and gives as arrays: bool, integers, floats."""


def simplify(model: ir.Model) -> bool:
    """Fold constants and known shapes, drop Identity, Dropout and whatever nobody reads.

    Shapes are inferred anew. The function stays the same; names of inputs and outputs too.

    Raises:
        XbarcError: a constant would be larger than `MAX_CONSTANT_BYTES`.
    """
    modified = lift_constants(model)
    for _ in range(MAX_ROUNDS):
        infer_shapes(model)
        folded = drop_identities(model)
        folded |= fold_constants(model)
        folded |= fold_target_shapes(model)
        modified |= folded
        if not folded:
            break
        drop_unused(model)
    modified |= drop_unused(model)
    return modified


# --- Constants ----------------------------------------------------------------------------------


def lift_constants(model: ir.Model) -> bool:
    """Constant nodes become initialisers, and no initialiser is an input that a run overrides."""
    passes = ir.passes.Sequential(
        common_passes.RemoveInitializersFromInputsPass(),
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    )
    return bool(passes(model).modified)


def replace_by_constant(value: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Every reader of `value` reads an initialiser of its name instead.

    The node that gave `value` keeps a nameless output and is the caller's to remove.
    """
    graph = value.graph
    if graph is None:
        raise ValueError(f"{value} stands in no graph")
    name, value.name = value.name, None
    initializer = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        const_value=tensor,
    )
    value.replace_all_uses_with(initializer)
    graph.register_initializer(initializer)


def fold_constants(model: ir.Model) -> bool:
    """Every node whose outputs don't depend on the inputs is computed, once.

    Besides nodes with static inputs those are parts of known shapes: `Gather(Shape(%x), 1)` is
    known where that dimension of `%x` is, though the batch isn't.

    Raises:
        XbarcError: a result would be larger than `MAX_CONSTANT_BYTES`.
    """
    # onnx_ir has no pass that folds constants; onnxscript, which has one, isn't a dependency.
    graph = model.graph
    known: dict[ir.Value, Known] = {}
    modified = False
    for node in tuple(graph):
        if has_subgraph(node) or not node.outputs:
            continue
        part = _known_output(node, known)
        if part is not None:
            known[node.outputs[0]] = part
        if any(value.is_graph_output() for value in node.outputs):
            continue
        if part is not None and None not in part[0]:
            kind = np.int32 if node.outputs[0].dtype == ir.DataType.INT32 else np.int64
            results: list[Array | None] | None = [np.array(part[0], kind).reshape(part[1])]
        else:
            results = _evaluate(node, model.opset_imports.get("", 1))
        if results is None:
            continue
        for output, array in zip(node.outputs, results, strict=True):
            if array is not None:
                replace_by_constant(output, ir.Tensor(array))
        sources = [value for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        _forget(graph, sources)
        modified = True
    return modified


def _forget(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Drop initialisers that nobody reads any more, now: they may be large."""
    for value in values:
        if is_static(value) and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(str(value.name), None)


def _evaluate(node: ir.Node, opset: int) -> list[Array | None] | None:
    """The node's outputs (None where unused); None where it can't be computed here."""
    if node.domain not in ONNX_DOMAINS or node.op_type in KEPT:
        return None
    if not all(value is None or is_static(value) for value in node.inputs):
        return None
    used = [bool(value.name and value.uses()) for value in node.outputs]
    if not any(used):
        return None
    inputs = [None if value is None else constant(value) for value in node.inputs]
    if any(a is not None and a.dtype.kind not in FOLDED_TYPES for a in inputs):
        return None
    if is_op(node, "ConstantOfShape"):
        return [_constant_of_shape(node, inputs[0])]
    if is_op(node, *VIEWS) and node.outputs[0].shape is not None and inputs[0] is not None:
        shape = node.outputs[0].shape
        if is_op(node, "Transpose"):
            return [_transposed(node, inputs[0])]
        if shape.is_static() and math.prod(shape.numpy()) == inputs[0].size:
            return [_reshaped(inputs[0], shape.numpy())]
    _refuse_absurd(node, inputs, opset)
    return _run_alone(node, inputs, used, opset)


def _transposed(node: ir.Node, array: Array) -> Array:
    perm = attribute(node, "perm")
    if perm is not None and sorted(perm) != list(range(array.ndim)):
        raise XbarcError(f"{describe(node)}: perm {list(perm)} is no order of {array.ndim} axes")
    return array.transpose(perm)


def _constant_of_shape(node: ir.Node, shape: Array | None) -> Array:
    if shape is None or shape.ndim != 1 or shape.dtype.kind not in "iu":
        raise XbarcError(f"{describe(node)}: its shape must be a list of whole numbers")
    sizes = [int(size) for size in shape]
    tensor = attribute(node, "value")
    if tensor is not None and tensor.size != 1:
        raise XbarcError(f"{describe(node)}: its value must be one number, not {tensor.size}")
    value = np.zeros((), np.float32) if tensor is None else tensor.numpy().reshape(-1)[0]
    _check_size(node, sizes, np.dtype(value.dtype).itemsize)
    return np.broadcast_to(value, sizes)


def _reshaped(array: Array, shape: tuple[int, ...]) -> Array:
    """A view; of one number repeated too, which `reshape` would write out."""
    if array.size and not any(array.strides):
        return np.broadcast_to(array[(0,) * array.ndim], shape)
    return array.reshape(shape)


def _check_size(node: ir.Node, shape: Sequence[int], itemsize: int) -> None:
    size = math.prod(shape) * itemsize
    if any(dim < 0 for dim in shape) or size > MAX_CONSTANT_BYTES:
        raise XbarcError(
            f"{describe(node)} would make a constant of shape {list(shape)}, {size} bytes: "
            "check the model's shapes"
        )


def _refuse_absurd(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> None:
    """Raise where the node's output would be too large; by onnx's inference, before it runs.

    Raises `XbarcError` also where its inputs are of types that it doesn't take together.
    """
    proto = ir.to_proto(node)
    types, data = {}, {}
    for value, array in zip(node.inputs, inputs, strict=True):
        if value is None or array is None:
            continue
        elem_type = ir.DataType.from_numpy(array.dtype).value
        types[str(value.name)] = onnx.helper.make_tensor_type_proto(elem_type, array.shape)
        if array.size <= 1024:
            data[str(value.name)] = onnx.numpy_helper.from_array(array)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        inferred = onnx.shape_inference.infer_node_outputs(schema, proto, types, data)
    except onnx.checker.ValidationError as error:
        what = " ".join(str(error).split())
        raise XbarcError(f"{describe(node)} isn't valid: {what}") from error
    except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError, RuntimeError):
        return  # onnxruntime says what is wrong with it
    for output_type in inferred.values():
        shape = ir.serde.deserialize_type_proto_for_shape(output_type)
        if shape is not None and shape.is_static():
            _check_size(node, shape.numpy(), 1)


def _run_alone(
    node: ir.Node, inputs: Sequence[Array | None], used: Sequence[bool], opset: int
) -> list[Array | None] | None:
    feeds: dict[str, Array] = {}
    copies: dict[
        str, ir.Value
    ] = {}  # one input of the small graph, however often the node reads it
    for value, array in zip(node.inputs, inputs, strict=True):
        if value is not None and array is not None:
            feeds[str(value.name)] = array
            copies[str(value.name)] = ir.Value(
                name=value.name,
                type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                shape=ir.Shape(array.shape),
            )
    values = [None if value is None else copies[str(value.name)] for value in node.inputs]
    outputs = [ir.Value(name=value.name) for value in node.outputs]
    alone = ir.Node("", node.op_type, values, list(node.attributes.values()), outputs=outputs)
    wanted = [value for value, use in zip(outputs, used, strict=True) if use]
    graph = ir.Graph(
        list(copies.values()), wanted, nodes=[alone], opset_imports={"": opset}, name="fold"
    )
    try:
        results = Session(ir.Model(graph, ir_version=8), optimize=False).run(feeds)
    except XbarcError:
        return None  # not folded; where the model itself is at fault, running it says so
    for array in results.values():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in FOLDED_TYPES:
            return None
    names = [str(value.name) for value in node.outputs]
    return [results[name] if use else None for name, use in zip(names, used, strict=True)]


# --- Shapes -------------------------------------------------------------------------------------


def _known_constant(value: ir.Value | None) -> Known | None:
    array = constant(value)
    if array is None or array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 64:
        return None
    return [int(element) for element in array.reshape(-1)], array.shape


def _known_output(node: ir.Node, known: Mapping[ir.Value, Known]) -> Known | None:
    """What `node` gives, from what is known of its inputs."""
    if node.domain not in ONNX_DOMAINS or not node.inputs or node.inputs[0] is None:
        return None
    if is_op(node, "Shape", "Size"):
        source = dims(node.inputs[0])
        if source is None:
            return None
        if is_op(node, "Size"):
            return ([None if None in source else math.prod(d or 0 for d in source)], ())
        part = list(source[attribute(node, "start", 0) : attribute(node, "end")])
        return part, (len(part),)
    inputs = [
        None if value is None else known.get(value) or _known_constant(value)
        for value in node.inputs
    ]
    first = inputs[0]
    if first is None:
        return None
    elements, shape = first
    if is_op(node, "Concat"):
        parts = [part[0] for part in inputs if part is not None]
        joined = [element for part in parts for element in part]
        return (joined, (len(joined),)) if len(parts) == len(inputs) else None
    if is_op(node, "Cast"):
        return first if attribute(node, "to") in (ir.DataType.INT32, ir.DataType.INT64) else None
    if is_op(node, "Squeeze") and len(elements) == 1:
        return elements, ()
    if is_op(node, "Unsqueeze") and shape == ():
        return elements, (1,)
    if is_op(node, "Gather") and len(shape) == 1:
        return _known_gather(elements, constant(input_at(node, 1)))
    if is_op(node, "Slice") and len(node.inputs) > 2:
        return _known_slice(elements, [constant(input_at(node, i)) for i in (1, 2, 4)])
    return None


def _known_gather(elements: list[int | None], index: Array | None) -> Known | None:
    if index is None or index.ndim > 1:
        return None
    positions = [int(i) for i in index.reshape(-1)]
    if any(not -len(elements) <= i < len(elements) for i in positions):
        return None
    return [elements[i] for i in positions], index.shape


def _known_slice(elements: list[int | None], arguments: Sequence[Array | None]) -> Known | None:
    start, end, step = arguments
    if start is None or end is None or start.size != 1 or end.size != 1:
        return None
    stride = 1 if step is None else int(step.reshape(-1)[0])
    if stride < 1:
        return None
    part = elements[int(start.reshape(-1)[0]) : int(end.reshape(-1)[0]) : stride]
    return part, (len(part),)


def fold_target_shapes(model: ir.Model) -> bool:
    """A Reshape or Expand whose result has at most one open dimension gets a constant shape.

        %s = Shape(%x)  %n = Gather(%s, 0)  %t = Concat(Unsqueeze(%n), [-1])  %y = Reshape(%x, %t)
    ->
        %y = Reshape(%x, [-1, 3136])                  # %x is [N, 64, 7, 7]
    """
    modified = False
    taken: set[str] | None = None
    for node in model.graph:
        if not is_op(node, "Reshape", "Expand") or len(node.inputs) < 2:
            continue
        if node.inputs[1] is None or is_static(node.inputs[1]):
            continue
        target = _reshape_target(node) if is_op(node, "Reshape") else _expand_target(node)
        if target is None:
            continue
        taken = value_names(model) if taken is None else taken
        name = unique_name(f"{node.outputs[0].name}_shape", taken)
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([len(target)]),
            const_value=ir.Tensor(np.array(target, np.int64)),
        )
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
        modified = True
    return modified


def _reshape_target(node: ir.Node) -> list[int] | None:
    result = dims(node.outputs[0])
    if result is None or result.count(None) > 1 or 0 in result:
        return None
    return [-1 if dim is None else dim for dim in result]


def _expand_target(node: ir.Node) -> list[int] | None:
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is None:
        return None
    padded = [1] * (len(result.shape) - len(source.shape)) + list(source.shape.dims)
    target = []
    for before, after in zip(padded, result.shape.dims, strict=True):
        if isinstance(after, int):
            target.append(after)
        elif before == after and after.value is not None:
            target.append(1)  # Expand broadcasts both ways: the source's own size stays
        else:
            return None
    return target


# --- What does nothing --------------------------------------------------------------------------


def drop_identities(model: ir.Model) -> bool:
    """Identity, inference Dropout and Reshape to the same shape give way to their input.

    One stays where its output is the model's and its input is an input, an initialiser or another
    output: such a value can't take the output's name.
    """
    # onnx_ir's IdentityEliminationPass loses an output that is the Identity of another.
    modified = False
    for node in tuple(model.graph):
        if not _does_nothing(node):
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or source.graph is not model.graph:
            continue
        if result.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                continue
            source.name, result.name = result.name, None
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        modified = True
    return modified


def _does_nothing(node: ir.Node) -> bool:
    if is_op(node, "Dropout"):
        return _is_inference(node)
    return is_op(node, "Identity") or (is_op(node, "Reshape", "Flatten") and _keeps_shape(node))


def _keeps_shape(node: ir.Node) -> bool:
    """Whether input and output have the same shape: all sizes, at most one a (named) symbol."""
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is None:
        return False
    symbols = [dim for dim in source.shape.dims if isinstance(dim, ir.SymbolicDim)]
    return (
        source.shape.dims == result.shape.dims
        and len(symbols) <= 1
        and all(dim.value is not None for dim in symbols)
    )


def _is_inference(dropout: ir.Node) -> bool:
    if any(mask.uses() or mask.is_graph_output() for mask in dropout.outputs[1:]):
        return False
    training = input_at(dropout, 2)
    if training is None:
        return bool(attribute(dropout, "is_test", 1))
    array = constant(training)
    return array is not None and not array.any()


def drop_unused(model: ir.Model) -> bool:
    """Nodes and initialisers that no output needs."""
    return bool(common_passes.RemoveUnusedNodesPass()(model).modified)
