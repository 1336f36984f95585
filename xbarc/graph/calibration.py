"""What running the float model on data shows: ranges of values, shapes, and what a batch is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import onnx_ir as ir

from xbarc.graph.further import FurtherSample
from xbarc.graph.histograms import Histogram, RangeRule
from xbarc.graph.inputs import batch_size, input_specs
from xbarc.graph.run import Session
from xbarc.support.data import Array, Feeds, batches
from xbarc.support.errors import XbarcError

VALUES = 1 << 16
"""Of one batch, values of a tensor that a histogram counts."""


@dataclass
class Calibration:
    """What running the float model showed.

    `ranges`: value name -> (least, greatest) over the data. `shapes`: value name -> shape, -1
    where it varies with the batch; none where even the rank varies. `first`: the shape for a batch
    of one. `coupled`: the samples of a batch influence each other's outputs (a mean or a softmax
    over the batch), so that a batch can't be cut.
    """

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    first: dict[str, tuple[int, ...]] = field(default_factory=dict)
    coupled: bool = False


def calibrate(
    model: ir.Model,
    feeds: Feeds,
    ranged: Sequence[str],
    measured: Sequence[str],
    *,
    choose: Mapping[str, RangeRule] | FurtherSample | None = None,
) -> Calibration:
    """Run the float model over `feeds`: ranges of the values `ranged`, shapes of `measured`.

    Only minima, maxima and shapes leave the runtime, so memory doesn't grow with the data. `choose`
    takes ranges within these extremes, by a rule for each value: for them a second run counts
    histograms; or beyond them, for which samples run one by one. Raises `XbarcError` where the
    model doesn't run, or there is no data.
    """
    result = Calibration()
    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    untyped = [name for name in measured if values[name].type is None]
    probe, names = _with_probes(model, ranged, measured, untyped)
    session = Session(probe)
    specs = input_specs(model)
    further = choose if isinstance(choose, FurtherSample) else None
    batch = 1 if further is not None else batch_size(specs, feeds)
    finding = 2 if any(s.batched for s in specs) else 0
    extremes: dict[str, list[tuple[float, float]]] = {}
    seen = 0
    for index, part in enumerate(_shape_finding(model, feeds, batch)):
        out = session.run(part)
        seen += 1
        for value in ranged:
            low, high = float(out[names[value, "min"]]), float(out[names[value, "max"]])
            if further is not None and index >= finding:
                extremes.setdefault(value, []).append((low, high))
            known = result.ranges.get(value, (math.inf, -math.inf))
            # np: unlike min(), minimum() lets a NaN through.
            result.ranges[value] = (
                float(np.minimum(known[0], low)),
                float(np.maximum(known[1], high)),
            )
        for value in untyped:
            values[value].type = ir.TensorType(ir.DataType.from_numpy(out[value].dtype))
        for value in measured:
            shape = tuple(int(s) for s in out[names[value, "shape"]])
            if index == 0:
                result.first[value] = result.shapes[value] = shape
            before = result.shapes.pop(value, ())
            if len(shape) == len(before):
                result.shapes[value] = tuple(
                    a if a == b else -1 for a, b in zip(before, shape, strict=True)
                )
    if not seen:
        raise XbarcError("no calibration data: the arrays have no samples")
    result.coupled = _coupled(model, feeds)
    for value, found in extremes.items():
        if further is not None and np.isfinite(found).all():
            result.ranges[value] = further.range_of(
                [lo for lo, _ in found], [hi for _, hi in found]
            )
    if choose is not None and not isinstance(choose, FurtherSample):
        result.ranges.update(
            (name, choose[name](histogram))
            for name, histogram in _histograms(result, model, feeds, batch).items()
        )
    return result


def _shape_finding(model: ir.Model, feeds: Feeds, size: int) -> Iterator[dict[str, Array]]:
    """The batches of `feeds`, the first of one sample and, where the batch is symbolic, of two.

    One sample shows the shapes for a batch of one, two which of them vary.
    """
    specs = input_specs(model)
    if any(s.batched for s in specs):
        first = next(batches(specs, feeds, 1), None)
        if first is None:
            return
        yield first
        yield {s.name: s.joined([first[s.name]] * 2) if s.batched else first[s.name] for s in specs}
    yield from batches(specs, feeds, size)


def _coupled(model: ir.Model, feeds: Feeds) -> bool:
    """Whether two samples run together give other outputs than each by itself."""
    specs = input_specs(model)
    if not any(s.batched for s in specs):
        return False
    alone = list(islice(batches(specs, feeds, 1), 2))
    if len(alone) < 2:
        # Of one sample, half of it is a second one.
        half = {s.name: _halved(alone[0][s.name]) if s.batched else alone[0][s.name] for s in specs}
        alone.append(half)
    session = Session(model)
    first, second = (session.run(part) for part in alone)
    together = session.run(
        {
            s.name: s.joined([part[s.name] for part in alone]) if s.batched else alone[0][s.name]
            for s in specs
        }
    )
    return not all(_apart(first[n], second[n], together[n]) for n in together)


def _halved(x: Array) -> Array:
    return (x / 2).astype(x.dtype) if x.dtype.kind == "f" else x


def _apart(first: Array, second: Array, together: Array) -> bool:
    """Whether `together` is the two others side by side, or the same as both."""
    if not hasattr(together, "ndim") or together.dtype.kind not in "fiub":
        return True
    if first.shape != second.shape or first.ndim != together.ndim:
        return False
    if together.shape == first.shape:
        pairs = [(first, together), (second, together)]
    else:
        axes = [i for i in range(first.ndim) if first.shape[i] != together.shape[i]]
        if len(axes) != 1:
            return False
        if 2 * first.shape[axes[0]] != together.shape[axes[0]]:
            return False
        pairs = [(np.concatenate([first, second], axes[0]), together)]
    return all(_close(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)


def _close(a: Array, b: Array) -> bool:
    # Products of other sizes are added up in another order: 1e-3 of the largest is no coupling.
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-3 * scale + 1e-12, equal_nan=True))


def _with_probes(
    model: ir.Model, ranged: Sequence[str], measured: Sequence[str], untyped: Sequence[str]
) -> tuple[ir.Model, dict[tuple[str, str], str]]:
    """A copy of `model` whose outputs are the extremes and shapes of the values asked for.

    `untyped` values come out themselves: their arrays show their types.
    """
    probe = model.clone()
    graph = probe.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    names: dict[tuple[str, str], str] = {}
    outputs = [values[name] for name in untyped]

    def add(value: str, what: str, op: str, source: ir.Value, **attributes: int) -> ir.Value:
        name = f"xbarc.{what}.{value}"
        node = ir.node(op, [source], attributes=attributes, name=name)
        node.outputs[0].name = name
        graph.append(node)
        if what != "cast":
            names[value, what] = name
            outputs.append(node.outputs[0])
        return node.outputs[0]

    for value in ranged:
        source = values[value]
        if source.dtype != ir.DataType.FLOAT:
            source = add(value, "cast", "Cast", source, to=int(ir.DataType.FLOAT))
        add(value, "min", "ReduceMin", source, keepdims=0)
        add(value, "max", "ReduceMax", source, keepdims=0)
    for value in measured:
        add(value, "shape", "Shape", values[value])
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    return probe, names


def _histograms(
    calibration: Calibration, model: ir.Model, feeds: Feeds, batch: int
) -> dict[str, Histogram]:
    """A histogram of each value between its extremes, of every batch `VALUES` at most."""
    # Of one value there is nothing to cut off; what isn't finite is refused by its layer.
    ranged = [n for n, (a, b) in calibration.ranges.items() if -math.inf < a < b < math.inf]
    if not ranged:
        return {}
    found = {name: Histogram(*calibration.ranges[name]) for name in ranged}
    session = Session(model, outputs=ranged)
    for part in batches(input_specs(model), feeds, batch):
        for name, value in session.run(part).items():
            # A step that shares no factor with the sizes of most axes meets all of their places.
            found[name].add(value.reshape(-1)[:: max(1, value.size // VALUES) | 1])
    return found
