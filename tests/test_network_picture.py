"""The report's picture of the network: who is on crossbars, who is digital, who reads whom."""

import itertools
import re

import pytest
from models import text_model
from pages import Page

import xbarc
from xbarc.ir.analysis.stages import stages_of
from xbarc.report import report_page
from xbarc.report.page.network import (
    MOST_LANES,
    MOST_ROWS,
    Part,
    drawn,
    folded,
    lanes_of,
    operators,
    parts,
)

RESIDUAL = """g (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z)
<float[4,4,3,3] w, float[4,4,3,3] v> {
  a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a)
  b = Conv<pads=[1,1,1,1]>(r, v) s = Add(b, r) y = Relu(s) z = Neg(r) }"""


def chain(count):
    """Layers and digital parts in turn, between inputs and outputs."""
    made = [Part("inputs", "edge", "", ())]
    for i in range(count):
        made.append(Part(f"l{i}", "crossbars", "", (len(made) - 1,), 2, 3.0, i))
        made.append(Part(f"d{i}", "digital", "Relu", (len(made) - 1,)))
    return [*made, Part("outputs", "edge", "", (len(made) - 1,))]


@pytest.fixture(scope="module")
def program():
    model = text_model(RESIDUAL)
    for node, name in zip(model.graph.node, ("c1", "r1", "c2", "add", "r2", "neg"), strict=True):
        node.name = name
    return xbarc.compile(model, "mca128")


def test_lines_are_the_program_s_parts_and_what_they_read(program):
    found = [*parts(program, stages_of(program.module))]
    by_name = {part.name: part for part in found}
    assert [part.kind for part in found if part.kind != "digital"] == [
        "edge",
        "crossbars",
        "crossbars",
        "edge",
    ]
    assert by_name["c1"].reads == (0,)
    relu = next(i for i, part in enumerate(found) if "Relu" in part.name)
    assert relu in by_name["c2"].reads
    add = next(part for part in found if "Add" in part.name)
    assert {found[i].name for i in add.reads} == {"c2", found[relu].name}
    for name, row in zip(("c1", "c2"), program.report["layers"], strict=True):
        assert by_name[name].crossbars == row["crossbars"]
        assert by_name[name].energy_pj == sum(row["energy_pj"].values())
        assert "Conv 36 × 4, im2col" in by_name[name].about
    assert by_name["inputs"].about == "4 × 8 × 8"
    assert len(by_name["outputs"].reads) >= 1


def test_operators_are_named_the_most_frequent_first(program):
    said = " ".join(operators(content) for content in program.digital.values())
    assert "Relu" in said
    assert "Add" in said


def test_the_page_has_the_picture_with_each_figure(program, tmp_path):
    program.save(tmp_path / "m.xbar")
    page = Page(report_page(program, tmp_path / "m.xbar"))
    assert "network" in page.ids()
    for i, row in enumerate(program.report["layers"]):
        assert page.figures[f"network.{i}.crossbars"] == row["crossbars"]
        assert page.figures[f"network.{i}.energy_pj"] == sum(row["energy_pj"].values())
    labels = [a["aria-label"] for t, a in page.elements if t == "svg"]
    assert any(label.startswith("c2: crossbars, reads ") for label in labels)


def test_a_chain_needs_no_lane():
    assert lanes_of(chain(5)) == ({}, 0)


def test_what_is_read_further_down_has_a_lane_to_its_last_reader():
    made = chain(3)
    made[5] = Part("l2", "crossbars", "", (2, 4))
    made[6] = Part("d2", "digital", "", (2, 5))
    assert lanes_of(made) == ({2: (0, 6)}, 0)


def test_lanes_are_used_again():
    made = [
        Part(str(i), "digital", "", tuple(r for r in (i - 2, i - 1) if r >= 0)) for i in range(9)
    ]
    lanes, left_out = lanes_of(made)
    assert left_out == 0
    assert {lane for lane, _ in lanes.values()} == {0, 1}


def test_connections_without_a_lane_are_counted():
    width = MOST_LANES + 3
    made = [Part(str(i), "digital", "", ()) for i in range(width)]
    made.append(Part("pause", "digital", "", ()))
    made.append(Part("all", "digital", "", tuple(range(width))))
    lanes, left_out = lanes_of(made)
    assert len(lanes) == MOST_LANES
    assert left_out == 3


def test_lines_join_those_above_and_below():
    made = chain(2)
    made[4] = Part("d1", "digital", "", (2, 3))
    pictures = [*drawn(made, lanes_of(made)[0])]

    def ends(picture, y):
        path = " ".join(re.findall(r' d="([^"]*)"', picture)[:-1])
        return {x for x, at in re.findall(r"[ML]([\d.]+) ([\d.]+)", path) if float(at) == y}

    for above, below in itertools.pairwise(pictures):
        assert ends(above, 100) == ends(below, 0)
        assert ends(above, 100)


def test_long_programs_are_folded_and_nothing_is_lost():
    every = chain(2000)
    shown = folded(every)
    assert len(shown) == MOST_ROWS
    (middle,) = [part for part in shown if part.kind == "folded"]
    assert sum(part.crossbars or 0 for part in shown) == 2 * 2000
    assert sum(part.energy_pj or 0.0 for part in shown) == pytest.approx(3.0 * 2000)
    at = shown.index(middle)
    assert middle.reads == (at - 1,)
    assert shown[at + 1].reads == (at,)
    assert [part.reads for part in shown[1:]] == [(i,) for i in range(len(shown) - 1)]
    assert shown[-1].name == "outputs"


def test_a_page_of_a_long_program_says_what_it_folds(tmp_path):
    text = "".join(
        f"m{i} = MatMul({'x' if i == 0 else f'r{i - 1}'}, w) r{i} = Relu(m{i}) " for i in range(90)
    )
    model = text_model(f"g (float[N,4] x) => (float[N,4] r89) <float[4,4] w> {{ {text} }}")
    program = xbarc.compile(model, "mca128")
    program.save(tmp_path / "m.xbar")
    page = Page(report_page(program, tmp_path / "m.xbar"))
    assert "182 lines are too many to draw" in page.text
    assert "23 lines between" in page.text
    labels = [a["aria-label"] for t, a in page.elements if t == "svg"]
    assert sum(": folded" in label for label in labels) == 1
