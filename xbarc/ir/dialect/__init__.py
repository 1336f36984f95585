"""Operations of the `xbar` dialect: layers, the mapped triple gather / mvm / scatter, and edges.

    layer level    quantize -> conv | conv_transpose | dense -> dequantize
    mapped level   quantize -> gather -> mvm -> scatter -> dequantize
    both           weights (module level), digital

A mapping pass turns each layer operation into the triple; nothing else changes.
"""

from xdsl.ir import Dialect

from xbarc.ir.dialect.assembly import integer, real
from xbarc.ir.dialect.crossbar import CROSSBAR, CrossbarAttr, crossbar_of
from xbarc.ir.dialect.edges import DequantizeOp, DigitalOp, QuantizeOp
from xbarc.ir.dialect.gather import GatherOp
from xbarc.ir.dialect.layers import ConvOp, ConvTransposeOp, DenseOp, LayerOp, vectors_of
from xbarc.ir.dialect.mesh import MESH, MeshAttr, mesh_of
from xbarc.ir.dialect.mvm import MvmOp
from xbarc.ir.dialect.numerics import Numerics
from xbarc.ir.dialect.placement import clear_places, copies_of, ranges_of, set_copies, set_ranges
from xbarc.ir.dialect.scatter import ScatterOp
from xbarc.ir.dialect.schedule import (
    STREAM,
    TIME,
    clear_schedule,
    interval_of,
    set_interval,
    set_span,
    span_of,
)
from xbarc.ir.dialect.selection import SelectionAttr
from xbarc.ir.dialect.squeeze_excitation import SqueezeExcitationOp
from xbarc.ir.dialect.tensors import element_of, shape_of, tensor
from xbarc.ir.dialect.tiling import (
    GridAttr,
    OffsetsAttr,
    PackedAttr,
    TileListAttr,
    Tiles,
    TilingAttr,
    coverage_error,
    grid_tiles,
)
from xbarc.ir.dialect.types import DigitalType, StreamType, code_type
from xbarc.ir.dialect.unroll import UnrollAttr
from xbarc.ir.dialect.weights import WeightsOp, weights_of
from xbarc.ir.dialect.window import WindowAttr, spatial_size

Xbar = Dialect(
    "xbar",
    [
        WeightsOp,
        SqueezeExcitationOp,
        QuantizeOp,
        ConvOp,
        ConvTransposeOp,
        DenseOp,
        GatherOp,
        MvmOp,
        ScatterOp,
        DequantizeOp,
        DigitalOp,
    ],
    [
        CrossbarAttr,
        MeshAttr,
        StreamType,
        DigitalType,
        WindowAttr,
        GridAttr,
        OffsetsAttr,
        PackedAttr,
        TileListAttr,
        SelectionAttr,
        UnrollAttr,
    ],
)

__all__ = [
    "CROSSBAR",
    "MESH",
    "STREAM",
    "TIME",
    "ConvOp",
    "ConvTransposeOp",
    "CrossbarAttr",
    "DenseOp",
    "DequantizeOp",
    "DigitalOp",
    "DigitalType",
    "GatherOp",
    "GridAttr",
    "LayerOp",
    "MeshAttr",
    "MvmOp",
    "Numerics",
    "OffsetsAttr",
    "PackedAttr",
    "QuantizeOp",
    "ScatterOp",
    "SelectionAttr",
    "SqueezeExcitationOp",
    "StreamType",
    "TileListAttr",
    "Tiles",
    "TilingAttr",
    "UnrollAttr",
    "WeightsOp",
    "WindowAttr",
    "Xbar",
    "clear_places",
    "clear_schedule",
    "code_type",
    "copies_of",
    "coverage_error",
    "crossbar_of",
    "element_of",
    "grid_tiles",
    "integer",
    "interval_of",
    "mesh_of",
    "ranges_of",
    "real",
    "set_copies",
    "set_interval",
    "set_ranges",
    "set_span",
    "shape_of",
    "span_of",
    "spatial_size",
    "tensor",
    "vectors_of",
    "weights_of",
]
