"""`xbarc reproduce`: what is counted without training, the page, and the command."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import xbarc.reproduce.paper as papers
from xbarc.cli.app import app
from xbarc.graph.compress.matrices import find_matrices
from xbarc.reproduce import ckf, msccnn, sub_image, trannsformer
from xbarc.reproduce.networks import Samples, available, cifar10, digits, membranes, strokes
from xbarc.reproduce.page import result_page
from xbarc.reproduce.paper import (
    PAPERS,
    Line,
    MissingDataError,
    Result,
    data_file,
    paper,
    percent_less,
    shown,
)
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


def test_whole_networks_of_trannsformer():
    counted = {
        case.mpes["original"]: trannsformer._mpes(case.network(), "dense")
        for case in trannsformer._networks(quick=False)
        if case.mpes
    }
    assert counted == {149700: 149700, 257700: 257700}


def test_trannsformer_of_a_cnn(monkeypatch):
    """All four states of a convolutional network, hardly trained: what is counted, and told."""
    case = trannsformer._networks(quick=True)[1]
    all_of = digits((1, 8, 8))
    few = Samples(*((x[:96], y[:96]) for x, y in (all_of.train, all_of.test)))
    tiny = dataclasses.replace(case, samples=lambda: few, training={**case.training, "epochs": 4})
    monkeypatch.setattr(trannsformer, "_networks", lambda quick: [tiny])
    told = []
    result = trannsformer.reproduce(True, told.append)
    mpes, accuracies, costs = (
        {line.what: line.ours for line in part.lines} for part in result.tables[2:]
    )
    assert mpes["original"] == 3 * 2 + 18 * 4 + 16 * 16 + 16 * 3
    assert mpes["TraNNsformer"] < mpes["pruned only"] <= mpes["original"]
    assert mpes["pruned, clustered offline"] < mpes["pruned only"]
    less = 100 * (mpes["TraNNsformer"] / mpes["original"] - 1)
    assert mpes["TraNNsformer against original"] == pytest.approx(less)
    assert accuracies["pruned only"] == accuracies["pruned, clustered offline"]
    assert costs["crossbars on mca64, original"] == 1 + 2 + 1 + 1
    assert all(line.kind == "model" for part in result.tables[2:] for line in part.lines)
    assert [text.split(":")[0] for text in told if "crossbars on mca128" in text] == [
        f"{case.name}, {name}" for name in list(mpes)[:4]
    ]


def test_accuracies_are_compared_on_as_many_pictures_as_the_papers():
    case = next(c for c in trannsformer._networks(quick=False) if "CIFAR" in c.name)
    variant = trannsformer.Variant("TraNNsformer", None, 1, 0.5, 0.46, {}, 1.0, 1.0)
    (line,) = trannsformer._accuracies(case, [variant])
    assert (line.ours, line.paper) == (50.0, 46.9)
    assert line.note == "on the first 1000, as the paper's: 46 %"


def test_what_gets_worse_in_msccnn_says_so():
    def state(name, before, why, **figures):
        return msccnn.State(name, before, why, {key: (v, "") for key, v in figures.items()})

    states = [
        state("as it is", "as it is", "", crossbars=10, area=1.0, accuracy=99.0),
        state("pooled", "as it is", "", crossbars=4, area=1.0, accuracy=98.0),
        state("split", "pooled", "two for one", crossbars=5, area=1.5, accuracy=98.5),
    ]
    notes = {line.what: line.note for line in msccnn._lines(states) if line.note}
    assert notes == {
        "crossbars, split": "more than pooled: two for one",
        "area, split": "more than as it is: two for one",
    }


def test_networks_of_msccnn_at_each_step():
    """Weights of the network on CIFAR-10: pooling leaves 64 x 10, depthwise kernels 9 a channel."""
    (case,) = (c for c in msccnn._networks(quick=False) if c.name == "CIFAR-10")
    x = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
    samples = Samples((x, np.zeros(8, np.int64)), (x, np.zeros(8, np.int64)))
    found = [
        msccnn._figures(case.network(), samples, passes)["weights"][0]
        for passes in ("", msccnn.POOLED, msccnn.SEPARATED)
    ]
    kernels = 9 * (3 * 16 + 16 * 32 + 32 * 64)
    separate = 9 * (3 * 16 + 16 + 32) + 16 * 32 + 32 * 64
    assert found == [kernels + 1024 * 128 + 128 * 10, kernels + 64 * 10, separate + 64 * 10]


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
    found = {line.what: line.ours for line in result.tables[1].lines}
    assert found["multiplications, kernel-first"] == pytest.approx(-56.2, abs=1)
    assert found["multiplications, im2col"] == 0
    assert found["crossbars more, kernel-first"] == found["crossbars more, im2col"] == 0
    assert found["power, kernel-first, pruned"] < found["power, kernel-first, dense"]
    # Ink is a fifth of the pixels: without training none would be found.
    assert found["pixels right, kernel-first, dense"] > 90
    assert found["IoU of ink, kernel-first, pruned"] > 70
    for what in ("pixels right", "IoU of ink"):
        for state in ("dense", "pruned"):
            mine = found[f"{what}, kernel-first, {state}"]
            assert mine == found[f"{what}, im2col, {state}"]  # lossless: the same sums


def test_pruned_weights_stay_zero_in_each_layer():
    """Retraining leaves the share that pruning set to zero, in every layer."""
    task = ckf.Task(few(strokes(), 64), (4, 8), (1, 1), {"threads": 1}, "ink")
    dense, pruned = ckf._trained(task, lambda _: None)
    for name, layer in find_matrices(pruned.graph)[0].items():
        zeros = (layer.matrix == 0).sum()
        assert zeros == pytest.approx(ckf.PRUNED * layer.matrix.size, abs=1), name
        assert (find_matrices(dense.graph)[0][name].matrix != 0).all()


def few(samples, count):
    return Samples(*((x[:count], y[:count]) for x, y in (samples.train, samples.test)))


def test_sub_images_lose_less_to_wires_than_an_unsplit_image():
    samples = few(digits((1, 8, 8)), 200)
    small = sub_image._small(samples, True)
    lines = list(sub_image._wires(small, samples, sub_image.WIRED_QUICK, 50))
    found = {line.what: line.ours for line in lines}
    apart, whole = (name for name, _, _ in sub_image.WIRED_QUICK)
    assert found[f"{apart}, no resistance"] == found[f"{whole}, no resistance"]
    assert 0 < found[f"{apart}, scores moved by it"] < found[f"{whole}, scores moved by it"]


def test_cases_are_compared_with_the_network_of_3d_kernels():
    cases = [sub_image.Case(r, n, a, None) for r, n, a in ((0, 100, 0.9), (0.5, 60, 0.89))]
    found = {
        line.what: (line.ours, line.paper) for line in sub_image._lines(cases, sub_image.SAVED)
    }
    assert found["crossbars, change by replacing 50%"] == (pytest.approx(-40), -50)
    assert found["accuracy, change by replacing 50%"] == (pytest.approx(-1), None)


def test_membranes_are_cut_from_images_apart(monkeypatch, tmp_path):
    """Each image has a brightness of its own: none of those held out is trained on."""
    bright = np.arange(30, dtype=np.uint8)[:, None, None] + np.zeros((1, 64, 64), np.uint8)
    (tmp_path / "data").mkdir()
    masks = np.where(bright % 2, np.uint8(255), np.uint8(0))
    np.savez(tmp_path / "data" / "isbi2012_membrane.npz", images=bright, masks=masks)
    monkeypatch.setenv("XBARC_DATA", str(tmp_path))
    samples = membranes(32, 200)
    for x, mask in (samples.train, samples.test):
        assert x.shape == mask.shape == (len(x), 1, 32, 32)
        assert ((x * 255).round() % 2 == mask).all()
    assert set((samples.train[0] * 255).round().ravel()) == set(range(20))
    assert sorted((samples.test[0][:, 0, 0, 0] * 255).round()) == sorted([*range(20, 30)] * 4)


def test_cifar_of_both_files(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    for name, level in (("cifar10", 0), ("cifar10_more", 255)):
        x, y = np.full((2, 32, 32, 3), level, np.uint8), np.full(2, level % 2)
        tests = {"x_test": x, "y_test": y} if level == 0 else {}
        np.savez(tmp_path / "data" / f"{name}.npz", x_train=x, y_train=y, **tests)
    monkeypatch.setenv("XBARC_DATA", str(tmp_path))
    samples = cifar10()
    x, y = samples.train
    assert x.shape == (4, 3, 32, 32) and sorted(y) == [0, 0, 1, 1]
    assert ((x[:, 0, 0, 0] > 0) == y).all()  # pictures keep their classes in the new order
    assert x[y == 0][0, :, 0, 0] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert len(samples.test[0]) == 2


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


def test_sub_image_keeps_what_it_has_data_for(monkeypatch):
    def missing():
        raise MissingDataError("needs models/resnet20_cifar10.onnx")

    there = sub_image.Network("A CNN", lambda: "samples", lambda *given: given[2].add("t", []))
    gone = sub_image.Network("ResNet-20", missing, lambda *_: None)
    monkeypatch.setattr(sub_image, "_networks", lambda quick: [there, gone])
    monkeypatch.setattr(sub_image, "PUBLISHED", {})
    result = sub_image.reproduce(False, lambda _: None)
    assert [table.title for table in result.tables] == ["t"]
    assert any("ResNet-20 is left out" in note for note in result.notes)


def test_the_pages_place_is_tried_before_the_training(monkeypatch, tmp_path):
    monkeypatch.setattr(ckf, "reproduce", lambda *_: pytest.fail("it trains"))
    found = CliRunner().invoke(app, ["reproduce", "ckf", "-o", str(tmp_path / "no" / "p.html")])
    assert found.exit_code != 0
    assert isinstance(found.exception, XbarcError)


def test_a_network_without_data_is_left_out():
    def missing():
        raise MissingDataError("needs data/cifar10.npz")

    quick = msccnn._networks(quick=True)[0]
    other = dataclasses.replace(quick, name="other", samples=missing)
    result, told = Result(), []
    ((case, samples),) = available([other, quick], result, told.append)
    assert case.name == quick.name and len(samples.train[0]) == 1400
    assert result.notes == told == ["other is left out: needs data/cifar10.npz."]
    with pytest.raises(MissingDataError, match="cifar10"):
        list(available([other, other], Result(), told.append))


def test_grey_cifar_of_both_files(monkeypatch, tmp_path):
    monkeypatch.setenv("XBARC_DATA", str(tmp_path))
    (tmp_path / "data").mkdir()
    pictures = np.zeros((3, 32, 32, 3), np.uint8)
    pictures[:, 0, 1] = [255, 0, 0]
    half = {"x_train": pictures, "y_train": np.arange(3)}
    np.savez(tmp_path / "data/cifar10.npz", **half, x_test=pictures, y_test=np.arange(3))
    with pytest.raises(MissingDataError, match="cifar10_more"):
        cifar10(grey=True)
    np.savez(tmp_path / "data/cifar10_more.npz", **half)
    samples = cifar10(grey=True)
    for (x, _), count in ((samples.train, 6), (samples.test, 3)):
        assert x.shape == (count, 1024) and x[:, 1] == pytest.approx(0.299)
        assert (x != 0).sum() == count


def test_figures():
    assert percent_less(66840, 149700) == pytest.approx(-55.35, abs=0.01)
    assert (shown(1234.0, ""), shown(-55.354, "%")) == ("1,234", "-55.35 %")
    assert (shown(0.0023, "W"), shown(71.77, "uJ")) == ("2.3 mW", "71.77 µJ")


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
    assert "1.5 mm²" in page and page.startswith("<!DOCTYPE html>")


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
