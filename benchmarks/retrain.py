"""ResNet-20 on CIFAR-10, retrained by `xbarc tune`: what accuracy comes back.

    python benchmarks/retrain.py [CASE...] [--epochs N] [--threads N] [--folder F] [--list]

A case is tuned in stages, compiled and run. Training sees the 50,000 training images; each epoch is
judged on the first 2000 test images, and what counts is `xbarc run` on the other 8000. A stage that
is there isn't trained again, and one that was killed goes on from its checkpoint. `--epochs` stands
in for each stage's own; `--folder` (build/retrain) holds what has been trained. Writes
benchmarks/retrain.md from all cases that have been run. Needs XBARC_DATA (a folder with
models/resnet20_cifar10.onnx, data/cifar10.npz, data/cifar10_more.npz).
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.run import Session
from xbarc.support.data import Array

ROOT = Path(__file__).parents[1]
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
CALIBRATION = 256
JUDGED = 2000
"""Test images that epochs are judged by."""
HELD = 8000
"""Test images after these: what counts."""
NOISY = 2000
"""Of these the first so many, where each of several chips runs them."""
TRIALS = 6

COMMON: dict[str, Any] = {
    "batch": 128,
    "flip": True,
    "shift": 4,
    "precision": "bfloat16",
    "distill": 0.5,
    "temperature": 4.0,
}
FLOAT: dict[str, Any] = {"plain": True, "batch_norm": True, "decay": 1e-3}
WHOLE = (
    "array.cell_bits=7",
    "inputs.dac_bits=8",
    "adc.mode=calibrated",
    "adc.percentile=99.9",
    "adc.subtract=analog",
    "adc.bits=4",
)
"""A weight is two cells, an input one read, converters that fit the sums."""


FITTED = ("adc.mode=calibrated", "adc.bits=4", "adc.ranges=least-squares")
"""Inputs bit by bit, weights in slices of 2 bits, converters that fit the sums."""

ONE_BIT = "array.cell_bits=1"


@dataclass(frozen=True)
class Stage:
    """One run of tune: its options, and how many training images it takes (None: all)."""

    options: Mapping[str, Any]
    passes: str = ""
    images: int | None = None


@dataclass(frozen=True)
class Case:
    """A line of the table. `asked`: points below float that are allowed, or None for noise.

    `passes` are those of the network before retraining, `mapping` of the retrained one; `judged`
    are further keys of the target where accuracy is measured.
    """

    name: str
    what: str
    asked: float | None
    stages: tuple[Stage, ...]
    target: str = "mca128"
    overrides: tuple[str, ...] = ()
    noise: str = ""
    mapping: str = ""
    passes: str = ""
    judged: tuple[str, ...] = ()


SEPARABLE = (
    Stage({**FLOAT, "epochs": 24, "rate": 4e-3, "warmup": 0.5}, "kernel-2d1d{ratio=1}"),
    Stage({**FLOAT, "epochs": 14, "rate": 3e-3, "warmup": 0.2}),
)

CASES = [
    Case(
        "noise",
        "10 % programming variation on mca128 (run with adc.mode=lossless: an eighth of the time)",
        None,
        (
            Stage({"epochs": 1, "warmup": 0.1, "rate": 1e-3, "redraw": 4, "keep": "last"}),
            Stage({"epochs": 2, "warmup": 0.1, "rate": 1e-3, "redraw": 4, "keep": "last"}),
        ),
        noise="programming{sigma=0.1}",
        judged=("adc.mode=lossless",),
    ),
    Case(
        "adc",
        "4-bit converters on mca128 (" + " ".join(FITTED) + ")",
        2.0,
        (Stage({"epochs": 1, "rate": 1e-4, "warmup": 0.1, "batch": 32}, images=8000),),
        overrides=FITTED,
    ),
    Case(
        "adc-cells",
        f"4-bit converters on cells of one bit, not retrained ({ONE_BIT} and the above)",
        2.0,
        (),
        overrides=(ONE_BIT, *FITTED),
    ),
    Case(
        "adc-whole",
        "4-bit converters behind whole weights (" + " ".join(WHOLE) + ")",
        2.0,
        (Stage({"epochs": 1, "rate": 1.5e-4, "warmup": 0.1}, images=16000),),
        overrides=WHOLE,
    ),
    Case(
        "prune",
        "half the crossbars pruned: prune{granularity=crossbar sparsity=0.5}",
        1.0,
        (
            Stage({**FLOAT, "epochs": 2, "rate": 2e-3}, "prune{granularity=crossbar sparsity=0.5}"),
            Stage({**FLOAT, "epochs": 2, "rate": 1e-3}),
        ),
        mapping="drop-zeros",
        passes="prune{granularity=crossbar sparsity=0.5}",
    ),
    Case(
        "half",
        "2D + 1D kernels at half the layers: kernel-2d1d{ratio=0.5}",
        2.0,
        (Stage({**FLOAT, "epochs": 14, "rate": 3e-3, "warmup": 0.5}, "kernel-2d1d{ratio=0.5}"),),
        passes="kernel-2d1d{ratio=0.5}",
    ),
    Case(
        "separable",
        "2D + 1D kernels at all layers but the first: kernel-2d1d{ratio=1}, "
        "the same graph as depthwise{rank=1}",
        4.0,
        SEPARABLE,
        passes="kernel-2d1d{ratio=1}",
    ),
]


# --- Data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """Pictures as the network takes them [n, 3, 32, 32], and their classes."""

    train: tuple[Array, Array]
    judged: tuple[Array, Array]
    held: tuple[Array, Array]

    @property
    def calibration(self) -> Array:
        """The first training images."""
        return self.train[0][:CALIBRATION]


def shared(name: str) -> Path:
    return Path(os.environ["XBARC_DATA"]) / name


NETWORK = "models/resnet20_cifar10.onnx"


@cache
def images() -> Images:
    """All of CIFAR-10; training images in a random order that is always the same."""

    def prepared(pixels: Array) -> Array:
        numbers = (pixels / np.float32(255) - MEAN) / STD
        return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2))

    with (
        np.load(shared("data/cifar10.npz")) as one,
        np.load(shared("data/cifar10_more.npz")) as more,
    ):
        x = np.concatenate([one["x_train"], more["x_train"]])
        y = np.concatenate([one["y_train"], more["y_train"]]).astype(np.int64)
        test, truth = prepared(one["x_test"]), one["y_test"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    return Images(
        (prepared(x[order]), y[order]),
        (test[:JUDGED], truth[:JUDGED]),
        (test[JUDGED : JUDGED + HELD], truth[JUDGED : JUDGED + HELD]),
    )


# --- A case -------------------------------------------------------------------------------------


@dataclass
class Trained:
    """What a stage took: epochs, images in all, minutes, and the accuracy after each epoch."""

    epochs: int = 0
    images: int = 0
    minutes: float = 0.0
    curve: list[float] = field(default_factory=list)


def train(case: Case, index: int, source: Path, folder: Path, given: argparse.Namespace) -> Path:
    """One stage, unless it is there; the path of its network."""
    stage, data = case.stages[index], images()
    path = folder / f"{case.name}-{index + 1}.onnx"
    if path.exists():
        return path
    x, y = (a[: stage.images] for a in data.train)
    options = {**COMMON, **stage.options}
    if given.epochs is not None:
        options["epochs"] = given.epochs
    spent, started = path.with_suffix(".seconds"), [time.monotonic(), 0]

    def watch(epoch: int, steps: int | None, step: int, score: Any) -> None:
        if step == steps:  # an epoch more; a run that goes on adds to it
            now = time.monotonic()
            before = float(spent.read_text()) if spent.exists() else 0.0
            spent.write_text(str(before + now - started[0]))
            started[0] = now
            print(f"{case.name} {index + 1}: epoch {epoch} {score.accuracy:.2%}", flush=True)

    tuned = xbarc.tune(
        source,
        {"input": x},
        y,
        case.target,
        passes=stage.passes,
        overrides=case.overrides,
        noise=case.noise,
        calibration=data.calibration,
        validation=data.judged,
        teacher=shared(NETWORK),
        watch=watch,
        threads=given.threads,
        checkpoint=path.with_suffix(".ckpt"),
        **options,
    )
    found = Trained(
        len(tuned.history) - 1,
        (len(tuned.history) - 1) * len(x),
        float(spent.read_text()) / 60,
        [record.validation_accuracy or 0.0 for record in tuned.history],
    )
    path.with_suffix(".json").write_text(json.dumps(asdict(found)))
    tuned.save(path)
    return path


def share_right(
    program: Any, x: Array, y: Array, given: argparse.Namespace, **options: Any
) -> float:
    """Accuracy of a program as `xbarc run` gives it."""
    scores = program.run(x, threads=given.threads, **options)["logits"]
    return float((scores.argmax(1) == y).mean())


def measured(case: Case, network: Path, passes: str, given: argparse.Namespace) -> dict[str, Any]:
    """Accuracies of a network on the case's target, one a chip, and its crossbars."""
    data = images()
    program = xbarc.compile(
        network,
        case.target,
        overrides=(*case.overrides, *case.judged),
        passes=passes,
        calibration=data.calibration,
    )
    x, y = data.held
    if case.noise:
        x, y = x[:NOISY], y[:NOISY]
        options = [{"noise": case.noise, "seed": seed} for seed in range(TRIALS)]
    else:
        options = [{}]
    return {
        "accuracies": [share_right(program, x, y, given, **o) for o in options],
        "crossbars": program.cost()["totals"]["crossbars"],
    }


