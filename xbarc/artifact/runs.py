"""The runs of a program on disk, kept beside it: `OUT.xbar/runs/*.json`, one file a run.

They aren't part of the program: the manifest doesn't name them, no hash covers them, and compiling
again removes them. A record names its program by the hash of the manifest. A damaged record, or one
of another program, is skipped with a warning. Each run is one file, put in place by renaming, so
concurrent runs don't lose records.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xbarc.artifact.manifest import MANIFEST
from xbarc.support.errors import XbarcError

FORMAT = 1
FOLDER = "runs"
KEPT = 50
"""Older records go as new ones come."""
NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-\d+\.(json|tmp)")
BEGIN = b'{\n "format": '
"""What every record begins with."""

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Conductance = Annotated[float, Field(allow_inf_nan=False)]
"""In uS. An effect of a plug-in may leave cells below 0."""


class _Record(BaseModel):
    # What another version wrote besides is kept, and not looked at.
    model_config = ConfigDict(frozen=True, extra="allow")


class LayerAdc(_Record):
    """`adc` of `xbarc run --json`, for a layer."""

    saturated: Share
    lossless: bool


class Energies(_Record):
    """Energy of one input in pJ: at a fixed energy per action, and by the values driven."""

    fixed: Amount | None
    values: Amount | None


class LayerActivity(_Record):
    """`activity` of `xbarc run --json`, for a layer; shares from 0 to 1."""

    driven_rows: Share
    conversions_needed: Share
    energy_pj: dict[str, Energies]


class Written(_Record):
    """What programming took: `cells` by `pulses`, and the reads of a verify loop.

    `time_us` includes `verify_time_us`; `energy_uj` is that of the pulses alone.
    """

    cells: Annotated[int, Field(ge=0)]
    pulses: Annotated[int, Field(ge=0)]
    pulses_per_cell: Amount
    energy_uj: Amount
    verify_energy_uj: Amount
    time_us: Amount
    verify_time_us: Amount


class Programming(_Record):
    """`programming` of `xbarc run --json`; all layers are written at once."""

    layers: dict[str, Written]
    total: Written


class Level(_Record):
    """The cells that were meant to be at a level, or at one of several (`level` to `to_level`).

    `wanted_us`: their mean wanted conductance; `mean_us`: the mean of what they conduct; `std_us`:
    the standard deviation of what each misses its wanted conductance by. `counts`: cells in each
    bin of `Conductances.edges_us`.
    """

    level: Annotated[int, Field(ge=0)]
    to_level: Annotated[int, Field(ge=0)]
    cells: Annotated[int, Field(ge=1)]
    wanted_us: Amount
    mean_us: Conductance
    std_us: Amount
    counts: list[Annotated[int, Field(ge=0)]]


class Conductances(_Record):
    """`conductances` of `xbarc run --json`: what cells conduct, level by level.

    Of all `cells` of `arrays`, spread evenly over the `arrays_in_all`, as written and aged, without
    wires. Bin i of a level's counts is from `edges_us[i]` to the next; the first and the last one
    also have what lies beyond.
    """

    arrays: Annotated[int, Field(ge=1)]
    arrays_in_all: Annotated[int, Field(ge=1)]
    cells: Annotated[int, Field(ge=1)]
    levels: Annotated[list[Level], Field(min_length=1, max_length=256)]
    edges_us: Annotated[list[Conductance], Field(min_length=2, max_length=1024)]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if any(a >= b for a, b in itertools.pairwise(self.edges_us)):
            raise ValueError("edges_us must rise")
        if any(len(level.counts) != len(self.edges_us) - 1 for level in self.levels):
            raise ValueError("a level needs a count for each bin")
        return self


class InputCodes(_Record):
    """`inputs` of `xbarc run --json`: what the data do with the codes of a first layer.

    `clipped`: share of the activations beyond the codes; `used`: the part of the codes' range that
    they reach; `reach`: their least and greatest.
    """

    clipped: Share
    used: Share
    reach: tuple[float | None, float | None]


class Float(_Record):
    """`float` of `xbarc run --json`: the float network on the same samples.

    `accuracy`, `psnr_db` or `snr_db` as the run's own; `agreement`: the share of the crossbars'
    answers that are the float network's; `output_snr_db`: the first output's signal-to-noise ratio
    against the float network's, null where they are alike.
    """

    accuracy: Share | None = None
    psnr_db: float | None = None
    snr_db: float | None = None
    agreement: Share | None = None
    output_snr_db: float | None = None


class Beside(_Record):
    """`outputs` of `xbarc run --json`, for an output: it against the float network's.

    `agree`: the share of its answers that are the float network's; `snr_db`: its signal-to-noise
    ratio, null where both are alike. Absent is what can't be said.
    """

    agree: Share | None = None
    snr_db: float | None = None


class LayerTrace(_Record):
    """A layer of `xbarc trace --json`; a ratio is null where it is infinite, or can't be said."""

    name: str
    snr_db: float | None
    own_snr_db: float | None
    max_error: float | None
    clipped_inputs: Share | None
    used_inputs: Share | None
    clipped_conversions: Share
    lossless: bool
    advice: str


