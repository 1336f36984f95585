"""Weights and biases of all layers, fitted one after the other through the network so far."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from xbarc.graph.calibration import Calibration
from xbarc.graph.compress.matrices import LayerMatrix, find_matrix
from xbarc.graph.inputs import input_specs
from xbarc.graph.query import is_static
from xbarc.hw.quantization import InputScale
from xbarc.hw.target import Target
from xbarc.lowering.fit.network import Run, as_codes, last_uses, run_digital, run_layer, start
from xbarc.lowering.fit.rounding import round_to_output
from xbarc.lowering.layer import Fitted, IntegerWeights, Layer, integer_weights
from xbarc.lowering.plan import Plan
from xbarc.support.data import Array, Feeds, first_samples
from xbarc.support.document import finite
from xbarc.support.errors import XbarcError
from xbarc.support.threads import one_blas_thread

Rounding = Literal["nearest", "output"]

SAMPLES = 32
"""Calibration samples that are run, at most."""

VALUES = 1 << 26
"""Values of layers' inputs and outputs that are held at once: fewer samples where they are more."""

MACS = 3e10
"""Multiply-accumulates of the float network over the samples: fewer samples where they are more."""

VECTORS = 4096
"""Input vectors of a layer that its rounding looks at, or four for each row where that is more."""

OWN_VECTORS = 256
"""Input vectors on which a layer's own noise is told from what it inherits."""

CLIPPED = 0.51
"""Steps: rounding misses an input by half a one (and float32's own error), clipping by more."""

MAX_ROWS = 4608
"""Rows of a matrix that is rounded to its outputs: memory grows with their square."""

WORK = 1e11
"""Multiplications spent on rounding to outputs: the layers that take least come first."""


@dataclass(frozen=True)
class Fitting:
    """How layers are fitted: how weights are rounded, and whether biases take the mean error."""

    rounding: Rounding = "output"
    bias_correction: bool = True


@dataclass(frozen=True)
class Accuracy:
    """A layer's output on crossbars beside float, ideal devices, on calibration data.

    `snr_db` is its signal-to-noise ratio in the network. `inherited`, `inputs` and `weights` are
    shares of what makes the noise: the layers before it, and its own codes of inputs and weights.
    `clipped` is the part of `inputs` that lies beyond the codes; the rest of it is rounding.
    """

    snr_db: float
    inherited: float
    inputs: float
    weights: float
    clipped: float


@dataclass(frozen=True)
class Fit:
    """What fitting found: `layers` by node, `accuracy` by layer name, over `samples` samples."""

    layers: dict[ir.Node, Fitted]
    accuracy: dict[str, Accuracy]
    rounded: tuple[str, ...]
    samples: int

    def document(self) -> dict[str, Any]:
        """As report.json has it."""
        return {
            "samples": self.samples,
            "rounded": list(self.rounded),
            "layers": finite({name: asdict(found) for name, found in self.accuracy.items()}),
        }


def fit_layers(
    model: ir.Model,
    planned: Plan,
    shown: Calibration,
    feeds: Feeds,
    target: Target,
    codes_of: Callable[[Layer], InputScale],
    how: Fitting,
) -> Fit:
    """Fit each layer with real static weights, in the network's order, on the first samples.

    Each layer reads what the fitted ones before it give, through the codes that `codes_of` says.
    Layers that came with their own codes stay as they are.

    Where activations or weights aren't finite nothing is fitted: lowering names all such layers.
    Raises `XbarcError` where a value becomes NaN on the way.
    """
    nothing = Fit({}, {}, (), 0)
    if not any(_is_fitted(layer) for layer in planned.layers.values()):
        return nothing
    try:
        given = {node: _Given.of(la, codes_of, target) for node, la in planned.layers.items()}
    except XbarcError:
        return nothing
    first = first_samples(input_specs(model), feeds, _samples(planned, shown))
    worth = _worth_rounding(planned, target) if how.rounding == "output" else set()
    layers: dict[ir.Node, Fitted] = {}
    accuracy: dict[str, Accuracy] = {}
    with one_blas_thread():
        runs = start(model, planned, first)
        uses = last_uses(planned, model.graph.outputs)
        for index, step in enumerate(planned.steps):
            layer = planned.layers.get(step.nodes[0])
            if layer is None:
                run_digital(model, step, runs)
            else:
                one = _Layer(model, layer, given[layer.node], runs)
                fitted = one.fit(
                    replace(how, rounding="output" if layer.node in worth else "nearest")
                )
                accuracy[layer.name] = one.accuracy
                if fitted is not None:
                    layers[layer.node] = fitted
            _drop(runs, planned, index, uses)
    rounded = tuple(planned.layers[node].name for node in layers if node in worth)
    return Fit(
        layers, accuracy, rounded, max((len(a) for a in first.values() if a.ndim), default=1)
    )


