"""A study: trials of a program on disk over a data file, which go on where they were left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from xbarc.artifact import trials
from xbarc.artifact.runs import program_hash
from xbarc.artifact.store import load
from xbarc.artifact.trials import Header, Options, Trial
from xbarc.driver import extensions
from xbarc.driver.evaluate import samples_of
from xbarc.driver.metrics import metric_named
from xbarc.driver.trials import Bench, Conditions, Runner, Trials, Watch, bench, in_turn, run_trials
from xbarc.simulator.analog.engine import RESULTS
from xbarc.simulator.noise import files_of, load_device
from xbarc.support.errors import XbarcError
from xbarc.support.files import sha256_of


@dataclass(frozen=True)
class Study:
    """What `xbarc run --trials` is asked for, but for the seeds.

    `batch` and `threads` (of all trials at once) change no result.
    """

    program: Path
    data: Path
    labels: str
    conditions: Conditions
    metric: str | None = None
    limit: int | None = None
    plugins: tuple[Path, ...] = ()
    batch: int | None = None
    threads: int | None = None

    def opened(self) -> Bench:
        """The bench of its trials. Within `extensions.using(self.plugins)`.

        Raises `XbarcError` where a file can't be used, `UsageError` where an option can't.
        """
        program = load(self.program)
        metric = None if self.metric is None else metric_named(self.metric)
        samples = samples_of(program, self.data, self.labels, self.limit, metric)
        return bench(program, samples, self.conditions)

    def key(self, at: Bench) -> str:
        """Names all that changes a trial's accuracy, by content: files may be moved or renamed."""
        c = self.conditions
        device = None if c.device is None else load_device(c.device).text
        return trials.key_of(
            {
                "results": RESULTS,
                "program": program_hash(self.program),
                "data": sha256_of(self.data),
                "labels": self.labels,
                "metric": self.metric,
                "limit": self.limit,
                "noise": c.noise,
                "device": device,
                "vary": None if c.vary is None else str(c.vary),
                "by_layer": c.by_layer,
                "plugins": sorted(map(sha256_of, self.plugins)),
                "files": _files_of(at),
            }
        )

    def header(self, at: Bench) -> Header:
        """What the file says of its trials."""
        c = self.conditions
        options = Options(
            labels=self.labels,
            metric=self.metric,
            limit=self.limit,
            noise=c.noise,
            device=None if c.device is None else Path(c.device).name,
            plugin=[file.name for file in self.plugins],
        )
        return Header(
            at=datetime.now(UTC).replace(microsecond=0),
            program=program_hash(self.program),
            input=self.data.name,
            data=sha256_of(self.data),
            options=options,
            effects=at.effects,
            vary=None if c.vary is None else str(c.vary),
            by_layer=c.by_layer,
        )


def run_study(
    study: Study,
    seeds: Sequence[int],
    *,
    runner: "Callable[[Study, str], Runner] | None" = None,
    record: bool = True,
    warn: Callable[[str], None],
    watch: Watch | None = None,
    watch_samples: Watch | None = None,
) -> Trials:
    """The figures of the trials with these seeds; those that are kept aren't run again.

    `runner` makes what runs them from the study and its key, this process without it. `record`
    keeps each new trial with the program; where that can't be, `warn` is told once. `watch` is told
    of trials, `watch_samples` of the samples within one of this process. Raises as `Study.opened`.
    """
    with extensions.using(study.plugins):
        at = study.opened()
        key = study.key(at)
        kept = _Kept(study.program, key, study.header(at), warn, active=record)
        if runner is not None:
            run = runner(study, key)
        else:
            run = in_turn(at, study.batch, study.threads, watch_samples)
        return run_trials(at, seeds, run, done=kept.done(), keep=kept.keep, watch=watch)


@dataclass
class _Kept:
    """The trials kept with a program; not `active` any more once that fails."""

    program: Path
    key: str
    header: Header
    warn: Callable[[str], None]
    active: bool

    def done(self) -> tuple[Trial, ...]:
        if not self.active:
            return ()
        try:
            found, faults = trials.done(self.program, self.key, self.header)
        except XbarcError as error:
            self._give_up(error)
            return ()
        for fault in faults:
            self.warn(fault)
        return found

    def keep(self, trial: Trial) -> None:
        if self.active:
            try:
                trials.append(self.program, self.key, self.header, trial)
            except XbarcError as error:
                self._give_up(error)

    def _give_up(self, error: XbarcError) -> None:
        self.active = False
        self.warn(f"trials aren't kept: {error}")


def _files_of(at: Bench) -> dict[str, str]:
    """Those of its effects but of what varies."""
    found = files_of(next(iter(at.engines.values())).effects)
    found.pop(str(at.conditions.vary), None)
    return found
