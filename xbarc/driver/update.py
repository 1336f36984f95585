"""New weights for a compiled program: the same tiles, programmed anew.

An existing circuit keeps its wiring: layers, tiles, converters' ranges, input scales and digital
parts. Only what is written to cells may change: the integer weights, with their scales and the
biases (also a bias that a digital part adds to a layer's sums). What is gated follows from them.

The new model goes through the program's graph passes that keep the function (`fold-batchnorm`), so
that its layers correspond. Lossy passes (`prune`, `depthwise`) don't run again, because they would
change the new weights. If they changed the network's shape, the new model must have gone through
them before (`xbarc opt`).
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, TensorType
from xdsl.rewriter import Rewriter

from xbarc import cost
from xbarc.artifact import LOWERED, CompiledProgram
from xbarc.cost.skipped import driven_rows
from xbarc.driver import extensions
from xbarc.driver.origin import describe_model, plugin_words
from xbarc.driver.refit import QUANTIZATION, fit_to_circuit
from xbarc.driver.stages import (
    Imported,
    calibrate_model,
    digital_files,
    float_network,
    import_model,
    lower_model,
)
from xbarc.frontends.onnx.inputs import UnknownInputError
from xbarc.frontends.source import Inputs
from xbarc.graph.serialize import parse, to_proto
from xbarc.hw.quantization import SignedCodes
from xbarc.ir import parse_module, print_module
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import (
    ConvOp,
    ConvTransposeOp,
    DequantizeOp,
    DigitalOp,
    LayerOp,
    MvmOp,
    QuantizeOp,
    WeightsOp,
    element_of,
    shape_of,
    weights_of,
)
from xbarc.ir.interface import main_function, names_in
from xbarc.lowering.lower import Lowered
from xbarc.pipeline import GraphPass, load_registry, parse_passes
from xbarc.support.data import Array, Feeds
from xbarc.support.errors import UsageError, XbarcError, nearest

PLAIN = {"rounding": "nearest", "bias_correction": False}
"""What the report says of weights that weren't fitted."""

SAMPLES = 1
"""Generated inputs that the new model is run on, for its shapes: its ranges aren't asked for."""


MALFORMED = (AssertionError, LookupError, TypeError, ValueError)
"""What reading a stored graph ends in where its fields contradict each other."""


def update_weights(
    program: CompiledProgram,
    model: str | Path | onnx.ModelProto | ir.Model,
    calibration: "str | Path | Array | Feeds | None" = None,
    *,
    plugins: Sequence[str | Path] = (),
) -> CompiledProgram:
    """The program with the weights of `model`, another state of the network it was compiled from.

    `program` stays as it is. The report has the new costs, and power before and after. If it was
    fitted to calibration data, the new weights are fitted to `calibration` in the same way, or
    rounded to the nearest codes without it. `plugins` are the Python files of the passes that it
    was compiled with.

    Raises:
        UsageError: a pass that the program was compiled with isn't known.
        XbarcError: `model` isn't the same network, or has weights where the program has no tile.
    """
    with extensions.using(plugins):
        passes = _graph_passes(program)
        again = [p for p in passes if p.keeps_function]
        try:
            imported = import_model(model, calibration, inputs=_inputs(program), samples=SAMPLES)
            updated = reprogrammed(program, imported, again)
        except UnknownInputError as error:
            # The inputs are the program's: nobody typed them.
            raise _differs(error.causes[0]) from None
        except XbarcError as error:
            *others, last = error.causes
            hint = _hint([p for p in passes if p not in again])
            raise XbarcError(*others, f"{last}{hint}") from None
        uncounted = program.report["coverage"].get("uncounted", ())
        costs = cost.report(updated, program, driven_rows(program.report), uncounted)
    described = describe_model(model)
    words = plugin_words(plugins)
    if isinstance(calibration, str | Path):
        words += ["--calibration", Path(calibration).name]
    updated.origin = {**program.origin, "weights": {**described, "options": words}}
    updated.report = {
        **program.report,
        "weights": described["name"],
        **costs,
        # They were of the passes that the model went through before.
        "deviation": {},
        "pass_figures": {},
        "quantization": _quantization(program, fitted=calibration is not None),
    }
    return updated


def _quantization(program: CompiledProgram, *, fitted: bool) -> dict[str, Any]:
    """What the report says of the new codes; how the old layers stood isn't said of new ones."""
    how = program.origin.get(QUANTIZATION, {"ranges": "min-max", **PLAIN})
    said = {key: how[key] for key in ("ranges", *PLAIN)}
    return said if fitted else {**said, **PLAIN}


