"""Trials: one program over the same samples, with devices drawn anew each time.

A trial is a run with a seed of its own. What trials are run under is a `Bench`; who runs them is a
`Runner`'s business (this process, or workers: `xbarc.driver.cluster`).
"""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdsl.utils.arg_spec import ArgSpec

from xbarc.artifact import CompiledProgram
from xbarc.artifact.trials import Trial, Value, Which
from xbarc.driver.evaluate import Samples
from xbarc.driver.statistics import Summary, summary
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.engine import Engine
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import engine_for
from xbarc.simulator.one_layer import OneLayerEngine
from xbarc.support.errors import UsageError

Runner = Callable[[Sequence[Which]], Generator[Trial]]
"""Runs trials, and gives each as it finishes, in any order."""

Watch = Callable[[int, int], None]
"""Is told of what is done, and of how much there is."""


@dataclass(frozen=True)
class Vary:
    """An option of an effect that takes one value after the other."""

    effect: str
    option: str
    values: tuple[int | float | str, ...]

    def __str__(self) -> str:
        return f"{self.effect}.{self.option}"

    def tables(self, value: Value) -> dict[str, dict[str, Any]]:
        """The option with one of its values, as effects are written in tables."""
        words: dict[Value, Any] = {"true": True, "false": False}
        return {self.effect: {self.option: words.get(value, value)}}


def vary_of(text: str) -> Vary:
    """What `programming.sigma=0,0.02,0.05` says. Raises `UsageError` where it can't be read."""
    name, _, values = text.partition("=")
    effect, _, option = name.strip().rpartition(".")
    found = tuple(dict.fromkeys(_value(v.strip(), text) for v in values.split(",")))
    if not (effect and option and values.strip()):
        raise _unreadable(text)
    return Vary(effect.strip(), option.strip().replace("-", "_"), found)


def _value(text: str, whole: str) -> int | float | str:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
        raise _unreadable(whole)
    if not text.replace("-", "").replace("_", "").isalnum():
        raise _unreadable(whole)
    return text


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"--vary {text}: write effect.option=value,value: programming.sigma=0,0.02,0.05; values "
        "are numbers or words"
    )


@dataclass(frozen=True)
class Conditions:
    """What is wrong with devices in trials; `noise` and `device` as `xbarc run` takes them.

    `vary` replaces an option. `by_layer`: the effects are in one layer at a time. `torch_device`:
    where torch computes, which changes no result; None: the compiled kernels do.
    """

    noise: str = ""
    device: str | Path | None = None
    vary: Vary | None = None
    by_layer: bool = False
    torch_device: str | None = None


@dataclass(frozen=True)
class Bench:
    """A program, samples, and the engine at each value of the option that varies.

    Where nothing varies, the engine is that of None.
    """

    program: CompiledProgram
    samples: Samples
    conditions: Conditions
    engines: Mapping[Value | None, AnalogEngine]

    @property
    def effects(self) -> list[str]:
        """The effects as a `--noise` text has them, without the option that varies."""
        vary = self.conditions.vary
        told = []
        for effect in next(iter(self.engines.values())).effects:
            spec = effect.spec()
            if vary is not None and effect.name == vary.effect:
                kept = {k: v for k, v in spec.parameters.items() if k != vary.option}
                spec = ArgSpec(spec.name, kept)
            told.append(str(spec))
        return told

    @property
    def layers(self) -> list[str]:
        """The layers on crossbars, each once."""
        walked = self.program.module.walk()
        return list(dict.fromkeys(weights_of(op).symbol for op in walked if isinstance(op, MvmOp)))

    def all(self, seeds: Iterable[int]) -> list[Which]:
        """Every trial with these seeds, the run without effects first where there is one."""
        layers: list[str | None] = [*self.layers] if self.conditions.by_layer else [None]
        without = [Which(None, None, None)] if self.conditions.by_layer else []
        each = [Which(v, layer, s) for v in self.engines for layer in layers for s in seeds]
        return without + each

    def trial(
        self,
        which: Which,
        *,
        batch: int | None = None,
        threads: int | None = None,
        watch: Watch | None = None,
    ) -> Trial:
        """Run one trial; `watch` is told of its samples. Raises as `Simulator`."""
        engine: Engine | None = None
        if which.seed is not None:
            engine = self.engines[which.value]
            if which.layer is not None:
                engine = OneLayerEngine(which.layer, engine)
        samples, done = self.samples, 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            if watch is not None:
                watch(done, samples.simulated)

        simulator = Simulator(self.program, engine=engine, seed=which.seed or 0)
        outputs = simulator.run(samples.feeds, batch=batch, threads=threads, progress=progress)
        return Trial(**which._asdict(), accuracy=samples.accuracy(outputs), samples=samples.count)


