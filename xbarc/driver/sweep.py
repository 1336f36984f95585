"""A sweep: one model over a grid of target settings, each point compiled, run and costed.

The model is imported and its activations are measured once. Points that are done are given back
without work where a record of them is kept (`xbarc.artifact.sweeps`).
"""

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.artifact import CompiledProgram
from xbarc.artifact.sweeps import Point, Setting
from xbarc.driver import extensions
from xbarc.driver.compile import (
    Decided,
    Settings,
    compile_imported,
    decide,
    fitting_to,
    resolve_target,
)
from xbarc.driver.evaluate import Samples, run_samples, samples_of
from xbarc.driver.float_run import float_output
from xbarc.driver.metrics import Metric
from xbarc.driver.quantization import Quantization
from xbarc.driver.stages import Calibrated, Imported, calibrate_model, import_model
from xbarc.graph.ranges import carried_ranges
from xbarc.hw.target import dump_target
from xbarc.simulator.analog.engine import RESULTS
from xbarc.support.errors import UsageError, XbarcError

MOST = 10_000
"""Points of a sweep at most: more is a typing error."""

AT_ONCE = 2
"""Points under way: while one is compiled, by one core, the other is simulated by all."""

TARGET = "target"
"""What varies may be the target itself, by name or file."""


@dataclass(frozen=True)
class Axis:
    """A target key that takes one value after the other; `target` itself by name."""

    key: str
    values: tuple[Setting, ...]


def axis_of(text: str) -> Axis:
    """What `adc.bits=4:10`, `adc.bits=4:10:2` or `array.rows=64,128` says; ends are included.

    Raises `UsageError` where it can't be read.
    """
    key, equals, values = text.partition("=")
    found = list(itertools.chain.from_iterable(_values(v.strip(), text) for v in values.split(",")))
    if not equals or not key.strip() or not values.strip():
        raise _unreadable(text)
    return Axis(key.strip(), tuple(dict.fromkeys(found)))


def _values(text: str, whole: str) -> Iterator[Setting]:
    if ":" not in text:
        yield _value(text, whole)
        return
    try:
        ends = [int(part) for part in text.split(":")]
    except ValueError:
        raise _unreadable(whole) from None
    low, high, step = (*ends, 1)[:3]
    if not 2 <= len(ends) <= 3 or step < 1 or high < low or (high - low) // step >= MOST:
        raise _unreadable(whole)
    yield from range(low, high + 1, step)


def _value(text: str, whole: str) -> Setting:
    if not text:
        raise _unreadable(whole)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"--vary {text}: write key=value,value or key=first:last, whole numbers with both ends: "
        "adc.bits=4:10, array.rows=64,128"
    )


@dataclass(frozen=True)
class Sweep:
    """What `xbarc sweep` is asked for.

    `settings` are those of every point but for what `axes` change; `data` has the samples, and the
    labels by name. `metric`, `limit` and `seed` as `xbarc run` takes them.
    """

    model: Path
    settings: Settings
    axes: tuple[Axis, ...]
    data: Path | None = None
    labels: str | None = None
    metric: Metric | None = None
    limit: int | None = None
    calibration: Path | None = None
    seed: int = 0

    def grid(self) -> list[dict[str, Setting]]:
        """The settings of each point, the last axis fastest. Raises `UsageError` of too many."""
        sizes = [len(axis.values) for axis in self.axes]
        if np.prod(sizes, dtype=float) > MOST:
            raise UsageError(f"--vary: {' x '.join(map(str, sizes))} points are more than {MOST}")
        keys = [axis.key for axis in self.axes]
        if len(set(keys)) < len(keys):
            raise UsageError("--vary: give each key once, with all its values")
        for text in self.settings.overrides:
            if (key := text.partition("=")[0].strip()) in keys:
                raise UsageError(f"--set {text}: --vary {key} gives this key's values")
        rows = itertools.product(*(axis.values for axis in self.axes))
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def at(self, point: Mapping[str, Setting]) -> Settings:
        """The settings of one point."""
        target = point.get(TARGET, self.settings.target)
        sets = [f"{key}={_toml(value)}" for key, value in point.items() if key != TARGET]
        return replace(
            self.settings,
            target=str(target) if TARGET in point else self.settings.target,
            overrides=(*self.settings.overrides, *sets),
        )


def _toml(value: Setting) -> str:
    return value if isinstance(value, str) else repr(value)


