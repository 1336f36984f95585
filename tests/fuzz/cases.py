"""Kinds of hostile input: the files that there are, what is mutated, and the command that reads it.

A case is a kind, a name of a file (or an option) and its content. `Workplace.run` says how the
command ended, `faults` what was wrong with that.
"""

import hashlib
import importlib.resources
import importlib.util
import json
import os
import re
import shutil
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import mutate
import numpy as np
import onnx
from models import text_model
from server import End, Server

import xbarc
from xbarc.support.errors import visible

CORPUS = Path(__file__).parent / "corpus"
MOST_MEGABYTES, LONGEST_LINE = 2048, 300
BOUNDS = ["--limits", "time=10"]

MODEL = """g (float[N,2,6,6] x) => (float[N,3] y)
<float[4,2,3,3] w, float[4] b, float[4] s, float[4] o, float[4] m, float[4] v, float[16,3] u,
 int64[2] shape = {-1, 16}>
{ c = Conv<pads=[1,1,1,1]>(x, w, b) n = BatchNormalization(c, s, o, m, v) r = Relu(n)
  p = MaxPool<kernel_shape=[3,3], strides=[3,3]>(r) f = Reshape(p, shape) y = MatMul(f, u) }"""

LOOP = """g (float[N,4] x) => (float[M,4] y) <float[4,4] w, int64 trips, bool yes, int64[1] k>
{ m = MatMul(x, w) z = ConstantOfShape(k)
  a = Loop(trips, yes, m) <body = b (int64 i, bool go, float[K,4] q) => (bool again, float[L,4] u)
       { again = Identity(go) u = Relu(q) }>
  c = ReduceMax<keepdims=0>(z)  d = Add(a, c)
  y = If(yes) <then_branch = t () => (e) { e = Relu(d) }, else_branch = f () => (h) { h = Neg(d) }>
}"""

QUANTIZED = """g (uint8[N,8] x) => (uint8[N,4] y)
<float sx = {0.1}, uint8 zx = {3}, int8[8,4] w, float sw = {0.02}, int8 zw = {0}, float sy = {0.2},
 uint8 zy = {4}> { y = QLinearMatMul(x, sx, zx, w, sw, zw, sy, zy) }"""

RELAY = """#[version = "0.0.5"]
def @main(%x: Tensor[(1, 2, 6, 6), float32], %w: Tensor[(4, 2, 3, 3), float32]) {
  %0 = nn.conv2d(%x, %w, padding=[1, 1, 1, 1], channels=4, kernel_size=[3, 3]);
  %1 = nn.relu(%0);
  %2 = nn.max_pool2d(%1, pool_size=[2, 2], strides=[2, 2]);
  %3 = nn.batch_flatten(%2);
  add(%3, meta[relay.Constant][0])
}
"""

SETS = ("array.rows=64", "adc.bits=6", "inputs.bits=4", "weights.bits=4", "array.cell_bits=2",
        "device.write_voltage_v=1.2", "device.read.sigma=0.1", "inputs.signed=two-pass",
        "cost.adc.model=isaac", "chip.chips=2", "core.crossbars=4")  # fmt: skip
PASSES = ("canonicalize,fold-batchnorm", "prune{granularity=weight sparsity=0.5}", "fc-to-1x1",
          "depthwise{rank=1}", "sub-image{patch=2,2}", "window{scheme=sdk}",
          "kernel-first,replicate", "map{cost=energy}", "place,schedule", "cluster")  # fmt: skip
NOISES = ("read{sigma=0.02}", "stuck{on=0.001 off=0.01}", "drift{nu=0.05 time=10}",
          "wire{row=1}", "programming{sigma=0.05}", "adc{offset=0.5}", "verify")  # fmt: skip