def bench(program: CompiledProgram, samples: Samples, conditions: Conditions) -> Bench:
    """What trials are run under; nothing has run yet.

    Raises `UsageError` where there is no effect, one can't be, or options don't go together.
    """
    vary, noise, device = conditions.vary, conditions.noise, conditions.device
    if vary is not None and conditions.by_layer:
        raise UsageError("--vary and --by-layer don't go together: give one of them")
    engines: dict[Value | None, AnalogEngine] = {}
    for value in vary.values if vary is not None else (None,):
        changed = vary.tables(value) if vary is not None and value is not None else None
        engine = engine_for(program, noise, device, changed, conditions.torch_device)
        if engine is None or not engine.effects:
            raise UsageError(
                "all trials would be alike: there are no effects; give --noise or --device"
            )
        engines[value] = engine
    return Bench(program, samples, conditions, engines)


def in_turn(
    at: Bench, batch: int | None = None, threads: int | None = None, watch: Watch | None = None
) -> Runner:
    """Runs trials one after the other, here; `watch` is told of the samples within each."""

    def run(missing: Sequence[Which]) -> Generator[Trial]:
        for which in missing:
            yield at.trial(which, batch=batch, threads=threads, watch=watch)

    return run


@dataclass(frozen=True)
class Result:
    """The trials at one value of the option that varies, or of one layer.

    `lost`: the mean accuracy below that of the run without effects, where there is one.
    """

    value: Value | None
    layer: str | None
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: Summary
    lost: float | None = None

    def document(self) -> dict[str, Any]:
        """Its part of `xbarc run --json`."""
        what = {"value": self.value, "layer": self.layer, "lost": self.lost}
        pairs = zip(self.seeds, self.accuracies, strict=True)
        return {
            **{k: v for k, v in what.items() if v is not None},
            "accuracy": asdict(self.accuracy),
            "each": [{"seed": s, "accuracy": a} for s, a in pairs],
        }


@dataclass(frozen=True)
class Trials:
    """What trials came to, over `samples` each; accuracies from 0 to 1.

    `results`: one alone, one a value of the option `vary` in the order given, or one a layer, most
    lost first. `effects` lack the option that varies. `without_effects`: the accuracy that layers
    are compared with.
    """

    samples: int
    effects: tuple[str, ...]
    results: tuple[Result, ...]
    vary: str | None = None
    without_effects: float | None = None

    @property
    def accuracy(self) -> Summary:
        """The figures where nothing varies. Raises `UsageError` where there are several results."""
        if len(self.results) != 1:
            raise UsageError(f"there are {len(self.results)} results: each has an accuracy")
        return self.results[0].accuracy

    def document(self) -> dict[str, Any]:
        """What `xbarc run --trials --json` prints."""
        seeds = self.results[0].seeds
        told = {
            "samples": self.samples,
            "trials": len(seeds),
            "seed": seeds[0],
            "effects": list(self.effects),
        }
        each = [result.document() for result in self.results]
        if self.without_effects is not None:
            return {**told, "without_effects": self.without_effects, "layers": each}
        if self.vary is not None:
            return {**told, "vary": self.vary, "values": each}
        return {**told, **each[0]}


def run_trials(
    at: Bench,
    seeds: Sequence[int],
    runner: Runner,
    *,
    done: Iterable[Trial] = (),
    keep: Callable[[Trial], None] | None = None,
    watch: Watch | None = None,
) -> Trials:
    """Run the trials of these seeds (at least one) that aren't `done`; figures of all of them.

    `keep` is given each new trial as it finishes; `watch` is told of how many are.
    """
    found = {trial.which: trial for trial in done}
    wanted = at.all(seeds)
    missing = [which for which in wanted if which not in found]
    if watch is not None:
        watch(len(wanted) - len(missing), len(wanted))
    if missing:
        with closing(runner(missing)) as finished:
            for count, trial in enumerate(finished, len(wanted) - len(missing) + 1):
                found[trial.which] = trial
                if keep is not None:
                    keep(trial)
                if watch is not None:
                    watch(count, len(wanted))
    return _outcome(at, [found[which] for which in wanted])


def _outcome(at: Bench, trials: Sequence[Trial]) -> Trials:
    without = next((t.accuracy for t in trials if t.seed is None), None)
    groups: dict[tuple[Value | None, str | None], list[Trial]] = {}
    for trial in trials:
        if trial.seed is not None:
            groups.setdefault((trial.value, trial.layer), []).append(trial)
    results = [_result(group, without) for group in groups.values()]
    if without is not None:
        results.sort(key=lambda result: -(result.lost or 0.0))
    vary = at.conditions.vary
    told = None if vary is None else str(vary)
    return Trials(trials[0].samples, tuple(at.effects), tuple(results), told, without)


def _result(trials: Sequence[Trial], without: float | None) -> Result:
    accuracies = tuple(t.accuracy for t in trials)
    figures = summary(accuracies)
    lost = None if without is None else without - figures.mean
    seeds = tuple(t.seed for t in trials if t.seed is not None)
    return Result(trials[0].value, trials[0].layer, seeds, accuracies, figures, lost)
