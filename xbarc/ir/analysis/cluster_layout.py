"""Tiles for a matrix with zeros by clustering: one a cluster, and few for what is left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xbarc.ir.analysis.bipartite import Indices
from xbarc.ir.analysis.clusters import Cluster, Mask, Remainder, Room, find_clusters, windows
from xbarc.ir.analysis.compaction import Layout, best_layout
from xbarc.ir.dialect import Tiles

PATIENCE, FALLING = 16, 0.75
"""Windows that are looked back on; what those to come cover on average, as a share of the best."""


@dataclass(frozen=True)
class Clustering:
    """How a matrix is cut into tiles.

    `clusters` of the layout's tiles are dense, with `clustered` of the nonzeros. Without clustering
    it takes `unclustered_tiles` (`best_layout`).
    """

    layout: Layout
    unclustered_tiles: int
    clusters: int = 0
    clustered: int = 0


def clustered(
    nonzero: Mask,
    tile: tuple[int, int],
    densities: Sequence[float],
    *,
    block: int = 1,
    side: int | None = None,
) -> Clustering:
    """The fewest tiles of at most `tile` rows and columns for the nonzeros of [K, N].

    Clusters are looked for at one of the `densities` after the other, each in what those before it
    leave; at last without any. What no cluster holds stands on windows or on the tiles of
    `best_layout`, whichever are fewer. The fewest tiles win; of as many, those without clusters,
    then the denser ones. So there are never more tiles than `best_layout` makes. Clusters hold
    whole blocks of `block` rows (an input channel's in an im2col matrix), where a tile holds one.
    No cluster or window has more rows or columns than `side`. A tile is dense if more than the last
    density of a whole tile are nonzeros.
    """
    plain = best_layout(nonzero, *tile)
    best = Clustering(plain, len(plain.tiles))
    if len(plain.tiles) == 1:
        return best
    largest = tile if side is None else (min(tile[0], side), min(tile[1], side))
    room = Room.of(largest, nonzero.shape, block)
    matrix, rest, found = Remainder(nonzero, room), nonzero, list[Cluster]()
    for density in (*densities, None):
        if density is None:
            rest, found = nonzero, []
        else:
            rest, new = _rows(rest, find_clusters(matrix, density), room.block)
            found += new
            if not new:
                continue
        left = _left(rest, tile, largest, len(best.layout.tiles) - len(found))
        if left is not None:
            alone, tiles = left
            every = [*found, *alone]
            dense = [c.nonzeros for c in every if c.nonzeros > densities[-1] * room.area]
            layout = together(every, tiles)
            best = Clustering(layout, len(plain.tiles), len(dense), sum(dense))
    return best


def dense_tiles(shape: tuple[int, int], tile: tuple[int, int]) -> int:
    """Tiles of a whole matrix."""
    return -(-shape[0] // tile[0]) * -(-shape[1] // tile[1])


def occupied_tiles(nonzero: Mask, tile: tuple[int, int]) -> int:
    """Tiles of a plain grid that hold a nonzero: how TraNNsformer counts a network pruned only."""
    r, c = np.nonzero(nonzero)
    return len(np.unique(r // tile[0] * nonzero.shape[1] + c // tile[1]))


def _rows(rest: Mask, found: Sequence[Cluster], block: int) -> tuple[Mask, list[Cluster]]:
    """Clusters in rows instead of blocks, and what they leave of a mask."""
    rest, rows = rest.copy(), []
    for cluster in found:
        all_rows = (cluster.rows[:, None] * block + np.arange(block)).ravel()
        needed = rest[np.ix_(all_rows, cluster.columns)].any(1)
        rows.append(Cluster(all_rows[needed], cluster.columns, cluster.nonzeros))
        rest[np.ix_(all_rows, cluster.columns)] = False
    return rest, rows


def _left(
    rest: Mask, tile: tuple[int, int], window: tuple[int, int], fewer_than: int
) -> tuple[list[Cluster], Layout | None] | None:
    """Windows or tiles, fewer than that, for what no cluster holds; None where more are needed."""
    if not rest.any():
        return ([], None) if fewer_than > 0 else None
    least = best_layout(rest, *tile)
    by_windows = _by_windows(rest, window, min(fewer_than, len(least.tiles)))
    if by_windows is not None:
        return by_windows, None
    return ([], least) if len(least.tiles) < fewer_than else None


def _by_windows(rest: Mask, tile: tuple[int, int], fewer_than: int) -> list[Cluster] | None:
    """Windows for all that is left; None, as soon as it shows, where it takes `fewer_than`."""
    matrix = Remainder(rest, Room.of(tile, rest.shape))
    left, found = matrix.nonzeros, list[Cluster]()
    for window in windows(matrix):
        found.append(window)
        left -= window.nonzeros
        expected = FALLING * max(window.nonzeros for window in found[-PATIENCE:])
        if len(found) + left / expected >= fewer_than:
            return None
    return found if len(found) < fewer_than else None


def together(found: Sequence[Cluster], rest: Layout | None) -> Layout:
    """A tile a cluster, each with its own rows and columns, and the tiles of `rest`."""
    parts: list[tuple[Indices, Indices, Tiles | None]] = [
        (cluster.rows, cluster.columns, None) for cluster in found
    ]
    if rest is not None:
        height, width = (int(rest.tiles[:, i].max()) for i in (1, 3))
        rows = np.arange(height) if rest.rows is None else rest.rows
        columns = np.arange(width) if rest.columns is None else rest.columns
        parts.append((rows, columns, rest.tiles))
    tiles: list[Tiles] = []
    row = column = 0
    for rows, columns, own in parts:
        own = np.array([[0, len(rows), 0, len(columns)]]) if own is None else own
        tiles.append(own + np.array([row, row, column, column]))
        row, column = row + len(rows), column + len(columns)
    return Layout(
        np.concatenate(tiles),
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        whole=False,
    )
