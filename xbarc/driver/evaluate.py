"""Running a program over a data set: what `xbarc run` prints."""

import math
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarc.artifact import CompiledProgram
from xbarc.artifact.manifest import manifest
from xbarc.artifact.runs import program_hash
from xbarc.artifact.store import load
from xbarc.cost.activity import follow_values
from xbarc.cost.programming import programming
from xbarc.driver.metrics import Metric, agreement, guess_metric, metric_named, snr_db
from xbarc.support.data import (
    Array,
    first_samples,
    load_npz,
    match_inputs,
    sample_count,
)
from xbarc.support.document import finite
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.files import written_whole

if TYPE_CHECKING:
    from xbarc.simulator.analog.engine import AnalogEngine
    from xbarc.simulator.interpreter import Simulator


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
    fixed one. `truth` has a label for each sample, at least for those; None without labels. How
    right outputs are is `metric`'s to say, or the labels' own.
    """

    feeds: dict[str, Array]
    truth: Array | None
    simulated: int
    count: int
    metric: Metric | None = None

    def of(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the samples asked for, without those that filled the batch."""
        if self.count == self.simulated:
            return dict(outputs)
        n, all_ = self.count, (self.simulated,)
        return {name: a[:n] if np.shape(a)[:1] == all_ else a for name, a in outputs.items()}

    def measure(self, output: Array) -> tuple[Metric, float]:
        """The metric of the first output, and its figure.

        Raises `XbarcError` where the labels don't fit, or may mean several things.
        """
        assert self.truth is not None
        truth = self.truth[: self.count]
        metric = self.metric or guess_metric(output, truth)
        return metric, metric.measure(output, truth)

    def accuracy(self, outputs: Mapping[str, Array]) -> float:
        """Share of right answers of the first output, 0 to 1. Raises as `measure`."""
        metric, figure = self.measure(next(iter(self.of(outputs).values())))
        if not metric.is_share:
            raise UsageError(f"--metric {metric.name} is no accuracy: trials compare accuracies")
        return figure


