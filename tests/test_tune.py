"""`xbarc tune`: training under the hardware, and what comes out of it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch
from models import text_model

import xbarc
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.method import Method
from xbarc.train.settings import Settings

MLP = """g (float[N,12] x) => (float[N,3] y)
   <float[12,20] w1, float[20] b1, float[20,3] w2, float[3] b2> {
    h = Gemm(x, w1, b1)
    r = Relu(h)
    y = Gemm(r, w2, b2)
}"""

COARSE = ["adc.mode=full-scale", "adc.bits=5", "inputs.dac_bits=8"]
"""Converters so coarse that a network must learn to live with them."""


def task(count=400, seed=5):
    """Samples of three classes, and their labels."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((3, 12))
    labels = rng.integers(0, 3, count)
    x = centres[labels] + 0.9 * rng.standard_normal((count, 12))
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def trained():
    """The network, trained in float."""
    x, y = task()
    return xbarc.tune(text_model(MLP), x, y, "mca64", plain=True, epochs=12, rate=0.01).model


def weights_of(model):
    return {name: v.const_value.numpy() for name, v in model.graph.initializers.items()}


def accuracy(model, **options):
    x, y = task(300, seed=9)
    program = xbarc.compile(model, "mca64", calibration=task()[0], overrides=COARSE)
    return (program.run(x, **options)["y"].argmax(axis=1) == y).mean()


def test_the_network_learns_to_live_with_its_converters(trained):
    x, y = task()
    tuned = xbarc.tune(trained, x, y, "mca64", overrides=COARSE, epochs=8, rate=0.01)
    first, best = tuned.history[0], tuned.best
    assert best.validation_accuracy > first.validation_accuracy
    assert accuracy(tuned.model) > accuracy(trained) + 0.02
    assert [record.epoch for record in tuned.history] == list(range(9))


def test_what_was_validated_is_what_the_compiled_program_gives(trained):
    x, y = task()
    held = task(100, seed=3)
    tuned = xbarc.tune(
        trained, x, y, "mca64", overrides=COARSE, validation=({"x": held[0], "y": held[1]}, "y"),
        epochs=2,
    )  # fmt: skip
    program = xbarc.compile(tuned.model, "mca64", overrides=COARSE)
    right = (program.run(held[0])["y"].argmax(axis=1) == held[1]).mean()
    assert right == pytest.approx(tuned.best.validation_accuracy)
    assert program.report["calibration"]["source"] == "generated"


def test_ranges_of_converters_are_found_before_an_epoch_is_judged(trained):
    """As compiling the result finds them, on the same calibration samples."""
    x, y = task()
    keys = [*COARSE, "adc.mode=calibrated", "adc.percentile=99"]
    options = {"overrides": keys, "calibration": x}
    tuned = xbarc.tune(trained, x, y, "mca64", validation=(x, y), epochs=3, rate=0.02, **options)
    assert tuned.best.epoch > 0
    scores = torch.from_numpy(xbarc.compile(tuned.model, "mca64", **options).run(x)["y"])
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y))
    assert float(loss) == pytest.approx(tuned.best.validation_loss, rel=1e-4)


def test_noise_in_training_helps_on_noisy_devices(trained):
    x, y = task()
    noise = "programming{sigma=0.4}"
    tuned = xbarc.tune(trained, x, y, "mca64", noise=noise, epochs=10, rate=0.01)
    seeds = range(6)
    before, after = (
        np.mean([accuracy(model, noise=noise, seed=seed) for seed in seeds])
        for model in (trained, tuned.model)
    )
    assert after > before


def test_new_weights_fit_the_circuit(trained):
    x, y = task()
    program = xbarc.compile(trained, "mca64", calibration=x)
    tuned = xbarc.tune(trained, x, y, "mca64", epochs=1)
    updated = program.update_weights(tuned.model)
    assert {op.name for op in updated.module.walk()} == {op.name for op in program.module.walk()}
    assert not np.array_equal(weights_of(tuned.model)["w1"], weights_of(trained)["w1"])


def test_pruned_weights_and_depthwise_factors_stay(trained):
    x, y = task()
    passes = "prune{granularity=weight sparsity=0.6}"
    tuned = xbarc.tune(trained, x, y, "mca64", passes=passes, epochs=2)
    kept = weights_of(tuned.model)
    pruned = xbarc.tune(trained, x, y, "mca64", passes=passes, epochs=1, rate=1e-12).model
    for name in ("w1", "w2"):
        was = weights_of(pruned)[name]
        assert (was == 0).mean() > 0.3
        assert np.array_equal(kept[name] == 0, was == 0)
        assert not np.array_equal(kept[name], was)


