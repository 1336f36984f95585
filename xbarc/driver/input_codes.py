"""What becomes of negative inputs under `inputs.signed = "auto"`: measured, layer by layer.

Asymmetric codes take half the reads of two passes, and their step is never larger. But they are
larger codes: their sums reach a converter's limits earlier, and what a device gets wrong is
multiplied by them. So where converters or devices can change a sum, both kinds drive the layer's
own weights, on its default mapping, with vectors of the calibration data; two passes stay where
asymmetric codes come out further from the exact result (numerics: Quantisation).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation

from xbarc.driver.stages import Calibrated
from xbarc.graph.inputs import input_specs
from xbarc.graph.run import Session
from xbarc.hw.quantization import InputScale, SignedCodes, quantize
from xbarc.hw.target import Target
from xbarc.ir.analysis.alone import alone
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import (
    CROSSBAR,
    CrossbarAttr,
    GatherOp,
    MvmOp,
    WeightsOp,
    code_type,
    tensor,
)
from xbarc.ir.dialect.assembly import reals
from xbarc.lowering.kind import Operands
from xbarc.lowering.layer import IntegerWeights, Layer, integer_weights
from xbarc.lowering.lower import codes_of
from xbarc.pipeline import XbarContext, load_registry, map_rest
from xbarc.support.data import Array, Feeds, batches
from xbarc.support.errors import XbarcError

if TYPE_CHECKING:
    from xbarc.simulator.engine import Engine

SAMPLES = 4
"""Calibration samples that vectors are taken from."""

VECTORS = 32
"""Vectors of a sample, evenly spaced."""

COLUMNS = 64
"""Columns of a layer, evenly spaced; of a block-diagonal matrix all."""

MARGIN = 1.05
"""What the squared error of so few vectors is known to."""

Real = npt.NDArray[np.float64]

SYMBOL = "probe"
"""The name of the layer that is measured: faults of single cells are another layer's."""

KINDS: tuple[SignedCodes, ...] = ("asymmetric", "two-pass")

Op = TypeVar("Op", bound=Operation)


def choose(calibrated: Calibrated, feeds: Feeds, target: Target) -> dict[str, SignedCodes]:
    """The kind of codes for each layer with negative inputs, by name; none where nothing is open.

    Raises `XbarcError` where the model doesn't run.
    """
    layers = [la for la in calibrated.planned.layers.values() if _is_open(la, calibrated, target)]
    chosen: dict[str, SignedCodes] = {la.name: "asymmetric" for la in layers}
    doubtful = [
        _Probe.of(la, calibrated, target)
        for la in layers
        if _can_lose(la, target.for_layer(la.name))
    ]
    if not doubtful:
        return chosen
    _gather(doubtful, calibrated, feeds)
    engine = _engine(target)
    for probe in doubtful:
        shifted, signed = (
            probe.error(kind, target.for_layer(probe.layer.name), engine) for kind in KINDS
        )
        if shifted > MARGIN * signed:
            chosen[probe.layer.name] = "two-pass"
    return chosen


def _is_open(layer: Layer, calibrated: Calibrated, target: Target) -> bool:
    """Whether the layer has negative inputs, and the target leaves open what becomes of them."""
    if target.inputs.signed != "auto":
        return False
    try:
        given = codes_of(layer, calibrated.shown, target, "two-pass")
    except XbarcError:
        return False  # lowering says what is wrong with it
    return given.signed and layer.kind.takes_zero_point


def _can_lose(layer: Layer, target: Target) -> bool:
    """Whether converters or devices can change a sum of this layer."""
    adc, array = target.adc, target.array
    if target.device.effects or adc.mode in ("full-scale", "calibrated"):
        return True
    if adc.mode == "lossless":
        return False
    rows = min(array.rows, layer.matrix[0] * layer.groups)
    largest = rows * ((1 << target.inputs.dac_bits) - 1) * ((1 << array.cell_bits) - 1)
    limit = 1 << (adc.bits - 1 if adc.subtract == "analog" else adc.bits)
    return largest >= limit


def _engine(target: Target) -> "Engine":
    from xbarc.simulator.analog.engine import AnalogEngine
    from xbarc.simulator.exact.engine import ExactEngine
    from xbarc.simulator.noise import effects_of

    effects = effects_of(target)
    return AnalogEngine(effects) if effects else ExactEngine()


