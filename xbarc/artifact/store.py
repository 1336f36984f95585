"""A compiled program on disk: a directory, written whole or not at all.

Nothing in it is executed on load:

    program.mlir         the tile IR
    weights.safetensors  integer weights, scales, biases, by symbol
    digital/*.onnx       what the digital unit runs
    float.onnx           the network in float, what runs are compared with; float.data its weights
    target.toml          the resolved target
    report.json          the figures of `xbarc cost`, and how the compilation went
    manifest.json        versions, the model's hash, the pipeline, the tile IR before mapping, the
                         model of `update-weights`, and the hash of every file

What `xbarc run` left stands beside these, in `runs/` (`xbarc.artifact.runs`): no part of the
program.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from xdsl.dialects.builtin import ModuleOp

from xbarc.artifact import float_network
from xbarc.artifact.folder import new_file_mode, old_program, written
from xbarc.artifact.manifest import (
    FILE,
    FORMAT,
    MANIFEST,
    PROGRAM,
    REPORT,
    TARGET,
    WEIGHTS,
    manifest,
)
from xbarc.artifact.origin import Origin
from xbarc.artifact.program import CompiledProgram
from xbarc.artifact.report import fault as report_fault
from xbarc.hw.target import dump_target, parse_target
from xbarc.ir import parse_module, print_module
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import CROSSBAR, CrossbarAttr, DigitalOp, MvmOp, WeightsOp
from xbarc.support.data import Array
from xbarc.support.document import to_json
from xbarc.support.errors import XbarcError
from xbarc.support.files import sha256_of
from xbarc.support.garbage import rare_collections

CODE_TYPES, REAL_TYPES = ("I8", "I16"), ("F32", "F64")
"""As safetensors writes the types of integer weights, and of scales and biases."""


class StoredWeights(Mapping[str, Array]):
    """The arrays of a weights file; each is read when it is asked for."""

    def __init__(self, path: Path):
        self._file = safetensors.safe_open(str(path), framework="numpy")
        self._names = dict.fromkeys(self._file.keys())

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        array: Array = self._file.get_tensor(name)
        return array

    def header(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type (as safetensors writes it: I8, F64) and shape of an array, which isn't read."""
        part = self._file.get_slice(name)
        return part.get_dtype(), tuple(part.get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@rare_collections()
def save(program: CompiledProgram, path: str | Path) -> None:
    """Write `program` to the directory `path`; an older program there is replaced.

    Raises `XbarcError` where something else stands there, or the disk refuses; nothing is left
    half-written.
    """
    path = Path(path)
    try:
        with written(path) as folder:
            _write(program, folder)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise XbarcError(f"can't write {path}: {reason}") from None


def _write(program: CompiledProgram, folder: Path) -> None:
    (folder / PROGRAM).write_text(print_module(program.module), encoding="utf-8")
    (folder / TARGET).write_text(dump_target(program.target), encoding="utf-8")
    (folder / REPORT).write_text(_json(program.report), encoding="utf-8")
    arrays = {name: np.ascontiguousarray(a) for name, a in program.weights.items()}
    safetensors.numpy.save_file(arrays, folder / WEIGHTS)
    # safetensors makes it private; a program's files are as readable as any other output.
    (folder / WEIGHTS).chmod(new_file_mode())
    (folder / "digital").mkdir()
    for name, content in program.digital.items():
        (folder / name).write_bytes(content)
    if program.network is not None:
        float_network.save(program.network(), folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = {
        "format": FORMAT,
        **program.origin,
        "files": {p.relative_to(folder).as_posix(): sha256_of(p) for p in files},
    }
    (folder / MANIFEST).write_text(_json(manifest), encoding="utf-8")


@rare_collections()
def load(path: str | Path) -> CompiledProgram:
    """The program in the directory `path`.

    Raises `XbarcError` where it isn't there, isn't whole, or a file isn't what was written.
    """
    path = Path(path)
    if (old := old_program(path)) is not None:
        raise XbarcError(
            f"{path}: a run was killed while it replaced this program, which stands at {old}: "
            "rename it, or compile again"
        )
    listed = manifest(path)
    files = listed["files"]
    for name, digest in files.items():
        if not FILE.fullmatch(name):
            raise XbarcError(f"{path}: {MANIFEST} names a file that no program has: {name!r}")
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise XbarcError(f"{path}: {name} leads out of the program: compile the model again")
        try:
            if (path / name).exists() and not (path / name).is_file():
                raise XbarcError(f"{path}: {name} is no file: compile the model again")
            found = sha256_of(path / name)
        except OSError as error:
            raise XbarcError(f"{path}: {name}: {error.strerror}: compile the model again") from None
        if found != digest:
            raise XbarcError(
                f"{path}: {name} was changed after it was compiled (its hash differs): "
                "compile the model again"
            )
    for name in (PROGRAM, WEIGHTS, TARGET, REPORT):
        if name not in files:
            raise XbarcError(f"{path}: {MANIFEST} doesn't name {name}: compile the model again")
    try:
        weights = StoredWeights(path / WEIGHTS)
        report = json.loads((path / REPORT).read_text(encoding="utf-8"))
        module = parse_module((path / PROGRAM).read_text(encoding="utf-8"), str(path / PROGRAM))
        target = parse_target((path / TARGET).read_text(encoding="utf-8"), str(path / TARGET))
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise XbarcError(f"{path}: {error}") from None
    if (wrong := report_fault(report)) is not None:
        raise XbarcError(f"{path}: {REPORT} is damaged: {wrong}: compile the model again")
    if module.attributes.get(CROSSBAR) != CrossbarAttr.of(target.array):
        raise XbarcError(f"{path}: {PROGRAM} is mapped for other crossbars than {TARGET} says")
    origin = {k: v for k, v in listed.items() if k not in ("format", "files")}
    if (wrong := report_fault(origin, Origin)) is not None:
        raise XbarcError(f"{path}: {MANIFEST} is damaged: {wrong}: compile the model again")
    digital = {n: (path / n).read_bytes() for n in files if n.startswith("digital/")}
    _check_parts(path, module, weights, digital)
    network = partial(float_network.load, path) if float_network.GRAPH in files else None
    return CompiledProgram(module, weights, digital, target, origin, report, network)


def _check_parts(
    path: Path, module: ModuleOp, weights: StoredWeights, digital: Mapping[str, bytes]
) -> None:
    """Hold the IR to the arrays and files that it names."""
    for op in module.walk():
        if isinstance(op, WeightsOp):
            wanted = {op.symbol: op.stored_shape, f"{op.symbol}.scale": op.stored_shape[1:]}
            if op.bias.value.data:
                wanted[f"{op.symbol}.bias"] = op.stored_shape[1:]
            for name, shape in wanted.items():
                if name not in weights:
                    raise XbarcError(f"{path}: {WEIGHTS} has no array {name!r}")
                (dtype, found), codes = weights.header(name), name == op.symbol
                if found != shape or dtype not in (CODE_TYPES if codes else REAL_TYPES):
                    raise XbarcError(
                        f"{path}: array {name!r} is {dtype}{list(found)}, the IR says "
                        f"{'integers' if codes else 'reals'} {list(shape)}"
                    )
                _check_values(path, name, weights[name], op)
        if isinstance(op, MvmOp):
            try:
                coverage_of(op, weights)
            except XbarcError as error:
                raise XbarcError(f"{path}: {error}") from None
        if isinstance(op, DigitalOp) and op.file.data not in digital:
            raise XbarcError(f"{path}: no file {op.file.data}")


def _check_values(path: Path, name: str, array: Array, op: WeightsOp) -> None:
    """Refuse codes beyond their width, and scales and biases that no calibration gives."""
    if not array.size:
        return
    low, high = array.min(), array.max()
    if name == op.symbol:
        largest = max(1, (1 << (op.weight_bits - 1)) - 1)
        if low < -largest or high > largest:
            raise XbarcError(
                f"{path}: array {name!r} has codes from {low} to {high}, of {op.weight_bits} bits "
                f"none is beyond {largest}"
            )
    elif not (np.isfinite(low) and np.isfinite(high)) or (name.endswith(".scale") and low <= 0):
        wanted = "finite and positive" if name.endswith(".scale") else "finite"
        raise XbarcError(f"{path}: array {name!r} has values from {low} to {high}: not {wanted}")


def _json(document: Any) -> str:
    return to_json(document) + "\n"
