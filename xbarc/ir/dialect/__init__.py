"""Operations of the `xbar` dialect: layers, the mapped triple gather / mvm / scatter, and edges.

    layer level    quantize -> conv | conv_transpose | dense -> dequantize
    mapped level   quantize -> gather -> mvm -> scatter -> dequantize
    both           weights (module level), digital

A mapping pass turns each layer operation into the triple; nothing else changes.
"""

from xdsl.ir import Dialect

from xbarc.ir.dialect.assembly import (
    CROSSBAR,
    crossbar_of,
    element_of,
    integer,
    real,
    shape_of,
    tensor,
)
from xbarc.ir.dialect.attributes import (
    CrossbarAttr,
    DigitalType,
    GridAttr,
    OffsetsAttr,
    PackedAttr,
    SelectionAttr,
    StreamType,
    TileListAttr,
    Tiles,
    TilingAttr,
    WindowAttr,
    code_type,
    coverage_error,
    grid_tiles,
)
from xbarc.ir.dialect.blocks import SqueezeExcitationOp
from xbarc.ir.dialect.edges import DequantizeOp, DigitalOp, QuantizeOp
from xbarc.ir.dialect.mapped import GatherOp, MvmOp, ScatterOp, fits_beside, spatial_size
from xbarc.ir.dialect.placement import MeshAttr
from xbarc.ir.dialect.unmapped import ConvOp, ConvTransposeOp, DenseOp, LayerOp, vectors_of
from xbarc.ir.dialect.unroll import UnrollAttr
from xbarc.ir.dialect.weights import WeightsOp, weights_of

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
    "code_type",
    "coverage_error",
    "crossbar_of",
    "element_of",
    "fits_beside",
    "grid_tiles",
    "integer",
    "real",
    "shape_of",
    "spatial_size",
    "tensor",
    "vectors_of",
    "weights_of",
]