def reprogrammed(
    program: CompiledProgram, imported: Imported, passes: Sequence[GraphPass]
) -> CompiledProgram:
    """The tiles of `program` with the weights of a model after `passes`.

    Report and origin are still those of `program`. Raises `XbarcError` as `update_weights`.
    """
    was, target = parse_module("\n".join(_recorded(program, LOWERED))), program.target
    calibrated = calibrate_model(imported, passes, target, kept=program.weights)
    feeds = imported.feeds if imported.is_given else None
    fitted = fit_to_circuit(program, was, calibrated, feeds)
    lowered = lower_model(calibrated, target, _kinds(was), fitted)
    _check_same(program, was, lowered)
    weights = {**program.weights, **lowered.weights}
    module, digital = program.module.clone(), digital_files(lowered)
    network = float_network(calibrated, lowered)
    result = replace(program, module=module, weights=weights, digital=digital, network=network)
    for op in module.walk():
        if isinstance(op, MvmOp):
            _check_tiles(op, weights)
    return result


def _kinds(was: ModuleOp) -> dict[str, SignedCodes]:
    """What became of negative inputs, by layer: that of the circuit stays, as its scales do."""
    layers = [op for op in was.walk() if isinstance(op, LayerOp)]
    signs = {weights_of(op).symbol: element_of(op.input).signedness.data.name for op in layers}
    return {n: "two-pass" if sign == "SIGNED" else "asymmetric" for n, sign in signs.items()}


def _check_same(program: CompiledProgram, was: ModuleOp, lowered: Lowered) -> None:
    """Hold a lowered model to the one that `program` was mapped from: all but the numbers agree."""
    now = lowered.module
    _same_layers(_stored(was), _stored(now))
    _take_scales(was, now)
    for old, new in zip(_lines(was), _lines(now), strict=False):
        if old != new:
            raise _differs(f"the program has {old!r}, the model {new!r}")
    if len(_lines(was)) != len(_lines(now)):
        raise _differs("the program and the model have more and fewer operations")
    sums = _sums(now)
    for path, model in lowered.digital.items():
        old = parse(program.digital[path], path)
        try:
            parts = _normal(old.graph, sums[path])
        except MALFORMED as error:
            raise XbarcError(f"{path} in the program is damaged: {error}") from None
        if reason := _difference(parts, _normal(to_proto(model).graph, sums[path])):
            raise _differs(f"{path}: {reason}; only weights on crossbars can be written anew")


def _differs(what: str) -> XbarcError:
    return XbarcError(f"not the network that the program was compiled from: {what}")


def _stored(module: ModuleOp) -> dict[str, WeightsOp]:
    return {op.symbol: op for op in module.walk() if isinstance(op, WeightsOp)}


def _same_layers(was: dict[str, WeightsOp], now: dict[str, WeightsOp]) -> None:
    for name in was:
        if name not in now:
            raise _differs(f"the model has no layer {name!r}: {nearest(name, now)}")
    for name in now:
        if name not in was:
            raise _differs(f"the program has no layer {name!r}: {nearest(name, was)}")
        old, new = (_described(layers[name]) for layers in (was, now))
        if old != new:
            raise _differs(f"layer {name!r} is {old} in the program, {new} in the model")


def _described(weights: WeightsOp) -> str:
    (rows, cols), bias = weights.stored_shape, weights.bias.value.data
    groups = f" in {weights.group_count} groups" if weights.group_count > 1 else ""
    return f"{rows} x {cols} of {weights.weight_bits} bits{groups}{' with a bias' if bias else ''}"


def _take_scales(was: ModuleOp, now: ModuleOp) -> None:
    """Give `now` the input scales and zero points of `was`, whatever is calibrated."""
    old, new = (
        # Codes that the model made keep their own scale.
        [op for op in module.walk() if isinstance(op, QuantizeOp) and not op.recodes]
        for module in (was, now)
    )
    for mine, other in zip(old, new, strict=False):
        other.scale, other.zero_point = mine.scale, mine.zero_point
        Rewriter.replace_value_with_new_type(other.result, mine.result.type)
        for use in list(other.result.uses):
            if isinstance(use.operation, LayerOp):
                _take_scale(mine, mine.zero_point, use.operation)
            elif isinstance(shift := use.operation, QuantizeOp):  # codes that lose their sign
                for inner in shift.result.uses:
                    if isinstance(inner.operation, LayerOp):
                        _take_scale(mine, shift.zero_point, inner.operation)


def _take_scale(mine: QuantizeOp, zero_point: IntegerAttr[Any], layer: LayerOp) -> None:
    """Give a layer, and what makes real numbers of its sums, the scale and the zero point."""
    if isinstance(layer, ConvOp):
        layer.fill = zero_point
    for use in layer.result.uses:
        if isinstance(reader := use.operation, DequantizeOp):
            reader.scale, reader.zero_point = mine.scale, zero_point
            shifted = zero_point.value.data != 0
            reader.window = layer.window if shifted and isinstance(layer, ConvTransposeOp) else None


