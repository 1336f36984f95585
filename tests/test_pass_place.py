"""place: every crossbar somewhere, nothing twice, and never further apart than along the snake."""

import networkx as nx
import numpy as np
import pytest
from chains import conv_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import make_target

from xbarc.hw.mesh import Mesh
from xbarc.ir import parse_module, print_module
from xbarc.ir.dialect import MvmOp, copies_of, mesh_of, ranges_of
from xbarc.passes.im2col import Im2col
from xbarc.passes.place import Arrangement, Place, arrange, bits_hops, by_attraction
from xbarc.passes.replicate import Replicate
from xbarc.passes.schedule import Schedule
from xbarc.pipeline import XbarContext, run_module_passes
from xbarc.support.errors import UsageError, XbarcError

CHAIN = [("a", 18, 3, 4, 8), ("b", 10, 3, 16, 8), ("c", 10, 3, 40, 300), ("d", 8, 1, 8, 8)]
SMALL = {"core": {"crossbars": 2}, "node": {"cores": 2}, "chip": {"nodes": 12}}


def placed(*passes, chain=CHAIN, **target):
    module = conv_chain(chain)
    run_module_passes([Im2col(), *passes], XbarContext(make_target(**target or SMALL)), module)
    return module


def mvms(module):
    return [o for o in module.walk() if isinstance(o, MvmOp)]


@st.composite
def problems(draw):
    """Layers of some crossbars that exchange bits, and a mesh for them."""
    counts = draw(st.lists(st.integers(1, 12), min_size=2, max_size=7))
    graph = nx.Graph()
    graph.add_nodes_from(range(len(counts)))
    for _ in range(draw(st.integers(0, 10))):
        a, b = (draw(st.integers(0, len(counts) - 1)) for _ in range(2))
        if a != b:
            graph.add_edge(a, b, bits=draw(st.integers(1, 1000)))
    width = draw(st.integers(1, 6))
    nodes = -(-sum(counts) // 2)
    return dict(enumerate(counts)), graph, Mesh(1, nodes, 1, 2, min(width, nodes))


@settings(deadline=None, max_examples=40)
@given(problems(), st.sampled_from(["greedy", "anneal"]))
def test_never_worse_than_the_snake(problem, algorithm):
    counts, graph, mesh = problem
    snake = arrange(counts, graph, mesh, Place("snake"))
    found = arrange(counts, graph, mesh, Place(algorithm))
    assert snake == Arrangement(mesh, tuple(counts))
    assert sorted(found.order) == list(counts)
    assert bits_hops(found, counts, graph) <= bits_hops(snake, counts, graph)


def test_a_block_beats_a_strip():
    counts = {0: 4, 1: 4}
    graph = nx.Graph([(0, 1, {"bits": 1})])
    mesh = Mesh(1, 64, 1, 1, 16)
    found = arrange(counts, graph, mesh, Place())
    assert found.mesh.band > 1
    assert bits_hops(found, counts, graph) < bits_hops(Arrangement(mesh, (0, 1)), counts, graph)


@pytest.mark.parametrize(
    ("height", "columns"), [(1, 2), (2, 2), (3, 2), (4, 2), (6, 2), (24, 3), (32, 4)]
)
def test_two_layers_that_fill_columns_take_the_whole_height(height, columns):
    graph = nx.Graph([(0, 1, {"bits": 1})])
    mesh = Mesh(1, 8 * height, 1, 1, 8)
    found = arrange({0: columns * height, 1: columns * height}, graph, mesh, Place())
    assert found.mesh.band == height


def test_who_exchanges_most_comes_next():
    graph = nx.Graph()
    graph.add_nodes_from(range(4))
    graph.add_edge(0, 1, bits=1)
    graph.add_edge(0, 3, bits=9)
    graph.add_edge(3, 2, bits=5)
    assert by_attraction(graph) == (0, 3, 2, 1)


@pytest.mark.parametrize("algorithm", ["greedy", "snake", "anneal"])
def test_every_crossbar_stands_once(algorithm):
    module = placed(Replicate(budget=40), Place(algorithm))
    mesh, taken = mesh_of(mvms(module)[0]), []
    for op in mvms(module):
        for node, core, crossbar, count in ranges_of(op):
            first = mesh.number(node, core, crossbar)
            taken += range(first, first + count)
        assert sum(r[3] for r in ranges_of(op)) == op.crossbars() * copies_of(op)
    assert sorted(taken) == list(range(len(taken)))
    assert print_module(parse_module(print_module(module))) == print_module(module)


def test_annealing_repeats_by_its_seed():
    assert print_module(placed(Place("anneal", 3))) == print_module(placed(Place("anneal", 3)))


def test_placing_again_drops_a_schedule_that_no_longer_holds():
    module = placed(Place(), Schedule(), Place("snake"))
    text = print_module(module)
    assert "time [" not in text and "interval" not in text
    assert print_module(placed(Place("snake"))) == text


def test_replicating_drops_places():
    assert " at [" not in print_module(placed(Place(), Replicate(budget=40)))


def test_too_few_chips():
    with pytest.raises(XbarcError, match=r"13 crossbars are needed, 1 chip of test holds 4: 9 are"):
        placed(Place(), **SMALL | {"chip": {"nodes": 1, "chips": 1}})


def test_a_negative_seed():
    with pytest.raises(UsageError, match="seed"):
        Place("anneal", -1)


def test_the_text_grows_with_layers_and_not_with_crossbars():
    few = placed(Place())
    many = placed(Replicate(budget=4000), Place(), **SMALL | {"chip": {"nodes": 1000}})
    assert sum(copies_of(o) for o in mvms(many)) > 100
    assert len(print_module(many)) < len(print_module(few)) + 100 * len(mvms(few))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("[[0, 0, 0, 2]]", "2 crossbars in its ranges, 1 x 1 in its tiles"),
        ("[[0, 2, 0, 1]]", "isn't \\[node, core, crossbar, count\\] on the mesh"),
        ("[[11, 1, 1, 1], [12, 0, 0, 1]]", "reaches beyond the 48 crossbars"),
        ("[[0, 0, 1, 1]]", "crossbar 1 of core 0 of node 0 is taken twice"),
    ],
)
def test_the_verifier_refuses(at, message):
    module = placed(Place("snake"), chain=[("a", 18, 3, 4, 8), ("b", 16, 3, 8, 8)])
    text = print_module(module)
    assert " at [[0, 0, 0, 1]]" in text
    with pytest.raises(XbarcError, match=message):
        parse_module(text.replace(" at [[0, 0, 0, 1]]", f" at {at}"))


def test_a_place_needs_a_mesh():
    text = print_module(placed(Place("snake")))
    start = text.index(", xbar.mesh")
    with pytest.raises(XbarcError, match=r"needs a module that says its xbar\.mesh"):
        parse_module(text[:start] + text[text.index("}", start) :])


def test_bits_hops_of_neighbours():
    graph = nx.Graph([(0, 1, {"bits": 7})])
    found = bits_hops(Arrangement(Mesh(1, 4, 1, 1, 2), (0, 1)), {0: 1, 1: 1}, graph)
    assert np.isclose(found, 7)
