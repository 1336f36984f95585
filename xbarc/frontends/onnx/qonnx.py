"""QONNX (FINN, hls4ml, Brevitas): Quant, BipolarQuant and Trunc in ONNX's own operators.

The operators are those of `qonnx.custom_op.general`, versions 1 and 2 (QONNX's documents name
them), and of the domains that they had before. Weights become integers behind a DequantizeLinear,
activations pass QuantizeLinear, a Clip to their width, and DequantizeLinear; the width is kept
(`xbarc.graph.codes`). What has no such codes (a fractional zero point, more than 8 bits, a scale
that moves) is worked out in real numbers.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from xbarc.frontends.onnx.quantiser import ROUNDINGS, Quantiser
from xbarc.frontends.onnx.rewrite import Rewrite
from xbarc.graph.codes import WIDTH
from xbarc.graph.query import attribute, constant, describe, input_at, is_op, value_names
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")

ACTIVATION_BITS, WEIGHT_BITS = 8, 16
"""Widths that QuantizeLinear gives, and that crossbars take as a model's own."""

MAGNITUDES = {
    "UP": (0.0, "Ceil"),
    "DOWN": (0.0, "Floor"),
    "HALF_UP": (0.5, "Floor"),
    "HALF_DOWN": (-0.5, "Ceil"),
}
"""Rounding by magnitude: what is added first, and the operator; the sign is put back."""


def from_qonnx(model: ir.Model) -> bool:
    """Rewrite every Quant, BipolarQuant and Trunc.

        %y = Quant<signed = 1, narrow = 1>(%w, scale, 0, 4)         # %w static
    ->
        %y = DequantizeLinear(codes, scale, 0)                      # int8, of 4 bits

        %y = Quant<signed = 0>(%x, scale, 0, 4)
    ->
        %y = DequantizeLinear(Clip(QuantizeLinear(%x, scale, 0), 0, 15), scale, 0)    # of 4 bits

    Raises:
        XbarcError: a width or a mode isn't one that QONNX has; one line a node.
    """
    taken = value_names(model)
    problems, modified = [], False
    for node in tuple(model.graph):
        if node.domain not in DOMAINS or node.op_type not in RULES:
            continue
        rewrite = Rewrite(model.graph, node, taken)
        try:
            RULES[node.op_type](rewrite)
        except XbarcError as error:
            problems.append(f"{describe(node)}: {error}")
            continue
        rewrite.replace(node.outputs[0])
        modified = True
    if problems:
        raise XbarcError(*problems)
    return modified


# --- Operators ------------------------------------------------------------------------------------


def _quant(rewrite: Rewrite) -> None:
    node = rewrite.node
    bits = _bits(node, 3)
    scale, zero = constant(input_at(node, 1)), constant(input_at(node, 2))
    if scale is None or zero is None:
        raise XbarcError("its scale or zero point changes at run time")
    mode = _mode(node, "ROUND")
    signed, narrow = bool(attribute(node, "signed", 1)), bool(attribute(node, "narrow", 0))
    _put(rewrite, Quantiser(scale, zero, bits, signed, narrow, mode))


def _bipolar(rewrite: Rewrite) -> None:
    scale = constant(input_at(rewrite.node, 1))
    if scale is None:
        raise XbarcError("its scale changes at run time")
    _put(rewrite, Quantiser(np.abs(scale), np.zeros((), np.float32), 1, signed=True))


def _trunc(rewrite: Rewrite) -> None:
    """Codes of `in` bits, shifted to the right and rounded; version 2 clips them to `out` bits."""
    node = rewrite.node
    second = len(node.inputs) > 5
    outgoing = _bits(node, 5 if second else 4)
    x = input_at(node, 0)
    scale, zero = constant(input_at(node, 1)), constant(input_at(node, 2))
    out_scale = constant(input_at(node, 4)) if second else scale
    if x is None or scale is None or zero is None or out_scale is None:
        raise XbarcError("its scale or zero point changes at run time")
    shift = np.rint(np.log2(out_scale / scale)) if second else _bits(node, 3) - outgoing
    factor = np.asarray(2.0**shift, np.float32)
    y = _real(rewrite, "Div", x, scale, "scaled")
    y = rewrite.add("Round", [_real(rewrite, "Add", y, zero, "shifted")], "codes")
    y = _real(rewrite, "Div", y, factor, "cut")
    signed = bool(attribute(node, "signed", 1)) if second else _is_signed(x)
    rest = Quantiser(
        np.ones((), np.float32),
        np.zeros((), np.float32),
        outgoing,
        signed,
        bool(attribute(node, "narrow", 0)) if second else False,
        _mode(node, "FLOOR"),
    )
    zero = np.asarray(zero / factor if second else zero, np.float32)
    if second:
        y = _clip(rewrite, y, rest)
    y = _rounded(rewrite, y, rest.rounding)
    final = replace(rest, scale=out_scale, zero=zero)
    if not zero.any() and outgoing <= ACTIVATION_BITS and out_scale.size == 1 and final.along:
        _dequantize(rewrite, _in_integers(rewrite, y, rest), final, rest.width)
        return
    _real(rewrite, "Mul", _real(rewrite, "Sub", y, zero, "centred"), out_scale, "")


