"""The whole way from a model to a program."""

import hashlib
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarc.data import Array, Feeds, as_arrays, batches, load_npz, match_inputs, sample_count
from xbarc.document import finite
from xbarc.errors import UsageError, XbarcError
from xbarc.pipeline import (
    GraphPass,
    Instrumentation,
    Pipeline,
    Registry,
    XbarContext,
    load_registry,
    parse_passes,
    run_graph_passes,
    run_module_passes,
    split_tile_passes,
)
from xbarc.target import Target, load_target

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from tvm import IRModule

    from xbarc.frontends.load import Weights
    from xbarc.lower import Plan
    from xbarc.program import Program
    from xbarc.quantize import Calibration

ALWAYS = "canonicalize,fold-batchnorm"
"""Graph passes that run before the user's: exact, and what every mapping wants."""

GENERATED_SAMPLES = 4
VERIFY_SAMPLES = 16
"""Samples that `--verify-passes` and the deviation of lossy passes are measured on."""


@dataclass(frozen=True)
class Settings:
    """How to compile; the fields are the options of `xbarc compile`.

    `overrides` are `--set` texts, `input_shapes` fixes dynamic dimensions by input name,
    `percentile` is the share of calibration values that a range keeps, in percent, `weights` are
    those that stand beside a TVM program.
    """

    target: str | Path | Target = "mca128"
    overrides: Sequence[str] = ()
    passes: str = ""
    plugins: Sequence[str | Path] = ()
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    percentile: float = 100.0
    weights: "Weights | None" = None


@dataclass(frozen=True)
class Coverage:
    """What landed on crossbars: operators, and multiply-accumulates for a batch of one.

    `reasons`: why linear operators stay digital, by node name. `complete`: `digital_macs` counts
    them all. It doesn't where one stands in the body of an If, Loop or Scan, which runs as often as
    the data say, is an Einsum, LSTM, GRU or RNN, or has no shape.
    """

    crossbar_operators: int
    digital_operators: int
    crossbar_macs: int
    digital_macs: int
    reasons: dict[str, str]
    complete: bool = True

    @property
    def mac_share(self) -> float | None:
        """The crossbars' share of the multiply-accumulates, 0 to 1; None where it isn't known."""
        if not self.complete:
            return None
        total = self.crossbar_macs + self.digital_macs
        return self.crossbar_macs / total if total else 0.0


def compile(
    model: "str | Path | onnx.ModelProto | ir.Model | IRModule",
    target: str | Path | Target = "mca128",
    *,
    passes: str = "",
    calibration: "str | Path | Array | Feeds | None" = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    percentile: float = 100.0,
    params: "str | Path | Mapping[str, Any] | None" = None,
    constants: "str | Path | Mapping[str, Any] | Sequence[Any] | None" = None,
    random_weights: int | None = None,
    instrumentation: Instrumentation | None = None,
) -> "Program":
    """Compile a trained network for memristor crossbars.

    Args:
        model: a path, an `onnx.ModelProto` or an `onnx_ir.Model` (which isn't changed), a Relax
            `IRModule`, or Relay text.
        target: a name (`xbarc targets`), a TOML file, or a `Target`.
        passes: pipeline text: what differs from the default, which maps by im2col.
        calibration: inputs that show the range of each activation: an npz file, arrays by input
            name, or one array. Without it, generated ones are used, and the report says so.
        overrides: target keys, as `array.rows=64`.
        plugins: Python files that define passes; they are run.
        input_shapes: input name -> shape, for dynamic dimensions other than the batch.
        percentile: share of the calibration values within the range of an input, in percent.
        params: weights of a TVM program: a `.params` or npz file, or arrays by parameter name.
        constants: Relay's `meta[relay.Constant][i]`: an npz file, or arrays by index.
        random_weights: a seed: weights that a Relay program lacks are random, for cost studies.
        instrumentation: what to print, dump, time and verify on the way.

    Raises:
        UsageError: an unknown target, pass, key or option.
        XbarcError: the model or the data can't be compiled; one line a cause.
    """
    from xbarc.frontends.load import Weights

    weights = Weights(params, constants, random_weights)
    settings = Settings(target, overrides, passes, plugins, input_shapes or {}, percentile, weights)
    return _Compilation(settings, instrumentation or Instrumentation()).run(model, calibration)


def resolve_target(target: str | Path | Target, overrides: Sequence[str]) -> Target:
    """The `Target` that a name, a file or a Target with overrides means."""
    if isinstance(target, Target):
        if overrides:
            raise UsageError("overrides need a target by name or file, not a Target")
        return target
    return load_target(target, overrides)


def _costed(target: Target, plugins: Sequence[str | Path]) -> Target:
    """The target, once all its components can be had; figures of plug-ins as constants."""
    from xbarc.cost.components import components, load_models, settled

    models = load_models(plugins)
    components(target, models)
    return settled(target, models)


