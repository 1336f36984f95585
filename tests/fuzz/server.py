"""Runs command lines in processes that have everything imported already.

Three processes take part. The *asker* (`Server`) writes requests. The *server* imports everything
once, and forks *workers*. A worker runs many command lines, one after the other: forking a process
of this size takes longer than most commands. The server ends a worker that is late, and starts
another where one is gone.

So what a command ended as may hang on those before it in the same worker. `alone=True` runs it as
the shell does: in a process of its own, supervised by `xbarc.cli.supervise`.

A request is a line of JSON on the server's stdin, an answer one on its stdout ({"code", "err",
"out", "megabytes", "seconds"}); `code` is None where the time was over.
"""

import contextlib
import functools
import gc
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

EACH_WORKER = 200
"""Command lines that a worker runs before another takes its place."""


@dataclass(frozen=True)
class End:
    """How a command line ended."""

    code: int | None
    out: str
    err: str
    megabytes: float
    seconds: float


class Server:
    """The process that runs command lines, and what it is asked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, argv: list[str], cwd: str, timeout: float = 120, alone: bool = False) -> End:
        """Run `xbarc` with these arguments in a folder."""
        request = {"argv": argv, "cwd": cwd, "timeout": timeout, "alone": alone}
        return End(**self._ask(request))

    def warm(self, argv: list[str], cwd: str) -> None:
        """Run it in the server itself, which then has all imported that it takes."""
        self._ask({"warm": argv, "cwd": cwd})

    def _ask(self, request: dict) -> dict:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


class Worker:
    """A process that runs command lines, as its server sees it."""

    def __init__(self) -> None:
        from xbarc.support.bounds import Watch

        self.left, self.gone = EACH_WORKER, False
        self._watch = Watch()
        reading, self._requests = os.pipe()
        self._answers, writing = os.pipe()
        gc.freeze()  # what is imported isn't looked through after each command
        self._process = os.fork()
        if not self._process:
            os.close(self._requests)
            os.close(self._answers)
            _work(reading, writing, self._watch)
        os.close(reading)
        os.close(writing)

    def run(self, argv: list[str], cwd: str, timeout: float) -> tuple[int | None, float]:
        """The exit code (None: late) and the most megabytes. Who doesn't answer is gone."""
        self.left -= 1
        end_at = time.monotonic() + timeout
        os.write(self._requests, json.dumps({"argv": argv, "cwd": cwd}).encode() + b"\n")
        while not select.select([self._answers], [], [], 0.25)[0]:
            if self._watch.overdue or time.monotonic() > end_at:
                os.kill(self._process, signal.SIGKILL)
                return None, self.close()[1]
        answer = os.read(self._answers, 1000)
        if answer:
            code, megabytes = json.loads(answer)
            return code, megabytes
        return self.close()

    def close(self) -> tuple[int, float]:
        """Wait for its end, which no more requests bring about; exit code and megabytes."""
        self.gone = True
        os.close(self._requests)
        _, status, usage = os.wait4(self._process, 0)
        os.close(self._answers)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024


def _work(requests: int, answers: int, watch) -> None:
    """A worker's process: it never returns."""
    from xbarc.cli import call
    from xbarc.support.bounds import Limits, watched_by

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched_by(watch)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in os.fdopen(requests):
        request = json.loads(line)
        _redirect(request["cwd"])
        sys.argv = ["xbarc", *request["argv"]]
        watch.limits = Limits()
        _forget_peak()
        code = 99
        try:
            call()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print("Traceback:", repr(error), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answers, json.dumps([code, _peak()]).encode())
        gc.collect()
    os._exit(0)


def _redirect(cwd: str) -> None:
    """Output goes to files of the folder, which is the working directory from now on."""
    os.chdir(cwd)
    for number, name in enumerate((".out", ".err"), 1):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)


def _forget_peak() -> None:
    """The most memory of this process is counted from here on."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> float:
    """The most memory since then, in megabytes."""
    with open("/proc/self/status") as file:
        status = file.read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _warm(warm: list[str], cwd: str) -> dict:
    from xbarc.cli import call

    os.chdir(cwd)
    sys.argv = ["xbarc", *warm]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        call()
    return {}


def _alone(argv: list[str], cwd: str, timeout: float) -> tuple[int | None, float]:
    """Run a command line as the shell does: exit code (None: late) and the most megabytes."""
    end_at = time.monotonic() + timeout
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        _redirect(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["xbarc", *argv]
        from xbarc.cli import main

        try:
            main()
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        finally:
            os._exit(99)
    while time.monotonic() < end_at:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
        time.sleep(0.004)
    os.killpg(child, signal.SIGKILL)
    _, _, usage = os.wait4(child, 0)
    return None, usage.ru_maxrss / 1024


class Workers:
    """The one worker that there is at a time."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def run(self, argv: list[str], cwd: str, timeout: float, alone: bool) -> dict:
        """The answer to a request."""
        start = time.monotonic()
        if alone:
            code, megabytes = _alone(argv, cwd, timeout)
        else:
            code, megabytes = self._ready().run(argv, cwd, timeout)
        texts = []
        for name in (".out", ".err"):
            path = os.path.join(cwd, name)
            with open(path, errors="backslashreplace", newline="") as file:
                texts.append(file.read(100_000))
        return {
            "code": code,
            "out": texts[0],
            "err": texts[1],
            "megabytes": megabytes,
            "seconds": time.monotonic() - start,
        }

    def _ready(self) -> Worker:
        if self._worker is None or self._worker.gone or not self._worker.left:
            self.close()
            self._worker = Worker()
        return self._worker

    def close(self) -> None:
        """No worker is left."""
        if self._worker is not None and not self._worker.gone:
            self._worker.close()
        self._worker = None


def _keep_commands() -> None:
    """typer makes all commands anew for each call, which takes longer than most inputs."""
    import typer.main

    typer.main.get_command = functools.cache(typer.main.get_command)


def main() -> None:
    _keep_commands()
    answers = os.fdopen(os.dup(1), "w")
    workers = Workers()
    for line in sys.stdin:
        request = json.loads(line)
        answer = _warm(**request) if "warm" in request else workers.run(**request)
        print(json.dumps(answer), file=answers, flush=True)
    workers.close()


if __name__ == "__main__":
    main()
