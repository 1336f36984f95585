"""The hardware a program is compiled for: the schema of a target file, and loading one.

A target is a TOML file (see `targets/`). Keys carry their units. An unknown key, or a value out of
range, is an error that names the key's whole path.
"""

import importlib.resources
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xbarc import plugins
from xbarc.errors import UsageError, XbarcError, nearest

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]


class Section(BaseModel):
    """A table of the target file: immutable, no key beyond the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Array(Section):
    """One crossbar, and how a weight stands on it."""

    rows: Annotated[int, Field(ge=1, le=65536)]
    cols: Annotated[int, Field(ge=1, le=65536)]
    cell_bits: Annotated[int, Field(ge=1, le=8)]
    encoding: Literal["differential", "offset"] = "differential"
    slices_in: Literal["columns", "arrays"] = "columns"
    polarity_in: Literal["columns", "arrays"] = "columns"
    columns_per_adc: Count = 128

    @property
    def polarities(self) -> int:
        """2 for differential weights (G+ and G-), 1 for offset."""
        return 2 if self.encoding == "differential" else 1

    def slices(self, weight_bits: int) -> int:
        """Cells (of one polarity) that a weight of `weight_bits` takes (numerics, Encoding)."""
        magnitude = weight_bits - 1 if self.encoding == "differential" else weight_bits
        return math.ceil(magnitude / self.cell_bits)

    def columns_per_weight(self, weight_bits: int) -> int:
        """Columns that one weight takes in one crossbar."""
        slices = self.slices(weight_bits) if self.slices_in == "columns" else 1
        return slices * (self.polarities if self.polarity_in == "columns" else 1)

    def crossbars_per_tile(self, weight_bits: int) -> int:
        """Crossbars that one tile (a block of the weight matrix) stands on."""
        slices = self.slices(weight_bits) if self.slices_in == "arrays" else 1
        return slices * (self.polarities if self.polarity_in == "arrays" else 1)

    def weights_per_row(self, weight_bits: int) -> int:
        """Weights side by side in one crossbar: `floor(cols / columns_per_weight)`."""
        return self.cols // self.columns_per_weight(weight_bits)


class Weights(Section):
    """Integer weights: `bits` with sign."""

    bits: Annotated[int, Field(ge=2, le=16)] = 8


class Inputs(Section):
    """Integer activations: `bits`, of which a DAC drives `dac_bits` at once."""

    bits: Annotated[int, Field(ge=2, le=16)] = 8
    dac_bits: Annotated[int, Field(ge=1, le=16)] = 1
    signed: Literal["two-pass", "twos-complement"] = "two-pass"

    @model_validator(mode="after")
    def _twos_complement_is_bit_serial(self) -> "Inputs":
        if self.signed == "twos-complement" and self.dac_bits != 1:
            raise ValueError('inputs.signed = "twos-complement" needs inputs.dac_bits = 1')
        return self


class Adc(Section):
    """What turns a column's current into a number (numerics: `docs/numerics.md`)."""

    bits: Annotated[int, Field(ge=1, le=24)] = 8
    mode: Literal["lossless", "saturate", "full-scale", "calibrated"] = "saturate"
    subtract: Literal["digital", "analog"] = "digital"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    rate_gsps: Positive = 1.2


class Device(Section):
    """One memristor: its conductances, and the pulses that read and write it."""

    g_on_us: Positive
    g_off_us: Positive
    read_voltage_v: Positive
    read_pulse_ns: Positive
    write_voltage_v: Positive
    write_pulse_ns: Positive
    write_pulses: Count = 1

    @model_validator(mode="after")
    def _on_conducts_more(self) -> "Device":
        if self.g_on_us <= self.g_off_us:
            raise ValueError("device.g_on_us must be above device.g_off_us")
        return self


class Core(Section):
    """Crossbars that share ADCs, input registers and shift-and-add.

    Without `adcs` their number follows from `array.columns_per_adc`; with it, the columns do.
    """

    crossbars: Count = 8
    adcs: Count | None = None
    shift_adds: Count = 4


class Node(Section):
    """Cores with a buffer and a router."""

    cores: Count = 12


class Chip(Section):
    """A mesh of nodes."""

    nodes: Count = 168


class Component(Section):
    """One component's constants and where they come from.

    `area_um2` and `energy_pj` are for one unit and one action of it.
    """

    area_um2: NonNegative
    energy_pj: NonNegative
    source: str


class Cost(Section):
    """The component constants of the cost model; one table a component."""

    adc: Component
    dac: Component
    crossbar: Component
    sample_hold: Component
    shift_add: Component
    input_register: Component
    output_register: Component