@dataclass(frozen=True)
class Swept:
    """What a sweep found: its points in the order of the grid.

    `target` is the one that the axes vary, None where it is itself an axis. `float_figures`: the
    metric of the float network on the same samples.
    """

    axes: tuple[Axis, ...]
    model: str
    target: str | None
    samples: int | None
    metric: str | None
    float_figures: Mapping[str, float | None]
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """The model, and on what."""
        return self.model if self.target is None else f"{self.model} on {self.target}"

    def document(self) -> dict[str, Any]:
        """What `xbarc sweep --json` prints."""
        told: dict[str, Any] = {
            "model": self.model,
            "target": self.target,
            "samples": self.samples,
            "metric": self.metric,
            "float": dict(self.float_figures),
        }
        front = pareto(self.points)
        points = [{**p.document(), "pareto": i in front} for i, p in enumerate(self.points)]
        return {**{k: v for k, v in told.items() if v not in (None, {})}, "points": points}


def pareto(points: Sequence[Point]) -> set[int]:
    """The points that no other beats: none is as accurate for less energy, or better for as much.

    Empty where there are no accuracies.
    """
    known = [
        (i, p.accuracy, p.energy_uj)
        for i, p in enumerate(points)
        if p.accuracy is not None and p.energy_uj is not None
    ]
    return {
        i
        for i, a, e in known
        if not any(b >= a and f <= e and (b > a or f < e) for _, b, f in known)
    }


