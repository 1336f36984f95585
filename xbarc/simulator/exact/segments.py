"""Segments: what the exact engine makes of tiles, and which weights stand on one.

With ideal devices columns don't influence each other. So tiles side by side on the same rows are
one segment, and which crossbar a column stands on changes no result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.ir.analysis.coverage import inside, switch_off
from xbarc.ir.dialect import Tiles

Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class Segment:
    """A block of rows and weight columns of a matrix, on crossbars of its own.

    `height`: the rows of these crossbars in use, if they are more than the segment's (the cells of
    the other rows are off). 0: as many as the segment has.
    """

    row_begin: int
    row_end: int
    col_begin: int
    col_end: int
    height: int = 0

    @property
    def rows(self) -> int:
        """Rows in use."""
        return self.row_end - self.row_begin

    @property
    def cols(self) -> int:
        """Weight columns."""
        return self.col_end - self.col_begin

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """As a tile: row range, column range."""
        return self.row_begin, self.row_end, self.col_begin, self.col_end


def merged(tiles: Tiles) -> list[Segment]:
    """Tiles that share their rows and whose columns follow each other, as one."""
    order = np.lexsort((tiles[:, 2], tiles[:, 1], tiles[:, 0]))
    found: list[Segment] = []
    for r0, r1, c0, c1 in tiles[order].tolist():
        last = found[-1] if found else None
        if last and (last.row_begin, last.row_end, last.col_end) == (r0, r1, c0):
            found[-1] = Segment(r0, r1, last.col_begin, c1)
        else:
            found.append(Segment(r0, r1, c0, c1))
    return found


def dense_block(
    q: Integers,
    segment: Segment,
    groups: int,
    rows: Integers | None = None,
    columns: Integers | None = None,
    off: Integers | None = None,
) -> Integers:
    """The weights [rows, cols] that a segment of [Kg, N] weights holds, 0 between the groups.

    `off`: cells whose weight another segment holds (`xbarc.ir.analysis.coverage.cells_off`).
    """
    in_block, in_weights = inside(q.shape, segment.bounds, groups, rows, columns)
    dense = np.zeros((segment.rows, segment.cols), q.dtype)
    dense[in_block] = q[in_weights]
    switch_off(dense, segment.bounds, off)
    return dense


def check_segments(
    q: Integers,
    segments: Sequence[Segment],
    groups: int,
    array_rows: int,
    rows: Integers | None,
    columns: Integers | None,
    *,
    shared: bool = False,
) -> None:
    """Raises `ValueError` where segments don't hold each weight once, or don't fit the array.

    `shared`: several segments may have a weight, all but one of them its cell off.
    """
    shape = q.shape
    if len(shape) != 2 or groups < 1 or shape[1] % groups:
        raise ValueError(f"weights of shape {shape} can't have {groups} groups")
    height = groups * shape[0] if rows is None else len(rows)
    width = shape[1] if columns is None else len(columns)
    held = np.zeros(shape, np.uint8)
    for segment in segments:
        rows_fit = 0 <= segment.row_begin < segment.row_end <= height
        cols_fit = 0 <= segment.col_begin < segment.col_end <= width
        if not (rows_fit and cols_fit):
            raise ValueError(f"{segment} is empty or outside of the matrix")
        if segment.rows > array_rows:
            raise ValueError(f"{segment} has more rows than the array's {array_rows}")
        _, weights = inside(shape, segment.bounds, groups, rows, columns)
        held[weights] = np.minimum(held[weights], 1) + 1
    wrong = ((held > 1) & (not shared)) | ((held == 0) & (q != 0))
    if wrong.any():
        k, n = np.argwhere(wrong)[0]
        many = "no segment" if held[k, n] == 0 else "more than one segment"
        raise ValueError(f"weight ({k}, {n}) is held by {many}")
