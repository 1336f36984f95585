"""What a layer's arrays meet: histograms of its weights, of its input codes, of its column sums."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from xbarc.artifact import CompiledProgram
from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.simulator.calibrate import VECTORS, column_sums
from xbarc.simulator.interpreter import Simulator, input_specs
from xbarc.simulator.sampled import looked_at
from xbarc.support.data import Array, Feeds, sample_count

BINS = 64
"""Bins of a histogram at most: each holds the same number of integers."""


@dataclass(frozen=True)
class Histogram:
    """Integers from `low` up, `step` of them a bin: `counts` of each bin."""

    low: int
    step: int
    counts: tuple[int, ...]

    @classmethod
    def of(cls, seen: Mapping[int, int]) -> "Histogram":
        """Of counts by value."""
        if not seen:
            return cls(0, 1, ())
        low, high = min(seen), max(seen)
        step = -(-(high - low + 1) // BINS)
        counts = [0] * ((high - low) // step + 1)
        for value, count in seen.items():
            counts[(value - low) // step] += count
        return cls(low, step, tuple(counts))


def histograms(program: CompiledProgram, layer: str, feeds: Feeds) -> dict[str, Histogram]:
    """`weights`, `codes` and `column_sums` of a layer for these inputs, with ideal devices.

    Codes and sums are those of some `VECTORS` vectors, as many of each input (`looked_at`); sums
    are what converters see, in steps of one level.
    """
    codes: Counter[int] = Counter()
    sums: Counter[int] = Counter()

    def count(into: Counter[int], values: npt.NDArray[np.integer]) -> None:
        found, counts = np.unique(values, return_counts=True)
        into.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    each = -(-VECTORS // sample_count(input_specs(program), feeds))

    def observe(op: MvmOp, x: Array, first: int) -> None:
        if weights_of(op).symbol != layer:
            return
        of_input = cast(StreamType, op.input.type).vectors.data
        some = x[:, looked_at(first, x.shape[1], of_input, each)]
        count(codes, some)
        for part, _ in column_sums(op, program.weights, some, program.target):
            count(sums, part)

    Simulator(program, ideal=True, observe=observe).run(feeds)
    weights: Counter[int] = Counter()
    count(weights, np.asarray(program.weights[layer]))
    return {
        "weights": Histogram.of(weights),
        "codes": Histogram.of(codes),
        "column_sums": Histogram.of(sums),
    }
