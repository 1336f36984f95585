"""Fitting new weights for a circuit that is there: its codes and ranges stay."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from xdsl.dialects.builtin import ModuleOp, TensorType

from xbarc.artifact import CompiledProgram
from xbarc.driver.stages import Calibrated
from xbarc.hw.quantization import InputScale
from xbarc.ir.dialect import DequantizeOp, LayerOp, weights_of
from xbarc.lowering.fit.layers import Fitting, fit_layers
from xbarc.lowering.layer import Fitted, Layer, integer_weights
from xbarc.lowering.lower import codes_of
from xbarc.support.data import Feeds

QUANTIZATION = "quantization"
"""Where a program's origin says how it was compiled: `update-weights` goes by it."""

BIASED = "biased"
"""In there, the layers to which fitting gave a bias."""


def is_fitted(program: CompiledProgram) -> bool:
    """Whether the program's weights or biases were fitted to calibration data."""
    how = program.origin.get(QUANTIZATION, {})
    return how.get("rounding") == "output" or bool(how.get("bias_correction"))


def fit_to_circuit(
    program: CompiledProgram, was: ModuleOp, calibrated: Calibrated, feeds: Feeds | None
) -> dict[ir.Node, Fitted]:
    """The layers of new weights, fitted as those of `program`; without `feeds` as they are.

    `was` is the program as it was lowered. A layer to which fitting gave a bias has one here too.
    """
    target = program.target
    if feeds is not None and is_fitted(program):
        how = program.origin[QUANTIZATION]
        codes, shown = dict(_codes(was)), calibrated.shown

        def of_circuit(layer: Layer) -> InputScale:
            return codes.get(layer.name) or codes_of(layer, shown, target)

        fitting = Fitting(how["rounding"], how["bias_correction"])
        model, planned = calibrated.model, calibrated.planned
        return fit_layers(model, planned, shown, feeds, target, of_circuit, fitting).layers
    biased = program.origin.get(QUANTIZATION, {}).get(BIASED, [])
    return {
        node: Fitted(
            integer_weights(layer, target),
            np.zeros(layer.matrix[1], np.float32),
        )
        for node, layer in calibrated.planned.layers.items()
        if layer.bias is None and layer.name in biased
    }


def _codes(was: ModuleOp) -> Iterator[tuple[str, InputScale]]:
    """The input codes of each layer, by its symbol."""
    for op in was.walk():
        layer = op.input.owner if isinstance(op, DequantizeOp) else None
        if not isinstance(op, DequantizeOp) or not isinstance(layer, LayerOp):
            continue
        kind = layer.operands[0].type
        assert isinstance(kind, TensorType)
        width, sign = kind.element_type.width.data, kind.element_type.signedness.data.name
        scale = InputScale(op.scale.value.data, width, sign == "SIGNED", op.zero_point.value.data)
        yield weights_of(layer).symbol, scale
