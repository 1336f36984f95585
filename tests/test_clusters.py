"""Size-constrained clustering: what is found, how few tiles it takes, and that it repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from xbarc.ir.analysis.bipartite import groups
from xbarc.ir.analysis.cluster_layout import (
    _by_windows,
    clustered,
    dense_tiles,
    occupied_tiles,
)
from xbarc.ir.analysis.clusters import Remainder, Room, find_clusters, windows
from xbarc.ir.analysis.compaction import Layout, best_layout
from xbarc.ir.analysis.order import folded, pieces

DENSITIES = (0.7, 0.6, 0.5, 0.4, 0.3)


def planted(size, block, density, noise, seed):
    """Weights with dense blocks of |w| in [.5, 1] and noise of |w| <= .05, all permuted."""
    rng = np.random.default_rng(seed)
    w = np.where(rng.random((size, size)) < noise, rng.uniform(-0.05, 0.05, (size, size)), 0)
    for begin in range(0, size, block):
        at = slice(begin, begin + block)
        large = rng.uniform(0.5, 1, (block, block)) * rng.choice([-1, 1], (block, block))
        w[at, at] = np.where(rng.random((block, block)) < density, large, w[at, at])
    return w[rng.permutation(size)][:, rng.permutation(size)]


def on_tiles(layout, shape):
    """On how many tiles of a layout each weight is, [K, N]."""
    count = np.zeros(shape, int)
    rows = np.arange(shape[0]) if layout.rows is None else layout.rows
    columns = np.arange(shape[1]) if layout.columns is None else layout.columns
    for r0, r1, c0, c1 in layout.tiles.tolist():
        count[np.ix_(rows[r0:r1], columns[c0:c1])] += 1
    return count


# --- published and planted counts (TraNNsformer) --------------------------------------------------

MNIST = [(784, 1200), (1200, 1200), (1200, 10)]
ALEXNET = [(9216, 4096), (4096, 4096), (4096, 1000)]


@pytest.mark.parametrize(
    ("layers", "side", "tiles"),
    [
        (MNIST, 4, [58800, 90000, 900]),
        (MNIST, 64, [247, 361, 19]),
        (MNIST, 128, [70, 100, 10]),
        (ALEXNET, 64, [9216, 4096, 1024]),
    ],
)
def test_tiles_of_whole_networks(layers, side, tiles):
    assert [dense_tiles(shape, (side, side)) for shape in layers] == tiles


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("size", "density", "noise", "before", "after"),
    [(512, 0.9, 0.002, 64, 8), (1024, 0.8, 0.01, 256, 16)],
)
def test_planted_blocks_are_found(size, density, noise, before, after, seed):
    nonzero = np.abs(planted(size, 64, density, noise, seed)) >= 0.1
    assert dense_tiles(nonzero.shape, (64, 64)) == before
    assert occupied_tiles(nonzero, (64, 64)) == before
    found = clustered(nonzero, (64, 64), DENSITIES)
    assert (len(found.layout.tiles), found.clusters) == (after, after)
    assert found.clustered == nonzero.sum()


@pytest.mark.parametrize("seed", range(5))
def test_planted_blocks_are_found_under_their_noise(seed):
    # No threshold: a single connected component, which the eigenvectors cut apart.
    nonzero = planted(512, 64, 0.9, 0.002, seed) != 0
    assert len(list(groups(nonzero, (512, 512)))) == 1
    found = find_clusters(Remainder(nonzero, Room.of((64, 64), nonzero.shape)), 0.7)
    assert len(found) == 8
    assert all(cluster.nonzeros > 0.85 * 64 * 64 for cluster in found)


@pytest.mark.parametrize("tile", [(4, 4), (16, 16), (32, 8)])
def test_a_random_mask_never_takes_more_tiles(tile):
    for seed in range(3):
        nonzero = np.random.default_rng(seed).random((96, 80)) < 0.2
        found = clustered(nonzero, tile, DENSITIES)
        assert len(found.layout.tiles) <= len(best_layout(nonzero, *tile).tiles)
        assert len(found.layout.tiles) <= occupied_tiles(nonzero, tile)


def test_a_random_mask_of_large_tiles_keeps_its_grid():
    nonzero = np.random.default_rng(0).random((512, 512)) < 0.2
    found = clustered(nonzero, (64, 64), DENSITIES)
    assert found.layout.whole
    assert (len(found.layout.tiles), found.clusters) == (64, 0)


# --- any mask -------------------------------------------------------------------------------------


@st.composite
def masks(draw):
    """Random, block-wise and empty masks."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mask = rng.random(shape) < draw(st.sampled_from([0, 0.02, 0.1, 0.5, 1]))
    if draw(st.booleans()):
        mask &= rng.integers(0, 4, shape[0])[:, None] == rng.integers(0, 4, shape[1])
    return mask


