"""In which order a layer gives its columns and the next one takes its rows.

Tiles of a selection have their rows and columns in any order, and results don't depend on it. But
values that leave one layer's tiles in the order in which the next one's tiles take them need no
shuffling on the way. So two permutations, of columns and of the rows behind them, become one or
none.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from xbarc.ir.analysis.compaction import Layout

Indices = npt.NDArray[np.int64]

ROUNDS = 2
"""Times that the columns follow the rows, and the rows the columns."""


def folded(first: Layout, second: Layout, columns: int, block: int) -> tuple[Layout, Layout]:
    """The layouts of two layers, ordered so that values travel in few pieces (`pieces`).

    `first` gives `columns` values; each is `block` rows of `second` (k x k of a window). A layout
    that is a plain grid keeps its order.
    """
    best = first, second
    for _ in range(ROUNDS):
        if not first.whole and first.columns is not None:
            wanted = _places(_values(second, columns, block), columns, last=False)
            spans, order = _sorted(first.tiles[:, 2:], first.columns, wanted)
            tiles = np.concatenate([first.tiles[:, :2], spans], axis=1)
            first = replace(first, tiles=tiles, columns=order)
        if not second.whole and second.rows is not None:
            given = _places(_order(first.columns, columns), columns, last=True)
            wanted = (given[:, None] * block + np.arange(block)).ravel()
            spans, order = _sorted(second.tiles[:, :2], second.rows, wanted)
            tiles = np.concatenate([spans, second.tiles[:, 2:]], axis=1)
            second = replace(second, tiles=tiles, rows=order)
        if pieces(first, second, columns, block) < pieces(*best, columns, block):
            best = first, second
    return best


def pieces(first: Layout, second: Layout, columns: int, block: int) -> int:
    """Runs of values that `second` takes just as `first` gives them; 1 is no shuffling at all."""
    given = _places(_order(first.columns, columns), columns, last=True)
    rank = np.empty(columns, np.int64)
    rank[np.argsort(given, kind="stable")] = np.arange(columns)
    taken = rank[_values(second, columns, block)]
    step = np.diff(taken)
    # The rows of one value follow each other, and a row may be taken again at once.
    return 1 + int(((step != 1) & (step != 0)).sum())


def _order(indices: Indices | None, count: int) -> Indices:
    return np.arange(count) if indices is None else indices


def _values(layout: Layout, columns: int, block: int) -> Indices:
    """Which value each row of `layout` is of, in the order in which its tiles count rows."""
    return _order(layout.rows, columns * block) // block


def _places(order: Indices, count: int, *, last: bool) -> Indices:
    """Where each of `count` indices stands first in `order`, or last; behind all, where nowhere."""
    places = np.full(count, len(order))
    at = np.arange(len(order))
    if last:
        places[order] = at
    else:
        places[order[::-1]] = at[::-1]
    return places


def _sorted(spans: Indices, order: Indices, wanted: Indices) -> tuple[Indices, Indices]:
    """`order` sorted by `wanted` within each of the tiles' spans [T, 2], and the spans likewise."""
    distinct, which = np.unique(spans, axis=0, return_inverse=True)
    parts = [order[begin:end] for begin, end in distinct.tolist()]
    parts = [part[np.argsort(wanted[part], kind="stable")] for part in parts]
    sequence = np.argsort([wanted[part[0]] for part in parts], kind="stable")
    sizes = np.diff(distinct, axis=1).ravel()
    ends = np.cumsum(sizes[sequence])
    moved = np.empty_like(distinct)
    moved[sequence] = np.stack([ends - sizes[sequence], ends], axis=1)
    return moved[which.ravel()], np.concatenate([parts[i] for i in sequence.tolist()])
