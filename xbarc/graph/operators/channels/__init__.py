"""How channels of what an operator reads and gives hang together: its channel rules, by families.

A rule ties indices (`xbarc.graph.operators.ties`); a `shrink_` rule beside it makes sizes that
stand in attributes and constants fit when channels are taken out.
"""

from xbarc.graph.operators.channels.joins import (
    concat,
    gather,
    pad,
    shrink_pad,
    shrink_slice,
    shrink_split,
    slice_,
    split,
)
from xbarc.graph.operators.channels.layers import (
    conv,
    conv_transpose,
    gemm,
    matmul,
    shrink_groups,
)
from xbarc.graph.operators.channels.normalisation import (
    batch_normalization,
    group_normalization,
    instance_normalization,
    layer_normalization,
    lp_normalization,
    softmax,
)
from xbarc.graph.operators.channels.pointwise import elementwise, quantisation, unary
from xbarc.graph.operators.channels.reductions import arg, reduce
from xbarc.graph.operators.channels.reshapes import expand, reshape, shrink_shape, transpose
from xbarc.graph.operators.channels.windows import pool, resize, shrink_sizes

__all__ = [
    "arg",
    "batch_normalization",
    "concat",
    "conv",
    "conv_transpose",
    "elementwise",
    "expand",
    "gather",
    "gemm",
    "group_normalization",
    "instance_normalization",
    "layer_normalization",
    "lp_normalization",
    "matmul",
    "pad",
    "pool",
    "quantisation",
    "reduce",
    "reshape",
    "resize",
    "shrink_groups",
    "shrink_pad",
    "shrink_shape",
    "shrink_sizes",
    "shrink_slice",
    "shrink_split",
    "slice_",
    "softmax",
    "split",
    "transpose",
    "unary",
]
