"""The stages of compiling. Each is a value: keep it, and continue from it as often as needed.

    Imported -> Calibrated -> Lowered -> Mapped -> CompiledProgram

So a sweep over targets imports and calibrates once, and `update-weights` lowers new weights as
`compile` did. No stage changes the one that it was made from.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.artifact import CompiledProgram
from xbarc.artifact.float_network import FloatNetwork
from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs, SideWeights
from xbarc.graph.attachments import all_kept, attach, figures_of, restore
from xbarc.graph.calibration import Calibration, calibrate
from xbarc.graph.further import FurtherSample
from xbarc.graph.histograms import RangeRule
from xbarc.graph.inputs import input_specs
from xbarc.graph.ranges import carried_ranges
from xbarc.graph.run import random_inputs
from xbarc.graph.serialize import to_proto
from xbarc.hw.quantization import InputScale, SignedCodes
from xbarc.hw.target import Target
from xbarc.ir.dialect import LayerOp
from xbarc.lowering.fit.layers import Fit, Fitting, fit_layers
from xbarc.lowering.layer import Fitted, Layer
from xbarc.lowering.legalize import legalize
from xbarc.lowering.lower import Lowered, codes_of, lower
from xbarc.lowering.plan import Plan, measured, plan
from xbarc.pipeline import (
    GraphPass,
    Instrumentation,
    MappingScheme,
    Registry,
    XbarContext,
    map_rest,
    run_graph_passes,
    run_module_passes,
)
from xbarc.support.data import (
    Array,
    Feeds,
    as_arrays,
    batches,
    load_npz,
    match_inputs,
    sample_count,
)

if TYPE_CHECKING:
    import onnx
    from tvm import IRModule

GENERATED_SAMPLES = 4
"""Inputs that are made up where no calibration data are given."""

VERIFY_SAMPLES = 16
"""Samples that `--verify-passes` and the deviation of lossy passes are measured on."""


Rule = RangeRule | FurtherSample
"""How a range follows from what calibration shows."""


@dataclass(frozen=True)
class Imported:
    """A model in the importer's normal form, and the data that it is compiled with.

    `described` is what the report says of the data, `random` the names of weights that are made up.
    """

    model: ir.Model
    feeds: Feeds
    described: Mapping[str, Any]
    random: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether the data are somebody's, not generated."""
        return self.described.get("source") != "generated"

    def samples(self, count: int) -> dict[str, Array]:
        """The first `count` samples of the data, or as many as the model takes at once."""
        return next(iter(batches(input_specs(self.model), self.feeds, count)), {})


@dataclass(frozen=True)
class Calibrated:
    """A model after its graph passes: what stands on crossbars, and what running it showed.

    `deviation`: what each lossy pass moved the outputs by; `figures`: what passes counted;
    `kept`: what they measured and `update-weights` needs again, by name.
    """

    model: ir.Model
    planned: Plan
    shown: Calibration
    deviation: Mapping[str, float]
    figures: Mapping[str, Any]
    kept: Mapping[str, Array]


@dataclass(frozen=True)
class Mapped:
    """A program of which every layer stands on crossbars, its cost not counted yet.

    `passes` are the mapping and tile passes that ran, `figures` what they leave for the report.
    """

    program: CompiledProgram
    passes: tuple[ModulePass, ...]
    figures: Mapping[str, Any]


def import_model(
    source: "str | Path | onnx.ModelProto | ir.Model | IRModule",
    calibration: "str | Path | Array | Feeds | None" = None,
    *,
    inputs: Inputs | None = None,
    weights: SideWeights | None = None,
    samples: int = GENERATED_SAMPLES,
) -> Imported:
    """Import a model; without calibration data `samples` inputs are generated.

    Raises:
        UsageError: weights are given to a model that takes none of that kind.
        XbarcError: the model or the data can't be used; one line a cause.
    """
    loaded = load(source, inputs, weights)
    specs = input_specs(loaded.model)
    if calibration is None:
        feeds: dict[str, Array] = dict(random_inputs(loaded.model, samples))
        origin = "generated"
    else:
        if isinstance(calibration, str | Path):
            origin, arrays = Path(calibration).name, load_npz(calibration)
        else:
            origin = "arrays"
            arrays = as_arrays(
                calibration if isinstance(calibration, Mapping) else {"": calibration}
            )
        feeds = match_inputs(specs, arrays)
    described = {"source": origin, "samples": sample_count(specs, feeds)}
    return Imported(loaded.model, feeds, described, loaded.random)


