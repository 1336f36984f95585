"""Models as protobuf without their weights: what onnx's C++ parts and onnxruntime need of one.

A protobuf can't hold 2 GB, and each time a model crosses into C++ it is serialised; so large
initialisers stay behind as numpy arrays. What crosses refers to no file: the C++ side would look
for it in the working directory, not in the model's folder.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message

from xbarc.support.errors import XbarcError

SMALL_BYTES = 1024
"""Tensors up to this size travel inside the protobuf: shape inference reads their values."""


def parse(content: bytes, what: str) -> onnx.ModelProto:
    """The model that a stored ONNX file holds. Raises `XbarcError` where it is damaged."""
    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise XbarcError(f"{what} is no ONNX file any more: {error}") from None


def names_files(model: onnx.ModelProto) -> bool:
    """Whether any tensor of the model lies in another file."""
    return next(named_files(model), None) is not None


def named_files(model: onnx.ModelProto) -> Iterator[str]:
    """The files that tensors of the model lie in, wherever a tensor may stand.

    In sparse tensors, in the bodies of functions, in fields that are added to ONNX later.
    """
    waiting: list[Message] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                places = [e.value for e in message.external_data if e.key == "location"]
                yield from places or [""]
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


External = tuple[str, ir.ExternalTensor, Callable[[ir.TensorProtocol], None]]
"""A tensor in another file: as error lines call it, itself, and what puts another in its place."""


def external_tensors(model: ir.Model) -> Iterator[External]:
    """The tensors that lie in other files: initialisers and attributes, of every graph.

    Subgraphs and functions are graphs too.
    """
    roots = [model.graph, *(function.graph for function in model.functions.values())]
    for graph in (graph for root in roots for graph in (root, *root.subgraphs())):
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                yield f"initialiser {name!r}", tensor, partial(setattr, value, "const_value")
        for node in graph:
            for attribute in tuple(node.attributes.values()):
                yield from _in_attribute(node, attribute)


def _in_attribute(node: ir.Node, attribute: ir.Attr) -> Iterator[External]:
    kind, value = attribute.type, attribute.value
    if attribute.is_ref() or kind not in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS):
        return
    what = f"attribute {attribute.name!r} of {node.op_type} {node.name or ''}".rstrip()
    if isinstance(value, ir.ExternalTensor):
        yield what, value, lambda tensor: node.attributes.add(ir.AttrTensor(attribute.name, tensor))
    elif kind == ir.AttributeType.TENSORS:
        for index, tensor in enumerate(value):
            if isinstance(tensor, ir.ExternalTensor):
                yield what, tensor, partial(_put, node, attribute.name, index)


def _put(node: ir.Node, name: str, index: int, tensor: ir.TensorProtocol) -> None:
    tensors = list(node.attributes[name].as_tensors())
    tensors[index] = tensor
    node.attributes.add(ir.AttrTensors(name, tensors))


def read_in(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """The tensor as an array; a large one stays mapped. Raises what reading its file does."""
    array = tensor.numpy()
    if tensor.nbytes <= SMALL_BYTES:
        array = np.array(array)  # a mapping each would keep as many files open
    return ir.Tensor(array, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)


def embedded(model: ir.Model) -> ir.Model:
    """The model, every tensor of it in memory or mapped; a copy where one lies in another file."""
    if not any(True for _ in external_tensors(model)):
        return model
    clone = model.clone()
    for _, tensor, put in tuple(external_tensors(clone)):
        put(read_in(tensor))
    return clone


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The whole model, weights included (under 2 GB)."""
    return ir.to_proto(embedded(model))


def without_notes(model: ir.Model) -> ir.Model:
    """A copy without what exporters note beside the graph: stack traces, paths of their machine."""
    clone = model.clone()
    clone.doc_string = None
    clone.metadata_props.clear()
    for graph in clone.graphs():
        graph.doc_string = None
        graph.metadata_props.clear()
        for node in graph:
            node.doc_string = None
            node.metadata_props.clear()
            for value in node.outputs:
                value.doc_string = None
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.doc_string = None
            value.metadata_props.clear()
    return clone


def without_weights(model: ir.Model) -> onnx.ModelProto:
    """The model with each initialiser above `SMALL_BYTES` as a graph input of its name and shape.

    Such inputs stand behind the true ones. The model itself isn't touched.
    """
    model = embedded(model)
    graph = model.graph
    inputs, small = list(graph.inputs), []
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes <= SMALL_BYTES:
            small.append(value)
        elif not value.is_graph_input():
            shape = ir.Shape(tensor.shape.numpy())
            inputs.append(ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=shape))
    return _with(model, inputs, list(graph.outputs), small)


def with_external_weights(
    model: ir.Model, outputs: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model with each large initialiser as a reference, and these tensors by name.

    `outputs` names the values, each some node's, that the graph gives in place of its own. The
    model itself isn't touched.
    """
    model = embedded(model)
    graph = model.graph
    known = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    large: dict[str, ir.TensorProtocol] = {}
    initializers = []
    for value in graph.initializers.values():
        tensor, name = value.const_value, value.name or ""
        if not value.uses() and name not in outputs:
            # What a rewrite left behind: onnxruntime drops it, and then misses it.
            continue
        if tensor is None or not _byte_sized(tensor.dtype) or tensor.nbytes <= SMALL_BYTES:
            initializers.append(value)
            continue
        large[name] = tensor
        shape = ir.Shape(tensor.shape.numpy())
        reference = ir.ExternalTensor(
            "weights", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name
        )
        initializers.append(
            ir.Value(name=name, type=value.type, shape=shape, const_value=reference)
        )
    given = [known[name] for name in outputs]
    proto = _with(model, list(graph.inputs), given, initializers)
    # onnxruntime infers shapes itself, and refuses what it would run where a given shape shows it
    # that an operator's input isn't quite to the specification.
    del proto.graph.value_info[:]
    return proto, large


def _with(
    model: ir.Model,
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    initializers: Sequence[ir.Value],
) -> onnx.ModelProto:
    """The model with other inputs, outputs and initialisers.

    Of a view, not of a copy: a copy takes longer than all else.
    """
    graph = model.graph
    view = ir.GraphView(
        inputs,
        outputs,
        nodes=graph,
        initializers=initializers,
        doc_string=graph.doc_string,
        opset_imports=graph.opset_imports,
        name=graph.name,
        metadata_props=graph.metadata_props,
    )
    whole = ir.Model(
        view,  # type: ignore[arg-type]  # which is all that is asked of a graph to be written
        ir_version=model.ir_version or 0,
        functions=tuple(model.functions.values()),
    )
    return ir.to_proto(whole)


def _byte_sized(dtype: ir.DataType) -> bool:
    return dtype != ir.DataType.STRING and dtype.bitwidth % 8 == 0