def test_without_labels_the_network_is_distilled(trained):
    x, _ = task()
    tuned = xbarc.tune(trained, x, None, "mca64", overrides=COARSE, epochs=25, rate=0.01)
    losses = [record.validation_loss for record in tuned.history]
    assert min(losses) < 0.5 * losses[0]
    assert tuned.best.validation_accuracy is None
    assert accuracy(tuned.model) > accuracy(trained)


SCRIPT = """
import os, signal, sys, numpy as np, onnx, xbarc
from test_tune import task
x, y = task(120)
def watch(epoch, steps, step, score):
    if len(sys.argv) > 3 and (epoch, step) == (3, 2):
        os.kill(os.getpid(), signal.SIGKILL)
tuned = xbarc.tune(sys.argv[1], x, y, "mca64", noise="programming{sigma=0.1},read{sigma=0.02}",
    epochs=4, batch=32, threads=1, dropout=0.1, ranges="learned", checkpoint=sys.argv[2] or None,
    watch=watch)
tuned.save(sys.argv[1] + ".tuned")
"""


def test_a_killed_run_that_is_resumed_gives_the_same_bits(tmp_path):
    model, point = tmp_path / "m.onnx", tmp_path / "m.ckpt"
    onnx.save(text_model(MLP), model)

    def run(*arguments):
        command = [sys.executable, "-c", SCRIPT, str(model), *arguments]
        return subprocess.run(command, cwd=os.path.dirname(__file__), check=False).returncode

    assert run("") == 0
    whole = (tmp_path / "m.onnx.tuned").read_bytes()
    (tmp_path / "m.onnx.tuned").unlink()
    assert run(str(point), "kill") == -signal.SIGKILL
    assert point.exists() and not (tmp_path / "m.onnx.tuned").exists()
    assert run(str(point)) == 0
    assert (tmp_path / "m.onnx.tuned").read_bytes() == whole


def test_a_checkpoint_of_another_training_is_refused(tmp_path, trained):
    x, y = task(60)
    point = tmp_path / "m.ckpt"
    xbarc.tune(trained, x, y, "mca64", plain=True, epochs=1, checkpoint=point)
    with pytest.raises(UsageError, match="another training"):
        xbarc.tune(trained, x, y, "mca64", plain=True, epochs=1, rate=0.5, checkpoint=point)
    point.write_bytes(b"nothing")
    with pytest.raises(XbarcError, match="no checkpoint"):
        xbarc.tune(trained, x, y, "mca64", plain=True, epochs=1, checkpoint=point)


def test_training_stops_early(trained):
    x, y = task(60)
    tuned = xbarc.tune(trained, x, y, "mca64", epochs=50, patience=2, rate=1e-12)
    assert len(tuned.history) < 20


def test_the_last_epoch_is_kept_where_that_is_asked_for(trained):
    x, y = task(60)
    options = {"plain": True, "epochs": 3, "rate": 3.0, "schedule": "constant"}
    best, last = (xbarc.tune(trained, x, y, "mca64", keep=k, **options) for k in ("best", "last"))
    assert best.best.epoch < 3 and last.best.epoch == 3
    assert not np.array_equal(weights_of(best.model)["w1"], weights_of(last.model)["w1"])


def test_any_iterable_is_data(trained):
    x, y = task(96)

    class Loader:
        def __iter__(self):
            return iter([(torch.from_numpy(x[i : i + 32]), y[i : i + 32]) for i in (0, 32, 64)])

    seen = []
    tuned = xbarc.tune(
        trained, Loader(), None, "mca64", epochs=2, validation=(x, y),
        watch=lambda epoch, steps, step, score: seen.append((epoch, steps, step)),
    )  # fmt: skip
    assert seen == [(e, None, s) for e in (1, 2) for s in (1, 2, 3)]
    assert tuned.history[1].accuracy is not None


def test_a_folder_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(12):
            picture = np.clip(rng.normal(60 + 120 * index, 20, (10, 10)), 0, 255)
            np.save(tmp_path / name / f"{i}.npy", picture.astype(np.uint8))
    model = text_model(
        """g (float[N,1,8,8] x) => (float[N,2] y) <float[64,2] w, float[2] b> {
            f = Flatten(x)
            y = Gemm(f, w, b)
        }"""
    )
    tuned = xbarc.tune(
        model, tmp_path, None, "mca64", epochs=20, rate=0.05, batch=8, validation_share=0.25
    )
    assert tuned.best.validation_accuracy == 1


