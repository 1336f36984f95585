"""A compiled program, in memory and on disk.

On disk it is a directory, written whole or not at all, and nothing in it is executed on load:

    program.mlir         the tile IR
    weights.safetensors  integer weights, scales, biases, by symbol
    digital/*.onnx       what the digital unit runs
    target.toml          the resolved target
    report.json          the figures of `xbarc cost`, and how the compilation went
    manifest.json        versions, the model's hash, the pipeline, and the hash of every file
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from xdsl.dialects.builtin import ModuleOp

from xbarc.data import Array, Feeds
from xbarc.errors import XbarcError
from xbarc.ir import parse_module, print_module
from xbarc.ir.ops import DigitalOp, MvmOp, WeightsOp
from xbarc.ir.placement import placement
from xbarc.target import Target, dump_target, parse_target

FORMAT = 1
"""Changes when an older xbarc couldn't read a program."""

PROGRAM, WEIGHTS, TARGET = "program.mlir", "weights.safetensors", "target.toml"
REPORT, MANIFEST = "report.json", "manifest.json"
FILE = re.compile(
    r"program\.mlir|weights\.safetensors|target\.toml|report\.json|digital/[\w.-]+\.onnx"
)


class StoredWeights(Mapping[str, Array]):
    """The arrays of a weights file; each is read when it is asked for."""

    def __init__(self, path: Path):
        self._file = safetensors.safe_open(str(path), framework="numpy")
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        array: Array = self._file.get_tensor(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass
class Program:
    """A compiled program.

    `module` is the mapped tile IR, `weights` its arrays by name, `digital` the ONNX files by path,
    `report` the document of `xbarc cost --json`, `origin` the model's name, hash and passes.
    """

    module: ModuleOp
    weights: Mapping[str, Array]
    digital: Mapping[str, bytes]
    target: Target
    origin: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def run(self, inputs: Array | Feeds, *, batch: int | None = None) -> dict[str, Array]:
        """The outputs by the model's own names.

        `inputs` is one array, or arrays by input name; axis 0 counts the samples. Raises
        `XbarcError` where they don't fit.
        """
        from xbarc.simulator.run import Simulator

        simulator = Simulator(self)
        feeds = inputs if isinstance(inputs, Mapping) else {simulator.inputs[0].name: inputs}
        return simulator.run(feeds, batch=batch)

    def cost(self) -> dict[str, Any]:
        """The document of `xbarc cost --json`."""
        return self.report

    def save(self, path: str | Path) -> None:
        """Write the program to the directory `path`; an older program there is replaced.

        Raises `XbarcError` where something else stands there, or the disk refuses; nothing is left
        half-written.
        """
        path = Path(path)
        if path.exists() and not (path / MANIFEST).is_file() and not _is_empty(path):
            raise XbarcError(
                f"{path} exists and is no xbarc program: remove it, or choose another name"
            )
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            # mkdtemp makes it private; a program is as readable as any other output.
            temporary.chmod(0o777 & ~_umask())
            self._write(temporary)
            _swap(temporary, path)
        except (OSError, safetensors.SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise XbarcError(f"can't write {path}: {reason}") from None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        (folder / PROGRAM).write_text(print_module(self.module), encoding="utf-8")
        (folder / TARGET).write_text(dump_target(self.target), encoding="utf-8")
        (folder / REPORT).write_text(_json(self.report), encoding="utf-8")
        arrays = {name: np.ascontiguousarray(a) for name, a in self.weights.items()}
        safetensors.numpy.save_file(arrays, folder / WEIGHTS)
        # safetensors makes it private; a program's files are as readable as any other output.
        (folder / WEIGHTS).chmod(0o666 & ~_umask())
        (folder / "digital").mkdir()
        for name, content in self.digital.items():
            (folder / name).write_bytes(content)
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        manifest = {
            "format": FORMAT,
            **self.origin,
            "files": {p.relative_to(folder).as_posix(): _sha256(p) for p in files},
        }
        (folder / MANIFEST).write_text(_json(manifest), encoding="utf-8")


def load(path: str | Path) -> Program:
    """The program in the directory `path`.

    Raises `XbarcError` where it isn't there, isn't whole, or a file isn't what was written.
    """
    path = Path(path)
    manifest = _manifest(path)
    files = manifest["files"]
    for name, digest in files.items():
        if not FILE.fullmatch(name):
            raise XbarcError(f"{path}: {MANIFEST} names a file that no program has: {name!r}")
        try:
            found = _sha256(path / name)
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
    except (safetensors.SafetensorError, ValueError) as error:
        raise XbarcError(f"{path}: {error}") from None
    module = parse_module((path / PROGRAM).read_text(encoding="utf-8"), str(path / PROGRAM))
    digital = {n: (path / n).read_bytes() for n in files if n.startswith("digital/")}
    _check_parts(path, module, weights, digital)
    target = parse_target((path / TARGET).read_text(encoding="utf-8"), str(path / TARGET))
    origin = {k: v for k, v in manifest.items() if k not in ("format", "files")}
    return Program(module, weights, digital, target, origin, report)


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        what = "not a directory" if path.exists() else "no such program"
        raise XbarcError(f"{path}: {what}")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise XbarcError(f"{path}: not an xbarc program: it has no {MANIFEST}") from None
    except ValueError as error:
        raise XbarcError(f"{path}: {MANIFEST} is damaged: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise XbarcError(f"{path}: {MANIFEST} is damaged: it lists no files")
    if manifest.get("format") != FORMAT:
        raise XbarcError(
            f"{path}: of format {manifest.get('format')}, this xbarc reads {FORMAT}: compile again"
        )
    return manifest


def _check_parts(
    path: Path, module: ModuleOp, weights: Mapping[str, Array], digital: Mapping[str, bytes]
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
                found = weights[name].shape
                if found != shape:
                    raise XbarcError(f"{path}: array {name!r} is {found}, the IR says {shape}")
        if isinstance(op, MvmOp):
            try:
                placement(op, weights)
            except XbarcError as error:
                raise XbarcError(f"{path}: {error}") from None
        if isinstance(op, DigitalOp) and op.file.data not in digital:
            raise XbarcError(f"{path}: no file {op.file.data}")


def _swap(new: Path, path: Path) -> None:
    """Put the directory `new` at `path`; what stood there goes away only after that."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old / path.name)
    try:
        new.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
