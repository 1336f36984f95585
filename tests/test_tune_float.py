"""What helps a network learn: float first, normalised, pictures moved, narrow products."""

import json

import numpy as np
import pytest
import torch
from models import text_model

import xbarc
from xbarc.graph.ranges import KEY, carried_ranges
from xbarc.graph.run import Session
from xbarc.support.errors import UsageError
from xbarc.train.augment import augmented
from xbarc.train.settings import Settings

CNN = """g (float[N,2,8,8] x) => (float[N,3] y)
   <float[6,2,3,3] w1, float[6] b1, float[6,1,3,3] w2, float[8,6,1,1] w3, float[8] b3,
    float[8,3] w4, float[3] b4> {
    c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv <group=6, pads=[1,1,1,1]> (r1, w2)
    c3 = Conv (c2, w3, b3)
    r3 = Relu(c3)
    p = GlobalAveragePool(r3)
    f = Flatten(p)
    y = Gemm(f, w4, b4)
}"""


def task(count=240, seed=5):
    """Pictures of stripes that are wide, narrow or not there, and which of these they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    column = np.arange(8)
    stripes = np.stack([np.cos(np.pi * column / 2), np.cos(np.pi * column / 4), 0 * column])
    x = stripes[labels][:, None, None, :] + 0.7 * rng.standard_normal((count, 2, 8, 8))
    return x.astype(np.float32), labels


def outputs(model, x):
    return Session(model).run({"x": x})["y"]


def test_training_in_float_leaves_no_ranges_of_the_network_before():
    x, y = task()
    under_hardware = xbarc.tune(text_model(CNN), x, y, "mca64", epochs=1).model
    assert KEY in under_hardware.metadata_props
    model = xbarc.tune(under_hardware, x, y, "mca64", plain=True, epochs=1).model
    assert KEY not in model.metadata_props
    program = xbarc.compile(model, "mca64", calibration=x)
    assert program.report["calibration"]["source"] == "arrays"


def test_batch_normalisation_begins_as_the_network_and_is_folded_into_it():
    x, y = task()
    model = text_model(CNN)
    options = {"plain": True, "calibration": x, "validation": (x, y), "epochs": 1}
    still = xbarc.tune(model, x, y, "mca64", batch_norm=True, rate=1e-12, **options)
    given = xbarc.tune(model, x, y, "mca64", rate=1e-12, **options)
    first, wanted = still.history[0], given.history[0]
    assert first.validation_loss == pytest.approx(wanted.validation_loss, rel=1e-4)
    names = [value.name for value in still.model.graph.initializers.values()]
    assert sorted(names) == sorted(v.name for v in given.model.graph.initializers.values())


def test_what_was_validated_with_normalisation_is_what_is_written():
    x, y = task()
    options = {"plain": True, "batch_norm": True, "validation": (x, y), "rate": 0.03}
    tuned = xbarc.tune(text_model(CNN), x, y, "mca64", epochs=8, batch=24, **options)
    assert tuned.best.validation_accuracy > tuned.history[0].validation_accuracy
    found = outputs(tuned.model, x)
    assert (found.argmax(axis=1) == y).mean() == pytest.approx(tuned.best.validation_accuracy)
    scores = torch.from_numpy(found)
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y))
    assert float(loss) == pytest.approx(tuned.best.validation_loss, rel=1e-3)


def test_a_resumed_run_has_its_normalisation_its_draws_and_the_same_bits(tmp_path):
    x, y = task(96)
    options = {
        "plain": True, "batch_norm": True, "flip": True, "shift": 1, "precision": "bfloat16",
        "rate": 0.01, "batch": 32, "threads": 1, "epochs": 3, "distill": 0.5,
    }  # fmt: skip

    def weights(tuned):
        return {n: v.const_value.numpy() for n, v in tuned.model.graph.initializers.items()}

    def stop(epoch, steps, step, score):
        if epoch == 3:
            raise KeyboardInterrupt

    whole = xbarc.tune(text_model(CNN), x, y, "mca64", **options)
    point = tmp_path / "point"
    with pytest.raises(KeyboardInterrupt):
        xbarc.tune(text_model(CNN), x, y, "mca64", checkpoint=point, watch=stop, **options)
    resumed = xbarc.tune(text_model(CNN), x, y, "mca64", checkpoint=point, **options)
    assert json.dumps(resumed.document()) == json.dumps(whole.document())
    for name, array in weights(whole).items():
        assert np.array_equal(weights(resumed)[name], array)


def test_pictures_are_mirrored_and_shifted_each_by_itself():
    x = np.arange(200 * 2 * 4 * 5, dtype=np.float32).reshape(200, 2, 4, 5) + 1
    settings = Settings(flip=True, shift=1, seed=3)
    found = augmented({"x": x, "n": np.ones(200)}, np.zeros(200), settings, 0, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = set()
    for i in range(200):
        matches = [
            (r, c, mirrored)
            for r in range(3)
            for c in range(3)
            for mirrored in (False, True)
            if np.array_equal(
                found["x"][i],
                padded[i, :, r : r + 4, c : c + 5][..., :: -1 if mirrored else 1],
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 18
    assert np.array_equal(found["n"], np.ones(200))
    again = augmented({"x": x}, np.zeros(200), settings, 0, 0)["x"]
    assert np.array_equal(again, found["x"])
    for epoch, index in ((1, 0), (0, 1)):
        other = augmented({"x": x}, np.zeros(200), settings, epoch, index)["x"]
        assert not np.array_equal(other, found["x"])
    assert np.array_equal(augmented({"x": x}, None, Settings(), 0, 0)["x"], x)


def test_narrow_products_train_as_well_and_are_judged_in_full():
    x, y = task()
    options = {"validation": (x, y), "rate": 0.01, "epochs": 3}
    for more in ({"plain": True}, {}, {"noise": "programming{sigma=0.1}"}):
        wide, narrow = (
            xbarc.tune(text_model(CNN), x, y, "mca64", precision=p, **options, **more).history
            for p in ("float32", "bfloat16")
        )
        assert narrow[0].validation_loss == wide[0].validation_loss
        assert narrow[1].loss != wide[1].loss
        assert narrow[3].validation_loss == pytest.approx(wide[3].validation_loss, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_norm": True}, "give --float too"),
        ({"shift": -1}, "0 or more"),
        ({"precision": "float16"}, "float32, bfloat16"),
        ({"plain": True, "ranges": "learned"}, "leave out --float"),
        ({"plain": True, "noise": "read{sigma=0.1}"}, "leave out --noise"),
        ({"plain": True, "device": "pcm"}, "leave out --noise"),
        ({"patience": 3, "keep": "last"}, "patience"),
        ({"teacher": text_model(CNN)}, "--distill"),
    ],
)
def test_bad_options_end_in_one_line(options, words):
    x, y = task(8)
    with pytest.raises(UsageError, match=words) as caught:
        xbarc.tune(text_model(CNN), x, y, "mca64", epochs=1, **options)
    assert "\n" not in str(caught.value)


def test_normalisation_is_for_weights_of_a_layers_own():
    """Two layers that share weights, or a bias, would fold two factors into one array."""
    shared = """g (float[N,2,8,8] x) => (float[N,3] y)
       <float[2,2,3,3] w, float[2] b, float[2] b2, float[2,3] w4> {
        c1 = Conv <pads=[1,1,1,1]> (x, w, b)
        r1 = Relu(c1)
        c2 = Conv <pads=[1,1,1,1]> (r1, w, b2)
        p = GlobalAveragePool(c2)
        f = Flatten(p)
        y = MatMul(f, w4)
    }"""
    x, y = task(16)
    options = {"plain": True, "batch_norm": True, "epochs": 1}
    dense = "g (float[N,8] x) => (float[N,4] y) <float[8,4] w> { y = MatMul(x, w) }"
    for text, given in ((shared, x), (dense, x[:, 0, 0])):
        with pytest.raises(UsageError, match="of their own"):
            xbarc.tune(text_model(text), given, y, "mca64", **options)


def test_pictures_whose_channels_are_last_are_moved_along_their_rows_and_columns():
    first = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    settings = Settings(flip=True, shift=2)
    moved = augmented({"x": first}, None, settings, 0, 0)["x"]
    last = augmented({"x": np.moveaxis(first, 1, -1)}, None, settings, 0, 0)["x"]
    assert np.array_equal(np.moveaxis(last, -1, 1), moved)
    assert not np.array_equal(moved, first)


@pytest.mark.parametrize("scale", [0.02, 50.0])
def test_learned_ranges_stay_near_what_was_shown_whatever_its_size(scale):
    """Adam moves each number by about the learning rate: 30 steps of 1e-3 are 3 %."""
    x, y = task(120)
    x = scale * x
    options = {"ranges": "learned", "epochs": 5, "batch": 20, "rate": 1e-3, "keep": "last"}
    model = xbarc.tune(text_model(CNN), x, y, "mca64", calibration=x, **options).model
    low, high = carried_ranges(model)["x"]
    assert 0.96 < high / x.max() < 1.04 or 0.96 < low / x.min() < 1.04
    assert high != pytest.approx(x.max(), rel=1e-4)


def test_only_pictures_are_moved():
    model = text_model("g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }")
    x = np.ones((8, 6), np.float32)
    with pytest.raises(UsageError, match="four axes"):
        xbarc.tune(model, x, np.zeros(8, int), "mca64", epochs=1, flip=True)
    with pytest.raises(UsageError, match="not masks"):
        augmented({"x": task(8)[0]}, np.zeros((8, 8, 8)), Settings(flip=True), 0, 0)