RULES: dict[str, Callable[[Rewrite], None]] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "Trunc": _trunc,
}


def _bits(node: ir.Node, at: int) -> int:
    given = constant(input_at(node, at))
    if given is None or given.size != 1:
        raise XbarcError("its bit width changes at run time, or differs by channel")
    bits = float(given.reshape(()))
    if bits != int(bits) or not 1 <= bits <= 64:
        raise XbarcError(f"a width of {bits:g} bits: 1 to 64 are known")
    return int(bits)


def _mode(node: ir.Node, default: str) -> str:
    mode = str(attribute(node, "rounding_mode", default)).upper()
    mode = {"HALF_EVEN": "ROUND", "ROUND_TO_ZERO": "DOWN"}.get(mode, mode)
    if mode not in ROUNDINGS:
        raise XbarcError(f"rounding mode {mode!r}: known are {', '.join(ROUNDINGS)}")
    return mode


def _is_signed(x: ir.Value) -> bool:
    """Whether what a Trunc of version 1 cuts has a sign: what it came from says."""
    value: ir.Value | None = x
    while value is not None and (node := value.producer()) is not None:
        if is_op(node, "Relu", "Sigmoid", "Softmax"):
            return False
        if is_op(node, "DequantizeLinear"):
            zero = constant(input_at(node, 2))
            return zero is None or zero.dtype.kind == "i"
        if is_op(node, *LINEAR, "Add", "Sub", "Mul"):
            return True
        value = node.inputs[0] if node.inputs else None
    return True


# --- How values are written -----------------------------------------------------------------------


def _put(rewrite: Rewrite, quantiser: Quantiser) -> None:
    """The nodes that take the place of a quantiser."""
    x = input_at(rewrite.node, 0)
    if x is None:
        raise XbarcError("it has no input")
    static, along = constant(x), quantiser.along
    if static is not None:
        if along is None or quantiser.bits > WEIGHT_BITS or not _is_weight(rewrite.node):
            value = rewrite.initializer("values", quantiser.values(static))
            rewrite.add("Identity", [value], "")
            return
        codes = quantiser.codes(static)
        held = rewrite.initializer("codes", codes.astype(_kind(codes)), x.name or "")
        _dequantize(rewrite, held, quantiser, quantiser.bits)
    elif along is None or quantiser.bits > ACTIVATION_BITS or (along[2] and x.shape is None):
        _in_reals(rewrite, x, quantiser)
    elif quantiser.rounding == "ROUND" and not quantiser.binary and not quantiser.zero.any():
        codes_ = _in_integers(rewrite, x, quantiser, rounded=False)
        _dequantize(rewrite, codes_, quantiser, quantiser.width)
    else:
        y = _real(rewrite, "Div", x, quantiser.scale, "scaled")
        y = _coded(rewrite, y, quantiser)
        _dequantize(rewrite, _in_integers(rewrite, y, quantiser), quantiser, quantiser.width)


def _is_weight(node: ir.Node) -> bool:
    """Whether a linear operator reads the result, perhaps transposed."""
    readers = [use.node for use in node.outputs[0].uses()]
    moved = [use.node for r in readers if is_op(r, "Transpose") for use in r.outputs[0].uses()]
    return any(is_op(reader, *LINEAR) for reader in (*readers, *moved))


def _kind(codes: Array) -> str:
    """The smallest type of integers that holds the codes."""
    low, high = codes.min(initial=0), codes.max(initial=0)
    if low >= -128 and high < 128:
        return "int8"
    return "uint8" if low >= 0 and high < 256 else "int16"


