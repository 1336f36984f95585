"""ONNX graph to tile IR: crossbar layers as `xbar` operations, the rest as digital subgraphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.utils.exceptions import VerifyException

from xbarc.graph.analysis.squeeze_excitation import find_blocks
from xbarc.graph.calibration import Calibration
from xbarc.graph.serialize import without_notes
from xbarc.hw.quantization import InputScale, SignedCodes, input_scale, without_sign
from xbarc.hw.target import Target
from xbarc.ir.dialect import (
    CROSSBAR,
    ConvTransposeOp,
    CrossbarAttr,
    DequantizeOp,
    DigitalOp,
    DigitalType,
    QuantizeOp,
    SqueezeExcitationOp,
    WeightsOp,
    code_type,
    tensor,
)
from xbarc.ir.interface import COUPLED, name_attributes
from xbarc.lowering.kind import Operands
from xbarc.lowering.layer import Fitted, Layer, integer_weights
from xbarc.lowering.plan import Plan, Step, element
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


@dataclass
class Lowered:
    """A program before mapping: the module, its arrays by name, its digital files by path.

    `values`: by layer, the names of the values that it reads and computes in the model.
    """

    module: ModuleOp
    weights: dict[str, Array] = field(default_factory=dict)
    digital: dict[str, ir.Model] = field(default_factory=dict)
    values: dict[str, tuple[str, str]] = field(default_factory=dict)


def lower(
    model: ir.Model,
    planned: Plan,
    calibration: Calibration,
    target: Target,
    kinds: Mapping[str, SignedCodes] = MappingProxyType({}),
    fitted: Mapping[ir.Node, Fitted] = MappingProxyType({}),
) -> Lowered:
    """The program of `model`, layers not mapped yet.

    `kinds`: by layer, what becomes of negative inputs where `inputs.signed` leaves it open:
    asymmetric codes without it. Layers that `fitted` holds have its integers and bias, others their
    weights rounded. Raises `XbarcError`, one line a layer, where a layer can't stand on the
    target's crossbars or its activations aren't finite.
    """
    program = Lowered(ModuleOp([], attributes={CROSSBAR: CrossbarAttr.of(target.array)}))
    body = _Body(model, calibration, target, kinds, fitted, program)
    faults = []
    for step in planned.steps:
        layer = planned.layers.get(step.nodes[0])
        if layer is None:
            body.add_digital(step)
            continue
        try:
            body.add_layer(layer)
        except XbarcError as error:
            faults.append(f"{layer.node.op_type} {layer.name!r}: {error}")
            # The layers after it are looked at all the same, so that one run names all faults.
            body.add_missing(layer)
    if faults:
        raise XbarcError(*faults)
    top = program.module.body.block
    top.add_ops(_squeeze_excitations(model, body.symbols))
    top.add_op(body.finish())
    try:
        program.module.verify()
    except VerifyException as error:
        raise XbarcError(
            f"the model can't be written as tile IR: {' '.join(str(error).split())}"
        ) from error
    return program


def _squeeze_excitations(
    model: ir.Model, symbols: Mapping[ir.Node, str]
) -> list[SqueezeExcitationOp]:
    """Which layers are squeeze-and-excitation blocks."""
    ops = []
    for found in find_blocks(model.graph):
        if found.first not in symbols or found.second not in symbols:
            continue
        names = {
            "pool": found.pool.name or "",
            "activation": ", ".join(found.activation),
            "gate": ", ".join(found.gate),
            "scale": found.scale.name or "",
            "behind": "" if found.folded is None else found.folded.name or "",
        }
        ops.append(SqueezeExcitationOp([symbols[found.first], symbols[found.second]], **names))
    return ops


class _Body:
    """The program's function while it grows: its SSA values by ONNX value.

    What else a step brings, weights and digital files, goes into `program`.
    """

    def __init__(
        self,
        model: ir.Model,
        calibration: Calibration,
        target: Target,
        kinds: Mapping[str, SignedCodes],
        fitted: Mapping[ir.Node, Fitted],
        program: Lowered,
    ) -> None:
        self.model, self.calibration, self.target = model, calibration, target
        self.kinds, self.fitted, self.program = kinds, fitted, program
        self.symbols: dict[ir.Node, str] = {}
        inputs = model.graph.inputs
        self.block = Block(arg_types=[self._type_of(v) for v in inputs])
        self.values: dict[ir.Value, SSAValue] = dict(zip(inputs, self.block.args, strict=True))
        self.quantized: dict[tuple[SSAValue, InputScale], SSAValue] = {}

    def add_digital(self, step: Step) -> None:
        """A digital subgraph: an operation, and its ONNX file."""
        path = f"digital/{len(self.program.digital)}.onnx"
        graph = self.model.graph
        part = ir.GraphView(
            step.inlets,
            step.outlets,
            nodes=step.nodes,
            initializers=step.constants,
            opset_imports=graph.opset_imports,
            name=path,
        )
        whole = ir.Model(part.clone(), ir_version=self.model.ir_version)
        self.program.digital[path] = without_notes(whole)
        types = [self._type_of(v) for v in step.outlets]
        op = DigitalOp(path, [self.values[v] for v in step.inlets], types)
        self.block.add_op(op)
        self.values.update(zip(step.outlets, op.outputs, strict=True))

    def add_layer(self, layer: Layer) -> None:
        """A layer: its codes, its product, and real numbers again.

        Raises `XbarcError` where it can't stand on the target's crossbars.
        """
        scale = self._scale_of(layer)
        fitted = self.fitted.get(layer.node) or Fitted(
            integer_weights(layer, self.target), layer.bias
        )
        integers = fitted.weights
        self._check_width(integers.bits)
        weights = self._add_weights(layer, fitted)
        codes = self._codes_of(layer, scale)
        bits = accumulator_bits(scale, integers.bits, layer.matrix[0])
        result = self._shape(layer.output)
        # What the batch axis holds for a batch of one: more than 1 behind some reshapes.
        first = self.calibration.first[layer.output.name or ""]
        items = first[result.index(-1)] if -1 in result else 1
        operands = Operands(
            codes,
            weights,
            code_type(bits, signed=True),
            items,
            scale.zero_point,
            self._shape(layer.source),
            result,
        )
        product, axis = layer.kind.operation(layer.product, operands)
        window = None
        if scale.zero_point and isinstance(product, ConvTransposeOp):
            window = product.window  # an output doesn't see all of its column
        real = DequantizeOp(
            product.result, weights.symbol, scale.scale, axis, scale.zero_point, window
        )
        self.block.add_ops([product, real])
        self.values[layer.output] = real.result
        ends = layer.source.name or "", layer.output.name or ""
        self.program.values[weights.symbol] = ends

    def add_missing(self, layer: Layer) -> None:
        """A stand-in for a layer that can't be."""
        op = DigitalOp("digital/missing.onnx", [], [self._type_of(layer.output)])
        self.block.add_op(op)
        self.values[layer.output] = op.outputs[0]

    def finish(self) -> FuncOp:
        """The whole function."""
        graph = self.model.graph
        results = [self.values[v] for v in graph.outputs]
        self.block.add_op(ReturnOp(*results))
        function = FuncOp(
            "main",
            ([a.type for a in self.block.args], [r.type for r in results]),
            Region(self.block),
            arg_attrs=name_attributes(v.name or "" for v in graph.inputs),
            res_attrs=name_attributes(v.name or "" for v in graph.outputs),
        )
        if self.calibration.coupled:
            function.attributes[COUPLED] = UnitAttr()
        return function

    def _check_width(self, bits: int) -> None:
        array = self.target.array
        if array.weights_per_row(bits) < 1:
            raise XbarcError(
                f"a weight of {bits} bits takes {array.columns_per_weight(bits)} columns, "
                f"a crossbar has {array.cols}"
            )

    def _add_weights(self, layer: Layer, fitted: Fitted) -> WeightsOp:
        integers, bias = fitted.weights, fitted.bias
        symbol = self._symbol(layer.name)
        self.symbols[layer.node] = symbol
        weights = WeightsOp(
            symbol,
            *layer.matrix,
            integers.bits,
            groups=layer.groups,
            bias=bias is not None,
            onnx_op=layer.node.op_type,
        )
        self.program.module.body.block.add_op(weights)
        self.program.weights[symbol] = integers.q
        self.program.weights[f"{symbol}.scale"] = integers.scale
        if bias is not None:
            self.program.weights[f"{symbol}.bias"] = bias
        return weights

    def _symbol(self, name: str) -> str:
        """The node's name, unless another layer's arrays are already called so."""
        taken = self.program.weights
        while any(n in taken for n in (name, f"{name}.scale", f"{name}.bias")):
            name += "_"
        return name

    def _type_of(self, value: ir.Value) -> Attribute:
        """A tensor type with the shape that was measured; opaque where it is no plain tensor."""
        shape, kind = self.calibration.shapes.get(value.name or ""), element(value)
        return DigitalType() if shape is None or kind is None else tensor(shape, kind)

    def _shape(self, value: ir.Value) -> tuple[int, ...]:
        shape = self.calibration.shapes.get(value.name or "")
        if shape is None:
            raise XbarcError(f"the rank of {value.name!r} depends on the data")
        return shape

    def _scale_of(self, layer: Layer) -> InputScale:
        return codes_of(layer, self.calibration, self.target, self.kinds.get(layer.name))

    def _codes_of(self, layer: Layer, scale: InputScale) -> SSAValue:
        source = self.values[layer.source]
        if layer.codes is None:
            return self._quantized(source, scale)
        codes = self._quantized(source, layer.codes) if layer.to_code else source
        if layer.codes == scale:
            return codes
        # The model's own codes only lose their sign.
        shift = scale.zero_point - layer.codes.zero_point
        return self._quantized(codes, InputScale(1.0, scale.bits, False, shift))

    def _quantized(self, value: SSAValue, scale: InputScale) -> SSAValue:
        if (value, scale) not in self.quantized:
            code = code_type(scale.bits, scale.signed)
            op = QuantizeOp(value, scale.scale, code, scale.zero_point)
            self.block.add_op(op)
            self.quantized[value, scale] = op.result
        return self.quantized[value, scale]


def codes_of(
    layer: Layer, calibration: Calibration, target: Target, kind: SignedCodes | None = None
) -> InputScale:
    """The codes that drive the rows of a layer (numerics: Quantisation).

    `kind` is what becomes of negative inputs where `inputs.signed` leaves it open. Raises
    `XbarcError` where activations aren't finite.
    """
    said = target.inputs.signed
    chosen = (kind or "asymmetric") if said == "auto" else said
    asymmetric = chosen == "asymmetric" and layer.kind.takes_zero_point
    if layer.codes is not None:
        return without_sign(layer.codes) if asymmetric and layer.codes.signed else layer.codes
    low, high = calibration.ranges[layer.source.name or ""]
    bits = target.for_layer(layer.name).inputs.bits
    return input_scale(low, high, bits, asymmetric=asymmetric)


def accumulator_bits(scale: InputScale, weight_bits: int, rows: int) -> int:
    """32 where a whole column sum fits a signed 32-bit register, else 64."""
    bits = scale.bits + weight_bits - 1 + int(np.ceil(np.log2(max(rows, 2))))
    return 32 if bits <= 31 else 64
