"""The ONNX importer: any ONNX model to the one form that the compiler's passes read.

What `load` gives:

- opset 18 or above (or the model's own where onnx has no conversion: `opset`), in a version of the
  file format that every onnxruntime takes;
- static weights as initialisers, wherever they stood (overridable inputs, Constant nodes,
  ConstantOfShape and whatever else can be computed without the inputs); graph inputs are true
  inputs;
- no functions, Identity, inference Dropout or dead nodes; shapes inferred, target shapes of Reshape
  constant where they can be;
- the batch axis of an input symbolic where the model leaves it open, all else static (`inputs`);
- QONNX's operators as quantisation and its inverse (`qonnx`), transposes of weights done (`moves`);
- QLinearConv, QLinearMatMul, QGemm, ConvInteger, MatMulInteger as Conv, MatMul and Gemm between
  DequantizeLinear and QuantizeLinear (`qoperator`), dynamically quantised products with real inputs
  (`dynamic`), onnxruntime's Attention behind its projection (`attention`), other quantised
  operators as they were;
- unique node names: the model's own, and the author's of layers that it only numbers (`names`).

Nothing in a model is executed but its operators, by onnxruntime, on its constants.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from xbarc.frontends.onnx.attention import split_attention
from xbarc.frontends.onnx.dynamic import to_static
from xbarc.frontends.onnx.inputs import fix_inputs
from xbarc.frontends.onnx.limits import check_calls
from xbarc.frontends.onnx.moves import transpose_codes
from xbarc.frontends.onnx.names import name_nodes
from xbarc.frontends.onnx.opset import raise_opset
from xbarc.frontends.onnx.qonnx import from_qonnx
from xbarc.frontends.onnx.qoperator import to_qdq
from xbarc.frontends.onnx.reader import MALFORMED, NEWEST_IR, read, root_cause
from xbarc.frontends.onnx.weights import check_weights, read_weights
from xbarc.graph.fold import lift_constants, simplify
from xbarc.graph.serialize import without_weights
from xbarc.support.errors import XbarcError

MODERN_IR = 8
"""Before version 4 of ONNX's file format every initialiser had to be an input as well."""


def load(
    source: str | Path | onnx.ModelProto | ir.Model,
    input_shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    batch_axes: Mapping[str, int | None] = MappingProxyType({}),
) -> ir.Model:
    """Read an ONNX model (a file, or one in memory, which stays as it is).

    `input_shapes` gives whole shapes by input name and fixes the dimensions that the model leaves
    open. The batch (`inputs` says which axis that is, or `batch_axes`) stays open whatever is given
    for it, so that any batch can be run later; -1 or 0 keep a dimension as the model has it.

    Raises:
        XbarcError: the file isn't a valid model, an input's shape is open or contradicts
            `input_shapes`, a weight isn't finite, or something is absurdly large.
    """
    model = read(source)
    check_calls(model)
    model = _inlined(model)
    _forget_devices(model)
    model.ir_version = min(max(model.ir_version or 0, MODERN_IR), NEWEST_IR)
    lift_constants(model)
    read_weights(model)
    _check_graph(model)
    fix_inputs(model, input_shapes, batch_axes)
    raise_opset(model)
    lift_constants(model)
    simplify(model)
    if from_qonnx(model):
        simplify(model)
    if to_static(model) | split_attention(model) | to_qdq(model) | transpose_codes(model):
        simplify(model)
    check_weights(model)
    name_nodes(model)
    return model


def _inlined(model: ir.Model) -> ir.Model:
    if not model.functions:
        return model
    try:
        common_passes.InlinePass()(model)
        common_passes.RemoveUnusedFunctionsPass()(model)
    except (ir.passes.PassError, ir.passes.PreconditionError, ValueError) as error:
        raise XbarcError(f"the model's functions can't be inlined: {root_cause(error)}") from error
    return model


def _forget_devices(model: ir.Model) -> None:
    """How a model is spread over machines says nothing of crossbars, and may not be whole."""
    for graph in model.graphs():
        for node in graph:
            node.device_configurations = ()


def _check_graph(model: ir.Model) -> None:
    graph = model.graph
    try:
        without_weights(model)  # what every later step starts from
    except MALFORMED as error:
        raise XbarcError(f"the model's attributes can't be read: {root_cause(error)}") from error
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
