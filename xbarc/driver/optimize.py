"""`xbarc opt` on ONNX files: graph passes from one plain ONNX model to another."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from xbarc.cost.components import check_tables
from xbarc.driver import extensions
from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs, SideWeights
from xbarc.graph.attachments import attach, figures_of
from xbarc.graph.inputs import input_specs
from xbarc.graph.run import random_inputs
from xbarc.graph.serialize import embedded
from xbarc.hw.target import load_target
from xbarc.pipeline import (
    Instrumentation,
    check_hardware,
    load_registry,
    parse_passes,
    run_graph_passes,
)
from xbarc.support.data import batches, load_npz, match_inputs, sample_count
from xbarc.support.errors import UsageError, XbarcError

MEASURED_SAMPLES = 16
GENERATED_SAMPLES = 4
"""Calibration samples that the deviation of lossy passes is measured on."""

INLINE_BYTES = 1 << 30
"""Weights beyond this stand in a file beside the model: protobuf ends at 2 GB."""


@dataclass(frozen=True)
class Optimized:
    """What was written: weights before and after, and what each lossy pass moved.

    `lossy`: passes that change the function.

    `deviation`: pass -> relative L2 error of the outputs on `samples` samples of calibration
    data; nothing without them. `figures`: what passes counted (`xbarc.graph.attachments`). As
    weights count all real numbers of initialisers.
    """

    weights: tuple[int, int]
    nodes: tuple[int, int]
    deviation: dict[str, float]
    samples: int
    figures: dict[str, Any]
    lossy: tuple[str, ...]


def optimize(
    source: Path,
    output: Path,
    passes: str = "",
    *,
    target: str | None = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    calibration: Path | None = None,
    inputs: Inputs | None = None,
    weights: SideWeights | None = None,
    instrumentation: Instrumentation | None = None,
) -> Optimized:
    """Rewrite the model `source` by graph passes, and write `output`, an ONNX file.

    The model is first brought to the importer's normal form (`xbarc.frontends.onnx.importer`): a
    modern opset, static weights as initialisers, nothing that does nothing. Weights that a Relay
    program lacks stay inputs. No other pass runs than those of `passes`. The file is written whole
    or not at all; weights beyond 1 GiB go to `output.onnx.data` beside it.

    Raises:
        UsageError: the passes or the target are wrong, or a pass needs what wasn't given.
        XbarcError: the model or the data can't be used, or the disk refuses.
    """
    seen = instrumentation or Instrumentation()
    with extensions.using(plugins):
        pipeline = parse_passes(passes, load_registry())
        if pipeline.mapping:
            raise UsageError(
                f"pass {pipeline.mapping[0].name!r} works on tile IR, not on ONNX: give it to "
                "`xbarc compile`, or to `xbarc opt` with an .mlir file"
            )
        hardware = None if target is None else load_target(target, overrides)
        if hardware is not None:
            check_tables(hardware)
        check_hardware(pipeline.graph, hardware)
        model = load(source, inputs, weights, complete=False).model
        samples = 0
        if calibration is None:
            # What a pass fits, it then fits to noise; the command line warns of that.
            attach(model, random_inputs(model, GENERATED_SAMPLES))
        else:
            specs = input_specs(model)
            feeds = match_inputs(specs, load_npz(calibration))
            attach(model, feeds)
            seen.feeds = next(iter(batches(specs, feeds, MEASURED_SAMPLES)), {})
            samples = sample_count(specs, seen.feeds) if seen.feeds else 0
        seen.check(pipeline.graph)
        before = _weights(model), len(model.graph)
        deviation = run_graph_passes(pipeline.graph, model, hardware, seen)
    write(model, output)
    seen.print_times()
    after = _weights(model), len(model.graph)
    sizes, nodes = zip(before, after, strict=True)
    lossy = tuple(p.name for p in pipeline.graph if not p.keeps_function)
    return Optimized(sizes, nodes, deviation, samples, figures_of(model), lossy)


def _weights(model: ir.Model) -> int:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sum(t.size for t in tensors if t is not None and t.dtype.is_floating_point())


def write(model: ir.Model, path: Path) -> None:
    """Write `model` as an ONNX file that onnx's checker takes, whole or not at all.

    Raises:
        XbarcError: the checker refuses the model, or the disk the file.
    """
    tensors = [value.const_value for value in model.graph.initializers.values()]
    size = sum(t.nbytes for t in tensors if t is not None)
    data = f"{path.name}.data" if size > INLINE_BYTES else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            whole = Path(folder) / path.name
            ir.save(embedded(model), whole, external_data=data)
            try:
                onnx.checker.check_model(whole)
            except (onnx.checker.ValidationError, ValueError) as error:
                line = " ".join(str(error).split())
                raise XbarcError(f"the passes left no valid ONNX model: {line}") from error
            if data is not None:
                os.replace(Path(folder) / data, path.parent / data)
            os.replace(whole, path)
    except OSError as error:
        raise XbarcError(f"can't write {path}: {error.strerror or error}") from None
