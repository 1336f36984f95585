"""The picture of a weight matrix before and after clustering: text, SVG, and in the report."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from models import text_model
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.cli.app import app
from xbarc.ir.dialect import MvmOp
from xbarc.report.matrix import matrix_picture, shades, svg_file, text_lines

LINEAR = "g (float[N,60] x) => (float[N,60] y) <float[60,60] w> { y = MatMul(x, w) }"
CROSSBAR = {"rows": 6, "cols": 6, "cell_bits": 8, "encoding": "offset"}


def blocks():
    """Ten blocks of 6 x 6, out of order."""
    rng = np.random.default_rng(0)
    w = np.kron(np.eye(10), np.ones((6, 6))) * (rng.random((60, 60)) < 0.95)
    return w[rng.permutation(60)][:, rng.permutation(60)]


@pytest.fixture(scope="module")
def program():
    model = text_model(LINEAR, w=blocks())
    return xbarc.compile(model, target=make_target(array=CROSSBAR), passes="cluster")


def picture(program, size=60):
    (op,) = (o for o in program.module.walk() if isinstance(o, MvmOp))
    return matrix_picture(program, op, size)


def test_before_is_the_matrix_and_after_its_blocks(program):
    found = picture(program)
    np.testing.assert_array_equal(found.before, blocks() != 0)
    assert (found.tiles, len(found.frames), found.nonzeros) == (10, 10, (blocks() != 0).sum())
    for r0, r1, c0, c1 in found.frames:
        inside = found.after[round(60 * r0) : round(60 * r1), round(60 * c0) : round(60 * c1)]
        assert inside.shape == (6, 6) and inside.mean() > 0.8
    assert found.after.sum() == found.nonzeros


def test_a_large_matrix_is_drawn_in_shares(program):
    found = picture(program, 12)
    assert found.before.shape == (12, 12)
    np.testing.assert_allclose(found.before, (blocks() != 0).reshape(12, 5, 12, 5).mean((1, 3)))


def test_shades():
    assert shades(np.array([[0, 0.05, 0.2, 0.5, 0.9]])).tolist() == [[0, 1, 2, 3, 4]]


def test_text_has_the_diagonal(program):
    lines = list(text_lines(picture(program)))
    assert lines[0].startswith("MatMul: 60 x 60, ") and lines[0].endswith(", 10 tiles")
    after = lines[lines.index("after:") + 2 : -1]
    assert len(after) == 30 and all(len(line) == 62 for line in after)
    assert after[0][1:7] == "######" and after[-1][55:61] == "######"
    assert after[0][7:61].strip() == ""


def test_svg_is_sound(program):
    root = ET.fromstring(svg_file([picture(program)]))
    sides = [e for e in root if e.tag.endswith("svg")]
    assert [s.get("aria-label") for s in sides] == ["MatMul before", "MatMul after"]
    assert len(sides[1].findall("*[@class='frame']")) == 1
    assert sides[1].find("*[@class='frame']").get("d").count("M") == 10


def test_command_and_report(program, tmp_path):
    path, run = tmp_path / "p.xbar", CliRunner().invoke
    program.save(path)
    drawn = run(app, ["inspect", str(path), "--matrix"])
    assert drawn.exit_code == 0 and "######" in drawn.stdout
    written = run(app, ["inspect", str(path), "--matrix", "--svg", str(tmp_path / "m.svg")])
    assert written.exit_code == 0 and ET.parse(tmp_path / "m.svg").getroot().tag.endswith("svg")
    assert run(app, ["report", str(path), "-o", str(tmp_path / "r.html")]).exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert 'id="matrices"' in page and "10 tiles (100 of the whole matrix" in page


def test_what_has_its_own_order_is_refused(tmp_path):
    model = text_model(LINEAR)
    plain = xbarc.compile(model, target=make_target(array=CROSSBAR))
    plain.save(tmp_path / "p.xbar")
    refused = CliRunner().invoke(app, ["inspect", str(tmp_path / "p.xbar"), "--matrix"])
    assert "every layer has its rows and columns in their own order" in str(refused.exception)
    usage = CliRunner().invoke(app, ["inspect", str(tmp_path / "p.xbar"), "--svg", "m.svg"])
    assert "--svg is where --matrix draws" in str(usage.exception)