def run_sweep(
    sweep: Sweep,
    *,
    done: Mapping[str, Point] | None = None,
    keep: Callable[[Point], None] | None = None,
    threads: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Swept:
    """Run every point that isn't `done` (by key); `keep` is given each new one as it finishes.

    `watch` is told of the points done, and of how many there are. A point whose settings are
    refused, or that can't be compiled, says why, and the others go on. Raises `UsageError` where
    the settings of every point are refused, before anything runs, and `XbarcError` where model or
    data can't be used.
    """
    grid = sweep.grid()
    with extensions.using(sweep.settings.plugins):
        faults = [d for point in grid if isinstance(d := _decided(sweep, point), UsageError)]
        if len(faults) == len(grid):
            raise faults[0]
        settings = sweep.settings
        imported = import_model(
            sweep.model,
            sweep.calibration,
            inputs=settings.inputs,
            weights=settings.weights,
        )
        sweep = _fitting_to(imported, sweep)
        decided = [_decided(sweep, point) for point in grid]
        content = _content(sweep, imported)
        keys = ["" if isinstance(d, UsageError) else _key(content, sweep, d) for d in decided]
        known = done or {}
        found = {
            i: known[key].model_copy(update={"settings": grid[i]})
            for i, key in enumerate(keys)
            if key in known
        }
        for i, settled in enumerate(decided):
            if isinstance(settled, UsageError):
                error = " ".join(str(settled).split())
                found[i] = Point(key="", settings=grid[i], error=error)
        bench = _Bench(sweep, imported, threads)

        def tell() -> None:
            if watch is not None:
                watch(len(found), len(grid))

        tell()
        missing = [i for i in range(len(grid)) if i not in found]
        # Threads see the plug-ins of this one.
        contexts = [copy_context() for _ in missing]
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            outcomes = pool.map(
                lambda i, at: at.run(bench.point, grid[i], decided[i], keys[i]), missing, contexts
            )
            for i, point in zip(missing, outcomes, strict=True):
                found[i] = point
                if keep is not None:
                    keep(point)
                tell()
        finally:
            # After a fault or an interrupt, what hasn't begun never does.
            pool.shutdown(cancel_futures=True)
        figures, samples, metric = bench.float_figures()
    points = tuple(found[i] for i in range(len(grid)))
    base = None
    if all(axis.key != TARGET for axis in sweep.axes):
        base = resolve_target(sweep.settings.target, sweep.settings.overrides).name
    return Swept(sweep.axes, sweep.model.name, base, samples, metric, figures, points)


def _fitting_to(imported: Imported, sweep: Sweep) -> Sweep:
    """The sweep with what the model itself decides: one trained for its codes is never fitted."""
    settings = sweep.settings
    if carried_ranges(imported.model):
        settings = replace(settings, quantization=Quantization())
    return replace(sweep, settings=fitting_to(imported, settings))


def _decided(sweep: Sweep, point: Mapping[str, Setting]) -> Decided | UsageError:
    """The target and passes of a point, or why its settings are refused."""
    try:
        return decide(sweep.at(point))
    except UsageError as error:
        return error


class _Bench:
    """What all points share: the imported model, its samples, the float network's figures."""

    def __init__(self, sweep: Sweep, imported: Imported, threads: int | None) -> None:
        self._sweep, self._imported, self._threads = sweep, imported, threads
        self._program: CompiledProgram | None = None
        self._calibrated: dict[tuple[int, str, int, str], Calibrated] = {}
        self._lock = threading.Lock()

    def point(self, settings: Mapping[str, Setting], decided: Decided, key: str) -> Point:
        """Compile, run and cost one point."""
        sweep = self._sweep
        try:
            program = self._compile(decided, sweep.at(settings))
            samples = self._samples(program)
            told: dict[str, Any] = {}
            if samples is not None:
                _, told = run_samples(
                    program, samples, seed=sweep.seed, threads=self._threads, beside_float=False
                )
        except XbarcError as error:
            return Point(key=key, settings=dict(settings), error=" ".join(str(error).split()))
        totals = program.report["totals"]
        return Point(
            key=key,
            settings=dict(settings),
            energy_uj=totals["energy_uj"]["total"],
            area_mm2=totals["area_mm2"]["total"],
            latency_us=totals["latency_us"],
            throughput_ips=totals["throughput_ips"],
            crossbars=totals["crossbars"],
            **{k: told[k] for k in ("accuracy", "psnr_db", "snr_db") if k in told},
        )

    def _compile(self, decided: Decided, settings: Settings) -> CompiledProgram:
        """The program at one point. Graph passes of the user's may look at the target."""
        calibrated = None
        if not self._sweep.settings.passes:
            inputs, weights = decided.target.inputs, decided.target.weights
            key = inputs.bits, inputs.signed, weights.bits, str(decided.target.layers)
            with self._lock:
                if key not in self._calibrated:
                    self._calibrated[key] = calibrate_model(
                        self._imported,
                        decided.graph,
                        decided.target,
                        ranges=settings.range_rule,
                    )
                calibrated = self._calibrated[key]
        program = compile_imported(self._imported, decided, settings, calibrated=calibrated)
        self._program = self._program or program
        return program

    def _samples(self, program: CompiledProgram) -> Samples | None:
        sweep = self._sweep
        if sweep.data is None:
            return None
        return samples_of(program, sweep.data, sweep.labels, sweep.limit, sweep.metric)

    def float_figures(self) -> tuple[dict[str, float | None], int | None, str | None]:
        """The metric of the float network, the samples, and the metric's name."""
        if self._sweep.data is None:
            return {}, None, None
        if self._program is None:  # every point was done before
            for point in self._sweep.grid():
                settings = self._sweep.at(point)
                try:
                    self._compile(decide(settings), settings)
                except XbarcError:
                    continue
                break
            else:
                return {}, None, None
        assert self._program is not None
        samples = self._samples(self._program)
        assert samples is not None
        if samples.truth is None:
            return {}, samples.count, None
        output = float_output(self._program, samples.feeds)
        assert output is not None
        metric, figure = samples.measure(samples.of({"": output})[""])
        return {metric.key: figure}, samples.count, metric.name


def _content(sweep: Sweep, imported: Imported) -> str:
    """Names all that every point's results depend on, by content."""
    digest = hashlib.sha256()
    for name, value in sorted(imported.model.graph.initializers.items()):
        if value.const_value is not None:
            digest.update(f"{name}{value.const_value.dtype}{value.const_value.shape}".encode())
            digest.update(value.const_value.tobytes())
    digest.update(_graph_text(imported.model).encode())
    for name, array in sorted(imported.feeds.items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    if sweep.data is not None:
        digest.update(sweep.data.read_bytes())
    for file in sweep.settings.plugins:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _graph_text(model: ir.Model) -> str:
    """Its nodes as text: what they are, what they read and make, their attributes."""
    return "\n".join(
        f"{node.domain} {node.op_type} {[v and v.name for v in node.inputs]} "
        f"{[v.name for v in node.outputs]} {sorted(map(str, node.attributes.values()))}"
        for node in model.graph
    )


def _key(content: str, sweep: Sweep, decided: Decided) -> str:
    """Names a point: all that its figures depend on."""
    told = {
        "xbarc": [version("xbarc"), RESULTS],
        "content": content,
        "target": dump_target(decided.target),
        "passes": [str(p) for p in (*decided.graph, *decided.mapping, *decided.tile)],
        "percentile": sweep.settings.percentile,
        "quantization": asdict(sweep.settings.quantization),
        "labels": sweep.labels,
        "metric": None if sweep.metric is None else sweep.metric.name,
        "limit": sweep.limit,
        "seed": sweep.seed,
    }
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
