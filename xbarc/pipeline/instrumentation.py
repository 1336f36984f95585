"""What is seen of a pipeline while it runs: prints, dumps, times, verification."""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from xdsl.passes import ModulePass

from xbarc.pipeline.passes import GraphPass
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.files import check_output, written_whole

if TYPE_CHECKING:  # each of these costs tenths of a second, and `xbarc --help` needs none
    import numpy as np
    import onnx_ir as ir
    from xdsl.dialects.builtin import ModuleOp


@dataclass
class Instrumentation:
    """What is seen of a pipeline while it runs. One object lasts for a whole compilation.

    Attributes:
        print_ir_after: names of passes, or "all", after which the IR is printed.
        dump_dir: folder for numbered files: `00-input.onnx`, `01-fold-batchnorm.onnx`,
            `02-lowered.mlir`, `03-im2col.mlir` ...; made if missing.
        time_passes: let `print_times` print the table.
        verify_passes: run the graph before and after each pass that says `preserves`.
        feeds: graph inputs for that, and for the deviation of lossy passes, which is measured
            whenever there are feeds.
        stream: where text goes.
    """

    print_ir_after: Sequence[str] = ()
    dump_dir: Path | None = None
    time_passes: bool = False
    verify_passes: bool = False
    feeds: "Mapping[str, np.ndarray[Any, Any]]" = field(default_factory=dict)
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    times: list[tuple[str, float]] = field(default_factory=list, init=False)
    """Passes that ran and the seconds that each took."""
    idle: list[str] = field(default_factory=list, init=False)
    """Mapping passes that were asked for and found no layer to map."""
    _dumped: set[str] = field(default_factory=set, init=False)
    _step: int = field(default=0, init=False)

    def check(self, passes: Iterable[GraphPass | ModulePass]) -> None:
        """Refuse an impossible request before anything runs.

        Raises:
            UsageError: `print_ir_after` names a pass that isn't among `passes`, or there are no
                feeds to verify with.
        """
        # Looked at only if needed: that may import each pass that there is.
        names = {p.name for p in passes} if self.print_ir_after else set()
        for name in self.print_ir_after:
            if name != "all" and name not in names:
                raise UsageError(
                    f"--print-ir-after={name}: no such pass in this pipeline, "
                    + nearest(name, names | {"all"})
                )
        if self.verify_passes and not self.feeds:
            raise UsageError("--verify-passes needs inputs to run the graph on")

    def print_times(self) -> None:
        """The table of `--time-passes`: milliseconds and share of each pass, in order."""
        if not self.time_passes:
            return
        total = sum(seconds for _, seconds in self.times)
        width = max([len(name) for name, _ in self.times] + [5])
        for name, seconds in [*self.times, ("total", total)]:
            share = seconds / total if total else 0.0
            print(f"{name:<{width}}  {seconds * 1e3:10.1f} ms  {share:6.1%}", file=self.stream)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Time a pass, and let its failure say which pass it was."""
        start = time.perf_counter()
        try:
            yield
        except UsageError as error:
            raise UsageError(*(f"pass {name!r}: {cause}" for cause in error.causes)) from error
        except XbarcError as error:
            raise XbarcError(*(f"pass {name!r}: {cause}" for cause in error.causes)) from error
        except Exception as error:
            before = ", ".join(n for n, _ in self.times) or "none"
            raise XbarcError(
                f"pass {name!r} failed: {plugins.cause(error)} (passes before it: {before})"
            ) from error
        self.times.append((name, time.perf_counter() - start))

    def dumped(self, suffix: str) -> bool:
        """Whether a file of this kind (`onnx`, `mlir`) was dumped already."""
        return suffix in self._dumped

    def _wants(self, name: str) -> bool:
        return name in self.print_ir_after or "all" in self.print_ir_after

    def show_graph(self, label: str, model: "ir.Model", *, is_pass: bool = True) -> None:
        """Print and dump a graph, where that was asked for; `is_pass`: `label` is a pass."""
        if is_pass and self._wants(label):
            print(f"// ONNX graph after {label}\n{_graph_text(model)}", file=self.stream)
        if self.dump_dir is not None and (is_pass or "onnx" not in self._dumped):
            _save_graph(model, self._dump_path(label, "onnx"))

    def show_module(self, label: str, module: "ModuleOp", *, is_pass: bool = True) -> None:
        """Print and dump a module, likewise."""
        from xbarc.ir import print_module

        if is_pass and self._wants(label):
            print(f"// IR after {label}\n{print_module(module)}", end="", file=self.stream)
        if self.dump_dir is not None and (is_pass or "mlir" not in self._dumped):
            with written_whole(self._dump_path(label, "mlir")) as file:
                file.write(print_module(module).encode())

    def _dump_path(self, label: str, suffix: str) -> Path:
        assert self.dump_dir is not None
        try:
            self.dump_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise XbarcError(f"can't write to {self.dump_dir}: {error.strerror}") from None
        path = self.dump_dir / f"{self._step:02d}-{label}.{suffix}"
        self._dumped.add(suffix)
        self._step += 1
        return path


def _graph_text(model: "ir.Model") -> str:
    import onnx_ir as ir

    # Large weights would fill the screen, and memory with their copy: --dump-dir has them.
    shown = model.clone()
    for value in (v for graph in shown.graphs() for v in graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.size > 8:
            value.const_value = ir.ExternalTensor(
                "...",
                None,
                None,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or "",
            )
    return ir.to_onnx_text(shown)


def _save_graph(model: "ir.Model", path: Path) -> None:
    import onnx_ir as ir

    weights = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    tensors = [t for t in weights if t is not None]
    # An external tensor's path holds from its own model's folder only; protobuf ends at 2 GB.
    beside = any(isinstance(t, ir.ExternalTensor) for t in tensors)
    beside = beside or sum(t.nbytes for t in tensors) > 1 << 30
    check_output(path)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            whole = Path(folder) / path.name
            ir.save(model, whole, external_data=f"{path.name}.data" if beside else None)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the data before the model
                file.replace(path.parent / file.name)
    except OSError as error:
        raise XbarcError(f"can't write {path}: {error.strerror or error}") from None