class _Compilation:
    def __init__(self, settings: Settings, seen: Instrumentation):
        percentile = settings.percentile
        if not isinstance(percentile, int | float) or not 50 < percentile <= 100:
            raise UsageError(
                f"the percentile is a number above 50 and at most 100, not {percentile!r}"
            )
        self.settings, self.seen = settings, seen
        # All that the user wrote is read before the model is: a typing error costs no waiting.
        target = resolve_target(settings.target, settings.overrides)
        self.registry = load_registry(settings.plugins)
        self.target = _costed(target, settings.plugins)
        self.always = parse_passes(ALWAYS, self.registry)
        self.asked = parse_passes(settings.passes, self.registry)
        self.mapping, self.tile = split_tile_passes(self.asked.mapping)
        self.default = parse_passes("deconv,im2col", self.registry)
        named = {p.name for p in self.asked.mapping}
        texts = dict.fromkeys(p.follow_up for p in self.asked.graph if p.follow_up)
        follow_up = parse_passes(",".join(texts), self.registry).mapping if texts else ()
        self.follow_up = [p for p in follow_up if p.name not in named]

    def run(
        self,
        source: "str | Path | onnx.ModelProto | ir.Model | IRModule",
        calibration: "str | Path | Array | Feeds | None",
    ) -> "Program":
        from xbarc import cost
        from xbarc.frontends.load import Weights, load
        from xbarc.graph.calibration import attach
        from xbarc.graph.figures import figures_of
        from xbarc.graph.serialize import to_proto
        from xbarc.ir import print_module
        from xbarc.legalize import legalize
        from xbarc.lower import lower, measured, plan
        from xbarc.program import LOWERED, Program
        from xbarc.quantize import calibrate, input_specs

        pipeline = Pipeline(self.always.graph + self.asked.graph, self.asked.mapping)
        weights = self.settings.weights or Weights()
        loaded = load(source, self.settings.input_shapes, weights)
        model = loaded.model
        feeds, described = self._feeds(model, calibration)
        specs = input_specs(model)
        self.seen.feeds = next(iter(batches(specs, feeds, VERIFY_SAMPLES)), {})
        self.seen.check([*pipeline, *self.default, *self.follow_up])
        keeping = [p for p in pipeline.graph if p.keeps_function]
        unpruned = model.clone() if len(keeping) < len(pipeline.graph) else None
        attach(model, feeds)
        deviation = run_graph_passes(pipeline.graph, model, self.target, self.seen)
        legalize(model)
        planned = plan(model)
        calibrated = calibrate(
            model,
            feeds,
            planned.ranged,
            measured(model, planned),
            percentile=self.settings.percentile,
        )
        lowered = lower(model, planned, calibrated, self.target)
        covered = coverage(planned, calibrated)
        unmapped = print_module(lowered.module).splitlines()
        context = XbarContext(self.target, lowered.weights, lowered.digital, self.registry)
        mapping = list(self.mapping)
        run_module_passes(mapping, context, lowered.module, self.seen)
        for default in self.default.mapping:
            if _unmapped(lowered.module, default.name):
                mapping += (default,)
                run_module_passes([default], context, lowered.module, self.seen)
        mapping += self.follow_up
        run_module_passes(self.follow_up, context, lowered.module, self.seen)
        mapping += self.tile
        run_module_passes(self.tile, context, lowered.module, self.seen)
        program = Program(
            lowered.module,
            context.weights,
            {path: to_proto(m).SerializeToString() for path, m in lowered.digital.items()},
            self.target,
            {**_origin(source, [str(p) for p in (*pipeline.graph, *mapping)]), LOWERED: unmapped},
        )
        if self.target.adc.mode == "calibrated":
            from xbarc.simulator.ranges import calibrate_converters

            calibrate_converters(program, feeds)
        before = None if unpruned is None else _reprogrammed(program, unpruned, keeping)
        program.report = {
            "model": program.origin["model"]["name"],
            "target": self.target.name,
            "passes": program.origin["passes"],
            **cost.report(program, before),
            # Infinite where an output was all zeros before the pass: null.
            "deviation": finite(deviation),
            "pass_figures": figures_of(model),
            **context.figures,
            "calibration": {**described, "percentile": self.settings.percentile},
            "coverage": {
                "crossbar_operators": covered.crossbar_operators,
                "digital_operators": covered.digital_operators,
                "mac_share": covered.mac_share,
                "digital_reasons": covered.reasons,
            },
        }
        program.report |= _weight_files(weights)
        if loaded.random:
            made_up = {"seed": weights.seed, "names": list(loaded.random)}
            program.report["random_weights"] = made_up
        self.seen.print_times()
        return program

    def _feeds(
        self, model: "ir.Model", given: "str | Path | Array | Feeds | None"
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        from xbarc.graph.run import random_inputs
        from xbarc.quantize import input_specs

        specs = input_specs(model)
        if given is None:
            feeds: dict[str, Array] = dict(random_inputs(model, GENERATED_SAMPLES))
            return feeds, {"source": "generated", "samples": sample_count(specs, feeds)}
        if isinstance(given, str | Path):
            source, arrays = Path(given).name, load_npz(given)
        else:
            source = "arrays"
            arrays = as_arrays(given if isinstance(given, Mapping) else {"": given})
        feeds = match_inputs(specs, arrays)
        return feeds, {"source": source, "samples": sample_count(specs, feeds)}


def _weight_files(weights: "Weights") -> dict[str, Any]:
    """The names of the files that weights came from, where any did."""
    given = {"params": weights.params, "constants": weights.constants}
    files = {key: Path(v).name for key, v in given.items() if isinstance(v, str | Path)}
    return {"weight_files": files} if files else {}


def _reprogrammed(
    program: "Program", model: "ir.Model", passes: Sequence[GraphPass]
) -> "Program | None":
    """The program's tiles with the weights before lossy passes; None where they don't fit there."""
    from xbarc.update import reprogrammed

    try:
        return reprogrammed(program, model, passes)
    except XbarcError:
        return None


def _unmapped(module: Any, default: str) -> bool:
    """Whether layers are left for the mapping pass `default`."""
    from xbarc.ir.ops import ConvOp, ConvTransposeOp, DenseOp

    kinds = ConvTransposeOp if default == "deconv" else ConvOp | DenseOp
    return any(isinstance(op, kinds) for op in module.walk())


def coverage(planned: "Plan", calibrated: "Calibration") -> Coverage:
    """Count what landed on crossbars; digital operators count by the shapes that were measured."""
    from xbarc.graph.query import inner_nodes, is_op
    from xbarc.layers import WEIGHTED, is_linear

    crossbar = digital = 0
    complete = True
    reasons = dict(planned.reasons)
    for node in planned.nodes:
        shapes = [
            calibrated.first.get(v.name or "") for v in (*node.inputs[:2], *node.outputs[:1]) if v
        ]
        if node in planned.layers:
            layer = planned.layers[node]
            out = calibrated.first[layer.output.name or ""]
            if node.op_type == "ConvTranspose":
                items, _, *spatial = calibrated.first[layer.source.name or ""]
                crossbar += items * math.prod(spatial) * math.prod(layer.matrix)
            else:
                crossbar += int(np.prod(out, dtype=np.int64)) * layer.matrix[0]
        elif is_op(node, *WEIGHTED) and None not in shapes and len(shapes) > 1:
            digital += _macs(node.op_type, [s for s in shapes if s is not None])
        elif is_linear(node):
            complete = False
        article = "an" if node.op_type[:1] in "AEIOU" else "a"
        for inner in inner_nodes(node):
            if is_linear(inner):
                complete = False
                reasons[inner.name or ""] = (
                    f"{inner.op_type}: in the body of {article} {node.op_type}"
                )
    return Coverage(
        len(planned.layers),
        len(planned.nodes) - len(planned.layers),
        crossbar,
        digital,
        reasons,
        complete,
    )


def _macs(op: str, shapes: Sequence[Sequence[int]]) -> int:
    """Products of a digital linear operator: from the shapes of x, W (and the result)."""
    x, w, out = shapes[0], shapes[1], shapes[-1]
    if op == "ConvTranspose":
        return int(np.prod(x, dtype=np.int64) * np.prod(w[1:], dtype=np.int64))
    if op in ("Conv", "ConvInteger", "QLinearConv"):
        return int(np.prod(out, dtype=np.int64) * np.prod(w[1:], dtype=np.int64))
    return int(np.prod(out, dtype=np.int64) * (x[-1] if x else 1))


def _origin(source: Any, passes: list[str]) -> dict[str, Any]:
    packages = ("numpy", "onnx", "onnx-ir", "onnxruntime", "xdsl", "numba")
    return {
        "xbarc": version("xbarc"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "model": describe_model(source),
        "passes": passes,
    }


def describe_model(source: Any) -> dict[str, Any]:
    """The model's name and, where it is a file, its hash."""
    if isinstance(source, str) and source.lstrip().startswith("#[version"):
        return {"name": "relay", "sha256": hashlib.sha256(source.encode()).hexdigest()}
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": Path(source).name, "sha256": digest}
    name = getattr(getattr(source, "graph", None), "name", None) or "model"
    return {"name": name, "sha256": None}


__all__ = ["Coverage", "Registry", "Settings", "compile", "coverage", "resolve_target"]
