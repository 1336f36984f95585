"""The bit lines of an array that are converted, as the kernels take them.

What is subtracted before a converter (G- under analog subtraction, or the reference line) is
subtracted in the cells where both lines stand on one array: then a converter has one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xbarc.simulator.analog.programmed import Drive, ProgrammedArray, draw_of
from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.effect import Distortion, Effect

Integers = npt.NDArray[Any]


class Curve(NamedTuple):
    """A converter: `clip(rint((a - lo) / step), 0, top)`; without `rounds` the sum as it is.

    `bent`: each line's converter is off in its own way.
    """

    lo: float
    step: float
    top: float
    rounds: bool
    bent: bool


class Lines(NamedTuple):
    """The bit lines of an array that are converted, L of them.

    A sum, in level steps, is `units[t]` times the integer sum of `cells[t]`, over the terms t: two
    where a pair of lines stands on two arrays. `variances` and `variance_units` are the same for
    read noise; behind the others stands the reference line, where it has any, which is subtracted
    `alone` times. Each line counts `weights` times for `columns`.
    """

    cells: Any  # integers [T, R, L]
    units: Any  # float64 [T]
    variances: Any  # integers [T', R, L] or [T', R, L + 1]
    variance_units: Any  # float64 [T']
    alone: Any  # float64 [L]: how often the reference line is subtracted
    fixed: Any  # float64 [L]: the part of the noise's variance that no input changes
    weights: Any  # float64 [L]
    columns: Any  # int64 [L]
    gain: Any  # float64 [L]: as `xbarc.simulator.effect.Distortion`
    offset: Any
    bow: Any


class Noise(NamedTuple):
    """Fresh noise of an array's sums, if `on`: the `key` uint32 [2] of its normal numbers.

    `reference`: the reference line has noise, which lines share.
    """

    key: Any
    on: bool
    reference: bool


@dataclass(frozen=True)
class Term:
    """Cells [R, L] int32 of an array that bit lines have, each `unit` level steps; signed.

    R are its word lines, or its pairs of them where both rows of a pair carry the same codes.
    `drive` is None where word lines carry the codes as they are. `variances` [R, L] int32, each
    `variance_unit`, are of the cells' read noise in level steps; None without.
    """

    cells: Integers
    unit: float
    drive: Drive | None
    variances: Integers | None
    variance_unit: float


@dataclass(frozen=True)
class Converted:
    """The lines of one array that have a converter, L of them, and what converters see of them.

    `array` has these lines alone. `terms`: one, or two where a pair stands on two arrays.
    `distortion`: how the converters are off, None if they aren't. `reference` [R] int32 are the
    variances of the reference line, None without noise of its own; the lines marked by `alone` [L]
    share it. `fixed`: the variance of a conversion's own noise.
    """

    array: PhysicalArray
    terms: tuple[Term, ...]
    reference: Integers | None
    alone: npt.NDArray[np.bool_]
    fixed: float
    key: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float64]
    distortion: Distortion | None

    @property
    def noisy(self) -> bool:
        """Whether sums have noise that is fresh in each read."""
        return self.fixed > 0 or any(term.variances is not None for term in self.terms)

    @property
    def driven(self) -> bool:
        """Whether word lines carry anything else than the codes."""
        return any(term.drive is not None for term in self.terms)


def converted_lines(
    arrays: Sequence[ProgrammedArray],
    effects: Sequence[Effect],
    seed: int,
    slice_weights: Integers,
) -> list[Converted]:
    """The converted lines of a tile's arrays; `slice_weights` [S, P] of shift-and-add."""
    negative = {
        (int(s), int(c)): (a, line)
        for a in arrays
        for line, (s, c, p) in enumerate(
            zip(a.physical.slice, a.physical.column, a.physical.polarity, strict=True)
        )
        if p == 1
    }
    return [
        _converted(a, negative, effects, seed, slice_weights)
        for a in arrays
        if a.converted.column.size
    ]


def _converted(
    a: ProgrammedArray,
    negative: dict[tuple[int, int], tuple[ProgrammedArray, int]],
    effects: Sequence[Effect],
    seed: int,
    slice_weights: Integers,
) -> Converted:
    c, p = a.converted, a.physical
    # Pairs in rows meet in their bit line: no other line is subtracted.
    apart = c.target.adc.subtract == "digital" or c.target.array.paired_rows
    mine = np.flatnonzero(p.polarity >= 0 if apart else p.polarity == 0)
    terms = [_term(a, mine)]
    if not apart:
        pairs = [negative[int(s), int(n)] for s, n in zip(c.slice, c.column, strict=True)]
        (other,) = {id(found): found for found, _ in pairs}.values()
        taken = _term(other, np.array([line for _, line in pairs]))
        terms = [_difference(terms[0], taken)] if other is a else [terms[0], _negated(taken)]
    if c.target.array.paired_rows and a.drive is None:
        terms = [_in_pairs(terms[0])]
    alone = p.alone[mine] & bool((p.polarity < 0).any())
    reference = None
    if alone.any():
        terms[0].cells[:, alone] -= a.cells[:, -1:]
        reference = None if a.variances is None else a.variances[:, -1]
    fixed = float(sum(effect.conversion(c) ** 2 for effect in effects))
    key = draw_of("noise", p, seed).words()
    weights = slice_weights[c.slice, c.polarity].astype(np.float64)
    curves = _distortion(c, effects, seed)
    return Converted(c, tuple(terms), reference, alone, fixed, key, weights, curves)


