"""Crashes of onnxruntime: which node, where the last try ended so.

A fault in native code ends the process, and nothing can be said then. So a mark on disk says that a
model is being tried, and goes when that is over. Whoever finds the mark of a process that is no
more tries the model in processes of its own first, and names the node at which they end.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from xbarc.graph.query import describe
from xbarc.support import cache
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError
from xbarc.support.marks import TRIED

PATIENCE = 600
"""Seconds that a try may take; one that takes longer isn't at fault."""


@contextmanager
def watched(model: ir.Model, proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> Iterator[None]:
    """Mark that `proto`, of `model`, is tried with these inputs, or made ready without any.

    Raises:
        XbarcError: the last try ended the process, and one in a process of its own does too.
    """
    folder = cache.folder()
    if folder is None:
        yield
        return
    mark = folder / TRIED / f"{_digest(proto)}.{'run' if feeds else 'ready'}"
    if _left_behind(mark):
        _refuse(model, feeds)
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(str(os.getpid()))
    try:
        yield
    finally:
        with suppress(OSError):
            mark.unlink()


def _digest(proto: onnx.ModelProto) -> str:
    content = proto.SerializeToString(deterministic=True)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _left_behind(mark: Path) -> bool:
    """Whether the process that made the mark is no more."""
    try:
        process = int(mark.read_text())
        os.kill(process, 0)
    except (OSError, ValueError):
        return mark.exists()
    return False


def _refuse(model: ir.Model, feeds: Mapping[str, Array]) -> None:
    """Raise where a process that runs `model` ends by a signal: it says at which node."""
    nodes = list(model.graph)
    fault = _fault(model, nodes, feeds)
    if fault is None:
        return
    good, bad = 0, len(nodes)
    while bad - good > 1:
        middle = (good + bad) // 2
        found = _fault(model, nodes[:middle], feeds)
        good, bad, fault = (good, middle, found) if found else (middle, bad, fault)
    raise XbarcError(
        f"onnxruntime crashes at {describe(nodes[bad - 1])} ({fault}): "
        "this version of it can't run the model with these inputs"
    )


def _fault(model: ir.Model, nodes: Sequence[ir.Node], feeds: Mapping[str, Array]) -> str | None:
    """The signal that ends a process that runs these nodes, the first of the model's."""
    part = model.clone()
    graph = part.graph
    outputs = {str(value.name) for node in nodes for value in node.outputs if value.name}
    kept = [node for node in graph if any(value.name in outputs for value in node.outputs)]
    graph.outputs.clear()
    graph.outputs.extend(v for node in kept for v in node.outputs if v.name in outputs)
    graph.remove([node for node in graph if node not in kept])
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder, "model.onnx"), Path(folder, "inputs.npz")
        ir.save(part, path, external_data="weights")
        with data.open("wb") as file:
            np.savez(file, *feeds.values())
        command = [sys.executable, "-m", "xbarc.graph.tried", str(os.getpid())]
        command += [str(path), str(data), *feeds]
        with suppress(subprocess.TimeoutExpired):
            code = subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode
            if code not in (0, 1):
                return _named(code)
    return None


def _named(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"code {code}"