def evaluate(
    path: Path,
    data: Path,
    *,
    labels: str | None = None,
    metric: str | None = None,
    limit: int | None = None,
    batch: int | None = None,
    threads: int | None = None,
    ideal: bool = False,
    noise: str = "",
    device: str | Path | None = None,
    seed: int = 0,
    activity: bool = False,
    beside_float: bool = True,
    torch_device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run the program at `path` over the npz file `data`.

    `labels` names the array of that file with an integer class for each sample, one-hot classes, or
    a mask; `metric` (`xbarc.driver.metrics`) says what it is where that isn't clear. If the
    model has a fixed batch, whole batches run until `limit` is reached, and outputs beyond `limit`
    are dropped. `noise` and `device` say what is wrong with devices, beside what the target says
    (`xbarc.simulator.noise`); `seed` is that of all that is random in them. `activity` adds what
    the values drove in each layer, and the energy that follows them. `beside_float`: the float
    network runs on the same samples. `torch_device`: torch multiplies the arrays there, with the
    same results; without it the compiled kernels do. Where effects act when cells
    are written, the document says what programming took; where they act then or after, what cells
    conduct level by level. Raises `XbarcError` if the
    program or the data can't be used, `UsageError` where the options can't.
    """
    asked = None if metric is None else metric_named(metric)
    if asked is not None and labels is None:
        raise UsageError(f"--metric {asked.name} compares with labels: give --labels KEY")
    program, digest, files = load(path), program_hash(path), manifest(path)["files"]
    samples = samples_of(program, data, labels, limit, asked)
    outputs, document = run_samples(
        program,
        samples,
        batch=batch,
        threads=threads,
        ideal=ideal,
        noise=noise,
        device=device,
        seed=seed,
        activity=activity,
        beside_float=beside_float,
        torch_device=torch_device,
        files=files,
        progress=progress,
    )
    return Evaluation(outputs, document, digest)


def run_samples(
    program: CompiledProgram,
    samples: Samples,
    *,
    batch: int | None = None,
    threads: int | None = None,
    ideal: bool = False,
    noise: str = "",
    device: str | Path | None = None,
    seed: int = 0,
    activity: bool = False,
    beside_float: bool = True,
    torch_device: str | None = None,
    files: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The outputs by name, and the document: options as those of `evaluate`.

    `files` are the hashes of a stored program's files, by which float outputs are kept on disk.
    """
    if ideal and (noise or device is not None):
        raise UsageError("--ideal has ideal devices: leave --noise and --device out")
    from xbarc.simulator.activity import ActivityCounter
    from xbarc.simulator.code_use import CodeCounter
    from xbarc.simulator.interpreter import Simulator
    from xbarc.simulator.noise import engine_for, on_torch

    if progress is not None:
        progress(0, samples.simulated)  # how much there is, before crossbars are programmed
    if ideal:
        engine = None if torch_device is None else on_torch((), torch_device)
    else:
        engine = engine_for(program, noise, device, torch_device=torch_device)
    counter = ActivityCounter(program) if activity else None
    observe = counter.observe if counter else None
    codes = CodeCounter(first=True)
    simulator = Simulator(
        program, ideal=ideal, observe=observe, codes=codes, engine=engine, seed=seed
    )
    start = time.perf_counter()
    everything = simulator.run(
        samples.feeds,
        batch=batch,
        threads=threads,
        progress=progress and (lambda done: progress(done, samples.simulated)),
    )
    seconds = time.perf_counter() - start
    outputs = samples.of(everything)
    document = {
        "samples": samples.count,
        **_answers(program, samples, outputs, files, beside_float=beside_float),
        "images_per_second": samples.simulated / seconds,
        "seed": seed,
        "effects": [str(effect) for effect in engine.effects] if engine else [],
        "inputs": {
            name: {"clipped": use.clipped, "used": use.used, "reach": [use.low, use.high]}
            for name, use in codes.uses().items()
        },
        "adc": {
            name: {"saturated": s.saturated, "lossless": s.lossless}
            for name, s in simulator.statistics().items()
        },
    }
    document |= _of_devices(program, simulator, engine, seed)
    if counter is not None:
        rows = {row["name"]: row for row in program.report["layers"]}
        document["activity"] = follow_values(rows, counter.statistics(), program.target)
    return outputs, document


def _answers(
    program: CompiledProgram,
    samples: Samples,
    outputs: Mapping[str, Array],
    files: Mapping[str, str] | None,
    *,
    beside_float: bool,
) -> dict[str, Any]:
    """How right the first output is (it is the one `judged`), and how far all are from float.

    Labels are about the first output alone; the float network has something to say of each.
    """
    if not outputs:
        return {}
    judged = next(iter(outputs))
    found: dict[str, Any] = {"judged": judged, "outputs": {name: {} for name in outputs}}
    metric = None
    if samples.truth is not None:
        metric, figure = samples.measure(outputs[judged])
        found |= {"metric": metric.name, metric.key: figure}
    if not beside_float:
        return found
    from xbarc.driver.float_run import float_outputs

    references = float_outputs(program, samples.feeds, files)
    if references is None:
        return found
    references = samples.of(references)
    each = {
        name: _beside(output, references[name], metric if name == judged else None)
        for name, output in outputs.items()
    }
    beside: dict[str, Any] = {}
    if metric is not None:
        beside[metric.key] = samples.measure(references[judged])[1]
    older = {"agree": "agreement", "snr_db": "output_snr_db"}
    beside |= {older[key]: value for key, value in each[judged].items()}
    return found | {"outputs": finite(each), "float": finite(beside)}


def _beside(output: Array, reference: Array, metric: Metric | None) -> dict[str, float]:
    """`agree` and `snr_db` of an output against the float network's, where they can be said.

    An output without a signal, or with NaN, has no ratio: null would say that both are alike.
    """
    told = {"agree": agreement(output, reference, metric), "snr_db": snr_db(reference, output)}
    return {key: x for key, x in told.items() if x is not None and x > -math.inf}


def _of_devices(
    program: CompiledProgram, simulator: "Simulator", engine: "AnalogEngine | None", seed: int
) -> dict[str, Any]:
    """What programming took, and what cells conduct, where effects change either."""
    if engine is None:
        return {}
    from xbarc.simulator.conductances import programmed_levels

    found: dict[str, Any] = {}
    if any(effect.writes for effect in engine.effects):
        found["programming"] = programming(
            {row["name"]: row for row in program.report["layers"]},
            simulator.pulses(),
            program.target,
            verified=any(effect.verifies for effect in engine.effects),
        )
    levels = programmed_levels(program, engine.effects, seed)
    if levels is not None:
        found["conductances"] = levels
    return found


def samples_of(
    program: CompiledProgram,
    data: Path,
    labels: str | None = None,
    limit: int | None = None,
    metric: Metric | None = None,
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
        check_labels(truth, f"labels {labels!r}", metric)
    feeds = match_inputs(inputs, arrays)
    if limit is not None:
        feeds = first_samples(inputs, feeds, limit)
    simulated = sample_count(inputs, feeds)
    count = simulated if limit is None else min(limit, simulated)
    if truth is not None and len(truth) < count:
        raise XbarcError(f"{labels!r} has {len(truth)} entries for {count} samples")
    return Samples(feeds, truth, simulated, count, metric)


def check_labels(truth: Array, what: str, metric: Metric | None = None) -> None:
    """Raise `XbarcError` where `truth` is neither an integer class a sample nor a mask.

    Of a metric of real outputs it may be any numbers.
    """
    real = truth.ndim > 1 or (metric is not None and not metric.is_share)
    if truth.ndim == 0 or truth.dtype.kind not in ("iubf" if real else "iub"):
        raise XbarcError(
            f"{what} are {truth.dtype}{list(truth.shape)}: "
            "give an integer class a sample, one-hot classes, or a mask"
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