@pytest.mark.parametrize(
    ("end", "labels", "loss"),
    [
        ("y = Softmax <axis=1> (c)", "classes", "cross-entropy"),
        ("y = Identity(c)", "numbers", "mse"),
        ("m = ReduceMax <keepdims=1> (c, one) y = Sigmoid(m)", "mask", "binary"),
    ],
)
def test_pixels_are_classified_masked_or_regressed(end, labels, loss):
    channels = 1 if labels == "mask" else 3
    model = text_model(
        f"""g (float[N,2,6,6] x) => (float[N,{channels},6,6] y)
            <float[3,2,3,3] w, int64[1] one> {{
            c = Conv <pads=[1,1,1,1]> (x, w)
            {end}
        }}""",
        one=[1],
    )
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 2, 6, 6)).astype(np.float32)
    truth = {
        "classes": (x[:, 0] > 0).astype(int) + (x[:, 1] > 0),
        "mask": x[:, :1] > 0,
        "numbers": np.stack([x[:, 0], x[:, 1], x[:, 0] + x[:, 1]], axis=1),
    }[labels]
    options = {"epochs": 12, "rate": 0.05, "batch": 8}
    tuned = xbarc.tune(model, x, truth, "mca64", **options)
    losses = [record.validation_loss for record in tuned.history]
    assert losses[-1] < 0.8 * losses[0]
    same = xbarc.tune(model, x, truth, "mca64", loss=loss, **options)
    assert [record.loss for record in same.history] == [record.loss for record in tuned.history]


@dataclass(frozen=True)
class Counting(Method):
    """A method that keeps half of the first layer's weights from the second epoch on."""

    name: ClassVar[str] = "counting"

    def start(self, training):
        training.memory["calls"] = torch.zeros(1)

    def before_epoch(self, training):
        if training.epoch == 1:
            layer = next(iter(training.layers.values()))
            matrix = layer.matrix().abs()
            layer.keep(matrix >= matrix.median())

    def after_step(self, training):
        training.memory["calls"] += 1

    def after_epoch(self, training, loss):
        layer = next(iter(training.layers.values()))
        return {"zeros": float((layer.weight == 0).float().mean())}

    def counts(self, training):
        return training.epoch >= 1

    def finish(self, training):
        return {"steps": float(training.memory["calls"])}


def test_a_method_sets_masks_between_epochs(trained):
    x, y = task(160)
    tuned = xbarc.tune(
        trained, x, y, "mca64", method=Counting(), epochs=3, batch=36, validation_share=0.1
    )
    zeros = [record.figures.get("zeros") for record in tuned.history]
    assert zeros[1] == 0 and zeros[2] == zeros[3] == pytest.approx(0.5, abs=0.01)
    assert tuned.best.epoch >= 2  # the epochs before don't count
    assert tuned.figures == {"steps": 12}
    assert (weights_of(tuned.model)["w1"] == 0).mean() == pytest.approx(0.5, abs=0.01)


def test_the_learning_rate_follows_its_schedule():
    def rates(schedule, **options):
        settings = Settings(epochs=4, rate=1.0, schedule=schedule, **options)
        return [round(settings.rate_at(epoch), 3) for epoch in (0, 1, 2, 3, 4)]

    assert rates("constant") == [1, 1, 1, 1, 1]
    assert rates("linear") == [1, 0.75, 0.5, 0.25, 0]
    assert rates("cosine") == [1, 0.854, 0.5, 0.146, 0]
    assert rates("step") == [1, 1, 0.1, 0.01, 0.01]
    assert rates("linear", warmup=2)[1:3] == [0.5, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimiser": "adan"}, "give one of adam, sgd"),
        ({"rate": 0.0}, "above 0"),
        ({"validation_share": 1.0}, "share"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"method": "fine-tun"}, "did you mean 'fine-tune'"),
        ({"torch_device": "cudda"}, "no device"),
        ({"labels": "z"}, "no array 'z'"),
    ],
)
def test_bad_options_end_in_one_line(trained, options, words):
    x, y = task(20)
    labels = options.pop("labels", "y")
    with pytest.raises(XbarcError, match=words) as caught:
        xbarc.tune(trained, {"x": x, "y": y}, labels, "mca64", **options)
    assert "\n" not in str(caught.value)


def test_the_command(tmp_path):
    x, y = task(120)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    onnx.save(text_model(MLP), tmp_path / "m.onnx")
    command = [
        *(
            sys.executable,
            "-c",
            "from xbarc.cli import main; main()",
            "tune",
            "m.onnx",
            "--data",
            "train.npz",
            "--labels",
            "y",
        ),
        *("--target", "mca64", "--epochs", "2", "-o", "tuned.onnx", "--json"),
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    document = json.loads(found.stdout)
    assert [record["epoch"] for record in document["epochs"]] == [0, 1, 2]
    assert found.stderr == ""
    onnx.checker.check_model(tmp_path / "tuned.onnx")
