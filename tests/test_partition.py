"""How a layer is cut in sub-images, as it is drawn, listed and reported."""

import json

import numpy as np
import pytest
from convolutions import Conv, mapped, same, valid
from models import text_model
from pages import Page, outside
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cli.inspect import draw_patches
from xbarc.hw.target import load_target
from xbarc.ir.analysis.output_patches import each_patch, output_patches
from xbarc.ir.dialect import MvmOp
from xbarc.report.page.page import report_page


def cut(layer, passes="sub-image", size=128):
    """The output patches of one layer whose weights are ones."""
    target = load_target(f"mca{size}", ["array.cell_bits=7", "inputs.dac_bits=8"])
    module = mapped(target, [layer], passes)
    (mvm,) = (op for op in module.walk() if isinstance(op, MvmOp))
    return output_patches(mvm, {"c0": np.ones(layer.matrix, np.int8)}, target)


def test_sub_images_of_a_map():
    found = cut(valid(28, 3, 1, 1))
    assert (found["outputs"], found["window"], found["overlap"]) == ([8, 8], [10, 10], [2, 2])
    assert (found["patches"], found["rows"], found["columns"]) == (16, 1156, 676)
    for axis in found["axes"]:
        assert axis["outputs"] == [(0, 8), (8, 16), (16, 24), (24, 26)]
        assert axis["window"] == [(0, 10), (8, 18), (16, 26), (24, 28)]
    listed = list(each_patch(found))
    assert len(listed) == 16
    assert listed[7] == (((8, 16), (24, 26)), ((8, 18), (24, 28)))


def test_padding_is_outside_of_the_image():
    found = cut(Conv((9,), (3,), 1, 1, strides=(2,), pads=(1, 1)), "sub-image{patch=3}")
    assert found["axes"] == [{"outputs": [(0, 3), (3, 5)], "window": [(-1, 6), (5, 10)]}]
    assert found["overlap"] == [1]


def test_pixels_in_a_row():
    found = cut(Conv((5, 5), (1, 1), 16, 16))
    assert (found["flat"], found["map"], found["outputs"]) == (True, [25], [4])
    assert found["axes"][0]["outputs"][-1] == found["axes"][0]["window"][-1] == (24, 25)
    assert (found["rows"], found["columns"]) == (25 * 16, 25 * 16)


def test_windows_are_cut_alike():
    found = cut(same(12, 3, 3, 16), "window")
    assert found["patches"] * np.prod(found["outputs"]) >= 144
    assert found["outputs"] != [1, 1]


@pytest.mark.parametrize("passes", ["im2col", "window{scheme=im2col}", "sub-image{patch=1}"])
def test_an_output_alone_is_no_patch(passes):
    assert cut(same(12, 3, 3, 16), passes) is None


def test_a_drawing():
    assert draw_patches(cut(valid(7, 3, 1, 1), "sub-image{patch=2,3}")) == [
        "+------+----+",
        "|      |    |",
        "|      |    |",
        "+------+----+",
        "|      |    |",
        "|      |    |",
        "+------+----+",
        "|      |    |",
        "+------+----+",
    ]
    # A line of one axis, and a map of several outputs a character.
    assert draw_patches(cut(Conv((9,), (3,), 1, 1), "sub-image{patch=4}")) == [
        "+--------+------+",
        "|        |      |",
        "+--------+------+",
    ]
    large = draw_patches(cut(valid(202, 3, 1, 1)))
    assert max(map(len, large)) <= 100
    assert sum(line.startswith("+") for line in large) == 26
    assert draw_patches(cut(valid(802, 3, 1, 1), "sub-image{patch=2}")) == []


def saved(program, folder):
    path = folder / "m.xbar"
    program.save(path)
    return program, path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    text = """g (float[N,2,12,12] x) => (float[N,3,12,12] y) <float[4,2,3,3] w, float[3,4,1,1] v> {
      a = Conv<pads=[1,1,1,1]>(x, w)
      b = Relu(a)
      y = Conv(b, v)
    }"""
    passes = "sub-image{patch=5 layers=Conv}"
    program = xbarc.compile(
        text_model(text), "mca128", passes=passes, overrides=["array.cell_bits=7"]
    )
    return saved(program, tmp_path_factory.mktemp("compiled"))


def test_inspect_draws_and_lists_it(compiled):
    program, path = compiled

    def run(*options):
        done = CliRunner().invoke(app, ["inspect", str(path), *options])
        assert done.exit_code == 0
        return done.stdout

    name = program.report["layers"][0]["name"]
    shown = run("--layer", name)
    assert "9 patches of 5x5 outputs on 12x12, each from 7x7 inputs" in shown
    assert "+----------+----------+----+" in shown
    assert "axis 1 window  -1:6 4:11 9:13" in shown
    (layer,) = json.loads(run("--layer", name, "--json"))["layers"]
    assert (layer["copies"], layer["crossbars"]) == (9, program.report["layers"][0]["crossbars"])
    assert layer["patches"][5] == {"outputs": [[5, 10], [10, 12]], "window": [[4, 11], [9, 13]]}
    assert "+---" not in run()
    first, second = json.loads(run("--json"))["layers"]
    assert "partition" in first
    assert "patches" not in first
    assert "partition" not in second


def test_the_report_draws_it(compiled):
    source = report_page(*compiled)
    page = Page(source)
    assert "partition" in page.ids()
    assert "9 patches of 5×5 outputs on 12×12, each from 7×7 inputs" in page.text
    (drawn,) = (a for tag, a in page.elements if tag == "path" and a.get("class") == "cut")
    assert drawn["d"] == "M0 5h12M0 10h12M5 0v12M10 0v12"
    assert not outside(source)


def test_a_report_without_patches_has_no_such_section(tmp_path):
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul(x, w) }"
    plain = saved(xbarc.compile(text_model(text), "mca128"), tmp_path)
    assert "partition" not in Page(report_page(*plain)).ids()
