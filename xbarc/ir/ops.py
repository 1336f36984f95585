"""Operations of the `xbar` dialect: layers, the mapped triple gather / mvm / scatter, and edges.

    layer level    quantize -> conv | conv_transpose | dense -> dequantize
    mapped level   quantize -> gather -> mvm -> scatter -> dequantize
    both           weights (module level), digital

A mapping pass turns each layer operation into the triple; nothing else changes.
"""

from xbarc.ir.assembly import CROSSBAR, crossbar_of, element_of, integer, real, shape_of, tensor
from xbarc.ir.edges import DequantizeOp, DigitalOp, QuantizeOp
from xbarc.ir.mapped import GatherOp, MvmOp, ScatterOp
from xbarc.ir.unmapped import ConvOp, ConvTransposeOp, DenseOp, LayerOp, vectors_of
from xbarc.ir.weights import WeightsOp, weights_of

__all__ = [
    "CROSSBAR",
    "ConvOp",
    "ConvTransposeOp",
    "DenseOp",
    "DequantizeOp",
    "DigitalOp",
    "GatherOp",
    "LayerOp",
    "MvmOp",
    "QuantizeOp",
    "ScatterOp",
    "WeightsOp",
    "crossbar_of",
    "element_of",
    "integer",
    "real",
    "shape_of",
    "tensor",
    "vectors_of",
    "weights_of",
]
