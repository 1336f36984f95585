"""The mesh: numbering, distances and wires, against counting them out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import make_target

from xbarc.hw.mesh import Mesh, Spread, WireLoads, check_room, mean_hops, mesh_for, path, wire_loads
from xbarc.support.errors import XbarcError

meshes = st.builds(
    lambda chips, nodes, cores, crossbars, width, band: Mesh(
        chips, nodes, cores, crossbars, min(width, nodes), band
    ),
    *(st.integers(1, n) for n in (5, 12, 3, 4, 5, 4)),
)


@st.composite
def spreads(draw):
    """Two spreads over one mesh."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    places = [list(p) for p in itertools.product(*map(range, shape))]
    found = []
    for _ in range(2):
        chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=4))
        shares = np.array([draw(st.integers(1, 5)) for _ in chosen], float)
        found.append(Spread(np.array(chosen), shares / shares.sum(), shape))
    return found


@given(meshes)
def test_each_node_has_a_place_of_its_own(mesh):
    places = {tuple(p) for p in mesh.positions.tolist()}
    assert len(places) == mesh.total_nodes
    rows, columns = mesh.shape
    assert all(0 <= r < rows and 0 <= c < columns for r, c in places)


@given(st.integers(1, 40), st.integers(1, 8))
def test_the_plain_snake_goes_from_neighbour_to_neighbour(nodes, width):
    places = path(nodes, min(width, nodes), 1)
    whole = nodes - nodes % min(width, nodes)
    assert (np.abs(np.diff(places[:whole], axis=0)).sum(axis=1) == 1).all()


def test_a_path_through_bands_of_two_rows():
    found = path(8, 4, 2).tolist()
    assert found == [[0, 0], [1, 0], [1, 1], [0, 1], [0, 2], [1, 2], [1, 3], [0, 3]]


@given(meshes, st.data())
def test_the_number_of_a_crossbar(mesh, data):
    number = data.draw(st.integers(0, mesh.capacity - 1))
    assert mesh.number(*mesh.first(number)) == number


@given(meshes, st.data())
def test_the_load_of_ranges_is_what_counting_gives(mesh, data):
    ranges, expected = [], {}
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, mesh.capacity - 1))
        count = data.draw(st.integers(1, mesh.capacity - begin))
        ranges.append((*mesh.first(begin), count))
        for number in range(begin, begin + count):
            node = mesh.first(number)[0]
            expected[node] = expected.get(node, 0) + 1
    nodes, counts = mesh.load(ranges)
    assert dict(zip(nodes.tolist(), counts.tolist(), strict=True)) == expected


@given(spreads())
def test_mean_hops_is_the_mean_over_all_pairs(pair):
    a, b = pair
    expected = sum(
        p * q * np.abs(x - y).sum()
        for (x, p), (y, q) in itertools.product(
            zip(a.places, a.shares, strict=True), zip(b.places, b.shares, strict=True)
        )
    )
    assert mean_hops(a, b) == pytest.approx(expected, abs=1e-12)


@given(spreads())
def test_wires_carry_what_routing_each_pair_puts_on_them(pair):
    a, b = pair
    expected = WireLoads.none(a.shape)
    for (x, p), (y, q) in itertools.product(
        zip(a.places.tolist(), a.shares, strict=True), zip(b.places.tolist(), b.shares, strict=True)
    ):
        for column in range(x[1], y[1]):
            expected.right[x[0], column] += p * q
        for column in range(y[1], x[1]):
            expected.left[x[0], column] += p * q
        for row in range(x[0], y[0]):
            expected.down[row, y[1]] += p * q
        for row in range(y[0], x[0]):
            expected.up[row, y[1]] += p * q
    found = wire_loads(a, b)
    np.testing.assert_allclose(found.flat(), expected.flat(), atol=1e-12)
    assert found.flat().sum() == pytest.approx(mean_hops(a, b), abs=1e-12)


def test_wires_between_chips_are_links():
    mesh = Mesh(chips=2, nodes=4, cores=1, crossbars=1, width=2)
    assert mesh.shape == (2, 4)
    first, last = mesh.spread([(0, 0, 0, 1)]), mesh.spread([(5, 0, 0, 1)])
    slow = wire_loads(first, last).slowness(mesh, wire_ns=1, link_ns=100)
    assert slow.right[0].tolist() == [1, 100, 1]


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 2000))
def test_as_many_chips_as_are_needed(nodes, crossbars):
    target = make_target(chip={"nodes": nodes}, node={"cores": 2}, core={"crossbars": 3})
    mesh = mesh_for(target, crossbars)
    assert mesh.capacity - 6 * nodes < crossbars <= mesh.capacity


def test_too_few_chips():
    target = make_target(chip={"nodes": 2, "chips": 2}, node={"cores": 2}, core={"crossbars": 3})
    with pytest.raises(
        XbarcError, match=r"30 crossbars .* 2 chips of test hold 24: 6 are missing; 3"
    ):
        check_room(target, 30)