class Target(Section):
    """A whole target: what a TOML file in `targets/` says."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    array: Array
    weights: Weights = Weights()
    inputs: Inputs = Inputs()
    adc: Adc = Adc()
    device: Device
    core: Core = Core()
    node: Node = Node()
    chip: Chip = Chip()
    cost: Cost

    @model_validator(mode="after")
    def _one_weight_fits(self) -> "Target":
        columns = self.array.columns_per_weight(self.weights.bits)
        if columns > self.array.cols:
            raise ValueError(
                f"array.cols = {self.array.cols} can't hold a weight, which takes {columns} columns"
            )
        if self.adc.subtract == "analog" and self.array.encoding != "differential":
            raise ValueError('adc.subtract = "analog" needs array.encoding = "differential"')
        return self

    def slices(self, weight_bits: int | None = None) -> int:
        """`array.slices`, for `weights.bits` where no width is given."""
        return self.array.slices(self.weights.bits if weight_bits is None else weight_bits)

    @property
    def polarities(self) -> int:
        """`array.polarities`."""
        return self.array.polarities

    def adcs_per_core(self) -> int:
        """ADCs of one core."""
        per_crossbar = math.ceil(self.array.cols / self.array.columns_per_adc)
        return self.core.adcs or self.core.crossbars * per_crossbar

    def columns_per_adc(self) -> int:
        """Columns that one ADC converts, one after the other, in an activation."""
        if self.core.adcs is None:
            return min(self.array.columns_per_adc, self.array.cols)
        return math.ceil(self.core.crossbars * self.array.cols / self.core.adcs)

    def cycle_ns(self) -> float:
        """One activation: the read pulse, then the conversions that share an ADC."""
        return self.device.read_pulse_ns + self.columns_per_adc() / self.adc.rate_gsps

    def input_slices(self, bits: int, signed: bool) -> int:
        """Activations that a vector of `bits`-bit codes takes (numerics, Inputs in time)."""
        passes = 2 if signed and self.inputs.signed == "two-pass" else 1
        return passes * math.ceil(bits / self.inputs.dac_bits)


def target_names() -> list[str]:
    """The names that `load_target` knows: xbarc's own and those of installed packages."""
    return sorted([*_own(), *plugins.installed(plugins.TARGETS)])


def _own() -> dict[str, Any]:
    """xbarc's own target files by name."""
    folder = importlib.resources.files("xbarc.targets")
    return {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}


def target_text(name: str) -> str:
    """The target file called `name`, comments and sources included.

    Raises:
        UsageError: no such name; the nearest is suggested.
        XbarcError: a package's entry point gives no file.
    """
    own, installed = _own(), plugins.installed(plugins.TARGETS)
    if name in own and name in installed:
        raise XbarcError(
            f"target {name!r} is taken twice: by xbarc and by {plugins.owner(installed[name])}"
        )
    if name in own:
        return str(own[name].read_text(encoding="utf-8"))
    if name in installed:
        path = Path(str(installed[name].load()))
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            owner = plugins.owner(installed[name])
            raise XbarcError(f"target {name!r} of {owner}: {error.strerror}: {path}") from None
    raise UsageError(f"unknown target {name!r}: {nearest(name, target_names())}")


def load_target(name: str | Path, overrides: Sequence[str] = ()) -> Target:
    """The target called `name`, or the one in a `.toml` file, with `--set` overrides applied.

    `overrides` are `key.path=value` texts; a value is written as in TOML, words may stand bare.

    Raises:
        UsageError: an unknown target or key, or a value out of range in `overrides`.
        XbarcError: the file isn't there, isn't TOML or isn't a target.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise XbarcError(f"target {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise XbarcError(f"target {path}: not a text file") from None
    else:
        text = target_text(str(name))
    target = parse_target(text, str(name))
    if not overrides:
        return target
    values = target.model_dump()
    for override in overrides:
        _override(values, override)
    try:
        return Target.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(f"--set: {line}" for line in _faults(error))) from None


def parse_target(text: str, where: str) -> Target:
    """A target from TOML text. Raises `XbarcError`, one line a fault, beginning with `where`."""
    try:
        return Target.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise XbarcError(f"target {where}: not TOML: {error}") from None
    except ValidationError as error:
        raise XbarcError("\n".join(f"target {where}: {line}" for line in _faults(error))) from None


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override}: written key.path=value, such as array.rows=64")
    *path, last = key.strip().split(".")
    table, model = values, Target
    for depth, name in enumerate([*path, last]):
        known = {k: v.annotation for k, v in model.model_fields.items()}
        if name not in known:
            place = ".".join(path[:depth]) or "a target"
            raise UsageError(
                f"--set {override}: {place} has no key {name!r}: {nearest(name, known)}"
            )
        if name is last and depth == len(path):
            break
        inner = known[name]
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            raise UsageError(f"--set {override}: {name!r} is a value, not a table")
        table, model = table[name], inner  # type: ignore[assignment]
    if isinstance(table.get(last), dict):
        raise UsageError(f"--set {override}: {key} is a table; name a key of it")
    try:
        table[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = text.strip()


def _faults(error: ValidationError) -> Iterator[str]:
    """Each fault of a target in one line: the key's path, what is wrong, what was given."""
    for fault in error.errors():
        path = [str(p) for p in fault["loc"]]
        where = ".".join(path) or "the target"
        if fault["type"] == "extra_forbidden":
            yield f"unknown key {where}: {nearest(path[-1], _keys(path[:-1]))}"
        elif fault["type"] == "missing":
            yield f"{where} is missing"
        elif fault["type"] == "value_error":
            yield str(fault["msg"]).removeprefix("Value error, ")
        else:
            yield f"{where} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys(path: Sequence[str]) -> list[str]:
    model: Any = Target
    for name in path:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def dump_target(target: Target) -> str:
    """The resolved target as TOML text; `parse_target` reads it back."""
    lines: list[str] = []

    def table(values: Mapping[str, Any], path: str) -> None:
        plain = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
        if path and plain:
            lines.extend(["", f"[{path}]"])
        lines.extend(f"{k} = {_toml(v)}" for k, v in plain.items())
        for k, v in values.items():
            if isinstance(v, Mapping):
                table(v, f"{path}.{k}" if path else k)

    table(target.model_dump(exclude_none=True), "")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # JSON's escapes are a subset of what a basic TOML string reads.
    return json.dumps(str(value), ensure_ascii=False)
