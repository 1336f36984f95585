"""The segmentation example: scores against plain pair counting, and each step on a tiny network."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import snr_db
from shared import needs_shared

import xbarc

EXAMPLE = Path(__file__).parent.parent / "examples" / "segmentation"
MODULES = ("data", "evaluate", "network", "picture", "prune", "score", "train")
SIDE = 32


@pytest.fixture(scope="module", autouse=True)
def example_path():
    """The example's modules are found, and forgotten afterwards: their names are common ones."""
    before = list(sys.path)
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path[:] = before
    for name in MODULES:
        sys.modules.pop(name, None)


# --- scores --------------------------------------------------------------------------------------

LABELS = hnp.arrays(np.int32, (4, 4), elements=st.integers(0, 3))


@settings(deadline=None)
@given(LABELS, LABELS)
def test_v_rand_counts_pairs_of_pixels(proposed, true):
    from score import v_rand

    pixels = [
        (p if p else -k, t)  # a proposal's membrane pixel is like no other
        for k, (p, t) in enumerate(zip(proposed.flat, true.flat, strict=True), start=1)
        if t
    ]
    pairs = [(a, b) for a in pixels for b in pixels]
    both = sum(a == b for a, b in pairs)
    if not pairs:
        return
    of_true = both / sum(a[1] == b[1] for a, b in pairs)
    of_proposed = both / sum(a[0] == b[0] for a, b in pairs)
    expected = 2 * of_true * of_proposed / (of_true + of_proposed)
    assert v_rand(proposed, true) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("proposed", "true", "score"),
    [
        ([1, 1, 2, 2], [5, 5, 7, 7], 1),
        ([1, 1, 1, 1], [1, 1, 2, 2], 2 / 3),  # merged: 8 of 16 pairs, all of 8
        ([1, 1, 2, 2], [1, 1, 1, 1], 2 / 3),  # split
        ([0, 0, 0, 0], [1, 1, 1, 1], 0.4),  # each by itself: all of 4 pairs, 4 of 16
        ([1, 1, 9, 9], [1, 1, 0, 0], 1),  # what is membrane in truth doesn't count
    ],
)
def test_v_rand_by_hand(proposed, true, score):
    from score import v_rand

    assert v_rand(np.array(proposed), np.array(true)) == pytest.approx(score)


def test_cells_touch_along_edges_not_corners():
    from score import segments

    assert segments(np.eye(3, dtype=bool)).max() == 3
    assert segments(np.array([[1, 1, 0], [0, 1, 1]], bool)).max() == 1


def test_thinned_gives_membranes_to_the_nearest_cell():
    from score import thinned

    found = thinned(np.array([[1, 0, 0, 0, 0, 2]], np.int32))
    assert found.tolist() == [[1, 1, 1, 2, 2, 2]]
    assert not thinned(np.zeros((2, 2), np.int32)).any()


def test_best_v_rand_takes_one_threshold_for_all_images():
    from score import best_v_rand

    true = np.ones((2, 1, 7), bool)
    true[:, :, 3] = False
    sure = np.where(true, 0.95, 0.05).astype(np.float32)
    assert best_v_rand(list(sure), list(true)) == 1
    # The membrane shows at thresholds from .7 up in one image, under .3 down in the other,
    # where all is membrane above: so never in both.
    weak = np.where(true, 0.95, 0.65).astype(np.float32)[0]
    dark = np.where(true, 0.25, 0.05).astype(np.float32)[1]
    assert best_v_rand([weak], list(true[:1])) == best_v_rand([dark], list(true[:1])) == 1
    assert best_v_rand([weak, dark], list(true)) < 1


def test_accuracy_and_iou_by_hand():
    from score import membrane_iou, pixel_accuracy

    proposed = np.array([1, 1, 0, 0, 1], bool)
    true = np.array([1, 0, 0, 1, 1], bool)
    assert pixel_accuracy(proposed, true) == 3 / 5
    assert membrane_iou(proposed, true) == 1 / 3


# --- pictures ------------------------------------------------------------------------------------


