"""The whole way from a model to a program."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.passes import ModulePass

from xbarc import cost
from xbarc.artifact import LOWERED, CompiledProgram
from xbarc.artifact.report import SCHEMA
from xbarc.cost.components import check_given, components, load_kinds, settled
from xbarc.driver import extensions
from xbarc.driver.by_layer import LayerSettings
from xbarc.driver.crossbar_share import crossbar_share
from xbarc.driver.input_codes import choose
from xbarc.driver.origin import describe_model, plugin_words
from xbarc.driver.quantization import EQUALIZE, FEW, Quantization
from xbarc.driver.refit import BIASED, QUANTIZATION
from xbarc.driver.stages import (
    VERIFY_SAMPLES,
    Calibrated,
    Imported,
    calibrate_model,
    fit_model,
    float_network,
    import_model,
    lower_model,
    map_layers,
)
from xbarc.driver.update import reprogrammed
from xbarc.frontends.source import Inputs, SideWeights
from xbarc.graph.further import FurtherSample
from xbarc.graph.histograms import RangeRule
from xbarc.graph.ranges import carried_ranges
from xbarc.hw.target import Target, load_target
from xbarc.ir import print_module
from xbarc.lowering.fit.layers import Fit
from xbarc.lowering.layer import Layer, own_integers
from xbarc.pipeline import (
    GraphPass,
    Instrumentation,
    Registry,
    follow_ups,
    load_registry,
    parse_passes,
    schemes,
    split_tile_passes,
)
from xbarc.support.data import Array, Feeds, first_samples
from xbarc.support.document import finite
from xbarc.support.errors import UsageError, XbarcError, nearest
from xbarc.support.garbage import rare_collections
from xbarc.support.names import matching

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from tvm import IRModule

ALWAYS = "canonicalize,fold-batchnorm"
"""Graph passes that run before the user's: exact, and what every mapping wants."""


@dataclass(frozen=True)
class Settings:
    """How to compile; the fields are the options of `xbarc compile`.

    `overrides` are `--set` texts, `inputs` is what is said of the model's inputs,
    `percentile` is the share of calibration values that a range keeps, in percent, `weights` are
    those that stand beside a TVM program, `quantization` says how real numbers become codes,
    `layers` what is otherwise in some layers.
    """

    target: str | Path | Target = "mca128"
    overrides: Sequence[str] = ()
    passes: str = ""
    plugins: Sequence[str | Path] = ()
    inputs: Inputs = field(default_factory=Inputs)
    percentile: float = 100.0
    weights: SideWeights | None = None
    quantization: Quantization = field(default_factory=Quantization)
    layers: LayerSettings = field(default_factory=LayerSettings)

    def range_rule(self, target: Target) -> RangeRule | FurtherSample | None:
        """How ranges follow from what calibration shows; None: they are the extremes.

        Raises `UsageError` where two rules are given.
        """
        return self.quantization.range_rule(self.percentile, target)


@dataclass(frozen=True)
class Decided:
    """All that the user wrote, read: the target, and the passes in the order in which they run."""

    target: Target
    registry: Registry
    graph: tuple[GraphPass, ...]
    mapping: tuple[ModulePass, ...]
    tile: tuple[ModulePass, ...]
    """Those that follow a graph pass by themselves stand in front."""

    @property
    def keeping(self) -> list[GraphPass]:
        """The graph passes that keep the function."""
        return [p for p in self.graph if p.keeps_function]


@rare_collections()
def compile_model(
    source: "str | Path | onnx.ModelProto | ir.Model | IRModule",
    settings: Settings,
    calibration: "str | Path | Array | Feeds | None" = None,
    instrumentation: Instrumentation | None = None,
) -> CompiledProgram:
    """Compile a model: `xbarc.compile` says of what, and what it raises."""
    seen = instrumentation or Instrumentation()
    with extensions.using(settings.plugins):
        # A typing error costs no waiting: the model is read after all else.
        decided = decide(settings)
        imported = import_model(
            source, calibration, inputs=settings.inputs, weights=settings.weights
        )
        settings = fitting_to(imported, settings)
        decided = decide(settings)
        seen.feeds = imported.samples(VERIFY_SAMPLES)
        seen.check(_all_passes(decided))
        program = compile_imported(imported, decided, settings, seen)
        program.origin = {**_origin(), "model": describe_model(source), **program.origin}
        program.report = {"model": program.origin["model"]["name"], **program.report}
    seen.print_times()
    return program


