"""ONNX graph to tile IR: crossbar layers as `xbar` operations, the rest as digital subgraphs."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from xdsl.dialects.builtin import IntegerType, ModuleOp, UnitAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.utils.exceptions import VerifyException

from xbarc.graph.analysis.squeeze_excitation import find_blocks
from xbarc.graph.calibration import Calibration
from xbarc.graph.query import attribute
from xbarc.graph.weights import weight_shape
from xbarc.graph.windows import resolved_pads, result_pads
from xbarc.hw.quantization import InputScale, input_scale
from xbarc.hw.target import Target
from xbarc.ir.dialect import (
    CROSSBAR,
    ConvOp,
    ConvTransposeOp,
    CrossbarAttr,
    DenseOp,
    DequantizeOp,
    DigitalOp,
    DigitalType,
    LayerOp,
    QuantizeOp,
    SqueezeExcitationOp,
    WeightsOp,
    WindowAttr,
    code_type,
    tensor,
)
from xbarc.ir.interface import COUPLED, name_attributes
from xbarc.lowering.layers import Layer, integer_weights
from xbarc.lowering.plan import Plan, _element, _inlets, _outlets, _Part, _parts
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


@dataclass
class Lowered:
    """A program before mapping: the module, its arrays by name, its digital files by path."""

    module: ModuleOp
    weights: dict[str, Array] = field(default_factory=dict)
    digital: dict[str, ir.Model] = field(default_factory=dict)


def lower(model: ir.Model, planned: Plan, calibration: Calibration, target: Target) -> Lowered:
    """The program of `model`, layers not mapped yet.

    Raises `XbarcError`, one line a layer, where a layer can't stand on the target's crossbars or
    its activations aren't finite.
    """
    return _Lowering(model, planned, calibration, target).run()


class _Lowering:
    """The state of one lowering: SSA values by ONNX value, and what goes into the files."""

    def __init__(self, model: ir.Model, planned: Plan, calibration: Calibration, target: Target):
        self.model, self.planned, self.calibration = model, planned, calibration
        self.target = target
        self.result = Lowered(ModuleOp([], attributes={CROSSBAR: CrossbarAttr.of(target.array)}))
        self.block = Block()
        self.values: dict[ir.Value, SSAValue] = {}
        self.quantized: dict[tuple[ir.Value, float], SSAValue] = {}
        self.symbols: dict[ir.Node, str] = {}
        self.faults: list[str] = []

    def run(self) -> Lowered:
        graph, module = self.model.graph, self.result.module
        self.block = block = Block(arg_types=[self.type_of(v) for v in graph.inputs])
        for value, argument in zip(graph.inputs, block.args, strict=True):
            self.values[value] = argument
        for part in _parts(self.planned):
            if part.nodes[0] in self.planned.layers:
                self.add_layer(self.planned.layers[part.nodes[0]])
            else:
                self.add_digital(part)
        if self.faults:
            raise XbarcError("\n".join(self.faults))
        self.add_blocks()
        block.add_op(ReturnOp(*[self.values[v] for v in graph.outputs]))
        function = FuncOp(
            "main",
            ([a.type for a in block.args], [self.values[v].type for v in graph.outputs]),
            Region(block),
            arg_attrs=name_attributes(v.name or "" for v in graph.inputs),
            res_attrs=name_attributes(v.name or "" for v in graph.outputs),
        )
        if self.calibration.coupled:
            function.attributes[COUPLED] = UnitAttr()
        module.body.block.add_op(function)
        try:
            module.verify()
        except VerifyException as error:
            raise XbarcError(
                f"the model can't be written as tile IR: {' '.join(str(error).split())}"
            ) from error
        return self.result

    def add_blocks(self) -> None:
        """Write down which layers are squeeze-and-excitation blocks."""
        for found in find_blocks(self.model.graph):
            if found.first not in self.symbols or found.second not in self.symbols:
                continue
            names = {
                "pool": found.pool.name or "",
                "activation": ", ".join(found.activation),
                "gate": ", ".join(found.gate),
                "scale": found.scale.name or "",
                "behind": "" if found.folded is None else found.folded.name or "",
            }
            layers = [self.symbols[found.first], self.symbols[found.second]]
            self.result.module.body.block.add_op(SqueezeExcitationOp(layers, **names))

    def type_of(self, value: ir.Value) -> Attribute:
        """A tensor type with the shape that was measured; opaque where it is no plain tensor."""
        shape = self.calibration.shapes.get(value.name or "")
        element = _element(value)
        return DigitalType() if shape is None or element is None else tensor(shape, element)

    def add_digital(self, part: _Part) -> None:
        inlets = _inlets(part, self.planned)
        outlets = _outlets(part, self.model, self.planned)
        graph = ir.convenience.extract(self.model.graph, inlets, outlets)
        path = f"digital/{len(self.result.digital)}.onnx"
        graph.name = path
        self.result.digital[path] = ir.Model(graph, ir_version=self.model.ir_version)
        op = DigitalOp(path, [self.values[v] for v in inlets], [self.type_of(v) for v in outlets])
        self.block.add_op(op)
        self.values.update(zip(outlets, op.outputs, strict=True))

    def add_layer(self, layer: Layer) -> None:
        try:
            self._add_layer(layer)
        except XbarcError as error:
            self.faults.append(f"{layer.node.op_type} {layer.name!r}: {error}")
            # The layers after it are looked at all the same, so that one run names all faults.
            missing = DigitalOp("digital/missing.onnx", [], [self.type_of(layer.output)])
            self.block.add_op(missing)
            self.values[layer.output] = missing.outputs[0]

    def _add_layer(self, layer: Layer) -> None:
        scale = layer.codes or self._scale_of(layer)
        integers = integer_weights(layer, self.target.weights.bits)
        array = self.target.array
        if array.weights_per_row(integers.bits) < 1:
            raise XbarcError(
                f"a weight of {integers.bits} bits takes "
                f"{array.columns_per_weight(integers.bits)} columns, a crossbar has {array.cols}"
            )
        rows, cols = layer.matrix
        symbol = self._symbol(layer.name)
        self.symbols[layer.node] = symbol
        weights = WeightsOp(
            symbol,
            rows,
            cols,
            integers.bits,
            groups=layer.groups,
            bias=layer.bias is not None,
            onnx_op=layer.node.op_type,
        )
        self.result.module.body.block.add_op(weights)
        self.result.weights[symbol] = integers.q
        self.result.weights[f"{symbol}.scale"] = integers.scale
        if layer.bias is not None:
            self.result.weights[f"{symbol}.bias"] = layer.bias
        codes = self._codes_of(layer, scale)
        bits = accumulator_bits(scale, integers.bits, rows)
        element = code_type(bits, signed=True)
        # What the batch axis holds for a batch of one: more than 1 behind some reshapes.
        items = self.calibration.first[layer.output.name or ""][0] if self._batched(layer) else 1
        if layer.node.op_type == "Conv":
            window = self._window_of(layer)
            product: LayerOp = ConvOp(
                codes, weights, window, element, fill=scale.zero_point, items=items
            )
            axis = 1
        elif layer.node.op_type == "ConvTranspose":
            product = self._conv_transpose(layer, codes, weights, element, items)
            axis = 1
        else:
            axis = len(self._shape(layer.output)) - 1
            source = len(self._shape(layer.source)) - 1
            if layer.node.op_type == "MatMul" and layer.static_side == 0:
                # W x: vectors are columns; a one-dimensional x is a single one.
                source, axis = max(source - 1, 0), max(axis - 1, 0)
            elif layer.node.op_type == "Gemm" and attribute(layer.node, "transA", 0):
                source -= 1
            product = DenseOp(codes, weights, source, axis, element, items=items)
        real = DequantizeOp(product.result, symbol, scale.scale, axis, scale.zero_point)
        self.block.add_ops([product, real])
        self.values[layer.output] = real.result

    def _shape(self, value: ir.Value) -> tuple[int, ...]:
        shape = self.calibration.shapes.get(value.name or "")
        if shape is None:
            raise XbarcError(f"the rank of {value.name!r} depends on the data")
        return shape

    def _symbol(self, name: str) -> str:
        """The node's name, unless another layer's arrays are already called so."""
        taken = self.result.weights
        while any(n in taken for n in (name, f"{name}.scale", f"{name}.bias")):
            name += "_"
        return name

    def _batched(self, layer: Layer) -> bool:
        return self._shape(layer.output)[:1] == (-1,)

    def _scale_of(self, layer: Layer) -> InputScale:
        low, high = self.calibration.ranges[layer.source.name or ""]
        return input_scale(low, high, self.target.inputs.bits)

    def _codes_of(self, layer: Layer, scale: InputScale) -> SSAValue:
        source = self.values[layer.source]
        if layer.codes is not None:
            return source
        key = (layer.source, scale.scale)
        if key not in self.quantized:
            element = code_type(scale.bits, scale.signed)
            op = QuantizeOp(source, scale.scale, element)
            self.block.add_op(op)
            self.quantized[key] = op.result
        return self.quantized[key]

    def _conv_transpose(
        self, layer: Layer, codes: SSAValue, weights: WeightsOp, element: IntegerType, items: int
    ) -> ConvTransposeOp:
        kernel = list(weight_shape(layer.weights)[2:])
        spatial, result = self._shape(layer.source)[2:], self._shape(layer.output)[2:]
        if min((*spatial, *result)) < 0:
            raise XbarcError("its input's height or width varies with the batch")
        strides, pads, dilations = result_pads(layer.node, spatial, kernel, result)
        window = WindowAttr.of(kernel, strides, pads, dilations)
        return ConvTransposeOp(codes, weights, window, result, element, items=items)

    def _window_of(self, layer: Layer) -> WindowAttr:
        kernel = list(weight_shape(layer.weights)[2:])
        spatial = self._shape(layer.source)[2:]
        if any(s < 0 for s in spatial):
            raise XbarcError("its input's height or width varies with the batch")
        strides, pads, dilations = resolved_pads(layer.node, spatial, kernel)
        return WindowAttr.of(kernel, strides, pads, dilations)


def accumulator_bits(scale: InputScale, weight_bits: int, rows: int) -> int:
    """32 where a whole column sum fits a signed 32-bit register, else 64."""
    bits = scale.bits + weight_bits - 1 + int(np.ceil(np.log2(max(rows, 2))))
    return 32 if bits <= 31 else 64