@given(masks(), st.sampled_from([(1, 1), (4, 4), (8, 2), (3, 50), (50, 50)]), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_nonzero_stands_on_a_tile(mask, tile, block):
    nonzero = np.repeat(mask, block, 0)
    found = clustered(nonzero, tile, DENSITIES, block=block)
    layout = found.layout
    height, width = np.diff(layout.tiles[:, :2])[:, 0], np.diff(layout.tiles[:, 2:])[:, 0]
    assert (height <= tile[0]).all() and (width <= tile[1]).all()
    assert (on_tiles(layout, nonzero.shape)[nonzero] >= 1).all()
    assert len(layout.tiles) <= found.unclustered_tiles
    assert found.clustered <= nonzero.sum()
    again = clustered(nonzero, tile, DENSITIES, block=block)
    np.testing.assert_array_equal(again.layout.tiles, layout.tiles)
    for indices, same in zip(
        (layout.rows, layout.columns), (again.layout.rows, again.layout.columns), strict=True
    ):
        np.testing.assert_array_equal(indices, same)


@given(masks(), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_groups_share_nothing_and_fit(mask, rows, columns):
    found = list(groups(sparse.csr_matrix(mask), (rows, columns)))
    for index, largest in ((0, rows), (1, columns)):
        together = np.concatenate([np.zeros(0, int), *(g[index] for g in found)])
        assert len(np.unique(together)) == len(together)
        assert all(1 <= len(g[index]) <= largest for g in found)


def test_components_are_kept_whole():
    mask = np.kron(np.eye(5, dtype=bool), np.ones((3, 2), bool))[::-1]
    found = sorted((r.tolist(), c.tolist()) for r, c in groups(mask, (3, 2)))
    assert found == [
        ([12 - 3 * i, 13 - 3 * i, 14 - 3 * i], [2 * i, 2 * i + 1]) for i in range(4, -1, -1)
    ]


def test_density_is_of_the_whole_tile():
    # Two weights fill their own area, and 2 of 16 places of a tile.
    mask = np.zeros((40, 40), bool)
    mask[3, 5] = mask[17, 22] = True
    assert find_clusters(Remainder(mask, Room.of((4, 4), mask.shape)), 0.7) == []
    (both,) = find_clusters(Remainder(mask, Room.of((4, 4), mask.shape)), 0.1)
    assert (both.rows.tolist(), both.columns.tolist(), both.nonzeros) == ([3, 17], [5, 22], 2)
    # A matrix smaller than a tile: of its own area.
    (whole,) = find_clusters(Remainder(np.ones((2, 3), bool), Room.of((4, 4), (2, 3))), 0.7)
    assert whole.nonzeros == 6


def test_clusters_hold_whole_blocks_of_rows():
    nonzero = np.repeat(np.random.default_rng(1).random((20, 12)) < 0.2, 9, 0)
    room = Room.of((40, 4), nonzero.shape, 9)
    assert (room.rows, room.columns, room.area) == (4, 4, 144)
    for cluster in windows(Remainder(nonzero, room)):
        assert len(cluster.rows) <= 4 and cluster.nonzeros % 9 == 0
    # A block that is larger than a tile is no unit.
    assert Room.of((8, 4), nonzero.shape, 9) == Room(8, 4)


def test_no_cluster_is_larger_than_its_side():
    nonzero = planted(256, 32, 0.9, 0, 0) != 0
    found = clustered(nonzero, (64, 64), DENSITIES, side=32)
    assert found.unclustered_tiles > found.clusters == 8
    assert np.diff(found.layout.tiles[:, :2]).max() <= 32


def components(count, fill):
    """Permuted so that a grid has all in pieces: as many `fill` [4, 4], that share no line."""
    mask = np.kron(np.eye(count, dtype=bool), np.asarray(fill, bool))
    order = np.arange(4 * count).reshape(count, 4).T.ravel()
    return mask[order][:, order]


def test_a_tile_that_is_as_dense_as_asked_is_no_cluster():
    half = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]]
    found = {d: clustered(components(4, half), (4, 4), (d,)) for d in (0.49, 0.5)}
    assert [len(c.layout.tiles) for c in found.values()] == [4, 4]
    assert [(c.clusters, c.clustered) for c in found.values()] == [(4, 32), (0, 0)]


