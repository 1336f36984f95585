"""The plain cut of a matrix: crossbars filled one after the other."""

from xbarc.hw.target import CrossbarArray
from xbarc.ir.dialect import GridAttr, PackedAttr, WeightsOp


def full_cut(
    rows: int, cols: int, weights: WeightsOp, array: CrossbarArray
) -> GridAttr | PackedAttr:
    """Cut groups of `rows` x `cols` weights, rows full first, then columns (numerics: Encoding).

    As many whole groups of `weights` as fit share a crossbar. If a group is larger than a crossbar,
    each group is cut on its own.
    """
    width = array.weights_per_row(weights.weight_bits)
    together = min(array.weights_per_column // rows, width // cols, weights.group_count)
    if weights.group_count > 1 and together:
        return PackedAttr.of(together)
    return GridAttr.of(array.weights_per_column, width)
