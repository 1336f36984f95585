"""Raising a model's opset, so that the rest of the compiler sees one way to write each operator.

**Opset 18** is the floor, not the target: the compiler's passes read axes and the like where opset
13 to 18 put them (as inputs), models from 18 up differ in little that matters to them and stay as
they are, and each step that isn't taken can't go wrong.

Below 18 onnx's own converter does the work. Four things are kept from it:

- Weights. They stay behind as numpy arrays; the converter is C++ and sees a protobuf.
- Negative dimensions (`dim_value: -1`, which Paddle writes for "unknown"). The converter runs shape
  inference, takes -1 for a size, and writes it into the `value_info` of all that follows;
  onnxruntime believes that when it folds `Shape` and then fails on the Reshape that reads it. So
  the importer makes such dimensions symbolic first, and shapes that the converter
  inferred are dropped.
- Bounds of a Clip and the value of a Pad, which it makes float32 whatever the data are.
- Operators that it gets wrong. Upsample and Resize change their sampling grid at opset 11, which is
  put right after it; a model with one of `BROKEN`, or with scales that the inputs decide, keeps
  its opset, as does one that it has no adapter for. onnxruntime runs those as well; nothing in
  the compiler may take 18 for granted. Operators of other domains pass through it.
"""

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir

from xbarc.graph.fold import lift_constants, simplify
from xbarc.graph.query import (
    attribute,
    constant,
    input_at,
    is_op,
    is_static,
    unique_name,
    value_names,
)
from xbarc.graph.serialize import without_weights
from xbarc.graph.shapes import infer_shapes
from xbarc.support.errors import XbarcError

OLDEST = 7
FLOOR = 18

BROKEN = {"Hardmax": 13, "Scan": 9}
"""Operators whose meaning changes at an opset; onnx's converter takes them across unchanged."""

BOUNDS = {"Clip": (1, 2), "Pad": (2,)}
"""Inputs that were attributes, and have the type of the data."""

ASYMMETRIC = 11
"""The opset from which Resize samples pixel centres, unless told otherwise."""


def raise_opset(model: ir.Model) -> bool:
    """Convert `model` in place to opset 18 where it is below; whether that was done.

    Raises:
        XbarcError: the opset is older than 7.
    """
    version = model.opset_imports.get("")
    if version is None or version >= FLOOR:
        return False
    if version < OLDEST:
        raise XbarcError(
            f"the model's opset is {version}: {OLDEST} is the oldest that can be read; "
            "convert it with onnx.version_converter or export it again"
        )
    if any(version < BROKEN.get(node.op_type, 0) for node in model.graph.all_nodes()):
        return False
    grids = _sampling_grids(model) if version < ASYMMETRIC else {}
    if grids is None:
        return False
    try:
        proto = onnx.version_converter.convert_version(without_weights(model), FLOOR)
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError):
        return False
    _adopt(model, proto)
    for node in model.graph:
        if is_op(node, "Resize") and node.outputs[0].name in grids:
            node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                "coordinate_transformation_mode", "asymmetric"
            )
            mode = grids[str(node.outputs[0].name)]
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", mode)
    _match_bounds(model)
    return True


def _match_bounds(model: ir.Model) -> None:
    """Bounds and paddings of the type that the data have: the converter makes all of them float32.

    Before opset 11 they were attributes, which have one type for all.
    """
    bounded = [node for node in model.graph if is_op(node, *BOUNDS)]
    if not bounded:
        return
    lift_constants(model)
    infer_shapes(model)
    taken = value_names(model)
    for node in bounded:
        kind = None if node.inputs[0] is None else node.inputs[0].dtype
        for index in BOUNDS[node.op_type]:
            value = input_at(node, index)
            array = constant(value)
            if value is None or array is None or kind is None or value.dtype == kind:
                continue
            name = unique_name(f"{value.name}_{kind.name.lower()}", taken)
            cast = ir.Value(
                name=name,
                type=ir.TensorType(kind),
                shape=ir.Shape(array.shape),
                const_value=ir.Tensor(array.astype(kind.numpy()), dtype=kind),
            )
            model.graph.register_initializer(cast)
            node.replace_input_with(index, cast)


def _sampling_grids(model: ir.Model) -> dict[str, str] | None:
    """How each Upsample or Resize rounds to the nearest pixel, by its output's name.

    Down where it enlarges, up where it shrinks. None where that can't be said: the scales aren't
    constant, or go both ways, or the operator stands in a subgraph.
    """
    resizes = [node for node in model.graph.all_nodes() if is_op(node, "Upsample", "Resize")]
    if any(constant(input_at(node, 1)) is None for node in resizes if len(node.inputs) > 1):
        simplify(model)  # the scales may be computed from shapes that are known
        resizes = [node for node in model.graph.all_nodes() if is_op(node, "Upsample", "Resize")]
    grids = {}
    for node in resizes:
        scales = constant(input_at(node, 1))
        if scales is None and len(node.inputs) == 1:
            scales = np.array(attribute(node, "scales", ()))
        if scales is None or not scales.size or node.graph is not model.graph:
            return None
        if not ((scales >= 1).all() or (scales <= 1).all()):
            return None
        grids[str(node.outputs[0].name)] = "floor" if (scales >= 1).all() else "ceil"
    return grids


def _adopt(model: ir.Model, proto: onnx.ModelProto) -> None:
    """`model` becomes what `proto` says, with the weights that it had."""
    del proto.graph.value_info[:]
    weights = {
        str(value.name): value.const_value
        for value in model.graph.initializers.values()
        if is_static(value)
    }
    converted = ir.from_proto(proto)
    graph = converted.graph
    for value in tuple(graph.inputs):
        tensor = weights.get(str(value.name))
        if tensor is not None:
            graph.inputs.remove(value)
            value.const_value = tensor
            graph.register_initializer(value)
    for value in graph.initializers.values():
        value.const_value = weights.get(str(value.name), value.const_value)
    graph.opset_imports.update(
        {d: v for d, v in model.opset_imports.items() if d not in graph.opset_imports}
    )
    model.graph = graph
    model.ir_version = max(model.ir_version, converted.ir_version)