def test_of_as_few_tiles_those_without_clusters_win():
    blocks_ = np.kron(np.eye(2, dtype=bool), np.ones((4, 4), bool))
    found = clustered(blocks_, (4, 4), (0.7,))
    assert (len(found.layout.tiles), found.unclustered_tiles, found.clusters) == (2, 2, 0)


@pytest.mark.parametrize(("fewer_than", "windows_found"), [(37, None), (38, 32)])
def test_what_is_to_come_is_judged_by_the_last_sixteen_windows(fewer_than, windows_found):
    """One full window, then weights that stand alone: after 16 of 31, 15 / 0.75 are expected."""
    rest = np.zeros((50, 50), bool)
    rest[:8, :8] = True
    rest[range(8, 39), range(8, 39)] = True
    found = _by_windows(rest, (8, 8), fewer_than)
    assert (found if found is None else len(found)) == windows_found


# --- the order of columns and of the rows behind them ---------------------------------------------


def blocks(order_of_rows, order_of_columns, size):
    """A layout with blocks of `size` on its diagonal, in any order of rows and columns."""
    at = np.arange(0, len(order_of_rows), size)
    tiles = np.stack([at, at + size, at, at + size], axis=1)
    return Layout(tiles, np.array(order_of_rows), np.array(order_of_columns), whole=False)


def test_permutations_that_cancel_are_folded_away():
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(32)
    # Both layers cluster the same neurons, each in another order.
    inner = np.concatenate([rng.permutation(part) for part in np.split(shuffled, 8)[::-1]])
    first, second = blocks(np.arange(32), shuffled, 4), blocks(inner, np.arange(32), 4)
    assert pieces(first, second, 32, 1) > 16
    one, two = folded(first, second, 32, 1)
    assert pieces(one, two, 32, 1) == 1
    np.testing.assert_array_equal(one.columns, two.rows)
    for before, after in ((first, one), (second, two)):
        np.testing.assert_array_equal(on_tiles(before, (32, 32)), on_tiles(after, (32, 32)))


def test_a_grid_keeps_its_order():
    first = Layout(np.array([[0, 8, 0, 8]]))
    second = blocks([6, 7, 4, 5, 2, 3, 0, 1], np.arange(8), 2)
    assert pieces(first, second, 8, 1) == 4
    one, two = folded(first, second, 8, 1)
    assert one is first and pieces(one, two, 8, 1) == 1
    assert two.rows.tolist() == list(range(8))


def test_a_window_takes_each_channel_in_one_piece():
    first = blocks(np.arange(4), [2, 3, 0, 1], 2)
    second = blocks(np.concatenate([np.arange(9) + 9 * c for c in (2, 3, 0, 1)]), np.arange(36), 18)
    assert pieces(first, second, 4, 9) == 1
