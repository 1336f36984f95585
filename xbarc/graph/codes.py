"""Values that are whole multiples of a scale, in fewer bits than ONNX's types say.

An importer knows that of what a model quantised to 3 bits, say; ONNX has QuantizeLinear and
DequantizeLinear of 8 bits for it. The width stands as metadata on the DequantizeLinear.
"""

from dataclasses import dataclass

import onnx_ir as ir

from xbarc.graph.query import constant, input_at, is_op

WIDTH = "xbarc.bits"
"""Metadata of a DequantizeLinear: the bits of its codes, their sign included."""

MOVES = (
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "MaxPool",
    "Relu",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators that make nothing but what their first input holds, or 0."""

MOST_MOVES = 16


@dataclass(frozen=True)
class Grid:
    """The multiples of `scale` by codes of `bits` bits, their sign included."""

    scale: float
    bits: int
    signed: bool


def width_of(value: ir.Value) -> int | None:
    """The bits of the codes that a DequantizeLinear's `value` is made of, where they are told."""
    node = value.producer()
    text = None if node is None else node.metadata_props.get(WIDTH)
    return int(text) if text is not None and text.isdecimal() else None


def grid_of(value: ir.Value) -> Grid | None:
    """The grid that `value` lies on, where an importer told its width; behind moves too.

    Codes -(2^(bits-1)-1) .. 2^(bits-1)-1, or 0 .. 2^bits-1: what `xbarc.hw.quantization.quantize`
    gives back without a loss. So codes that reach -2^(bits-1) have a bit more.
    """
    for _ in range(MOST_MOVES):
        node = value.producer()
        if node is None:
            return None
        if is_op(node, "DequantizeLinear"):
            return _grid(node)
        source = node.inputs[0] if is_op(node, *MOVES) else None
        if source is None:
            return None
        value = source
    return None


def unquantised(value: ir.Value, grid: Grid) -> ir.Value:
    """What `value` was quantised from, where `quantize` gives the same codes of it; or `value`."""
    node = value.producer()
    codes = node.inputs[0] if node is not None and is_op(node, "DequantizeLinear") else None
    low = -(1 << (grid.bits - 1)) + 1 if grid.signed else 0
    high = (1 << (grid.bits - grid.signed)) - 1
    clip = None if codes is None else codes.producer()
    if clip is not None and is_op(clip, "Clip"):
        bounds = [constant(input_at(clip, at)) for at in (1, 2)]
        if [None if b is None else int(b.reshape(())) for b in bounds] != [low, high]:
            return value
        codes = clip.inputs[0]
    elif (low, high) != (0, 255):
        return value
    quantize = None if codes is None else codes.producer()
    if quantize is None or not is_op(quantize, "QuantizeLinear"):
        return value
    scale, zero = constant(input_at(quantize, 1)), constant(input_at(quantize, 2))
    same = scale is not None and scale.size == 1 and float(scale.reshape(())) == grid.scale
    if not same or zero is None or zero.any() or quantize.inputs[0] is None:
        return value
    return quantize.inputs[0]


def _grid(node: ir.Node) -> Grid | None:
    bits = width_of(node.outputs[0])
    scale, zero = constant(input_at(node, 1)), constant(input_at(node, 2))
    if bits is None or scale is None or scale.size != 1:
        return None
    if zero is None or zero.size != 1 or zero.any():
        return None
    return Grid(float(scale.reshape(())), bits, zero.dtype.kind == "i")
