"""Which device effects a run has: those of its target, of a device by name or file, of a text.

All three say the same thing, effects by name with options: `[device.read]` of a target, `[read]` of
a device's file, `read{sigma=0.02}` of a text. A later one changes options of an earlier one.
"""

import importlib.resources
import inspect
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xdsl.utils.arg_spec import ArgSpec

from xbarc.artifact import CompiledProgram
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, copies_of, weights_of
from xbarc.pipeline.options import build, default_text, options_of, parse_specs, type_text
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.analog.programmed import cell_of
from xbarc.simulator.effect import EFFECTS, Effect, Layers, in_order
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.files import sha256_of

NONE = "none"
"""The text of ideal devices, whatever the target says."""

EXAMPLE = 'stuck{map="chips/faults.npz"}'

Tables = Mapping[str, Mapping[str, Any]]
"""Effects by name, with their options."""


def engine_for(
    program: CompiledProgram,
    noise: str = "",
    device: str | Path | None = None,
    changed: Tables | None = None,
    torch_device: str | None = None,
) -> AnalogEngine | None:
    """The engine of `program` with the effects of `effects_for`; None where there are none.

    With a `torch_device` ("cpu", "cuda") it is the engine on torch, which ideal devices have too.
    Raises `XbarcError` where torch isn't installed.
    """
    effects = effects_for(program, noise, device, changed)
    if torch_device is not None:
        return on_torch(effects, torch_device)
    return AnalogEngine(effects) if effects else None


def on_torch(effects: tuple[Effect, ...], device: str) -> AnalogEngine:
    """The engine on torch with these effects.

    Raises `XbarcError` where torch isn't installed, `UsageError` where it has no such device.
    """
    try:
        from xbarc.simulator.torch.engine import TorchEngine, torch_device
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise XbarcError("the engine on torch needs torch: pip install 'xbarc[train]'") from None
    torch_device(device)
    return TorchEngine(effects, device)


def effects_for(
    program: CompiledProgram,
    noise: str = "",
    device: str | Path | None = None,
    changed: Tables | None = None,
) -> tuple[Effect, ...]:
    """The effects of `effects_of` for the target of `program`.

    Raises as `effects_of`, and where an effect doesn't fit the program.
    """
    effects = effects_of(program.target, noise, device, changed)
    layers = _layers(program) if effects else {}
    for effect in effects:
        effect.check(layers)
    return effects


def effects_of(
    target: Target,
    noise: str = "",
    device: str | Path | None = None,
    changed: Tables | None = None,
) -> tuple[Effect, ...]:
    """The effects of a target, a `device` (a name or a TOML file) and a `noise` text, in order.

    `noise = "none"` is no effect at all. Options that are `changed` come after all of these, and
    bring an effect that isn't there yet.

    Raises:
        UsageError: an unknown device, effect or option, a value out of range.
        XbarcError: a device's file can't be read.
    """
    text = _of_text(noise)
    sources: list[Tables] = []
    if NONE not in text:
        tables = load_device(device).tables if device is not None else {}
        sources = [target.device.effects, tables, text]
    merged: dict[str, dict[str, Any]] = {}
    for source in (*sources, changed or {}):
        for name, options in source.items():
            known = {k.replace("-", "_"): v for k, v in options.items() if k != "source"}
            merged[name] = {**merged.get(name, {}), **known}
    registry = EFFECTS.registry()
    made = [_built(registry.load(name), name, options) for name, options in merged.items()]
    effects = in_order(made)
    cell_of(effects, target)  # raises where conductances don't fit
    return effects


def files_of(effects: Iterable[Effect]) -> dict[str, str]:
    """The sha256 of files that options of effects name (a fault map), by `effect.option`."""
    return {
        f"{effect.name}.{option.name}": sha256_of(value)
        for effect in effects
        for option in fields(effect)
        if isinstance(value := getattr(effect, option.name), str) and Path(value).is_file()
    }


def _built(cls: type[Effect], name: str, options: Mapping[str, Any]) -> Effect:
    values = {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in options.items()}
    made: Effect = build(cls, ArgSpec(name, values), f"effect {name!r}")
    return made


def _of_text(text: str) -> dict[str, dict[str, Any]]:
    specs = parse_specs(text, "--noise", EXAMPLE) if text.strip() else []
    found: dict[str, dict[str, Any]] = {}
    for spec in specs:
        if spec.name in found:
            raise UsageError(f"--noise: effect {spec.name!r} is given twice")
        found[spec.name] = dict(spec.parameters)
    if NONE in found and (len(found) > 1 or found[NONE]):
        raise UsageError(f"--noise: {NONE!r} stands alone: it is no effect at all")
    return found


def _layers(program: CompiledProgram) -> Layers:
    """How many crossbars each layer has, and how large they are."""
    target, found = program.target, {}
    for op in program.module.walk():
        if isinstance(op, MvmOp):
            weights = weights_of(op)
            each = target.array.crossbars_per_tile(weights.weight_bits)
            size = target.array.rows, target.array.cols
            found[weights.symbol] = (copies_of(op), len(op.tiles()), each, *size)
    return found


@dataclass(frozen=True)
class DeviceFile:
    """A device: its effects by name with their options, and the file's `text`."""

    description: str
    tables: Tables
    text: str


def device_names() -> list[str]:
    """The devices that `load_device` knows by name."""
    return sorted(_own())


def _own() -> dict[str, Path]:
    folder = importlib.resources.files("xbarc.simulator.devices") / "presets"
    files = [Path(str(entry)) for entry in folder.iterdir()]
    return {path.stem: path for path in files if path.suffix == ".toml"}


def load_device(name: str | Path) -> DeviceFile:
    """A device by name, or the one in a `.toml` file.

    Raises:
        UsageError: unknown name; the nearest is suggested.
        XbarcError: the file isn't there, or isn't a device.
    """
    path = Path(name)
    if path.suffix != ".toml":
        own = _own()
        if str(name) not in own:
            raise UsageError(f"unknown device {str(name)!r}: {nearest(str(name), own)}")
        path = own[str(name)]
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise XbarcError(f"device {name}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise XbarcError(f"device {name}: not TOML: {error}") from None
    description = values.pop("description", "")
    for key, value in values.items():
        if not isinstance(value, dict):
            raise XbarcError(
                f"device {name}: {key} = {value!r}: a device has a description, and a table "
                "for each effect"
            )
    return DeviceFile(str(description), values, text)


def describe(cls: type[Effect], owner: str) -> str:
    """What an effect does and takes: what `xbarc devices NAME` prints."""
    hints = typing.get_type_hints(cls)
    lines = [f"{cls.name}: device effect; from {owner}", "", inspect.cleandoc(cls.__doc__ or "")]
    lines += ["", "options:"] if options_of(cls) else []
    for option in options_of(cls):
        default = default_text(option)
        said = "required" if default is None else f"default {default}"
        lines.append(f"  {option.name}: {type_text(hints[option.name])} ({said})")
    return "\n".join(lines)