def _is_fitted(layer: Layer) -> bool:
    """Whether the layer's codes are xbarc's own to choose."""
    return layer.codes is None and is_static(layer.product.weights)


def _drop(
    runs: Sequence[Run], planned: Plan, index: int, uses: Mapping[int, Sequence[str]]
) -> None:
    """Forget what no later step reads."""
    layer = planned.layers.get(planned.steps[index].nodes[0])
    for run in runs:
        if layer is not None:
            del run.real[layer.output.name or ""]
        for name in uses.get(index, ()):
            run.crossbar.pop(name, None)


def _samples(planned: Plan, shown: Calibration) -> int:
    """How many samples memory and time allow: one at least."""
    values, macs = 1, 1
    for layer in planned.layers.values():
        source, result = (shown.first.get(v.name or "") for v in (layer.source, layer.output))
        if source is not None and result is not None:
            values += math.prod(source) + math.prod(result)
            macs += layer.kind.multiply_accumulates(layer.product, source, result)
    return max(1, min(SAMPLES, VALUES // values, int(MACS // macs)))


def _worth_rounding(planned: Plan, target: Target) -> set[ir.Node]:
    """The layers that are rounded to their outputs: the cheapest, as far as `WORK` goes."""
    costs = []
    for layer in planned.layers.values():
        (rows, columns), groups = layer.matrix, layer.groups
        if _is_fitted(layer) and rows <= MAX_ROWS:
            vectors = max(VECTORS, 4 * rows)
            work = groups * rows**2 * (vectors + rows + columns // groups)
            costs.append((work, layer.node))
    left, found = WORK, set()
    for work, node in sorted(costs, key=lambda cost: cost[0]):
        left -= work
        if left > 0:
            found.add(node)
    return found


@dataclass(frozen=True)
class _Given:
    """What a layer is fitted from: the codes of its inputs, and its weights rounded to nearest."""

    codes: InputScale
    integers: IntegerWeights

    @classmethod
    def of(cls, layer: Layer, codes_of: Callable[[Layer], InputScale], target: Target) -> "_Given":
        return cls(codes_of(layer), integer_weights(layer, target))


class _Layer:
    """One layer on what the runs hold: fits it, and leaves its output in them."""

    def __init__(self, model: ir.Model, layer: Layer, given: _Given, runs: Sequence[Run]) -> None:
        self.model, self.layer, self.runs = model, layer, runs
        self.source, self.output = layer.source.name or "", layer.output.name or ""
        self.step = given.codes.scale
        self.given = [run.crossbar[self.source] for run in runs]
        self.wanted = [run.real[self.output] for run in runs]
        self.inputs: Sequence[Array] = self.given
        if layer.codes is None:
            self.inputs = [as_codes(x, given.codes) for x in self.given]
        self.integers = given.integers
        found = find_matrix(layer.node)
        # A kind of layer that a plug-in brings is run with its own weights, and not fitted. Nor is
        # a Gemm whose alpha is 0.
        fits = _is_fitted(layer) and layer.kind.factors(layer.product)[0] != 0
        self.matrix = found if isinstance(found, LayerMatrix) and fits else None

    def fit(self, how: Fitting) -> Fitted | None:
        """The fitted layer; None of one that stays as it is."""
        if self.matrix is None:
            self._leave(run_layer(self.model, self.layer, self.inputs, None))
            return None
        if how.rounding == "output":
            self.integers = self._rounded(self.matrix)
        real = self.matrix.stored(self.integers.q * self._scale)
        results = run_layer(self.model, self.layer, self.inputs, real)
        bias = self.layer.bias
        if how.bias_correction:
            axis = self.matrix.column_axis(results[0].ndim)
            shift = _mean_miss(self.wanted, results, axis)
            bias = shift if bias is None else bias + shift
            view = [-1 if i == axis else 1 for i in range(results[0].ndim)]
            results = [y + shift.reshape(view) for y in results]
        self._leave(results)
        return Fitted(self.integers, bias)

    @property
    def _scale(self) -> Array:
        """The weights' own scale [N]: a Gemm's alpha stays with the operator."""
        return self.integers.scale / self.layer.kind.factors(self.layer.product)[0]

    def _leave(self, results: Sequence[Array]) -> None:
        for run, y in zip(self.runs, results, strict=True):
            run.crossbar[self.output] = y

    def _rounded(self, matrix: LayerMatrix) -> IntegerWeights:
        (k, n), groups = self.layer.matrix, self.layer.groups
        moments = np.zeros((groups, k, k))
        for x in self._vectors(matrix, self.inputs, max(VECTORS, 4 * k)):
            rows = np.ascontiguousarray(x.reshape(groups, k, -1), np.float32)
            moments += rows @ rows.transpose(0, 2, 1)
        blocks = matrix.matrix.astype(np.float64).reshape(k, groups, -1).transpose(1, 0, 2)
        largest = (1 << (self.integers.bits - 1)) - 1
        codes = round_to_output(blocks, self._scale.reshape(groups, 1, -1), moments, largest)
        q = codes.transpose(1, 0, 2).reshape(k, n).astype(self.integers.q.dtype)
        return replace(self.integers, q=q)

    def _vectors(self, matrix: LayerMatrix, inputs: Sequence[Array], limit: int) -> Iterator[Array]:
        """Input vectors [groups * K, v] of each run."""
        for x, y in zip(inputs, self.wanted, strict=True):
            yield matrix.sample(x, y, max(1, limit // len(inputs)))[0]

    @property
    def accuracy(self) -> Accuracy:
        """How the output stands, and what makes the noise."""
        power = error = count = 0.0
        for run, y in zip(self.runs, self.wanted, strict=True):
            wide = y.astype(np.float64)
            power += float(np.square(wide).sum())
            error += float(np.square(wide - run.crossbar[self.output]).sum())
            count += y.size
        if error == 0 or power == 0:
            return Accuracy(math.inf if error == 0 else -math.inf, 0.0, 0.0, 0.0, 0.0)
        inputs, weights, clipped = self._own_noise()
        whole = max(error / count, inputs + weights)
        inherited = 1 - (inputs + weights) / whole
        shares = (inherited, inputs / whole, weights / whole, inputs * clipped / whole)
        return Accuracy(10 * math.log10(power / error), *shares)

    def _own_noise(self) -> tuple[float, float, float]:
        """The mean squares of what codes of inputs and of weights add to an output value.

        The third is the share of the inputs' that clipping makes, the others are rounded.
        """
        matrix = self.matrix
        if matrix is None:
            return 0.0, 0.0, 0.0
        (k, n), groups = self.layer.matrix, self.layer.groups
        factor = self.layer.kind.factors(self.layer.product)[0]
        real, codes = matrix.matrix, self.integers.q * self._scale

        def noise(w: Array, vectors: Array) -> float:
            blocks = w.reshape(k, groups, -1).transpose(1, 2, 0).astype(np.float32)
            return float(np.square(factor * (blocks @ vectors)).sum())

        inputs = weights = clipped = rounded = count = 0.0
        given = self._vectors(matrix, self.given, OWN_VECTORS)
        for x, coded in zip(given, self._vectors(matrix, self.inputs, OWN_VECTORS), strict=True):
            miss, rows = (a.reshape(groups, k, -1) for a in (x - coded, coded))
            beyond = np.where(np.abs(miss) > CLIPPED * self.step, miss, 0)
            count += n * rows.shape[2]
            inputs += noise(real, miss)
            weights += noise(real - codes, rows)
            clipped += noise(real, beyond)
            rounded += noise(real, miss - beyond)
        return inputs / count, weights / count, clipped / (clipped + rounded or 1.0)


def _mean_miss(wanted: Sequence[Array], results: Sequence[Array], axis: int) -> Array:
    """The mean of what the results of each column [N] lack."""
    total: Any = 0.0
    count = 0
    for y, got in zip(wanted, results, strict=True):
        miss = np.moveaxis(y.astype(np.float64) - got, axis, -1)
        total = total + miss.reshape(-1, miss.shape[-1]).sum(axis=0)
        count += miss.size // miss.shape[-1]
    return np.asarray(total / max(1, count), np.float32)
