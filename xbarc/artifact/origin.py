"""The schema of what a manifest says of a program's origin; a loaded program is held to it."""

from typing import Literal

from pydantic import Field

from xbarc.artifact.report import RangesTaken, Table


class Source(Table):
    """A model's name, its hash where it was a file or text, and the options it was read with."""

    name: str
    sha256: str | None = None
    options: list[str] = Field(default_factory=list)


class HowQuantized(Table):
    """How numbers became codes, and the layers to which fitting gave a bias."""

    ranges: RangesTaken
    rounding: Literal["nearest", "output"]
    bias_correction: bool
    biased: list[str] = Field(default_factory=list)


class Origin(Table):
    """Programs of older versions, and those that weren't compiled, say less."""

    xbarc: str = "unknown"
    versions: dict[str, str] = Field(default_factory=dict)
    model: Source | None = None
    weights: Source | None = None
    passes: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list)
    quantization: HowQuantized | None = None
    lowered: list[str] = Field(default_factory=list)
