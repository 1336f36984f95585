"""What a shell offers for options: names of targets, passes, devices, metrics and layers.

Completion is asked at every press of a key, so nothing slow is imported, and no fault is shown.
"""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xbarc.support.errors import XbarcError

Offer = tuple[str, str]
"""A word, and what it means."""


def targets(incomplete: str) -> Iterator[Offer]:
    """Names of targets."""
    import tomllib

    from xbarc.hw.target import target_names, target_text

    for name in target_names():
        if name.startswith(incomplete):
            with suppress(XbarcError, tomllib.TOMLDecodeError):
                yield name, str(tomllib.loads(target_text(name)).get("description", ""))


def passes(incomplete: str) -> Iterator[Offer]:
    """Names of passes; of a pipeline text, what its last one may be."""
    from xbarc.pipeline import load_registry

    before, comma, last = incomplete.rpartition(",")
    for name in load_registry().names:
        if name.startswith(last):
            yield f"{before}{comma}{name}", ""


def devices(incomplete: str) -> Iterator[Offer]:
    """Names of published devices."""
    from xbarc.simulator.noise import device_names

    yield from ((name, "") for name in device_names() if name.startswith(incomplete))


def metrics(incomplete: str) -> Iterator[Offer]:
    """Names of metrics."""
    from xbarc.driver.metrics import METRICS

    yield from ((name, "") for name in METRICS if name.startswith(incomplete))


def layers(incomplete: str) -> Iterator[Offer]:
    """The layers of the program that stands on the line before."""
    program = _program()
    if program is None:
        return
    with suppress(OSError, ValueError, KeyError, TypeError):
        report = json.loads((program / "report.json").read_text(encoding="utf-8"))
        for row in report["layers"]:
            if row["name"].startswith(incomplete):
                yield row["name"], str(row["op"])


def _program() -> Path | None:
    """The first folder on the line that is a program.

    The line isn't parsed yet where an option's value is missing; the shell's script hands it over.
    """
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    with suppress(ValueError):  # a quote isn't closed yet
        for word in shlex.split(line):
            if (Path(word) / "report.json").is_file():
                return Path(word)
    return None