def fitting_to(imported: Imported, settings: Settings) -> Settings:
    """The settings, without what shouldn't be fitted to this model and these data.

    A model that was trained for its codes can't be fitted better, and few samples say little.
    """
    if carried_ranges(imported.model):
        return replace(settings, quantization=Quantization())
    if imported.described["samples"] < FEW:
        return replace(settings, quantization=settings.quantization.as_asked())
    return settings


def _all_passes(decided: Decided) -> Iterator[GraphPass | ModulePass]:
    """The passes that run, and the default schemes; asking for these imports every pass."""
    yield from decided.graph
    yield from (*decided.mapping, *decided.tile)
    for scheme in schemes(decided.registry).values():
        if scheme.default:
            yield scheme()


def decide(settings: Settings) -> Decided:
    """Read the target and the passes.

    Raises:
        UsageError: an unknown target, key, pass, effect or option, or a value out of range.
        XbarcError: a target file or a component's model can't be used.
    """
    percentile = settings.percentile
    if not isinstance(percentile, int | float) or not 50 < percentile <= 100:
        raise UsageError(f"the percentile is a number above 50 and at most 100, not {percentile!r}")
    overrides = (*settings.overrides, *settings.layers.overrides)
    target = resolve_target(settings.target, overrides)
    registry = load_registry()
    kinds = load_kinds()
    keys = [text.partition("=")[0].strip() for text in overrides]
    check_given(components(target, kinds), target, keys)
    target = settled(target, kinds)
    if target.device.effects:
        from xbarc.simulator.noise import effects_of

        effects_of(target)
    always, asked = parse_passes(ALWAYS, registry), parse_passes(settings.passes, registry)
    mapping, tile = split_tile_passes((*settings.layers.passes(registry), *asked.mapping))
    following = follow_ups(asked.graph, asked.mapping, registry)
    graph = (*always.graph, *asked.graph)
    if settings.quantization.equalize and all(p.name != EQUALIZE for p in graph):
        # Last: lossy passes look at the weights as they were trained.
        graph = (*graph, *parse_passes(EQUALIZE, registry).graph)
    settings.range_rule(target)
    return Decided(target, registry, graph, tuple(mapping), (*following, *tile))


def resolve_target(target: str | Path | Target, overrides: Sequence[str]) -> Target:
    """The `Target` that a name, a file or a Target with overrides means."""
    if isinstance(target, Target):
        if overrides:
            raise UsageError("overrides need a target by name or file, not a Target")
        return target
    return load_target(target, overrides)


def compile_imported(
    imported: Imported,
    decided: Decided,
    settings: Settings,
    instrumentation: Instrumentation | None = None,
    *,
    calibrated: Calibrated | None = None,
) -> CompiledProgram:
    """Stage after stage; what the program says of the model itself isn't in it.

    A sweep gives what it `calibrated` once. Raises as `xbarc.compile`.
    """
    target, seen = decided.target, instrumentation
    if calibrated is None:
        calibrated = calibrate_model(
            imported,
            decided.graph,
            target,
            ranges=settings.range_rule,
            instrumentation=seen,
        )
    kinds = choose(calibrated, imported.feeds, target)
    how = settings.quantization
    fit = fit_model(calibrated, imported.feeds, target, how.fitting, kinds) if how.fits else None
    lowered = lower_model(calibrated, target, kinds, {} if fit is None else fit.layers)
    mapped = map_layers(
        lowered, target, decided.mapping, decided.tile, decided.registry, instrumentation=seen
    )
    program = mapped.program
    program.weights = {**program.weights, **calibrated.kept}
    program.network = float_network(calibrated, lowered)
    passes = [str(p) for p in (*decided.graph, *mapped.passes)]
    program.origin = {
        "passes": passes,
        "options": [*plugin_words(settings.plugins), *_words(settings)],
        QUANTIZATION: {**how.document(), BIASED: _biased(calibrated, fit)},
        LOWERED: print_module(lowered.module).splitlines(),
    }
    if target.adc.mode == "calibrated":
        # Only these converters need the simulator, which takes 30 ms to import.
        from xbarc.simulator.calibrate import calibrate_converters

        calibrate_converters(program, imported.feeds)
    share = crossbar_share(calibrated)
    program.report = {
        "target": target.name,
        "passes": passes,
        "schema": SCHEMA,
        **cost.report(
            program,
            _unpruned(program, imported, decided),
            _driven(program, imported.feeds),
            share.uncounted,
        ),
        # Infinite where an output was all zeros before the pass: null.
        "deviation": finite(dict(calibrated.deviation)),
        "pass_figures": calibrated.figures,
        **mapped.figures,
        "calibration": {**imported.described, "percentile": settings.percentile},
        "quantization": {**how.document(), **({} if fit is None else fit.document())},
        "coverage": share.document(),
        **_weight_files(settings.weights or SideWeights()),
    }
    _check_layers(target, list(calibrated.planned.layers.values()))
    if imported.random:
        seed = None if settings.weights is None else settings.weights.seed
        program.report["random_weights"] = {"seed": seed, "names": list(imported.random)}
    return program


