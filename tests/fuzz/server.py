"""Runs command lines, each in a process of its own that has everything imported already.

A request is a line of JSON on stdin ({"argv", "cwd", "timeout"}), an answer one on stdout ({"code",
"err", "out", "megabytes", "seconds", "cpu"}); `code` is None where the time was over.
"""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class End:
    """How a command line ended."""

    code: int | None
    out: str
    err: str
    megabytes: float
    seconds: float
    cpu: float


class Server:
    """The process that runs command lines, and what it is asked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, argv: list[str], cwd: str, timeout: float = 120) -> End:
        """Run `xbarc` with these arguments in a folder."""
        return End(**self._ask({"argv": argv, "cwd": cwd, "timeout": timeout}))

    def warm(self, argv: list[str], cwd: str) -> None:
        """Run it in the server itself, which then has all imported that it takes."""
        self._ask({"warm": argv, "cwd": cwd})

    def _ask(self, request: dict) -> dict:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def _warm(warm: list[str], cwd: str) -> dict:
    from xbarc.cli import call

    os.chdir(cwd)
    sys.argv = ["xbarc", *warm]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        call()
    return {}


def _run(argv: list[str], cwd: str, timeout: float) -> dict:
    start = time.monotonic()
    outputs = [os.path.join(cwd, name) for name in (".out", ".err")]
    child = os.fork()
    if not child:
        os.chdir(cwd)
        for number, path in enumerate(outputs, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
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
    code, usage = None, None
    while time.monotonic() - start < timeout:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.004)
    else:
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    texts = []
    for path in outputs:
        with open(path, errors="backslashreplace", newline="") as file:
            texts.append(file.read(100_000))
    return {
        "code": code,
        "out": texts[0],
        "err": texts[1],
        "megabytes": usage.ru_maxrss / 1024,
        "seconds": time.monotonic() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
    }


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        answer = _warm(**request) if "warm" in request else _run(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