def _distortion(c: PhysicalArray, effects: Sequence[Effect], seed: int) -> Distortion | None:
    """What all effects together do to the converters of these lines."""
    each = [effect.distortion(c, draw_of(effect.name, c, seed)) for effect in effects]
    found = [d for d in each if d is not None]
    if not found:
        return None
    parts = ((d.gain, d.offset, d.bow) for d in found)
    return Distortion(*(np.sum(same, axis=0) for same in zip(*parts, strict=True)))


def _term(a: ProgrammedArray, lines: Integers) -> Term:
    variances = None if a.variances is None else a.variances[:, lines]
    cells = a.cells[:, lines] * a.physical.signs[:, None].astype(np.int32)
    return Term(cells, a.unit, a.drive, variances, a.variance_unit)


def _in_pairs(term: Term) -> Term:
    """One row for the two of a pair, which carry the same code: their signed cells added up."""

    def added(values: Integers) -> Integers:
        return np.asarray(values[0::2] + values[1::2])

    variances = None if term.variances is None else added(term.variances)
    return Term(added(term.cells), term.unit, term.drive, variances, term.variance_unit)


def _difference(plus: Term, minus: Term) -> Term:
    """One term for the pairs of one array."""
    variances = None
    if plus.variances is not None and minus.variances is not None:
        variances = plus.variances + minus.variances
    return Term(plus.cells - minus.cells, plus.unit, plus.drive, variances, plus.variance_unit)


def _negated(term: Term) -> Term:
    return Term(-term.cells, term.unit, term.drive, term.variances, term.variance_unit)


def by_line(c: Converted) -> Lines:
    """The lines one by one."""
    return _lines(
        c,
        np.eye(len(c.weights), dtype=np.int32),
        weights=c.weights,
        columns=c.array.column.astype(np.int64),
    )


def by_column(c: Converted, reads: npt.NDArray[np.int64]) -> Lines:
    """What is left of the lines where nothing rounds or bends: one a weight column.

    It has the sum of its lines' cells times what they weigh, and the sum of their variances times
    the squares of that. `reads` [J]: what reads weigh, which conversion noise depends on.
    """
    columns, place = np.unique(c.array.column, return_inverse=True)
    share = np.zeros((len(c.weights), len(columns)), np.int64)
    share[np.arange(len(place)), place] = c.weights
    found = _lines(c, share, weights=np.ones(len(columns)), columns=columns.astype(np.int64))
    return found._replace(fixed=found.fixed * float(np.sum(reads.astype(np.float64) ** 2)))


def _lines(
    c: Converted,
    share: Integers,
    *,
    weights: npt.NDArray[np.float64],
    columns: npt.NDArray[np.int64],
) -> Lines:
    """Lines of which each is a sum of converted ones: `share` [L, L'] integers."""
    noisy = [term.variances for term in c.terms if term.variances is not None]
    rows = len(c.terms[0].cells)
    spreads = [_shared(variances, share**2) for variances in noisy]
    if c.reference is not None:
        # Only lines of one term have one.
        spreads = [np.column_stack([*spreads, c.reference])]
    width = share.shape[1] + (c.reference is not None)
    return Lines(
        cells=np.stack([_shared(term.cells, share) for term in c.terms]),
        units=np.array([term.unit for term in c.terms]),
        variances=np.array(spreads, share.dtype).reshape(len(noisy), rows, width),
        variance_units=np.array([t.variance_unit for t in c.terms if t.variances is not None]),
        alone=c.alone @ share.astype(np.float64),
        fixed=c.fixed * (share.astype(np.float64) ** 2).sum(axis=0),
        weights=weights,
        columns=columns,
        gain=np.zeros(share.shape[1]) if c.distortion is None else c.distortion.gain,
        offset=np.zeros(share.shape[1]) if c.distortion is None else c.distortion.offset,
        bow=np.zeros(share.shape[1]) if c.distortion is None else c.distortion.bow,
    )


def _shared(cells: Integers, share: Integers) -> Integers:
    """Cells [R, L] added up as `share` [L, L'] says."""
    if len(share) == share.shape[1] and np.array_equal(
        share, np.eye(len(share), dtype=share.dtype)
    ):
        return cells
    return np.asarray(np.rint(cells.astype(np.float64) @ share.astype(np.float64)), share.dtype)