def calibrate_model(
    imported: Imported,
    passes: Iterable[GraphPass],
    target: Target,
    *,
    ranges: Callable[[Target], Rule | None] | None = None,
    kept: Mapping[str, Array] | None = None,
    instrumentation: Instrumentation | None = None,
) -> Calibrated:
    """Run graph passes, find the layers, and run the model for ranges and shapes.

    `ranges` gives the rule for those of a layer's inputs, by the target as the layer sees it;
    without one they are the extremes. Ranges that the model carries (`xbarc.graph.ranges`) stand
    before both. `kept` is what passes measured in an earlier compilation.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: a pass failed, or the model doesn't run.
    """
    model = imported.model.clone()
    attach(model, imported.feeds)
    if kept is not None:
        restore(model, kept)
    deviation = run_graph_passes(passes, model, target, instrumentation)
    legalize(model)
    planned = plan(model)
    shown = calibrate(
        model,
        imported.feeds,
        planned.ranged,
        measured(model, planned),
        choose=None if ranges is None else _rules(planned, target, ranges),
    )
    carried = carried_ranges(model)
    shown.ranges.update({name: carried[name] for name in planned.ranged if name in carried})
    return Calibrated(model, planned, shown, deviation, figures_of(model), all_kept(model))


def _rules(
    planned: Plan, target: Target, ranges: Callable[[Target], Rule | None]
) -> Mapping[str, RangeRule] | FurtherSample | None:
    """The rule of each value that layers read; of several layers that of the most bits."""
    found: dict[str, tuple[int, RangeRule]] = {}
    for layer in planned.layers.values():
        own, name = target.for_layer(layer.name), layer.source.name or ""
        rule = ranges(own)
        if rule is None or isinstance(rule, FurtherSample):
            return rule
        if own.inputs.bits > found.get(name, (0, rule))[0]:
            found[name] = own.inputs.bits, rule
    return {name: rule for name, (_, rule) in found.items()}


def fit_model(
    calibrated: Calibrated,
    feeds: Feeds,
    target: Target,
    how: Fitting,
    kinds: Mapping[str, SignedCodes] = MappingProxyType({}),
) -> Fit:
    """Weights and biases of the layers, fitted to `feeds`, and how each layer then stands.

    `kinds` as `lower_model` takes it. Where activations or weights aren't finite nothing is fitted:
    lowering names all such layers.
    """
    model, planned, shown = calibrated.model, calibrated.planned, calibrated.shown

    def codes(layer: Layer) -> InputScale:
        return codes_of(layer, shown, target, kinds.get(layer.name))

    return fit_layers(model, planned, shown, feeds, target, codes, how)


def lower_model(
    calibrated: Calibrated,
    target: Target,
    kinds: Mapping[str, SignedCodes] = MappingProxyType({}),
    fitted: Mapping[ir.Node, Fitted] = MappingProxyType({}),
) -> Lowered:
    """The tile IR of a calibrated model, layers not mapped yet.

    `kinds`: by layer, what becomes of negative inputs where `inputs.signed` leaves it open. Layers
    that `fitted` holds have its integers and biases. Raises `XbarcError`, one line a layer, where a
    layer can't stand on the target's crossbars or its activations aren't finite.
    """
    return lower(calibrated.model, calibrated.planned, calibrated.shown, target, kinds, fitted)


def float_network(calibrated: Calibrated, lowered: Lowered) -> Callable[[], FloatNetwork]:
    """What gives the network that runs of the program are compared with."""
    return partial(FloatNetwork, calibrated.model, lowered.values)


def _unmapped(module: ModuleOp) -> int:
    """How many layers of the module no pass has mapped."""
    return sum(isinstance(op, LayerOp) for op in module.walk())


def map_layers(
    lowered: Lowered,
    target: Target,
    passes: Sequence[ModulePass],
    tile_passes: Sequence[ModulePass],
    registry: Registry,
    instrumentation: Instrumentation | None = None,
) -> Mapped:
    """Map layers by `passes`, what is left by the default schemes; then run the tile passes.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: a pass failed, or left an invalid module behind.
    """
    module = lowered.module.clone()
    context = XbarContext(target, ChainMap({}, lowered.weights), lowered.digital)
    seen = instrumentation or Instrumentation()
    for one in passes:
        left = _unmapped(module)
        run_module_passes([one], context, module, seen)
        # A scheme passes over layers that aren't its kind; no pass has a use where none is left.
        if _unmapped(module) == left and (left == 0 or isinstance(one, MappingScheme)):
            seen.idle.append(one.name)
    rest = map_rest(context, module, registry, instrumentation)
    run_module_passes(tile_passes, context, module, instrumentation)
    program = CompiledProgram(module, dict(context.weights), digital_files(lowered), target)
    return Mapped(program, (*passes, *rest, *tile_passes), context.figures)


def digital_files(lowered: Lowered) -> dict[str, bytes]:
    """The digital parts as ONNX files, by path."""
    return {path: to_proto(m).SerializeToString() for path, m in lowered.digital.items()}
