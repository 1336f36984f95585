"""The points of a sweep on disk: `points.jsonl` in the folder that `xbarc sweep -o` names.

A JSON document a line, appended when a point has finished and flushed to the disk: so finished
points stay, whatever ends a sweep, and aren't run again. A key names all that a point's results
depend on, by content; so several sweeps may share a folder. A line that was cut short is left out.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xbarc.artifact.runs import Share
from xbarc.support.errors import XbarcError

FILE = "points.jsonl"

Setting = int | float | str
"""A value of a target key."""

Figure = Annotated[float, Field(allow_inf_nan=False)]


class Point(BaseModel):
    """One point: its settings, and its figures, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    settings: dict[str, Setting]
    accuracy: Share | None = None
    psnr_db: Figure | None = None
    snr_db: Figure | None = None
    energy_uj: Figure | None = None
    area_mm2: Figure | None = None
    latency_us: Figure | None = None
    throughput_ips: Figure | None = None
    crossbars: int | None = None
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """Its part of `xbarc sweep --json`."""
        return self.model_dump(exclude={"key"}, exclude_none=True)


def recorded(folder: Path) -> dict[str, Point]:
    """The points kept in a folder, by key. Raises `XbarcError` where the file can't be read."""
    try:
        return {point.key: point for point in _points(folder / FILE)}
    except OSError as error:
        raise XbarcError(f"{folder / FILE}: {error.strerror}") from None


def _points(path: Path) -> Iterator[Point]:
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield Point.model_validate_json(line)
        except ValidationError:
            continue


def append(folder: Path, point: Point) -> None:
    """Keep a point. Raises `XbarcError` where the disk refuses."""
    line = json.dumps(point.model_dump(exclude_none=True), ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a+b") as file:
            # What a killed sweep left of a line ends before the next one begins.
            file.write(b"\n" * _cut_short(file) + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise XbarcError(f"can't write {folder / FILE}: {error.strerror}") from None


def _cut_short(file: BinaryIO) -> bool:
    """Whether the last line of a file has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
