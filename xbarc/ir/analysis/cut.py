"""The plain cut of a matrix: crossbars filled one after the other."""

from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect import GridAttr, PackedAttr, WeightsOp


def full_cut(
    rows: int, cols: int, weights: WeightsOp, array: CrossbarArray
) -> GridAttr | PackedAttr:
    """Rows cut full first, then columns (numerics: Encoding), of `rows` x `cols` weights a group.

    As many whole groups of `weights` as fit share a crossbar; where one is larger than that, each
    is cut by itself.
    """
    width = array.weights_per_row(weights.weight_bits)
    together = min(array.rows // rows, width // cols, weights.group_count)
    if weights.group_count > 1 and together:
        return PackedAttr.of(together)
    return GridAttr.of(array.rows, width)