def run(case: Case, folder: Path, given: argparse.Namespace) -> None:
    """Tune, compile, run; what came out stands in FOLDER/NAME.json."""
    network = shared(NETWORK)
    for index in range(len(case.stages)):
        network = train(case, index, network, folder, given)
    data = images()
    x, y = (a[: NOISY if case.noise else None] for a in data.held)
    plain = Session(load(shared(NETWORK))).run({"input": x})["logits"]
    stages = [
        json.loads((folder / f"{case.name}-{i + 1}.json").read_text())
        for i in range(len(case.stages))
    ]
    before = measured(case, shared(NETWORK), case.passes, given)
    found = {
        "float": float((plain.argmax(1) == y).mean()),
        "images": len(x),
        "before": before,
        "after": measured(case, network, case.mapping, given) if stages else before,
        "stages": stages,
    }
    if case.noise:
        quiet = Case(**{**vars(case), "noise": ""})
        found["quiet"] = measured(quiet, shared(NETWORK), "", given)["accuracies"][0]
    (folder / f"{case.name}.json").write_text(json.dumps(found, indent=1))


# --- The page -----------------------------------------------------------------------------------


WORDS = (
    "Written by `python benchmarks/retrain.py`. Each network is tuned in stages by `xbarc.tune` "
    "(distilled half from the network as it was, half from labels; pictures mirrored and shifted; "
    "products in bfloat16), compiled for mca128 and run. *Float* is the network as trained by "
    "others. *Before* is the changed network, or the target, without retraining, *after* with it; "
    "both as `xbarc run` gives them, on test images that no stage sees and no epoch is chosen by. "
    "*Asked* is float less the points that are allowed; for variation, half of what it costs. ± is "
    f"the standard error over {TRIALS} chips. The result of a stage is its best epoch on the first "
    f"{JUDGED} test images, which the curves are of: of the float network in stages in float. "
    "Minutes are those of training on one core of a busy machine, data not counted.",
)


