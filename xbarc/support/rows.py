"""Which rows of one tensor must be there before a row of the next can be computed.

A row is one position on axis 2 of a tensor [N, C, H, ...]. A tensor without that axis is one row. A
layer pipeline can pass on a row before the whole image is done.
"""

import numpy as np
import numpy.typing as npt

Needs = npt.NDArray[np.int64]
"""For each row of an output: how many rows of an input, from the first on, it needs."""


ROW = 2
"""The axis that rows lie on."""


def row_count(shape: tuple[int | None, ...] | None) -> int:
    """Rows of a tensor of that shape; 1 where it has no such axis, or one of unknown size."""
    if shape is None or len(shape) <= ROW:
        return 1
    return shape[ROW] or 1


def same_rows(rows: int) -> Needs:
    """Row y needs the rows up to y."""
    return np.arange(1, rows + 1)


def all_rows(rows: int, of: int) -> Needs:
    """Each of `rows` rows needs all `of` rows."""
    return np.full(rows, of, dtype=np.int64)


def window_rows(rows: int, of: int, kernel: int, stride: int, pad: int, dilation: int) -> Needs:
    """Row y needs those under a window that starts at `y * stride - pad`, of `of` rows."""
    last = np.arange(rows) * stride - pad + (kernel - 1) * dilation + 1
    return np.clip(last, 0, of)


def compose(outer: Needs, inner: Needs) -> Needs:
    """What rows need of rows that in turn need others (0 rows need none)."""
    return np.concatenate([[0], np.maximum.accumulate(inner)])[outer]