class Result(_Record):
    """The document of `xbarc run --json`."""

    samples: Annotated[int, Field(ge=1)]
    metric: str | None = None
    accuracy: Share | None = None
    psnr_db: float | None = None
    snr_db: float | None = None
    judged: str | None = None
    outputs: dict[str, Beside] = {}
    float_: Annotated[Float | None, Field(alias="float")] = None
    inputs: dict[str, InputCodes] = {}
    images_per_second: float
    seed: int = 0
    effects: list[str] = []
    adc: dict[str, LayerAdc]
    activity: dict[str, LayerActivity] = {}
    programming: Programming | None = None
    conductances: Conductances | None = None
    trace: list[LayerTrace] = []


class Options(BaseModel):
    """The options of `xbarc run` that change its result, by their names; or of `xbarc trace`.

    `plugin` has the files as they were given: effects and steps of a run may come from them.
    """

    # An option that another version had is none to repeat the run with.
    model_config = ConfigDict(frozen=True, extra="ignore")

    labels: str | None = None
    metric: str | None = None
    limit: int | None = None
    batch: int | None = None
    ideal: bool = False
    noise: str = ""
    device: str | None = None
    seed: int = 0
    plugin: list[str] = []
    activity: bool = False
    trace: bool = False

    def given(self) -> dict[str, Any]:
        """Those that aren't as they are by default."""
        return self.model_dump(exclude_defaults=True)


class Run(_Record):
    """One run: when (UTC), of which program (its manifest's sha256), how, and what came out.

    `input` is the name of the data file, without its folder.
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    at: datetime
    program: str
    input: str
    options: Options
    result: Result

    @property
    def as_compiled(self) -> bool:
        """Whether it ran what the target says, with nothing wrong beside and nothing idealised."""
        o = self.options
        return not (o.ideal or o.noise or o.device)

    @property
    def devices(self) -> str:
        """What the devices of this run were: a figure of ideal ones isn't the chip's."""
        if self.options.ideal:
            return "ideal devices and converters"
        return ", ".join(self.result.effects) or "ideal devices"


def headline(runs: Sequence[Run]) -> Run | None:
    """The run whose accuracy stands for the program: the newest as compiled that has one.

    Where there is none, the newest that has an accuracy.
    """
    accurate = [run for run in runs if run.result.accuracy is not None]
    return next((run for run in reversed(accurate) if run.as_compiled), None) or next(
        reversed(accurate), None
    )


def record(
    path: Path, program: str, data: str, options: Options, document: Mapping[str, Any]
) -> Path:
    """Keep a run of the program at `path`, whose hash was `program`; the file written.

    Raises `XbarcError` where the folder can't be written to, or another program stands there now.
    """
    folder, now = folder_of(path), datetime.now(UTC)
    file = folder / f"{now:%Y%m%dT%H%M%S.%f}Z-{os.getpid()}.json"
    entry = {
        "format": FORMAT,
        "at": now.isoformat(timespec="seconds"),
        "program": program,
        "input": data,
        "options": options.given(),
        "result": document,
    }
    text = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
    temporary = file.with_suffix(".tmp")
    try:
        if program_hash(path) != program:
            raise XbarcError(f"the run isn't kept: {path} was compiled again meanwhile")
        folder.mkdir(exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        kept = sorted(f for f in folder.glob("*.json") if is_ours(f))
        for old in kept[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise XbarcError(f"the run isn't kept in {folder}: {error.strerror}") from None
    return file


def recorded(path: Path) -> tuple[list[Run], list[str]]:
    """The runs kept with the program at `path`, oldest first, and why others were left out."""
    runs, faults = [], []
    wanted = program_hash(path)
    try:
        files = sorted(folder_of(path).glob("*.json"))
    except XbarcError as error:
        return [], [str(error)]
    for file in files:
        try:
            run = Run.model_validate_json(file.read_bytes())
        except OSError as error:
            faults.append(f"{file}: {error.strerror}")
            continue
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "not JSON"
            faults.append(f"{file}: not a run that xbarc wrote ({where}): left out")
            continue
        if run.program != wanted:
            faults.append(f"{file}: a run of another program: left out")
            continue
        runs.append(run)
    return runs, faults


def folder_of(path: Path) -> Path:
    """Where the runs of the program at `path` are kept.

    Raises `XbarcError` where that is a link: what lies there belongs to something else.
    """
    folder = path / FOLDER
    if folder.is_symlink():
        raise XbarcError(f"{folder} is a link to {os.readlink(folder)}: runs aren't kept there")
    return folder


def is_ours(file: Path) -> bool:
    """Whether a file is a run that xbarc kept, by its name and its beginning, or was writing."""
    if not NAME.fullmatch(file.name) or file.is_symlink() or not file.is_file():
        return False
    if file.suffix == ".tmp":
        return True
    try:
        with file.open("rb") as content:
            return content.read(len(BEGIN)) == BEGIN
    except OSError:
        return False


def program_hash(path: Path) -> str:
    """The sha256 of the program's manifest, which holds the hash of everything else in it."""
    return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
