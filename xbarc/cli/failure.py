"""How a call ends that fails: lines on stderr, and a file about what nobody foresaw."""

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from typing import NoReturn

from xbarc.cli.output import shortened
from xbarc.support.errors import XbarcError, visible

PACKAGES = ("numpy", "numba", "onnx", "onnx-ir", "onnxruntime", "xdsl", "pydantic", "safetensors")


def complain(text: str) -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # stderr is closed
        print(shortened(f"xbarc: {visible(text)}"), file=sys.stderr, flush=True)


def fail(error: XbarcError, code: int) -> NoReturn:
    """The lines of an error, and the end. Lines that belong to the one before are indented."""
    for cause in error.causes:
        if cause.startswith("  "):
            print(shortened(cause), file=sys.stderr)
        else:
            complain(cause)
    sys.exit(code)


def fail_by_bug(error: BaseException) -> NoReturn:
    """The end of a call on what nobody foresaw: a line, and a file to send."""
    from xbarc.support.plugins import cause

    complain(bug_line(cause(error), "".join(traceback.format_exception(error))))
    sys.exit(1)


def bug_line(what: str, trace: str) -> str:
    """The line about a bug; the file that it names has the traceback, the call and versions."""
    text = "\n".join([*_versions(), "", "call: " + " ".join(map(repr, sys.argv)), "", trace])
    try:
        handle, path = tempfile.mkstemp(prefix="xbarc-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"a bug in xbarc: {what}"
    return f"a bug in xbarc: {shortened(what, 150)}: please send {path} with your report"


def _versions() -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    for package in ("xbarc", *PACKAGES):
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return lines
