"""Inferring shapes: onnx's own inference, and the products of symbols that it leaves open."""

import math
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from xbarc.graph.query import ONNX_DOMAINS, attribute, dims, is_op
from xbarc.graph.run import runtime_shapes
from xbarc.graph.serialize import without_weights
from xbarc.support.errors import XbarcError

Dim = int | str | None
"""A dimension: a size, a symbol, or unknown."""

MAX_ROUNDS = 4
"""Inference after refining; each round needs a Reshape whose input the last round made known."""


def infer_shapes(model: ir.Model) -> None:
    """Give every value of the graph the type and shape that follow from its inputs.

    What a value said before is dropped where its operator is of the default domain: a shape
    that an exporter or an earlier rewrite left behind may be wrong. A ConvTranspose gets pads in
    place of `auto_pad` and `output_shape`, which onnx's inference doesn't always follow.

    Raises:
        XbarcError: onnx finds the graph contradictory.
    """
    refined: dict[str, tuple[Dim, ...]] = {}
    values = _node_outputs(model.graph)
    for _ in range(MAX_ROUNDS):
        _merge(values, model, _inferred(model, refined))
        more = _refine_reshapes(model.graph)
        if not more:
            break
        refined.update(more)
    while _pad_transposed(model.graph):
        _merge(values, model, _inferred(model, refined))
    if any(node.domain not in ONNX_DOMAINS for node in model.graph):
        _ask_onnxruntime(model, values)


def _ask_onnxruntime(model: ir.Model, values: Mapping[str, ir.Value]) -> None:
    """Fill in what follows an operator that onnx has no schema of, and onnxruntime does."""
    unknown = [name for name, value in values.items() if value.shape is None]
    for name, (dtype, shape) in runtime_shapes(without_weights(model), unknown).items():
        values[name].shape = ir.Shape(shape)
        values[name].dtype = dtype


def _node_outputs(graph: ir.Graph) -> dict[str, ir.Value]:
    return {str(value.name): value for node in graph for value in node.outputs if value.name}