def _real(rewrite: Rewrite, op: str, x: ir.Value, by: Array, role: str) -> ir.Value:
    """`x op by` in float32, which may do nothing."""
    neutral = 0 if op in ("Add", "Sub") else 1
    if role and (by == neutral).all():
        return x
    operand = rewrite.initializer(f"{role or 'scaling'}_by", np.asarray(by, np.float32))
    return rewrite.add(op, [x, operand], role)


def _coded(rewrite: Rewrite, scaled: ir.Value, quantiser: Quantiser) -> ir.Value:
    """Codes as real numbers."""
    y = _real(rewrite, "Add", scaled, quantiser.zero, "shifted")
    if not quantiser.binary:
        return _rounded(rewrite, _clip(rewrite, y, quantiser), quantiser.rounding)
    zero, one, minus = (
        rewrite.initializer(f"is_{name}", np.asarray(number, np.float32))
        for name, number in (("zero", 0), ("one", 1), ("minus", -1))
    )
    positive = rewrite.add("GreaterOrEqual", [y, zero], "positive")
    return rewrite.add("Where", [positive, one, minus], "signs")


def _in_reals(rewrite: Rewrite, x: ir.Value, quantiser: Quantiser) -> None:
    y = _coded(rewrite, _real(rewrite, "Div", x, quantiser.scale, "scaled"), quantiser)
    y = _real(rewrite, "Sub", y, quantiser.zero, "centred")
    _real(rewrite, "Mul", y, quantiser.scale, "")


def _in_integers(
    rewrite: Rewrite, x: ir.Value, quantiser: Quantiser, *, rounded: bool = True
) -> ir.Value:
    """Codes as bytes, of codes that are `rounded` already or of what is still to be scaled."""
    kind, along = np.int8 if quantiser.signed else np.uint8, quantiser.along
    factor, axis = np.ones((), np.float32), None
    if not rounded and along is not None:
        factor, _, axis = along
    inputs = [x, rewrite.initializer("x_scale", factor)]
    inputs.append(rewrite.initializer("x_zero_point", np.zeros(factor.shape, kind)))
    codes = rewrite.add("QuantizeLinear", inputs, "quantize", _axes(axis, x))
    limits = np.iinfo(kind)
    if (quantiser.low, quantiser.high) == (limits.min, limits.max):
        return codes
    bounds = [
        rewrite.initializer(f"{name}_code", np.asarray(number, kind))
        for name, number in (("least", quantiser.low), ("greatest", quantiser.high))
    ]
    return rewrite.add("Clip", [codes, *bounds], "clip")


def _axes(axis: int | None, value: ir.Value) -> list[ir.Attr]:
    """An axis from the last as the attribute that counts from the first."""
    if axis is None or value.shape is None:
        return []
    return [ir.AttrInt64("axis", len(value.shape) + axis)]


def _dequantize(rewrite: Rewrite, codes: ir.Value, quantiser: Quantiser, bits: int) -> None:
    """The last node: real numbers of codes of `bits` bits."""
    array, along = constant(codes), quantiser.along
    assert along is not None
    scale, zero, axis = along
    kind = np.dtype("i1" if quantiser.signed else "u1") if array is None else array.dtype
    inputs = [
        codes,
        rewrite.initializer("scale", scale),
        rewrite.initializer("zero_point", zero.astype(kind)),
    ]
    source = rewrite.node.inputs[0] if array is None else codes
    assert source is not None
    # ONNX's own takes 16 bits from opset 21 on.
    domain = "com.microsoft" if kind.itemsize > 1 else ""
    rewrite.add("DequantizeLinear", inputs, "", _axes(axis, source), domain)
    rewrite.nodes[-1].metadata_props[WIDTH] = str(bits)


def _clip(rewrite: Rewrite, x: ir.Value, quantiser: Quantiser) -> ir.Value:
    bounds = [
        rewrite.initializer(f"{name}_real", np.asarray(number, np.float32))
        for name, number in (("least", quantiser.low), ("greatest", quantiser.high))
    ]
    return rewrite.add("Clip", [x, *bounds], "limited")


def _rounded(rewrite: Rewrite, x: ir.Value, mode: str) -> ir.Value:
    plain = {"ROUND": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}.get(mode)
    if plain:
        return rewrite.add(plain, [x], "rounded")
    size = rewrite.add("Abs", [x], "size")
    half, operator = MAGNITUDES[mode]
    size = _real(rewrite, "Add", size, np.asarray(half), "half")
    size = rewrite.add(operator, [size], "whole")
    return rewrite.add("Mul", [size, rewrite.add("Sign", [x], "sign")], "rounded")
