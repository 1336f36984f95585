"""Trials on several processes or machines, by dask.distributed (extra `cluster`).

dask decides which worker runs which trial, and runs those of a lost worker again. A worker opens
the files of a study by their paths, once, and refuses where they aren't what the caller has.
"""

import dataclasses
import importlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbarc.artifact.trials import Trial, Which
from xbarc.driver import extensions
from xbarc.driver.study import Study
from xbarc.driver.trials import Bench, Runner
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.threads import VARIABLE, thread_count

if TYPE_CHECKING:
    from distributed import Client

QUIET = "ignore:resource_tracker:UserWarning"
"""For the process that clears up behind workers: that there was something is no user's concern."""

ALONE = "120s"
"""How long trials wait for a worker of this machine where all have ended."""


def workers(count: int) -> Callable[[Study, str], Runner]:
    """What runs trials on `count` processes of this machine, which share its cores.

    Raises `XbarcError` where dask.distributed isn't installed.
    """
    dask = _distributed()

    def runner(study: Study, key: str) -> Runner:
        each = max(1, thread_count(study.threads) // count)

        @contextmanager
        def client() -> Iterator["Client"]:
            from dask import config

            if QUIET not in sys.warnoptions:
                sys.warnoptions.append(QUIET)  # Python gives them to the processes that it starts
            with (
                config.set({"distributed.scheduler.no-workers-timeout": ALONE}),
                _uninterrupted(
                    dask.LocalCluster,
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # a trial may take what a run may
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,  # a trial's error reaches the caller anyway
                    env={VARIABLE: str(each)},
                ) as cluster,
                dask.Client(cluster, set_as_default=False) as found,
            ):
                yield found

        return _runner(dataclasses.replace(study, threads=each), key, client)

    return runner


def scheduler(address: str, warn: Callable[[str], None]) -> Callable[[Study, str], Runner]:
    """What runs trials on the cluster whose scheduler has this address (`tcp://host:port`).

    A trial has one thread unless the study says otherwise: dask gives a worker as many trials at
    once as it has threads. Raises `XbarcError` where dask.distributed isn't installed.
    """
    dask = _distributed()

    def runner(study: Study, key: str) -> Runner:
        @contextmanager
        def client() -> Iterator["Client"]:
            try:
                dask.comm.resolve_address(address)  # a Client of a wrong one takes long to close
                found = dask.Client(address, set_as_default=False, timeout="10s")
            except (OSError, ValueError) as error:
                raise UsageError(f"--scheduler {address}: {_line(error)}") from None
            with found:
                if not found.scheduler_info()["workers"]:
                    warn(f"{address} has no worker yet: trials begin when one comes")
                yield found

        return _runner(dataclasses.replace(study, threads=study.threads or 1), key, client)

    return runner


def _uninterrupted(make: Callable[..., Any], **options: Any) -> Any:
    """What `make` gives; processes that it starts don't hear Ctrl-C, which is the caller's."""
    if threading.current_thread() is not threading.main_thread():
        return make(**options)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return make(**options)
    finally:
        signal.signal(signal.SIGINT, before)


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise XbarcError(
            "--workers and --scheduler need dask.distributed: pip install 'xbarc[cluster]'"
        ) from None


def _runner(study: Study, key: str, client: "Callable[[], Any]") -> Runner:
    asked = _absolute(study)

    def run(missing: Sequence[Which]) -> Generator[Trial]:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker, NoWorkerError

        with client() as at:
            futures = [at.submit(_work, asked, key, which, pure=False) for which in missing]
            try:
                for future in as_completed(futures, loop=at.loop):
                    yield future.result()
                    future.release()
            except (KilledWorker, NoWorkerError):
                raise XbarcError(
                    "workers ended while they ran a trial, one after the other: is there enough "
                    "memory?"
                ) from None
            finally:
                at.cancel(futures)

    return run


def _absolute(study: Study) -> Study:
    """The study with paths that hold in every folder."""
    conditions = study.conditions
    if conditions.device is not None and Path(conditions.device).suffix == ".toml":
        conditions = dataclasses.replace(conditions, device=Path(conditions.device).resolve())
    return dataclasses.replace(
        study,
        program=study.program.resolve(),
        data=study.data.resolve(),
        conditions=conditions,
        plugins=tuple(file.resolve() for file in study.plugins),
    )


def _work(study: Study, key: str, which: Which) -> Trial:
    """Run a trial: on a worker. Raises `XbarcError` where it hasn't the same files."""
    from distributed import get_worker

    with ExitStack() as plugins:
        try:
            plugins.enter_context(extensions.using(study.plugins))
            bench = _opened(study, key)
        except (XbarcError, OSError) as error:
            raise XbarcError(
                f"worker {get_worker().address}: {_line(error)}: workers need the same files "
                "under the same paths"
            ) from None
        return bench.trial(which, batch=study.batch, threads=study.threads)


@lru_cache(maxsize=1)
def _opened(study: Study, key: str) -> Bench:
    """The study's bench, which a worker's trials have in common.

    Raises `XbarcError` where files aren't those that the key is of.
    """
    bench = study.opened()
    if study.key(bench) != key:
        raise XbarcError("the program, the data, a device or a plug-in has another content there")
    return bench


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
