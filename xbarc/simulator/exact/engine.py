"""The exact engine: ideal devices, integers.

Columns don't influence each other, so tiles side by side on the same rows are one segment; the
places of an unrolled kernel that tiles cut alike share one matrix; cells that are off add nothing
and aren't there; every replica computes the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import Coverage, coverage_of
from xbarc.ir.analysis.patches import each_output
from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.simulator.engine import PerOutput
from xbarc.simulator.exact.matrix import Matrix
from xbarc.simulator.exact.segments import Segment, dense_block, merged
from xbarc.simulator.exact.unrolled import Unrolled, materialised
from xbarc.support.data import Array


@dataclass(frozen=True)
class ExactEngine:
    """Ideal devices: results are those of the numerics, to the last bit."""

    def program(
        self, op: MvmOp, arrays: Mapping[str, Array], target: Target, seed: int = 0
    ) -> Matrix | Unrolled:
        """The matrix that an mvm's tiles hold."""
        weights = weights_of(op)
        codes = cast(StreamType, op.input.type).element
        placed, q = coverage_of(op, arrays), arrays[weights.symbol]
        settings: dict[str, Any] = {
            "weight_bits": weights.weight_bits,
            "input_bits": codes.width.data,
            "input_signed": codes.signedness.data.name == "SIGNED",
            "adc_range": op.adc_range,
            "gated": op.gated is not None,
        }
        lossless = target.adc.mode == "lossless"
        if placed.taps is not None:
            if target.array.encoding == "differential" or lossless:
                matrix = Unrolled(q, placed, target, **settings)
                window = each_output(op)
                if window is not None and matrix.shared is not None:
                    matrix.per_output = PerOutput(window, matrix.shared)
                return matrix
            # With offset encoding a cell of weight 0 isn't off.
            q = materialised(q, placed)
            placed = replace(placed, stored=placed.shape, taps=None)
        segments = merged(placed.tiles)
        if op.gated is not None and target.array.encoding == "offset" and not lossless:
            segments, placed = _without_gated(q, placed)
        return Matrix(
            q,
            segments,
            target,
            groups=placed.groups,
            rows=placed.rows,
            columns=placed.columns,
            off=placed.off,
            **settings,
        )


def _without_gated(q: Array, placed: Coverage) -> tuple[list[Segment], Coverage]:
    """Each tile without the rows and columns in which all weights are zero: they are off.

    Differential cells of weight 0 draw nothing anyway; those of offset encoding would, and their
    rows count in the correction.
    """
    k, n = placed.shape[0] * placed.groups, placed.shape[1]
    row_order = np.arange(k) if placed.rows is None else placed.rows
    column_order = np.arange(n) if placed.columns is None else placed.columns
    segments: list[Segment] = []
    rows: list[Array] = []
    columns: list[Array] = []
    row = column = 0
    for r0, r1, c0, c1 in placed.tiles.tolist():
        tile = Segment(r0, r1, c0, c1)
        some = dense_block(q, tile, placed.groups, placed.rows, placed.columns, placed.off) != 0
        if not some.any():
            continue
        rows.append(row_order[r0:r1][some.any(axis=1)])
        columns.append(column_order[c0:c1][some.any(axis=0)])
        ends = row + len(rows[-1]), column + len(columns[-1])
        segments.append(Segment(row, ends[0], column, ends[1], height=tile.rows))
        row, column = ends
    none = np.zeros(0, np.int64)
    return segments, replace(
        placed, rows=np.concatenate([none, *rows]), columns=np.concatenate([none, *columns])
    )