READERS = (["cost"], ["inspect"], ["run", "--input", "x.npz"], ["report"], ["update-weights"],
           ["inspect", "--floorplan"], ["cost", "--json"], ["compare"])  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A hostile input: `name` is the file that it goes to, or the option; `how` the command."""

    kind: str
    name: str
    content: bytes
    how: int = 0

    def save(self) -> Path:
        """Keep it among those that once failed."""
        digest = hashlib.sha256(self.content + self.name.encode()).hexdigest()[:12]
        path = CORPUS / f"{self.kind}-{digest}"
        document = {"kind": self.kind, "name": self.name, "how": self.how}
        document["content"] = self.content.decode("latin-1")
        path.write_text(json.dumps(document))
        return path

    @classmethod
    def load(cls, path: Path) -> "Case":
        document = json.loads(path.read_text())
        content = document.pop("content").encode("latin-1")
        return cls(content=content, **document)


def kinds() -> list[str]:
    """What can be mutated here."""
    found = ["onnx", "npz", "toml", "set", "passes", "noise", "relay", "params", "mlir", "program"]
    return [*found, "relax"] if importlib.util.find_spec("tvm") is not None else found


class Workplace:
    """A folder with a good file of every kind, and the process that runs commands in it."""

    def __init__(self, folder: Path) -> None:
        self.good, self.folder = folder / "good", folder / "work"
        self.good.mkdir(parents=True)
        self._write_good()
        shutil.copytree(self.good, self.folder)
        self._clean = _states(self.folder)
        self.server = Server()
        self._warm()

    def _write_good(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
        np.savez(self.good / "x.npz", x=x, labels=np.array([0, 1, 2]))
        for name, model in (
            ("m", text_model(MODEL, v=np.ones(4))),
            ("loop", text_model(LOOP, trips=2, yes=True, k=[3])),
            ("quantized", text_model(QUANTIZED)),
        ):
            onnx.save(model, self.good / f"{name}.onnx")
        target = importlib.resources.files("xbarc.targets").joinpath("mca128.toml")
        (self.good / "t.toml").write_text(target.read_text())
        (self.good / "r.relay").write_text(RELAY)
        (self.good / "p.params").write_bytes(_params({"w": rng.standard_normal((4, 2, 3, 3))}))
        np.savez(self.good / "c.npz", rng.standard_normal(36).astype(np.float32))
        program = xbarc.compile(self.good / "m.onnx", "mca128", calibration=x)
        program.save(self.good / "m.xbar")
        shutil.copy(self.good / "m.xbar" / "program.mlir", self.good / "p.mlir")
        lowered = json.loads((self.good / "m.xbar" / "manifest.json").read_text())["lowered"]
        (self.good / "l.mlir").write_text("\n".join(lowered))
        if "relax" in kinds():
            import tvm
            from relax_modules import module_of

            module = module_of("x:2x4 w:4x3", "R.nn.relu(R.matmul(x, w))")
            (self.good / "n.json").write_text(tvm.ir.save_json(module))
            np.savez(self.good / "w.npz", w=rng.standard_normal((4, 3)).astype(np.float32))

    def _warm(self) -> None:
        for kind in kinds():
            for how in range(len(READERS) if kind == "program" else 1):
                name = {"onnx": "m.onnx", "mlir": "p.mlir"}.get(kind, kind)
                command = self._command(Case(kind, name, b"", how + 1 if how == 0 else how), "")
                self.server.warm(command, str(self.folder))

    def draw(self, kind: str, random: Random) -> Case:
        """A mutated input of a kind."""
        options = {"set": SETS, "passes": PASSES, "noise": NOISES}
        if kind in options:
            text = random.choice(options[kind]).encode()
            return Case(kind, kind, mutate.of_text(text, random))
        names = {
            "onnx": ("m.onnx", "loop.onnx", "quantized.onnx"),
            "npz": ("x.npz",),
            "toml": ("t.toml",),
            "relay": ("r.relay",),
            "params": ("p.params", "c.npz"),
            "mlir": ("p.mlir", "l.mlir"),
            "relax": ("n.json",),
            "program": sorted(
                p.relative_to(self.good).as_posix()
                for p in (self.good / "m.xbar").rglob("*")
                if p.is_file()
            ),
        }
        name = random.choice(names[kind])
        content = (self.good / name).read_bytes()
        mutated = mutate.OF.get(name.rpartition(".")[2], mutate.of_bytes)(content, random)
        return Case(kind, name, mutated, random.randrange(len(READERS)))

    def run(self, case: Case) -> End:
        """Put the input in its place, and run the command that reads it.

        What goes wrong is run once more in a process of its own, and that counts.
        """
        end = self._run(case, alone=False)
        return self._run(case, alone=True) if faults(end) else end

    def _run(self, case: Case, alone: bool) -> End:
        self._clean_up()
        text = ""
        if case.name in ("set", "passes", "noise"):
            text = os.fsdecode(case.content).replace("\0", "")
        else:
            (self.folder / case.name).write_bytes(case.content)
        if case.kind == "program":
            self._sign()
        return self.server.run(self._command(case, text), str(self.folder), alone=alone)

    def _clean_up(self) -> None:
        """The folder is as it was: no other files, none changed."""
        found = _states(self.folder)
        for name in sorted(found, reverse=True):
            if found[name] != self._clean.get(name):
                path = self.folder / name
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in sorted(self._clean):
            here, good = self.folder / name, self.good / name
            if found.get(name) != self._clean[name]:
                here.mkdir() if good.is_dir() else shutil.copy2(good, here)
                self._clean[name] = _state(here)

    def _sign(self) -> None:
        """Write the manifest anew around what there is: hashes, where it lists whole ones.

        One that was kept has those of its time; what else was done to it is left.
        """
        path = self.folder / "m.xbar" / "manifest.json"
        try:
            manifest = json.loads(path.read_text())
            files = manifest["files"].items()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return
        for name, digest in files:
            if re.fullmatch("[0-9a-f]{64}", str(digest)):
                with suppress(OSError, ValueError):  # no such file, or no name of one
                    content = (path.parent / name).read_bytes()
                    manifest["files"][name] = hashlib.sha256(content).hexdigest()
        path.write_text(json.dumps(manifest))

    def _command(self, case: Case, text: str) -> list[str]:
        small = ["compile", "m.onnx", "-o", "out.xbar", "--calibration", "x.npz", *BOUNDS]
        target = ["--target", "mca128"]
        if case.kind == "onnx":
            if case.how % 4 == 0:
                return ["opt", case.name, "-o", "out.onnx", *BOUNDS]
            return ["compile", case.name, "-o", "out.xbar", *target, *BOUNDS]
        if case.kind == "npz":
            if case.how % 2:
                return [*small, *target]
            return ["run", "m.xbar", "--input", "x.npz", "--labels", "labels", *BOUNDS]
        if case.kind == "relay" or case.kind == "params":
            side = ["--params", "p.params", "--constants", "c.npz"]
            return ["compile", "r.relay", "-o", "out.xbar", *side, *target, *BOUNDS]
        if case.kind == "relax":
            side = ["--params", "w.npz"]
            return ["compile", "n.json", "-o", "out.xbar", *side, *target, *BOUNDS]
        if case.kind == "mlir":
            return ["opt", case.name, f"--passes={'im2col' if case.name == 'l.mlir' else ''}"]
        if case.kind == "program":
            command, *rest = READERS[case.how]
            extra = {"update-weights": ["m.onnx"], "compare": ["m.xbar"]}.get(command, [])
            return [command, "m.xbar", *extra, *rest]
        return {
            "toml": [*small, "--target", "t.toml"],
            "set": [*small, *target, f"--set={text}"],
            "passes": [*small, *target, f"--passes={text}"],
            "noise": ["run", "m.xbar", "--input", "x.npz", f"--noise={text}", *BOUNDS],
        }[case.kind]


def _states(folder: Path) -> dict[str, tuple[int, ...]]:
    """What is below a folder, by its path from there."""
    return {str(path.relative_to(folder)): _state(path) for path in folder.rglob("*")}


def _state(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes to a file; of a folder, only what is below it does."""
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        return (found.st_mode,)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _params(arrays: dict[str, np.ndarray]) -> bytes:
    """A `.params` file, as TVM writes it."""
    out = struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, len(arrays))
    for name in arrays:
        out += struct.pack("<Q", len(name)) + name.encode()
    out += struct.pack("<Q", len(arrays))
    for array in arrays.values():
        data = array.astype("<f4").tobytes()
        out += struct.pack("<QQiiiBBH", 0xDD5E40F096B4A13F, 0, 1, 0, array.ndim, 2, 32, 1)
        out += struct.pack(f"<{array.ndim}qq", *array.shape, len(data)) + data
    return out


def faults(end: End) -> list[str]:
    """What is wrong with how a command ended; nothing where it did its work, or said why not."""
    found = []
    if end.code is None:
        found.append("it hangs")
    elif end.code not in (0, 1, 2):
        found.append(f"exit code {end.code}")
    if "Traceback" in end.err or "a bug in xbarc" in end.err:
        found.append("a traceback")
    if end.code in (1, 2) and not end.err.strip():
        found.append("it says nothing")
    if end.megabytes > MOST_MEGABYTES:
        found.append(f"{end.megabytes:.0f} MB")
    for line in end.err.split("\n"):
        if line != visible(line):
            found.append(f"control characters: {line[:80]!r}")
        elif line.startswith("xbarc:") and len(line) > LONGEST_LINE:
            found.append("a line too long")
    return found
