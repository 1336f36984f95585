"""Running a program over a data set: what `xbarc run` prints."""

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xbarc.artifact.runs import program_hash
from xbarc.artifact.store import load
from xbarc.cost.activity import follow_values
from xbarc.cost.programming import programming
from xbarc.support.data import (
    Array,
    first_samples,
    load_npz,
    match_inputs,
    sample_count,
    written_whole,
)
from xbarc.support.errors import UsageError, XbarcError, nearest


@dataclass(frozen=True)
class Evaluation:
    """The outputs by name, the document of `xbarc run --json`, and the hash of what was run."""

    outputs: dict[str, Array]
    document: dict[str, Any]
    program: str


def evaluate(
    path: Path,
    data: Path,
    *,
    labels: str | None = None,
    limit: int | None = None,
    batch: int | None = None,
    threads: int | None = None,
    ideal: bool = False,
    noise: str = "",
    device: str | Path | None = None,
    seed: int = 0,
    activity: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run the program at `path` over the npz file `data`.

    `labels` names the array of that file with an integer class for each sample, or a mask. If the
    model has a fixed batch, whole batches run until `limit` is reached, and outputs beyond `limit`
    are dropped. `noise` and `device` say what is wrong with devices, beside what the target says
    (`xbarc.simulator.noise`); `seed` is that of all that is random in them. `activity` adds what
    the values drove in each layer, and the energy that follows them. Where effects act when cells
    are written, the document says what programming took. Raises `XbarcError` if the
    program or the data can't be used, `UsageError` where the options can't.
    """
    if ideal and (noise or device is not None):
        raise UsageError("--ideal has ideal devices: leave --noise and --device out")
    program, digest = load(path), program_hash(path)
    arrays = load_npz(data)
    truth = None if labels is None else _labels(data, labels, arrays)
    from xbarc.simulator.activity import ActivityCounter
    from xbarc.simulator.interpreter import Simulator
    from xbarc.simulator.noise import engine_for

    engine = None if ideal else engine_for(program, noise, device)
    counter = ActivityCounter(program) if activity else None
    observe = counter.observe if counter else None
    simulator = Simulator(program, ideal=ideal, observe=observe, engine=engine, seed=seed)
    feeds = match_inputs(simulator.inputs, arrays)
    if limit is not None:
        feeds = first_samples(simulator.inputs, feeds, limit)
    simulated = sample_count(simulator.inputs, feeds)
    samples = simulated if limit is None else min(limit, simulated)
    if truth is not None and len(truth) < samples:
        raise XbarcError(f"{labels!r} has {len(truth)} entries for {samples} samples")
    start = time.perf_counter()
    outputs = simulator.run(
        feeds,
        batch=batch,
        threads=threads,
        progress=progress and (lambda done: progress(done, simulated)),
    )
    seconds = time.perf_counter() - start
    if samples < simulated:
        outputs = {
            n: a[:samples] if np.shape(a)[:1] == (simulated,) else a for n, a in outputs.items()
        }
    document: dict[str, Any] = {"samples": samples}
    if truth is not None:
        document["accuracy"] = accuracy(next(iter(outputs.values())), truth[:samples])
    document |= {
        "images_per_second": simulated / seconds,
        "seed": seed,
        "effects": [str(effect) for effect in engine.effects] if engine else [],
        "adc": {
            name: {"saturated": s.saturated, "lossless": s.lossless}
            for name, s in simulator.statistics().items()
        },
    }
    rows = {row["name"]: row for row in program.report["layers"]}
    if engine is not None and any(effect.writes for effect in engine.effects):
        document["programming"] = programming(
            rows,
            simulator.pulses(),
            program.target,
            verified=any(effect.verifies for effect in engine.effects),
        )
    if counter is not None:
        document["activity"] = follow_values(rows, counter.statistics(), program.target)
    return Evaluation(outputs, document, digest)


def _labels(data: Path, name: str, arrays: dict[str, Array]) -> Array:
    """The array `name`, taken out of `arrays`, which were read from `data`."""
    if name not in arrays:
        raise XbarcError(f"{data} has no array {name!r}: {nearest(name, arrays)}")
    truth = arrays.pop(name)
    if truth.ndim == 0 or truth.dtype.kind not in ("iub" if truth.ndim == 1 else "iubf"):
        raise XbarcError(
            f"labels {name!r} are {truth.dtype}{list(truth.shape)}: "
            "give an integer class a sample, or a mask"
        )
    return truth


def accuracy(output: Array, truth: Array) -> float:
    """Share of right answers, 0 to 1.

    `truth` is an integer class a sample, [n], or a mask. A class is the largest entry of axis 1.
    A mask compares pixel by pixel: with one channel the output is thresholded, at 0.5 where it
    lies within 0 .. 1, else at 0, and a mask is true where it isn't 0. Raises `XbarcError` where
    the shapes don't fit, or a class is none of the output's.
    """
    samples = len(truth)
    if truth.ndim == 1 or truth.size == samples:
        if output.size % samples or output.size == samples:
            raise XbarcError(f"an output of shape {output.shape} doesn't say {samples} classes")
        scores = output.reshape(samples, -1)
        _check_classes(truth, scores.shape[1])
        guess = scores.argmax(axis=1)
        return float((guess == truth.reshape(-1)).mean())
    if output.ndim > 1 and output.shape[1] > 1 and output.ndim >= truth.ndim:
        guess = output.argmax(axis=1)
        if guess.size == truth.size:
            _check_classes(truth, output.shape[1])
            return float((guess == truth.reshape(guess.shape)).mean())
    if output.size != truth.size:
        raise XbarcError(f"a mask of shape {truth.shape} doesn't fit an output of {output.shape}")
    probability = bool(output.min() >= 0 and output.max() <= 1)
    guess = output.reshape(truth.shape) > (0.5 if probability else 0)
    return float((guess == (truth != 0)).mean())


def _check_classes(truth: Array, classes: int) -> None:
    low, high = truth.min(), truth.max()
    if not 0 <= low <= high < classes:
        raise XbarcError(
            f"labels reach from {low} to {high}, the output has classes 0 to {classes - 1}: "
            "number the labels as the model does"
        )


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write an npz file, whole or not at all. Raises `XbarcError` where the disk refuses."""
    # numpy.savez takes the names as its own arguments' (an output may be called `file`).
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in outputs.items():
            plain = np.asarray(array)
            if plain.dtype == object:
                # Strings, as onnxruntime gives them.
                plain = plain.astype(str)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, plain, allow_pickle=False)
