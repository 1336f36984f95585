"""Models as protobuf without their weights: what onnx's C++ parts and onnxruntime need of one.

A protobuf can't hold 2 GB, and each time a model crosses into C++ it is serialised; so large
initialisers stay behind as numpy arrays.
"""

from collections.abc import Sequence

import onnx
import onnx_ir as ir

SMALL_BYTES = 1024
"""Tensors up to this size travel inside the protobuf: shape inference reads their values."""


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The whole model, weights included (under 2 GB)."""
    return ir.to_proto(model)


def without_weights(model: ir.Model) -> onnx.ModelProto:
    """The model with each initialiser above `SMALL_BYTES` as a graph input of its name and shape.

    Such inputs stand behind the true ones. The model itself isn't touched.
    """
    clone = model.clone()
    graph = clone.graph
    for value in tuple(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes <= SMALL_BYTES:
            continue
        value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        del graph.initializers[value.name or ""]
        value.const_value = None
        if not value.is_graph_input():
            graph.inputs.append(value)
    return ir.to_proto(clone)


def with_external_weights(
    model: ir.Model, outputs: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model with each large initialiser as a reference, and these tensors by name.

    `outputs` names the values, each some node's, that the graph gives in place of its own. The
    model itself isn't touched.
    """
    clone = model.clone()
    graph = clone.graph
    known = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    graph.outputs.clear()
    graph.outputs.extend(known[name] for name in outputs)
    large: dict[str, ir.TensorProtocol] = {}
    for value in tuple(graph.initializers.values()):
        tensor, name = value.const_value, value.name or ""
        if not value.uses() and not value.is_graph_output():
            # What a rewrite left behind: onnxruntime drops it, and then misses it.
            del graph.initializers[name]
            continue
        if tensor is None or not _byte_sized(tensor.dtype) or tensor.nbytes <= SMALL_BYTES:
            continue
        large[name] = tensor
        shape = ir.Shape(tensor.shape.numpy())
        value.const_value = ir.ExternalTensor(
            "weights", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name
        )
    proto = ir.to_proto(clone)
    # onnxruntime infers shapes itself, and refuses what it would run where a given shape shows it
    # that an operator's input isn't quite to the specification.
    del proto.graph.value_info[:]
    return proto, large


def _byte_sized(dtype: ir.DataType) -> bool:
    return dtype != ir.DataType.STRING and dtype.bitwidth % 8 == 0