def told(accuracies: list[float]) -> str:
    """A percentage, with its standard error over chips where there are several."""
    mean = 100 * float(np.mean(accuracies))
    if len(accuracies) == 1:
        return f"{mean:.2f}"
    error = 100 * float(np.std(accuracies, ddof=1)) / np.sqrt(len(accuracies))
    return f"{mean:.2f} ± {error:.2f}"


def page(folder: Path) -> str:
    lines = [
        "# ResNet-20 on CIFAR-10, retrained",
        "",
        *WORDS,
        "",
        "| case | test images | float | before | asked | after | crossbars | epochs | images | "
        "minutes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    curves = []
    for case in CASES:
        path = folder / f"{case.name}.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        before, after = found["before"], found["after"]
        if case.asked is None:
            lost = found["quiet"] - np.mean(before["accuracies"])
            asked = 100 * float(np.mean(before["accuracies"]) + lost / 2)
        else:
            asked = 100 * found["float"] - case.asked
        total = {k: sum(s[k] for s in found["stages"]) for k in ("epochs", "images", "minutes")}
        lines.append(
            f"| {case.what} | {found['images']} | {100 * found['float']:.2f} | "
            f"{told(before['accuracies'])} | {asked:.2f} | {told(after['accuracies'])} | "
            f"{after['crossbars']} | {total['epochs']} | {total['images']:,} | "
            f"{total['minutes']:.0f} |"
        )
        for index, stage in enumerate(found["stages"]):
            curve = " ".join(f"{100 * a:.1f}" for a in stage["curve"])
            curves.append(f"| {case.name} | {index + 1} | {curve} |")
    lines += [
        "",
        "| case | stage | accuracy after each epoch, from 0 on |",
        "|---|---|---|",
        *curves,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(known)}")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "retrain")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        print(*(f"{case.name:<12} {case.what}" for case in CASES), sep="\n")
        return
    if unknown := set(given.cases) - set(known):
        parser.error(f"no case {', '.join(sorted(unknown))}: one of {', '.join(known)}")
    if "XBARC_DATA" not in os.environ:
        print("XBARC_DATA isn't set: nothing to train on")
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if not given.cases or case.name in given.cases:
            run(case, given.folder, given)
    if given.folder == ROOT / "build" / "retrain":
        (ROOT / "benchmarks" / "retrain.md").write_text(page(given.folder))
    print(page(given.folder))


if __name__ == "__main__":
    main()
