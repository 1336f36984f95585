"""Running a program over a data set: what `xbarc run` prints."""

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xbarc.artifact import CompiledProgram
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
)
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.files import written_whole


@dataclass(frozen=True)
class Evaluation:
    """The outputs by name, the document of `xbarc run --json`, and the hash of what was run."""

    outputs: dict[str, Array]
    document: dict[str, Any]
    program: str


@dataclass(frozen=True)
class Samples:
    """What a run takes of its data: arrays by input, of `simulated` samples.

    The first `count` of them are asked for: the others fill the last batch of a model that has a
    fixed one. `truth` has a label for each sample, at least for those; None without labels.
    """

    feeds: dict[str, Array]
    truth: Array | None
    simulated: int
    count: int

    def of(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the samples asked for, without those that filled the batch."""
        if self.count == self.simulated:
            return dict(outputs)
        n, all_ = self.count, (self.simulated,)
        return {name: a[:n] if np.shape(a)[:1] == all_ else a for name, a in outputs.items()}

    def accuracy(self, outputs: Mapping[str, Array]) -> float:
        """Share of right answers of the first output, 0 to 1. Raises as `accuracy`."""
        assert self.truth is not None
        return accuracy(next(iter(self.of(outputs).values())), self.truth[: self.count])


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
    are written, the document says what programming took; where they act then or after, what cells
    conduct level by level. Raises `XbarcError` if the
    program or the data can't be used, `UsageError` where the options can't.
    """
    if ideal and (noise or device is not None):
        raise UsageError("--ideal has ideal devices: leave --noise and --device out")
    program, digest = load(path), program_hash(path)
    samples = samples_of(program, data, labels, limit)
    from xbarc.simulator.activity import ActivityCounter
    from xbarc.simulator.conductances import programmed_levels
    from xbarc.simulator.interpreter import Simulator
    from xbarc.simulator.noise import engine_for

    engine = None if ideal else engine_for(program, noise, device)
    counter = ActivityCounter(program) if activity else None
    observe = counter.observe if counter else None
    simulator = Simulator(program, ideal=ideal, observe=observe, engine=engine, seed=seed)
    start = time.perf_counter()
    outputs = simulator.run(
        samples.feeds,
        batch=batch,
        threads=threads,
        progress=progress and (lambda done: progress(done, samples.simulated)),
    )
    seconds = time.perf_counter() - start
    document: dict[str, Any] = {"samples": samples.count}
    if samples.truth is not None:
        document["accuracy"] = samples.accuracy(outputs)
    document |= {
        "images_per_second": samples.simulated / seconds,
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
    if engine is not None:
        levels = programmed_levels(program, engine.effects, seed)
        if levels is not None:
            document["conductances"] = levels
    if counter is not None:
        document["activity"] = follow_values(rows, counter.statistics(), program.target)
    return Evaluation(samples.of(outputs), document, digest)


def samples_of(
    program: CompiledProgram, data: Path, labels: str | None = None, limit: int | None = None
) -> Samples:
    """What `program` takes of the npz file `data`: options as those of `evaluate`.

    Raises `XbarcError` where the file can't be used.
    """
    from xbarc.simulator.interpreter import input_specs

    arrays, inputs = load_npz(data), input_specs(program)
    truth = None
    if labels is not None:
        if labels not in arrays:
            raise XbarcError(f"{data} has no array {labels!r}: {nearest(labels, arrays)}")
        truth = arrays.pop(labels)
        check_labels(truth, f"labels {labels!r}")
    feeds = match_inputs(inputs, arrays)
    if limit is not None:
        feeds = first_samples(inputs, feeds, limit)
    simulated = sample_count(inputs, feeds)
    count = simulated if limit is None else min(limit, simulated)
    if truth is not None and len(truth) < count:
        raise XbarcError(f"{labels!r} has {len(truth)} entries for {count} samples")
    return Samples(feeds, truth, simulated, count)


def check_labels(truth: Array, what: str) -> None:
    """Raise `XbarcError` where `truth` is neither an integer class a sample nor a mask."""
    if truth.ndim == 0 or truth.dtype.kind not in ("iub" if truth.ndim == 1 else "iubf"):
        raise XbarcError(
            f"{what} are {truth.dtype}{list(truth.shape)}: "
            "give an integer class a sample, or a mask"
        )


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
