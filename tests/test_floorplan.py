"""inspect --floorplan: what stands where, in 80 columns."""

import json

import numpy as np
import pytest
from chains import conv_chain
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.api import Program
from xbarc.cli import app
from xbarc.passes.im2col import Im2col
from xbarc.passes.place import Place
from xbarc.passes.replicate import Replicate
from xbarc.pipeline import XbarContext, run_module_passes
from xbarc.report.floorplan import draw, floorplan, symbols
from xbarc.support.errors import UsageError

CHAIN = [("a", 18, 3, 4, 8), ("b", 10, 3, 16, 8), ("c", 10, 3, 40, 100)]


def program(target, *passes, chain=CHAIN):
    module = conv_chain(chain)
    run_module_passes([Im2col(), *passes], XbarContext(target), module)
    return Program(module, {}, {}, target)


SMALL = make_target(core={"crossbars": 2}, node={"cores": 2}, chip={"nodes": 4})


def test_cores_by_their_layer():
    lines = draw(floorplan(program(SMALL, Place("snake"))))
    assert lines[:4] == ["test: 6 of 16 crossbars on 2 of 4 nodes", "", "AB C·", ""]
    assert lines[-3:] == [
        "A  a       1  0.0.0 - 0.0.0",
        "B  b       2  0.0.1 - 0.1.0",
        "C  c       3  0.1.1 - 1.0.1",
    ]


def test_a_core_that_is_part_full_is_lower_case():
    target = make_target(core={"crossbars": 4}, node={"cores": 2}, chip={"nodes": 4})
    lines = draw(floorplan(program(target, Place("snake"))))
    assert lines[2] == "Bc ··"


def test_without_a_place_the_order_is_the_programs():
    found = floorplan(program(SMALL))
    assert not found["placed"]
    assert "not placed" in draw(found)[0]
    assert floorplan(program(SMALL, Place("snake")))["floorplan"] == found["floorplan"]


def test_the_same_data_for_programs():
    found = floorplan(program(SMALL, Replicate(budget=9), Place("snake")))
    assert found["mesh"]["width"] == 2
    assert [la["copies"] for la in found["layers"]] == [4, 1, 1]
    assert sum(n["used"] for n in found["floorplan"]) == 9
    first = found["floorplan"][0]
    assert first["cores"] == [[0, 2], [0, 2]]
    assert first["layers"] == [{"name": "a", "crossbars": 4}]
    assert first["utilization"] == 1.0
    for node in found["floorplan"]:
        assert sum(la["crossbars"] for la in node["layers"]) == node["used"]
        assert sum(used for _, used in node["cores"]) == node["used"]


@pytest.mark.parametrize("nodes", [1, 7, 64, 168, 400, 2500])
@pytest.mark.parametrize("cores", [1, 12, 64])
def test_never_wider_than_80_columns(nodes, cores):
    target = make_target(core={"crossbars": 1}, node={"cores": cores}, chip={"nodes": nodes})
    budget = max(nodes * cores * 2 // 3, 6)
    lines = draw(floorplan(program(target, Replicate(budget=budget), Place())))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 140


def test_several_chips():
    target = make_target(core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 4})
    lines = draw(floorplan(program(target, Place("snake"))))
    assert [line for line in lines if line.startswith("chip")] == ["chip 0", "chip 1"]


def test_chips_of_one_node_are_drawn_as_one_mesh():
    target = make_target(core={"crossbars": 1}, node={"cores": 1}, chip={"nodes": 1})
    lines = draw(floorplan(program(target, Place("snake"))))
    assert lines[2:5] == ["A B B", "", "C C C"]


def test_long_names_keep_their_end():
    target = make_target()
    lines = draw(floorplan(program(target, chain=[("block" * 20 + "_7", 18, 3, 4, 8)])))
    assert max(map(len, lines)) <= 80
    assert "_7  " in lines[-1]


@pytest.mark.parametrize("count", [1, 26, 27, 260, 261, 1600])
def test_each_layer_has_its_sign(count):
    assert len(set(symbols(count))) == count


def test_on_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3)).astype(np.float32)
    import onnx.parser

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N,3] x) => (float[N,2] y) '
        "<float[3,2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> { y = MatMul(x, w) }"
    )
    path = tmp_path / "m.xbar"
    xbarc.compile(model, "mca128", calibration=x, passes="place").save(path)
    drawn = CliRunner().invoke(app, ["inspect", str(path), "--floorplan"])
    assert drawn.stdout.startswith("mca128: 1 of 16128 crossbars on 1 of 168 nodes\n")
    found = CliRunner().invoke(app, ["inspect", str(path), "--floorplan", "--json"])
    document = json.loads(found.stdout)
    assert [n["node"] for n in document["floorplan"]] == [0]
    wrong = CliRunner().invoke(app, ["inspect", str(path), "--floorplan", "--tiles"])
    assert isinstance(wrong.exception, UsageError)