def read_png(path):
    """Palette and palette entries of a PNG whose lines aren't filtered."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, at + 8 + length)
        assert zlib.crc32(kind + body) == checksum
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3), lines[:, 1:]


def test_picture(tmp_path):
    from picture import GAP, INVENTED_RGB, MISSED_RGB, beside, judged, shown, write_png

    image = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    proposed = np.array([[1, 1, 0], [0, 1, 1]], bool)
    true = np.array([[1, 0, 0], [1, 1, 1]], bool)
    write_png(tmp_path / "p.png", beside([[shown(image), judged(proposed, true)]]))
    palette, pixels = read_png(tmp_path / "p.png")
    rgb = palette[pixels]
    assert rgb.shape == (2, 3 + GAP + 3, 3)
    assert np.array_equal(rgb[:, :3, 0], np.rint(image * 252))
    assert (rgb[:, 3 : 3 + GAP] == 255).all()
    white, black = [255] * 3, [0] * 3
    missed, invented = list(MISSED_RGB), list(INVENTED_RGB)
    assert rgb[:, -3:].tolist() == [[white, missed, black], [invented, white, white]]


# --- data ----------------------------------------------------------------------------------------


@needs_shared
def test_the_split():
    import data

    train, test = data.load()
    assert train.images.shape == train.cells.shape == (20, 1, 512, 512)
    assert test.images.shape == test.cells.shape == (10, 1, 512, 512)
    assert train.images.min() == 0 and train.images.max() == 1
    assert 0.7 < test.cells.mean() < 0.85


@pytest.mark.parametrize("folder", [None, "empty"])
def test_without_data_it_ends_in_one_line(folder, tmp_path, monkeypatch):
    import data

    monkeypatch.delenv("XBARC_DATA", raising=False)
    if folder:
        monkeypatch.setenv("XBARC_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        data.load()
    assert "XBARC_DATA names" in stop.value.code and "\n" not in stop.value.code


# --- training, pruning, crossbars ----------------------------------------------------------------


def stripes(count):
    """Bright cells between dark membranes, across or upright, with noise."""
    import data

    rng = np.random.default_rng(0)
    cells = np.ones((count, 1, 48, 48), bool)
    for square in cells[:, 0]:
        square[rng.integers(8) :: 8] = False
        square[:, rng.integers(12) :: 12] = False
    images = 0.3 + 0.4 * cells + 0.1 * rng.standard_normal(cells.shape)
    return data.Slices(images.clip(0, 1).astype(np.float32), cells)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="the example trains with torch: .[train]")


@pytest.fixture(scope="module")
def networks(torch, tmp_path_factory):
    """A tiny network, trained, then pruned: folder, losses, weights as pruned."""
    from network import UNet, export, layers
    from prune import prune
    from train import fit

    torch.manual_seed(0)
    torch.set_num_threads(1)
    slices, folder = stripes(4), tmp_path_factory.mktemp("networks")
    model = UNet((4, 8))
    first = fit(model, slices, 1, side=SIDE)
    last = fit(model, slices, 60, learning_rate=3e-2, side=SIDE, batch=2)
    export(model, folder / "unet.onnx", SIDE)
    after = prune(model, slices, 20, side=SIDE, batch=2)
    export(model, folder / "pruned.onnx", SIDE)
    return folder, (first, last, after), model, [la.weight.detach() for la in layers(model)]


def test_crops_turn_image_and_truth_alike(torch):
    import data
    from train import crops

    cells = np.random.default_rng(0).random((3, 1, 20, 20)) < 0.5
    slices = data.Slices(cells.astype(np.float32), cells)
    images, truth = crops(slices, 7, 40, np.random.default_rng(1))
    assert images.shape == (40, 1, 7, 7)
    assert torch.equal(images, truth)
    kept = {
        np.rot90(cells[n, 0, y : y + 7, x : x + 7], turns).astype(np.float32).tobytes()
        for n in range(3)
        for y in range(14)
        for x in range(14)
        for turns in range(4)
    }
    as_cut = [image.numpy().tobytes() in kept for image in images[:, 0]]
    flipped = [image.numpy()[:, ::-1].copy().tobytes() in kept for image in images[:, 0]]
    assert all(np.logical_xor(as_cut, flipped)) and any(as_cut) and any(flipped)


def test_training_learns_and_repeats(networks, torch):
    from network import UNet
    from train import fit

    _, (first, last, after), _, _ = networks
    assert last < 0.3 * first
    assert after < 0.4 * first
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        model = UNet((4, 8))
        fit(model, stripes(2), 2, side=SIDE, batch=2)
        runs.append(model.state_dict())
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())


def test_half_of_every_layer_stays_zero(networks):
    _, _, _, weights = networks
    assert len(weights) == 3 * 4 + 1 + 1
    for weight in weights:
        assert int((weight == 0).sum()) == round(weight.numel() / 2)


def test_the_exported_network_is_the_trained_one(networks, torch):
    folder, _, model, _ = networks
    images = stripes(3).images[:, :, :SIDE, :SIDE]
    with torch.no_grad():
        want = model.eval()(torch.from_numpy(images)).numpy()
    session = ort.InferenceSession(folder / "pruned.onnx")
    assert session.get_inputs()[0].shape == ["N", 1, SIDE, SIDE]
    got = session.run(["cell"], {"image": images})[0]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_pruning_halves_the_work_of_kernel_first(networks):
    folder, _, _, _ = networks
    images = stripes(4).images[:, :, :SIDE, :SIDE]
    reports = {}
    for name in ("unet", "pruned"):
        model = folder / f"{name}.onnx"
        program = xbarc.compile(model, "mca128", passes="kernel-first", calibration=images)
        assert program.report["coverage"]["mac_share"] == 1
        want = ort.InferenceSession(model).run(["cell"], {"image": images})[0]
        assert snr_db(want, program.run(images)["cell"]) > 22
        reports[name] = program.report
    before, after = (reports[name]["totals"] for name in ("unet", "pruned"))
    # Quantisation makes a few weights more zero; no layer keeps more than half of its products.
    for layer, pruned in zip(*(reports[n]["layers"] for n in ("unet", "pruned")), strict=True):
        assert pruned["nonzero_weights"] <= pruned["weights"] / 2
        assert pruned["macs"] <= 0.5 * layer["weights"] * layer["vectors"]
    assert after["macs"] < 0.55 * before["macs"]
    assert after["tiles"] <= before["tiles"]  # fewer where a kernel offset of conv1 is all zero
    assert after["energy_uj"]["total"] < before["energy_uj"]["total"]


def test_evaluate_prints_both_tables(networks, tmp_path, monkeypatch, capsys):
    import data
    import evaluate

    folder, *_ = networks
    slices = stripes(2)
    cut = data.Slices(slices.images[:, :, :SIDE, :SIDE], slices.cells[:, :, :SIDE, :SIDE])
    monkeypatch.chdir(tmp_path)
    evaluate.BUILD.mkdir(parents=True)
    (evaluate.BUILD / "pruned.onnx").write_bytes((folder / "pruned.onnx").read_bytes())
    monkeypatch.setattr(data, "load", lambda: (cut, cut))
    monkeypatch.setattr(evaluate, "NETWORKS", {"pruned": "pruned.onnx"})
    monkeypatch.setattr(evaluate, "MAPPINGS", {"kernel-first": "kernel-first"})
    monkeypatch.setattr(evaluate, "EXCERPTS", ((1, 0, 0),))
    monkeypatch.setattr(evaluate, "EXCERPT_SIDE", SIDE)
    evaluate.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [row[0] for row in rows if "pruned" in row[0]] == [
        "| pruned, float, onnxruntime",
        "| pruned, crossbars, kernel-first",
        "| kernel-first, pruned",
    ]
    in_float, on_crossbars = ([float(v.strip(" |%")) for v in row[1:]] for row in rows[2:4])
    assert 95 < in_float[0] <= 100
    assert on_crossbars == pytest.approx(in_float, abs=3)
    _, pixels = read_png(evaluate.BUILD / "prediction.png")
    assert pixels.shape[0] == SIDE
