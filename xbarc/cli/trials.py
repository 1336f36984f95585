"""The options of `xbarc run` that ask for trials: many runs, each with devices drawn anew."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbarc.cli.output import console, number, print_json, progress_bar, table, warn
from xbarc.support.errors import UsageError

if TYPE_CHECKING:
    from xbarc.driver.statistics import Summary
    from xbarc.driver.trials import Trials

Count = Annotated[
    int | None,
    typer.Option(
        "--trials", metavar="N", min=1, help="N runs, seeds from --seed on: how sure is accuracy?"
    ),
]
Vary = Annotated[
    str | None,
    typer.Option(
        "--vary",
        metavar="EFFECT.OPTION=A,B,...",
        help="The trials at each value of an effect's option: programming.sigma=0,0.05.",
    ),
]
ByLayer = Annotated[
    bool, typer.Option("--by-layer", help="The trials with effects in one layer at a time.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Trials on N processes (the extra 'cluster').",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="tcp://HOST:PORT", help="Trials on a dask cluster that is running."
    ),
]

Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """These options, as given."""

    count: int | None
    vary: str | None
    by_layer: bool
    workers: int | None
    scheduler: str | None

    def check(
        self, labels: str | None, *, ideal: bool, output: Path | None, activity: bool
    ) -> bool:
        """Whether trials are asked for. Raises `UsageError` where options don't go together."""
        if self.count is None:
            alone = {
                "--vary": self.vary is not None,
                "--by-layer": self.by_layer,
                "--workers": self.workers is not None,
                "--scheduler": self.scheduler is not None,
            }
            for name in (name for name, given in alone.items() if given):
                raise UsageError(f"{name} is about trials: give --trials N")
            return False
        others = {"--ideal": ideal, "--output": output is not None, "--activity": activity}
        for name in (name for name, given in others.items() if given):
            raise UsageError(f"--trials doesn't go with {name}: leave one of them out")
        if labels is None:
            raise UsageError("--trials compares accuracies: give --labels KEY")
        if self.workers is not None and self.scheduler is not None:
            raise UsageError("--workers and --scheduler don't go together: give one of them")
        return True

    def run(
        self,
        program: Path,
        data: Path,
        labels: str,
        *,
        metric: str | None,
        limit: int | None,
        batch: int | None,
        threads: int | None,
        noise: str,
        device: str | None,
        seed: int,
        torch_device: str | None,
        plugins: Sequence[Path],
        record: bool,
        as_json: bool,
    ) -> None:
        """Run the trials and print what they came to."""
        from xbarc.driver.study import Study, run_study
        from xbarc.driver.trials import Conditions, vary_of

        assert self.count is not None
        runner = None
        if self.workers is not None or self.scheduler is not None:
            from xbarc.driver import cluster

            if self.workers is not None:
                runner = cluster.workers(self.workers)
            elif self.scheduler is not None:
                runner = cluster.scheduler(self.scheduler, warn)
        varying = None if self.vary is None else vary_of(self.vary)
        study = Study(
            program,
            data,
            labels,
            Conditions(noise, device, varying, self.by_layer, torch_device),
            metric=metric,
            limit=limit,
            plugins=tuple(plugins),
            batch=batch,
            threads=threads,
        )
        with _progress(samples=runner is None) as (watch, watch_samples):
            found = run_study(
                study,
                range(seed, seed + self.count),
                runner=runner,
                record=record,
                warn=warn,
                watch=watch,
                watch_samples=watch_samples,
            )
        if as_json:
            print_json(found.document())
        else:
            _print(found)


@contextmanager
def _progress(*, samples: bool) -> Iterator[tuple[Watch, Watch]]:
    """Bars of the trials and, where they show, of the samples within one: (done, in all)."""
    with progress_bar() as bar:
        trials = bar.add_task("trials", total=None)
        within = bar.add_task("samples", total=None, visible=samples)
        yield (
            lambda done, total: bar.update(trials, completed=done, total=total),
            lambda done, total: bar.update(within, completed=done, total=total),
        )


def _print(found: "Trials") -> None:
    """The figures: a line each, or a table with a row for each value or layer."""
    out, seeds = console(), found.results[0].seeds
    out.print(f"samples            {found.samples}")
    out.print(f"trials             {len(seeds)}, seeds {seeds[0]} to {seeds[-1]}")
    for effect in found.effects:
        out.print(f"effect             {effect}")
    if found.without_effects is not None:
        out.print(f"without effects    {found.without_effects:.2%}")
    if found.vary is None and found.without_effects is None:
        for name, text in _texts(found.accuracy).items():
            out.print(f"{name:<18} {text}")
        return
    first = "layer" if found.vary is None else found.vary
    lost = ["lost"] if found.without_effects is not None else []
    rows = table(first, *lost, *_texts(found.results[0].accuracy))
    for result in found.results:
        value = result.value
        what = result.layer or (number(value) if isinstance(value, float) else str(value))
        less = [f"{result.lost:.2%}"] if result.lost is not None else []
        rows.add_row(what, *less, *_texts(result.accuracy).values())
    out.print(rows)


def _texts(accuracy: "Summary") -> dict[str, str]:
    """The figures as they are printed, by name."""
    std, interval = accuracy.std, accuracy.interval
    return {
        "mean accuracy": f"{accuracy.mean:.2%}",
        "95% interval": "-" if interval is None else f"{interval[0]:.2%} to {interval[1]:.2%}",
        "std deviation": "-" if std is None else f"{std:.2%}",
        "worst": f"{accuracy.worst:.2%}",
        "median": f"{accuracy.median:.2%}",
        "best": f"{accuracy.best:.2%}",
    }
