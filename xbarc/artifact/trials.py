"""Trials of a program on disk, kept beside it: `OUT.xbar/runs/KEY.trials.jsonl`.

One file for all trials that ask the same of the same program and data, a JSON document a line. The
first line is the header, each other line a finished trial:

    {"format":1,"at":...,"program":...,"input":"x.npz","data":...,"options":{...},
     "effects":["read{sigma=0.02}"],"vary":"programming.sigma","by_layer":false}
    {"value":0.05,"layer":null,"seed":7,"accuracy":0.91,"samples":2000}

A line is appended when a trial has finished, and flushed to the disk. So finished trials stay,
whatever ends a run. What is there of a line that was cut short goes with the next append. Two
processes may append at once; a trial that both have run is there twice, alike.

Like other records of runs (`xbarc.artifact.runs`), these are no part of the program. A damaged line
is left out with a warning. So is a file that isn't ours; it is neither written to nor removed.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xbarc.artifact.runs import KEPT, Share, folder_of, program_hash
from xbarc.support.errors import XbarcError

try:
    import fcntl
except ImportError:  # not on Windows: there, one process at a time
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
SUFFIX = ".trials.jsonl"
NAME = re.compile(r"[0-9a-f]{16}\.trials\.jsonl")
BEGIN = b'{"format":1,"at":"'
"""What every header begins with."""

Value = float | str
"""A value of the option that varies: a number or a word."""


class Which(NamedTuple):
    """A trial among those of a file.

    `value` is that of the option that varies, `layer` the only one with effects; None where there
    is no such. `seed` is None for the run without effects that layers are compared with.
    """

    value: Value | None
    layer: str | None
    seed: int | None


class _Line(BaseModel):
    # What another version wrote besides is kept, and not looked at.
    model_config = ConfigDict(frozen=True, extra="allow")


class Options(BaseModel):
    """The options of `xbarc run` that change the accuracy of a trial, by their names.

    `plugin`: the names of the files, without their folders.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    labels: str
    metric: str | None = None
    limit: int | None = None
    noise: str = ""
    device: str | None = None
    plugin: list[str] = []


class Header(_Line):
    """What all trials of a file have in common.

    `at`: when the file began (UTC); `program`: the sha256 of its manifest; `input`, `data`: name
    and sha256 of the data file; `effects`: without the option that varies, `vary`.
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    at: datetime
    program: str
    input: str
    data: str
    options: Options
    effects: list[str]
    vary: str | None = None
    by_layer: bool = False


class Trial(_Line):
    """A finished trial, one `Which`: its accuracy, from 0 to 1, over `samples`."""

    value: Annotated[float, Field(allow_inf_nan=False)] | str | None = None
    layer: str | None = None
    seed: Annotated[int, Field(ge=0)] | None
    accuracy: Share
    samples: Annotated[int, Field(ge=1)]

    @property
    def which(self) -> Which:
        """What tells it from the others of its file."""
        return Which(self.value, self.layer, self.seed)


@dataclass(frozen=True)
class Record:
    """A file of trials: its header, and the trials in it, each once."""

    header: Header
    trials: tuple[Trial, ...]


def key_of(parts: Mapping[str, Any]) -> str:
    """The name of the file of trials that agree in `parts`: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(path: Path, key: str) -> Path:
    """Where the trials of the program at `path` are kept. Raises `XbarcError` as `folder_of`."""
    return folder_of(path) / f"{key}{SUFFIX}"


