"""Calibrated converters: the range of column sums that calibration data show (numerics: ADC)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

import numpy as np
import numpy.typing as npt

from xbarc.artifact import CompiledProgram
from xbarc.graph.histograms import ENDS
from xbarc.hw import encoding
from xbarc.hw.encoding import Integers
from xbarc.hw.target import Adc, Target
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.ir.dialect.assembly import reals
from xbarc.simulator.exact.segments import merged
from xbarc.simulator.interpreter import Simulator, input_specs
from xbarc.simulator.sampled import looked_at
from xbarc.support.data import Array, Feeds, first_samples, sample_count

SAMPLES = 64
"""Calibration samples that are run."""

VECTORS = 512
"""Vectors of a layer that are looked at, as many of each sample (`looked_at`)."""


SUMS = 1 << 22
"""Column sums that are held at a time."""


def calibrate_converters(program: CompiledProgram, feeds: Feeds) -> None:
    """Give each `xbar.mvm` of `program` the range of its converters.

    The program is run with lossless converters on the first `SAMPLES` of `feeds`.
    """
    specs = input_specs(program)
    few = first_samples(specs, feeds, SAMPLES)
    each = -(-VECTORS // sample_count(specs, few))
    counts: dict[MvmOp, Counts] = {}

    def observe(op: MvmOp, x: Array, first: int) -> None:
        of_input = cast(StreamType, op.input.type).vectors.data
        some = x[:, looked_at(first, x.shape[1], of_input, each)]
        if some.size:
            sums = column_sums(op, program.weights, some, program.target)
            counts.setdefault(op, Counts()).add(sums)

    Simulator(program, ideal=True, observe=observe).run(few)
    for op, seen in counts.items():
        adc = program.target.for_layer(weights_of(op).symbol).adc
        op.adc = reals(converter_range(seen, adc))


@dataclass
class Counts:
    """Of each column sum, how often it occurs, and what its results weigh together.

    A sum of slice s in read j counts 2^(s * cell_bits + j * dac_bits) in its result.
    """

    often: Counter[int] = field(default_factory=Counter)
    weight: Counter[int] = field(default_factory=Counter)

    def add(self, sums: Iterable[tuple[Array, Array]]) -> Self:
        """Count sums, and the weight of each."""
        for some, weigh in sums:
            values, place, often = np.unique(some, return_inverse=True, return_counts=True)
            weights = np.bincount(place.ravel(), np.broadcast_to(weigh, some.shape).ravel())
            self.often.update(dict(zip(values.tolist(), often.tolist(), strict=True)))
            self.weight.update(dict(zip(values.tolist(), weights.tolist(), strict=True)))
        return self


def converter_range(counts: Counts, adc: Adc) -> tuple[float, float]:
    """lo and hi of a calibrated converter, by the column sums that occur so often.

    Their percentiles 100 - p and p, p being `adc.percentile`; or what misses them least
    (`adc.ranges`), each by what it weighs.
    """
    values = np.array(sorted(counts.often))
    if adc.ranges == "least-squares":
        weight = np.array([counts.weight[v] for v in values.tolist()])
        return _least_squares(values, weight, (1 << adc.bits) - 1)
    often = np.array([counts.often[v] for v in values.tolist()])
    share = np.cumsum(often) / often.sum()
    tail = 1 - adc.percentile / 100
    low = float(values[int(np.searchsorted(share, tail, side="right")) if tail else 0])
    high = float(values[min(int(np.searchsorted(share, 1 - tail)), len(values) - 1)])
    # A matrix of zeros has one sum only; a converter has a range.
    return low, max(high, low + 1.0)


def _least_squares(values: Integers, weight: Array, top: int) -> tuple[float, float]:
    """The range whose `top` + 1 codes miss `values` least, by the weighted sum of squares.

    Sums are integers, so that a step below 1 tells nothing more apart.
    """

    def miss(low: float, high: float) -> float:
        step = (high - low) / top
        seen = low + step * np.clip(np.rint((values - low) / step), 0, top)
        return float((weight * np.square(seen - values)).sum())

    def best(ranges: list[tuple[float, float]]) -> tuple[float, float]:
        return min(ranges, key=lambda found: miss(*found))

    low, high = float(min(values[0], 0)), float(max(values[-1], 0))
    least, greatest = low, high
    for _ in range(2):  # One end after the other: each barely moves the other's best.
        low, high = best([(low, max(low + top, greatest * end)) for end in ENDS])
        low, high = best([(min(high - top, least * end), high) for end in ENDS])
    return low, high


def column_sums(
    op: MvmOp, arrays: Mapping[str, Array], x: Array, target: Target
) -> Iterator[tuple[Array, Array]]:
    """What the ADCs of an mvm see for codes `x` [K, v], some tiles at a time: integers.

    Beside them, in a shape that broadcasts to theirs, how much each counts in its result. Gated
    rows aren't driven and gated bit lines aren't converted.
    """
    weights, placed = weights_of(op), coverage_of(op, arrays)
    q, gated = arrays[weights.symbol], op.gated is not None
    driven = x if placed.rows is None else x[placed.rows]
    codes = cast(StreamType, op.input.type).element
    signed = codes.signedness.data.name == "SIGNED"
    array, inputs, reads = target.array, target.inputs, target.inputs.signed_reads
    slices = np.abs(encoding.slice_weights(weights.weight_bits, array.cell_bits, array.encoding))
    in_time = np.abs(encoding.input_slice_weights(codes.width.data, inputs.dac_bits, signed, reads))
    # Gating goes tile by tile; without it, tiles side by side are one.
    tiles = placed.tiles.tolist() if gated else [s.bounds for s in merged(placed.tiles)]
    for tile in tiles:
        lines = encoding.input_levels(
            driven[tile[0] : tile[1]], codes.width.data, inputs.dac_bits, signed, reads
        )
        dense = placed.dense(q, tile)
        if gated:
            some = np.not_equal(dense, 0)
            lines = lines[:, some.any(axis=1)]
            dense = dense[some.any(axis=1)][:, some.any(axis=0)]
        levels = encoding.weight_levels(
            dense, weights.weight_bits, array.cell_bits, array.encoding
        ).astype(np.float64)
        held: npt.NDArray[np.bool_] = np.any(levels, axis=2)  # [S, P, C]
        weigh = slices[..., None, None, None] * in_time[:, None]  # [S, P, 1, J, 1]
        if target.adc.subtract == "analog":
            levels = levels[:, :1] - levels[:, 1:]
            held, weigh = np.any(held, axis=1, keepdims=True), weigh[:, :1]
        every = np.broadcast_to(weigh, (*held.shape, len(in_time), 1))
        at_once = max(1, SUMS // every.size)
        for v in range(0, lines.shape[-1], at_once):
            some_lines = lines[..., v : v + at_once].astype(np.float64)
            # float64 holds these sums exactly, and goes through BLAS.
            sums = np.einsum("sprc,jrv->spcjv", levels, some_lines, optimize=True).astype(np.int64)
            yield (sums[held], every[held]) if gated else (sums, every)
