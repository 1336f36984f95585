"""What the trials kept with a program say: studies, and their figures as `xbarc run` gives them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from xbarc.artifact.runs import Run
from xbarc.artifact.trials import Header, Record, Trial, Value, Which
from xbarc.driver.statistics import Summary, summary


@dataclass(frozen=True)
class Group:
    """Trials with the same devices, by seed: at one `value` of an option, or in one `layer`."""

    value: Value | None
    layer: str | None
    trials: tuple[Trial, ...]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each trial, 0 to 1."""
        return [trial.accuracy for trial in self.trials]

    @cached_property
    def summary(self) -> Summary:
        """What they say together."""
        return summary(self.accuracies)

    @property
    def worst_seed(self) -> int:
        """The first seed of the lowest accuracy."""
        return min((t.accuracy, t.seed or 0) for t in self.trials)[1]

    @property
    def seeds(self) -> str:
        """The seeds in words: `0 to 9`, or how many there are from where to where."""
        found = [t.seed or 0 for t in self.trials]
        if len(found) == 1:
            return str(found[0])
        gaps = found[-1] - found[0] + 1 != len(found)
        return f"{len(found)} of " * gaps + f"{found[0]} to {found[-1]}"


@dataclass(frozen=True)
class Study:
    """Trials that ask the same of the same data, over `samples` each.

    `groups`: one alone; one a value of the option that varies, numbers in order; or one a layer,
    most lost first. `without`: the accuracy without effects, where it was run beside.
    """

    header: Header
    samples: int
    groups: tuple[Group, ...]
    without: float | None

    @property
    def name(self) -> str:
        """The devices as they were asked for: a device, a noise text, or the target's effects.

        Where an option varies, these are the effects beside it.
        """
        if self.header.vary:
            # What was asked for may name the option that varies, with a value that isn't there.
            varied = self.header.vary.rpartition(".")[0]
            return ", ".join(e for e in self.header.effects if e != varied) or "no other effect"
        asked = [part for part in (self.header.options.device, self.header.options.noise) if part]
        return " + ".join(asked) or ", ".join(self.header.effects)

    @property
    def data(self) -> tuple[str, str, int | None]:
        """What says which samples it ran over: the data's sha256, labels, limit."""
        return self.header.data, self.header.options.labels, self.header.options.limit


def studies_of(records: Iterable[Record]) -> list[Study]:
    """Studies with at least one trial with effects, oldest first.

    Records that tell the same devices and disagree about no trial are one: the same effects can be
    asked for by a device or by a text.
    """
    ordered = sorted(records, key=lambda r: (r.header.at, r.header.model_dump_json()))
    found: list[tuple[Header, dict[Which, Trial]]] = []
    for record in ordered:
        trials = {trial.which: trial for trial in record.trials}
        for header, seen in found:
            if _asks(header) == _asks(record.header) and all(
                seen.get(which, trial) == trial for which, trial in trials.items()
            ):
                seen.update(trials)
                break
        else:
            found.append((record.header, trials))
    made = (_study(header, list(trials.values())) for header, trials in found)
    return [study for study in made if study is not None]


def _asks(header: Header) -> tuple[object, ...]:
    options = header.options
    what = (header.data, options.labels, options.limit, tuple(header.effects))
    return *what, tuple(options.plugin), header.vary, header.by_layer


def _study(header: Header, trials: Sequence[Trial]) -> Study | None:
    without = next((t.accuracy for t in trials if t.seed is None), None)
    groups: dict[tuple[Value | None, str | None], list[Trial]] = {}
    for trial in trials:
        if trial.seed is not None:
            groups.setdefault((trial.value, trial.layer), []).append(trial)
    if not groups:
        return None
    made = [
        Group(value, layer, tuple(sorted(some, key=lambda t: t.seed or 0)))
        for (value, layer), some in groups.items()
    ]
    if header.by_layer:
        made.sort(key=lambda group: (group.summary.mean, group.layer or ""))
    elif numbers([group.value for group in made]) is not None:
        made.sort(key=lambda group: float(group.value or 0))
    return Study(header, made[0].trials[0].samples, tuple(made), without)


def numbers(values: Sequence[Value | None]) -> list[float] | None:
    """The values where all of them are numbers, else None."""
    found = [value for value in values if isinstance(value, int | float)]
    return [float(value) for value in found] if len(found) == len(values) else None


def ideal_accuracy(study: Study, studies: Iterable[Study], runs: Sequence[Run]) -> float | None:
    """The accuracy of ideal devices on a study's samples, where a kept run or study has it.

    A run says its data by the file's name, so one of another file of that name counts as well.
    """
    header = study.header
    wanted = header.input, header.options.labels, header.options.limit, study.samples
    for run in reversed(runs):
        result, given = run.result, run.options
        ideal = not (given.ideal or result.effects or given.plugin)
        if ideal and (run.input, given.labels, given.limit, result.samples) == wanted:
            return result.accuracy
    beside = (s.without for s in studies if s.data == study.data and s.without is not None)
    return next(beside, None)