def read(file: Path) -> tuple[Record | None, list[str]]:
    """A file of trials, None where it has no header yet, and why lines of it were left out.

    A last line without an end was cut short, and isn't there. Raises `XbarcError` where the file
    can't be read or isn't one that xbarc wrote.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise XbarcError(f"{file}: {error.strerror}") from None
    header = _header(file, text)
    if header is None:
        return None, []
    trials: dict[Which, Trial] = {}
    faults = []
    for number, line in enumerate(text.split(b"\n")[1:-1], 2):
        try:
            trial = Trial.model_validate_json(line)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "not JSON"
            faults.append(f"{file}:{number}: not a trial that xbarc wrote ({where}): left out")
            continue
        trials.setdefault(trial.which, trial)
    return Record(header, tuple(trials.values())), faults


def recorded(path: Path) -> tuple[list[Record], list[str]]:
    """The trials kept with the program at `path`, and why files and lines were left out."""
    found, faults = [], []
    wanted = program_hash(path)
    try:
        files = sorted(folder_of(path).glob(f"*{SUFFIX}"))
    except XbarcError:
        return [], []  # `runs.recorded` says so
    for file in files:
        try:
            record, wrong = read(file)
        except XbarcError as error:
            faults.append(str(error))
            continue
        if record is not None and record.header.program != wanted:
            faults.append(f"{file}: trials of another program")
        elif record is not None:
            found.append(record)
            faults += wrong
    return found, faults


def done(path: Path, key: str, header: Header) -> tuple[tuple[Trial, ...], list[str]]:
    """The trials that an earlier run finished, and why lines were left out.

    Raises `XbarcError` where the file isn't one of such trials.
    """
    file = file_of(path, key)
    record, faults = read(file) if file.exists() else (None, [])
    if record is None:
        return (), []
    if not _alike(record.header, header):
        raise XbarcError(f"{file}: trials of another program, or of other data")
    return record.trials, faults


def append(path: Path, key: str, header: Header, trial: Trial) -> None:
    """Keep a finished trial of the program at `path`, in a file with this header.

    Raises `XbarcError` where it can't be kept: the disk refuses, another program stands there now,
    or the file is none of such trials.
    """
    file = file_of(path, key)
    line = trial.model_dump_json() + "\n"
    try:
        if program_hash(path) != header.program:
            raise XbarcError(f"{path} was compiled again meanwhile")
        file.parent.mkdir(exist_ok=True)
        with _appending(file) as descriptor:
            new = not _whole_lines(file, descriptor, header)
            _write(descriptor, header.model_dump_json() + "\n" + line if new else line)
        if new:
            _make_room(file)
    except OSError as error:
        raise XbarcError(f"{file}: {error.strerror}") from None


@contextmanager
def _appending(file: Path) -> Iterator[int]:
    """The file open for appending, while no other process appends to it."""
    if file.is_symlink():
        raise XbarcError(f"{file} is a link: trials aren't kept there")
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # goes with the descriptor, or the process
        yield descriptor
    finally:
        os.close(descriptor)


def _whole_lines(file: Path, descriptor: int, header: Header) -> bool:
    """Whether the file has a header like this one; it then ends with a whole line, else it's empty.

    Nobody else is writing now. So a line without an end was cut short, and goes. Raises
    `XbarcError` where the file isn't one of such trials.
    """
    with os.fdopen(os.dup(descriptor), "rb") as content:
        content.seek(0)
        found = _header(file, content.readline())
        if found is not None and not _alike(found, header):
            raise XbarcError(f"{file}: trials of another program, or of other data")
        size = content.seek(0, os.SEEK_END)
        content.seek(max(0, size - 1))
        if content.read(1) in (b"", b"\n"):
            return size > 0
        content.seek(0)
        whole = content.read().rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole > 0


def _write(descriptor: int, text: str) -> None:
    """Whole lines, to the disk. Raises `OSError`."""
    content = text.encode()
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def _alike(a: Header, b: Header) -> bool:
    """Whether trials under both headers can be compared."""
    return (a.program, a.data, a.vary, a.by_layer) == (b.program, b.data, b.vary, b.by_layer)


def _header(file: Path, text: bytes) -> Header | None:
    """The header of a file with this text; None where it isn't whole yet.

    Raises `XbarcError` where the file isn't ours.
    """
    first, end, _ = text.partition(b"\n")
    if not end and (first.startswith(BEGIN) or BEGIN.startswith(first)):
        return None
    try:
        if not NAME.fullmatch(file.name):
            raise ValueError
        return Header.model_validate_json(first)
    except ValueError:  # pydantic's is one
        raise XbarcError(f"{file}: not trials that xbarc wrote") from None


def is_ours(file: Path) -> bool:
    """Whether a file holds trials that xbarc kept, or began to."""
    if not NAME.fullmatch(file.name) or file.is_symlink() or not file.is_file():
        return False
    try:
        with file.open("rb") as content:
            _header(file, content.readline())
    except (OSError, XbarcError):
        return False
    return True


def _make_room(new: Path) -> None:
    """Of the files that are ours, keep the newest ones, and the `new` one."""
    ours = [f for f in new.parent.glob(f"*{SUFFIX}") if f != new and is_ours(f)]
    ours.sort(key=lambda file: (file.stat().st_mtime, file.name))
    for old in ours[: max(0, len(ours) + 1 - KEPT)]:
        old.unlink(missing_ok=True)
