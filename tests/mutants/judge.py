"""Whether tests notice a change: a process forked for it runs them in a changed copy of the tree.

What takes long to import (numpy, onnxruntime, Numba) is imported before; xbarc itself isn't. For a
change in a file of kernels, or of their constants, they are compiled in a folder of its own: in
that of all they would be compiled again for the next change too.
"""

import contextlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tree
from changes import Change

FIRST_SECONDS = 40.0
"""Seconds of tests that a change meets first; what lives through them meets all others."""

MOST_SECONDS = 240.0
"""Seconds of all tests that a change meets; the rest isn't tried."""

PATIENCE = 120.0
"""Seconds of the processor beside ten times what the tests took without the change; then it hangs.

On a busy machine a process waits long for its seconds: by the clock it has ten times as many.
"""

COMPILING = 900.0
"""More seconds where all kernels are compiled anew."""

KERNELS = (b"njit", b"FLOAT32_ROUNDER")
"""What is in files that kernels are compiled from (`SOURCES` of `xbarc/simulator/cache.py`)."""

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "numba", "xdsl.ir", "pydantic", "typer", "rich",
         "safetensors.numpy", "hypothesis", "pytest", "networkx")  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """`end`: "killed", "timeout", "survived" or "unreached"; `by` is the test that noticed."""

    change: Change
    end: str
    by: str = ""
    tests: int = 0
    seconds: float = 0.0


class Judge:
    """One copy of the tree and the process that runs tests in it."""

    def __init__(self, folder: Path, kernels: Path) -> None:
        self.tree = tree.make(folder)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self.tree,
            env=tree.environment(self.tree, kernels),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def try_change(
        self, change: Change, tests: Sequence[str], seconds: dict[str, float]
    ) -> Verdict:
        """The verdict of these tests, the first of them first."""
        start, tried = time.monotonic(), 0
        for part in _parts(tests, seconds):
            with self._changed(change) as kernels:
                limit = PATIENCE + 10 * sum(seconds[test] for test in part)
                limit += COMPILING if kernels else 0.0
                code, by = self._ask(part, kernels, limit)
            tried += len(part)
            if code != 0:
                end = "timeout" if code is None else "killed"
                return Verdict(change, end, by, tried, time.monotonic() - start)
        end = "survived" if tests else "unreached"
        return Verdict(change, end, "", tried, time.monotonic() - start)

    def passes(self, tests: Sequence[str], limit: float) -> bool:
        """Whether tests pass without any change."""
        return self._ask(tests, None, limit)[0] == 0

    def _ask(
        self, tests: Sequence[str], kernels: str | None, limit: float
    ) -> tuple[int | None, str]:
        request = {"tests": list(tests), "kernels": kernels, "limit": limit}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return tuple(json.loads(self._process.stdout.readline()))

    @contextlib.contextmanager
    def _changed(self, change: Change):
        path = self.tree / change.file
        source, times = path.read_bytes(), path.stat()
        compiled = Path(importlib.util.cache_from_source(str(path)))
        kept = compiled.read_bytes() if compiled.exists() else None
        compiled.unlink(missing_ok=True)
        path.write_bytes(change.apply(source))
        try:
            if any(word in source for word in KERNELS):
                with tempfile.TemporaryDirectory() as kernels:
                    yield kernels
            else:
                yield None
        finally:
            path.write_bytes(source)
            # Compiled files and kernels are known by their source's time.
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if kept is not None:
                compiled.write_bytes(kept)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def _parts(tests: Sequence[str], seconds: dict[str, float]) -> list[list[str]]:
    """The tests of the first seconds, then all others that there is time for."""
    parts: list[list[str]] = [[], []]
    spent = 0.0
    for test in tests:
        each = seconds[test] + 0.02
        if spent + each > MOST_SECONDS and parts[0]:
            continue  # a shorter one may fit
        spent += each
        parts[int(spent > FIRST_SECONDS and bool(parts[0]))].append(test)
    return [part for part in parts if part]


# --- The process --------------------------------------------------------------------------------


class _First:
    """A plug-in for pytest that remembers which test failed first."""

    def __init__(self) -> None:
        self.test = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid


def _run(tests: list[str], kernels: str | None, limit: float, writing: int) -> None:
    """The forked process: it never returns."""
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 10))
    if kernels is not None:
        import numba

        numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = kernels
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    first = _First()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"]
    code = pytest.main([*options, *tests], plugins=[first])
    os.write(writing, json.dumps([int(code), first.test]).encode())
    os._exit(0)


def _serve() -> None:
    import select

    for name in HEAVY:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            _run(request["tests"], request["kernels"], request["limit"], writing)
        os.close(writing)
        answer = b""
        if select.select([reading], [], [], 10 * request["limit"])[0]:
            answer = os.read(reading, 10_000)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        if not answer:
            late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (
                signal.SIGKILL,
                signal.SIGXCPU,
            )
            answer = b'[null, ""]' if late else b'[-1, "a crash"]'
        print(answer.decode(), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