def _inferred(model: ir.Model, refined: dict[str, tuple[Dim, ...]]) -> onnx.ModelProto:
    proto = without_weights(model)
    known = {
        value.name
        for node in model.graph
        if node.domain not in ONNX_DOMAINS
        for value in node.outputs
    }
    kept = [info for info in proto.graph.value_info if info.name in known or info.name in refined]
    for info in kept:
        if info.name in refined:
            _write_dims(info.type.tensor_type, refined[info.name])
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    for output in proto.graph.output:
        if output.type.HasField("tensor_type") and output.name not in known:
            output.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(
            proto, check_type=False, strict_mode=False, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise XbarcError(f"the graph's shapes contradict each other: {line}") from error


def _write_dims(tensor_type: onnx.TypeProto.Tensor, dims: Sequence[Dim]) -> None:
    tensor_type.ClearField("shape")
    tensor_type.shape.SetInParent()
    for dim in dims:
        entry = tensor_type.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim


def _merge(values: dict[str, ir.Value], model: ir.Model, proto: onnx.ModelProto) -> None:
    outputs = {id(value) for value in model.graph.outputs}
    inferred = {info.name: info for info in (*proto.graph.value_info, *proto.graph.output)}
    for name, value in values.items():
        info = inferred.get(name)
        node = value.producer()
        standard = node is not None and node.domain in ONNX_DOMAINS
        if info is None:
            if standard and id(value) not in outputs:
                value.shape = None
            continue
        value_type = ir.serde.deserialize_type_proto_for_type(info.type)
        if value_type is not None and _is_typed(info.type):
            value.type = value_type
        shape = ir.serde.deserialize_type_proto_for_shape(info.type)
        if shape is not None:
            value.shape = _without_negative(shape)
        elif standard and id(value) not in outputs:
            value.shape = None


def _is_typed(proto: onnx.TypeProto) -> bool:
    return not proto.HasField("tensor_type") or proto.tensor_type.elem_type != 0


def _without_negative(shape: ir.Shape) -> ir.Shape:
    return ir.Shape([None if isinstance(dim, int) and dim < 0 else dim for dim in shape.dims])


def _refine_reshapes(graph: ir.Graph) -> dict[str, tuple[Dim, ...]]:
    """The one unknown dimension of a Reshape's or Flatten's output, from the product of the rest.

    `[N, 64, 7, 7]` reshaped to `[N, ?]` is `[N, 3136]`: both have as many elements.
    """
    refined = {}
    for node in graph:
        if not is_op(node, "Reshape", "Flatten") or not node.inputs or node.inputs[0] is None:
            continue
        source, result = node.inputs[0].shape, node.outputs[0].shape
        if source is None or result is None:
            continue
        solved = _solve(_plain(source), _plain(result), _symbols(graph))
        if solved is not None:
            node.outputs[0].shape = ir.Shape(solved)
            refined[str(node.outputs[0].name)] = solved
    return refined


def _pad_transposed(graph: ir.Graph) -> bool:
    """Write out the pads that `auto_pad` or `output_shape` of each ConvTranspose means.

    As the operator is defined, and onnxruntime computes it: the output padding counts within input
    x stride, and a result may be smaller than the input. onnx's inference has both otherwise; so
    where its sizes were wrong, what follows is inferred again before the next is looked at (True).
    """
    for node in graph:
        if not is_op(node, "ConvTranspose"):
            continue
        pads = _meant_pads(node)
        if pads is None:
            continue
        result, before = _padded_size(node, pads), dims(node.outputs[0])
        for name in ("auto_pad", "output_shape"):
            node.attributes.pop(name, None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        if before is None or before[2:] != result:
            return True
    return False


def _meant_pads(node: ir.Node) -> list[int] | None:
    """The pads of a ConvTranspose that says a size or SAME; None for others, and open sizes."""
    auto, shape = attribute(node, "auto_pad", "NOTSET"), attribute(node, "output_shape", ())
    source = dims(node.inputs[0])
    if source is None or not (shape or auto.startswith("SAME")):
        return None
    rank = len(source) - 2
    full = _padded_size(node, [0] * (2 * rank))
    if full is None:
        return None
    strides = attribute(node, "strides", ()) or [1] * rank
    wanted = shape[-rank:] or [n * s for n, s in zip(source[2:], strides, strict=True) if n]
    total = [max(f - w, 0) for f, w in zip(full, wanted, strict=True)]
    if shape and any(f < w for f, w in zip(full, wanted, strict=True)):
        return None  # which onnxruntime refuses
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*less, *more] if auto == "SAME_UPPER" else [*more, *less]


def _padded_size(node: ir.Node, pads: Sequence[int]) -> tuple[int, ...] | None:
    """The spatial size of a ConvTranspose's result under these pads; None where it is open."""
    source, weights = dims(node.inputs[0]), dims(node.inputs[1])
    if source is None or weights is None or len(source) != len(weights):
        return None
    rank = len(source) - 2
    strides = attribute(node, "strides", ()) or [1] * rank
    dilations = attribute(node, "dilations", ()) or [1] * rank
    extra = attribute(node, "output_padding", ()) or [0] * rank
    sizes = []
    for axis, (n, k) in enumerate(zip(source[2:], weights[2:], strict=True)):
        if n is None or k is None:
            return None
        reach = (n - 1) * strides[axis] + (k - 1) * dilations[axis] + 1 + extra[axis]
        sizes.append(reach - pads[axis] - pads[axis + rank])
    return tuple(sizes)


def _plain(shape: ir.Shape) -> tuple[Dim, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape.dims)


def _symbols(graph: ir.Graph) -> set[str]:
    """The symbols that the inputs bring in; any other is onnx's name for "unknown"."""
    return {
        dim.value
        for value in graph.inputs
        if value.shape is not None
        for dim in value.shape.dims
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }


def _solve(
    source: Sequence[Dim], result: Sequence[Dim], symbols: set[str]
) -> tuple[Dim, ...] | None:
    unknown = [i for i, dim in enumerate(result) if not isinstance(dim, int) and dim not in symbols]
    if len(unknown) != 1 or any(not isinstance(dim, int) and dim not in symbols for dim in source):
        return None
    left = [dim for dim in source if not isinstance(dim, int)]
    for i, dim in enumerate(result):
        if not isinstance(dim, int) and i != unknown[0]:
            if dim not in left:
                return None
            left.remove(dim)
    elements = math.prod(dim for dim in source if isinstance(dim, int))
    others = math.prod(dim for dim in result if isinstance(dim, int))
    if not elements or not others or elements % others or len(left) > 1:
        return None
    if left and elements != others:
        return None
    solved = list(result)
    solved[unknown[0]] = left[0] if left else elements // others
    return tuple(solved)
