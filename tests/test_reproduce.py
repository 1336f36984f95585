"""`xbarc reproduce`: what is counted without training, the page, and the command."""

import json

import pytest
from typer.testing import CliRunner

import xbarc.reproduce.paper as papers
from xbarc.cli.app import app
from xbarc.reproduce import ckf, msccnn, sub_image, trannsformer
from xbarc.reproduce.page import result_page
from xbarc.reproduce.paper import PAPERS, Line, Result, data_file, paper, percent_less, shown
from xbarc.support.errors import UsageError, XbarcError


def holds(lines, tolerance=0.0):
    """Each line that has a published figure is equal to it; some have."""
    checked = [line for line in lines if line.paper is not None]
    assert checked
    for line in checked:
        assert line.ours == pytest.approx(line.paper, abs=tolerance), line


def test_dense_counts_of_trannsformer():
    holds(trannsformer._dense())


def test_planted_clusters():
    assert [line.ours for line in trannsformer._planted()] == [8, 16]


def test_lenet_counts_of_msccnn():
    holds(msccnn._counts())


def test_resnet20_counts_of_sub_image():
    *lines, saved = sub_image._counts(128)
    holds(lines)
    assert {line.kind for line in lines} == {"reproduction"}
    assert round(saved.ours, 1) == -91.4 and saved.note == "the paper says almost 90 % and 95 %"


def test_ckf():
    result = ckf.reproduce(True, lambda _: None)
    holds(result.tables[0].lines)
    saved = {line.what: line.ours for line in result.tables[1].lines}
    assert saved["multiplications, kernel-first"] == pytest.approx(-56.2, abs=1)
    assert saved["multiplications, im2col"] == 0
    assert saved["crossbars more, kernel-first"] == saved["crossbars more, im2col"] == 0
    assert saved["power, kernel-first, pruned"] < saved["power, kernel-first, dense"]


@pytest.mark.parametrize("name", PAPERS)
def test_each_paper_says_what_it_is(name):
    found = paper(name)
    assert found.TITLE and found.SOURCE and found.QUICK and found.FULL


def test_an_unknown_paper():
    with pytest.raises(UsageError, match=r"no paper 'trannsfomer'.*trannsformer"):
        paper("trannsfomer")


def test_data_that_isnt_there(monkeypatch, tmp_path):
    monkeypatch.setenv("XBARC_DATA", str(tmp_path))
    with pytest.raises(XbarcError, match="needs data/mnist.npz in the folder that XBARC_DATA"):
        data_file("data/mnist.npz")


def test_figures():
    assert percent_less(66840, 149700) == pytest.approx(-55.35, abs=0.01)
    assert (shown(1234.0, ""), shown(-55.354, "%")) == ("1,234", "-55.35 %")


def small():
    result = Result(notes=["A note."])
    result.add(
        "A table",
        [Line("mPEs", 10, 12, "model", note="why"), Line("area", 1.5, None, "model", "mm2")],
    )
    return result


def test_the_page_has_the_papers_figure_beside_ours():
    page = result_page(trannsformer, small(), quick=True)
    assert "A table" in page and "A note." in page and ">12<" in page and ">10<" in page
    assert "1.5 mm2" in page and page.startswith("<!DOCTYPE html>")


def test_command(monkeypatch, tmp_path):
    monkeypatch.setattr(ckf, "reproduce", lambda quick, progress: small())
    run = CliRunner().invoke
    listed = run(app, ["reproduce", "--list"])
    assert listed.exit_code == 0 and all(name in listed.stdout for name in PAPERS)
    path = tmp_path / "page.html"
    done = run(app, ["reproduce", "ckf", "--quick", "-o", str(path)])
    assert done.exit_code == 0 and "mPEs" in done.stdout and path.exists()
    document = json.loads(
        run(app, ["reproduce", "ckf", "--quick", "-o", str(path), "--json"]).stdout
    )
    assert document["paper"] == "ckf" and document["tables"][0]["lines"][0]["ours"] == 10
    assert "which paper?" in str(run(app, ["reproduce"]).exception)
    assert papers.PAPERS == PAPERS