def _lines(module: ModuleOp) -> list[str]:
    return [line.strip() for line in print_module(module).splitlines()]


def _sums(module: ModuleOp) -> dict[str, dict[int, int]]:
    """Inputs of each digital part that are a layer's result, and read by nothing else: columns."""
    return {
        op.file.data: {
            i: weights_of(value.owner).stored_shape[1]
            for i, value in enumerate(op.inputs)
            if isinstance(value.owner, DequantizeOp) and value.has_one_use()
        }
        for op in module.walk()
        if isinstance(op, DigitalOp)
    }


def _biases(graph: onnx.GraphProto, sums: Mapping[int, int]) -> set[str]:
    """Constants that are a layer's bias: one a column, added to all that is read of its result.

    A factor may stand between, as a squeeze-and-excitation block's that was moved behind the layer.
    """
    columns = {graph.input[i].name: count for i, count in sums.items()}
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    for node in graph.node:
        scaled = [name for name in node.input if name in columns and read[name] == 1]
        if node.op_type == "Mul" and scaled:
            columns[node.output[0]] = columns[scaled[0]]
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    pairs = [
        pair
        for node in graph.node
        if node.op_type == "Add"
        for pair in (tuple(node.input), tuple(reversed(node.input)))
    ]
    return {
        bias
        for total, bias in pairs
        if read[total] == read[bias] == 1 and 0 < columns.get(total, 0) == sizes.get(bias)
    }


Parts = list[tuple[str, bytes]]
"""(What to call it, content) of the constants and nodes of a graph, in order."""


def _difference(was: Parts, now: Parts) -> str | None:
    """What differs between two digital parts but for names and biases; None where nothing does."""
    for (name, before), (_, after) in zip(was, now, strict=False):
        if before != after:
            return f"{name} differs"
    return None if len(was) == len(now) else "it has more or fewer nodes"


def _normal(graph: onnx.GraphProto, sums: Mapping[int, int]) -> Parts:
    """All constants and nodes but for names and biases; values are numbered as they come."""
    biases = _biases(graph, sums)
    numbers: dict[str, str] = {"": ""}
    parts: Parts = []
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def number(name: str) -> str:
        if name not in numbers:
            numbers[name] = str(len(numbers))
            if name in constants:
                array = onnx.numpy_helper.to_array(constants[name])
                content = json.dumps([str(array.dtype), array.shape]).encode()
                if name not in biases:
                    content += array.tobytes()
                parts.append((f"the constant {name!r}", content))
        return numbers[name]

    for value in graph.input:
        number(value.name)
    for node in graph.node:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.ClearField("name")
        plain.ClearField("doc_string")
        plain.ClearField("metadata_props")
        for names in (plain.input, plain.output):
            names[:] = [number(name) for name in names]
        ordered = sorted(plain.attribute, key=lambda a: a.name)
        del plain.attribute[:]
        plain.attribute.extend(ordered)
        parts.append((f"{node.op_type} {node.name!r}", plain.SerializeToString(deterministic=True)))
    outputs = [number(value.name) for value in graph.output]
    return [*parts, ("the list of outputs", json.dumps(outputs).encode())]


def _check_tiles(op: MvmOp, weights: Mapping[str, Array]) -> None:
    """Weights that the program has no tile for must be zero in the new model too."""
    if op.sparse is None and op.rows is None and op.columns is None:
        return
    symbol = weights_of(op).symbol
    if reason := coverage_of(op, weights).fault(weights[symbol]):
        raise XbarcError(
            f"layer {symbol!r}: {reason}, for it was zero when the program was compiled: compile "
            "the new model"
        )


def _graph_passes(program: CompiledProgram) -> tuple[GraphPass, ...]:
    text = ",".join(_recorded(program, "passes"))
    try:
        return parse_passes(text, load_registry()).graph
    except UsageError as error:
        raise UsageError(f"the program was compiled with other passes: {error}") from None


def _recorded(program: CompiledProgram, key: str) -> list[str]:
    """A list of texts in the program's manifest."""
    found = program.origin.get(key)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise XbarcError(f"the program doesn't say its {key!r}: compile it again")
    return found


def _inputs(program: CompiledProgram) -> Inputs:
    """The shapes and batch axes that the program was compiled with."""
    function = main_function(program.module)
    names = names_in(function.arg_attrs)
    arguments = zip(names, function.body.block.args, strict=True)
    shapes = {n: list(shape_of(a)) for n, a in arguments if isinstance(a.type, TensorType)}
    axes = {n: shape.index(-1) if -1 in shape else None for n, shape in shapes.items()}
    return Inputs(shapes, axes)


def _hint(lossy: Sequence[GraphPass]) -> str:
    if not lossy:
        return ""
    names = ", ".join(str(p) for p in lossy)
    return f" (the program was compiled with {names}: give a model that has been through the same)"