@dataclass(frozen=True)
class _Probe:
    """A layer's weights on crossbars by the default mapping, once for each kind of codes.

    `arrays` are some of its columns under `SYMBOL`, `columns` their scales. `vectors`
    [K, v]: what `gather` makes of calibration data.
    """

    layer: Layer
    scales: dict[SignedCodes, InputScale]
    mvms: dict[SignedCodes, MvmOp]
    arrays: dict[str, Array]
    columns: Real
    gather: GatherOp
    vectors: list[Real]

    @classmethod
    def of(cls, layer: Layer, calibrated: Calibrated, target: Target) -> "_Probe":
        """Nothing gathered yet."""
        integers = integer_weights(layer, target)
        kept = np.arange(layer.matrix[1])
        if layer.groups == 1 and len(kept) > COLUMNS:
            kept = np.linspace(0, len(kept) - 1, COLUMNS).astype(int)
        q, scale = np.ascontiguousarray(integers.q[:, kept]), integers.scale[kept]
        some = IntegerWeights(q, scale, integers.bits)
        scales = {kind: codes_of(layer, calibrated.shown, target, kind) for kind in KINDS}
        modules = {k: _mapped(layer, some, s, calibrated, target) for k, s in scales.items()}
        mvms = {k: _the(MvmOp, module) for k, module in modules.items()}
        gather = _the(GatherOp, modules["two-pass"])
        return cls(layer, scales, mvms, {SYMBOL: q}, scale, gather, [])

    def error(self, kind: SignedCodes, target: Target, engine: "Engine") -> float:
        """The squared error of the layer's results for `vectors` with codes of this kind."""
        from xbarc.simulator.calibrate import Counts, column_sums, converter_range

        scale, mvm, arrays = self.scales[kind], self.mvms[kind], self.arrays
        vectors = np.concatenate(self.vectors, axis=1)
        x, (k, n) = quantize(vectors, scale), mvm.matrix
        if target.adc.mode == "calibrated":
            counts = Counts().add(column_sums(mvm, arrays, x, target))
            mvm.adc = reals(converter_range(counts, target.adc))
        matrix = engine.program(mvm, arrays, target, 0)
        sums = np.empty((n, x.shape[1]), np.int64 if matrix.integer else np.float64)
        matrix.multiply(x, sums)
        dense = coverage_of(mvm, arrays).dense(arrays[SYMBOL], (0, k, 0, n)).astype(float)
        found = scale.scale * (sums - scale.zero_point * dense.sum(axis=0)[:, None])
        by_column = np.repeat(self.columns, n // len(self.columns))[:, None]
        return float(np.square(by_column * (found - dense.T @ vectors)).sum())


def _mapped(
    layer: Layer,
    weights: IntegerWeights,
    scale: InputScale,
    calibrated: Calibrated,
    target: Target,
) -> ModuleOp:
    """A module of this layer alone, on crossbars by its default mapping."""
    shapes = calibrated.shown.shapes
    source, result = (shapes[v.name or ""] for v in (layer.source, layer.output))
    codes = Block(arg_types=[tensor(source, code_type(scale.bits, scale.signed))]).args[0]
    stored = WeightsOp(
        SYMBOL, layer.matrix[0], weights.q.shape[1], weights.bits, groups=layer.groups
    )
    sums = code_type(32, signed=True)
    given = Operands(codes, stored, sums, 1, 0, source, result)
    operation, _ = layer.kind.operation(layer.product, given)
    crossbar = CrossbarAttr.of(target.array)
    ModuleOp([stored, operation], attributes={CROSSBAR: crossbar})
    module = alone(operation)
    map_rest(XbarContext(target, {SYMBOL: weights.q}), module, load_registry())
    return module


def _the(kind: type[Op], module: ModuleOp) -> Op:
    return next(op for op in module.walk() if isinstance(op, kind))


def _gather(probes: Iterable[_Probe], calibrated: Calibrated, feeds: Feeds) -> None:
    """Give each probe some vectors of calibration data."""
    from xbarc.simulator.steps.gather import stream_of

    model = calibrated.model
    names = dict.fromkeys(probe.layer.source.name or "" for probe in probes)
    session = Session(model, outputs=list(names))
    for part in islice(batches(input_specs(model), feeds, 1), SAMPLES):
        values = session.run(part)
        for probe in probes:
            layer = probe.layer
            made = None if layer.to_code else layer.codes
            real = _real(values[layer.source.name or ""], made)
            stream = stream_of(probe.gather)(real)
            places = np.linspace(0, stream.count - 1, min(VECTORS, stream.count)).astype(int)
            found = [stream.block(int(i), int(i) + 1) for i in places]
            probe.vectors.append(np.concatenate(found, axis=1).astype(np.float64))


def _real(x: Array, codes: InputScale | None) -> Array:
    """Activations as real numbers, also where the model made codes of them."""
    if codes is None:
        return x.astype(np.float32)
    return ((x.astype(np.float64) - codes.zero_point) * codes.scale).astype(np.float32)