MEASURED = 8
"""Calibration inputs that show which rows are driven."""


def _driven(program: CompiledProgram, feeds: Feeds) -> dict[str, float]:
    """Of each layer, the share of rows that calibration inputs drive, where zeros are skipped."""
    if not program.target.inputs.skip_zeros:
        return {}
    from xbarc.simulator.activity import ActivityCounter
    from xbarc.simulator.interpreter import Simulator, input_specs

    counter = ActivityCounter(program)
    few = first_samples(input_specs(program), feeds, MEASURED)
    Simulator(program, observe=counter.observe).run(few)
    return {
        name: counts["driven_row_pulses"] / counts["row_pulses"]
        for name, counts in counter.statistics().items()
        if counts["row_pulses"]
    }


def _check_layers(target: Target, layers: Sequence[Layer]) -> None:
    """Refuse tables of `layers` that no layer's name matches, and widths that change nothing."""
    names = {layer.name: layer for layer in layers}
    for pattern, keys in target.layers.items():
        chosen = [names[name] for name in matching(pattern, names)]
        if not chosen:
            raise UsageError(f'layers."{pattern}": no such layer: {nearest(pattern, names)}')
        for part, own in (("inputs", _takes_own_codes), ("weights", _has_own_weights)):
            if getattr(keys, part) is not None and all(map(own, chosen)):
                raise UsageError(
                    f'layers."{pattern}".{part}: the model has integers of its own there, whose '
                    "width rules: leave it out"
                )


def _takes_own_codes(layer: Layer) -> bool:
    return layer.codes is not None and not layer.to_code


def _has_own_weights(layer: Layer) -> bool:
    return own_integers(layer) is not None


def _unpruned(
    program: CompiledProgram, imported: Imported, decided: Decided
) -> CompiledProgram | None:
    """The program's tiles with the weights before lossy passes, where there are such passes.

    None where those weights don't fit there.
    """
    if len(decided.keeping) == len(decided.graph):
        return None
    try:
        return reprogrammed(program, imported, decided.keeping)
    except XbarcError:
        return None


def _biased(calibrated: Calibrated, fit: Fit | None) -> list[str]:
    """The layers to which fitting gave a bias."""
    layers, fitted = calibrated.planned.layers, {} if fit is None else fit.layers
    return [
        layers[node].name
        for node, found in fitted.items()
        if layers[node].bias is None and found.bias is not None
    ]


def _weight_files(weights: SideWeights) -> dict[str, Any]:
    """The names of the files that weights came from, where any did."""
    given = {"params": weights.params, "constants": weights.constants}
    files = {key: Path(v).name for key, v in given.items() if isinstance(v, str | Path)}
    return {"weight_files": files} if files else {}


def _words(settings: Settings) -> list[str]:
    """What was said of inputs and of codes, as `xbarc compile` takes it."""
    inputs, how = settings.inputs, settings.quantization
    words: list[str] = []
    for name, shape in inputs.shapes.items():
        words += ["--input-shape", f"{name}={','.join(map(str, shape))}"]
    for name, axis in inputs.batch_axes.items():
        words += ["--batch-axis", f"{name}={'none' if axis is None else axis}"]
    if inputs.names is not None:
        words += ["--inputs", ",".join(inputs.names)]
    for option in how.asked:
        value, name = getattr(how, option), option.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", value]
    return words


def _origin() -> dict[str, Any]:
    packages = ("numpy", "onnx", "onnx-ir", "onnxruntime", "xdsl", "numba")
    return {
        "xbarc": version("xbarc"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
    }
