"""Wire resistance: what an array with resistive wires makes of voltages, solved exactly.

A grid of R word lines and L bit lines. Each stretch of wire between two neighbouring cells is a
segment. A word line is driven through one segment, and the source resistance before it; a bit line
is held at 0 V through one segment, and the sense resistance behind it. All cells are ohmic, so the
array is linear: one matrix holds for every input vector.

Bit lines are eliminated one by one, from the one farthest from the drivers to the nearest: each is
a chain of resistors, whose inverse is known in closed form, and what it leaves is a conductance
matrix between the word lines. Nothing is iterated, and the matrix of all 2 R L nodes is never made.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarc.support.errors import UsageError
from xbarc.support.threads import one_blas_thread, thread_count

Floats = npt.NDArray[np.float64]

MEGA = 1e-6
"""Ohm to megohm: its reciprocal is uS."""


@dataclass(frozen=True)
class Wires:
    """The resistances around the cells, in ohm.

    `row`, `col`: one segment of a word line, of a bit line. `source`: in series with the first
    segment of each word line, the driver's own. `sense`: in series with the last segment of each
    bit line. 0 is no resistance: of `source` and `sense`, none beyond that segment.

    Word lines are driven at the left (column 0), or at both ends, each through a segment and
    `source`. Bit lines are sensed at the bottom (the last row), or at the top.

    Raises `UsageError` where a resistance is negative or not finite, or a side is no such side.
    """

    row: float = 1.0
    col: float = 1.0
    source: float = 0.0
    sense: float = 0.0
    drive: Literal["left", "both"] = "left"
    sense_at: Literal["bottom", "top"] = "bottom"

    def __post_init__(self) -> None:
        for name in ("row", "col", "source", "sense"):
            ohm = getattr(self, name)
            if not (math.isfinite(ohm) and ohm >= 0):
                raise UsageError(f"{name} = {ohm:g} ohm: give a resistance of 0 or more")
        if self.drive not in ("left", "both"):
            raise UsageError(f"drive = {self.drive!r}: word lines are driven from left or both")
        if self.sense_at not in ("bottom", "top"):
            raise UsageError(f"sense_at = {self.sense_at!r}: bit lines are sensed at bottom or top")

    @property
    def ideal(self) -> bool:
        """Whether there is no resistance at all."""
        return not (self.row or self.col or self.source or self.sense)


def transfer(g: npt.ArrayLike, wires: Wires) -> Floats:
    """The transfer matrix T [L, R] in uS of cells with conductances g [R, L] in uS.

    `T[l, r]` is the current out of bit line l for one volt on word line r, the others at 0 V. A bit
    line without any conductance gives 0. The same bits on any number of threads.

    Raises `UsageError` where g is no matrix, or an entry is negative, infinite or not a number.
    """
    cells = _checked(g)
    if wires.ideal or not cells.size:
        return cells.T.copy()
    if wires.sense_at == "top":
        cells = cells[::-1]
    with one_blas_thread():
        found = _solved(cells, wires)
    return found[:, ::-1].copy() if wires.sense_at == "top" else found


def transfers(
    arrays: Sequence[npt.ArrayLike], wires: Wires, threads: int | None = None
) -> list[Floats]:
    """The transfer matrices of several arrays, solved side by side on `threads` threads.

    Without it, one thread a core (`xbarc.support.threads`). Raises as `transfer`.
    """
    # A pool of threads around BLAS of one thread: several threads within BLAS slow it down.
    with one_blas_thread(), ThreadPoolExecutor(thread_count(threads)) as pool:
        return list(pool.map(lambda g: transfer(g, wires), arrays))


def _checked(g: npt.ArrayLike) -> Floats:
    cells = np.asarray(g, np.float64)
    if cells.ndim != 2:
        raise UsageError(f"conductances of shape {cells.shape}: give a matrix, rows x bit lines")
    wrong = ~(np.isfinite(cells) & (cells >= 0))
    if wrong.any():
        r, l = np.argwhere(wrong)[0].tolist()
        raise UsageError(f"g[{r}, {l}] = {cells[r, l]:g} uS: a conductance is 0 or more, finite")
    return cells


def _solved(g: Floats, wires: Wires) -> Floats:
    """T of an array that is sensed at the bottom.

    A grid of resistors is reciprocal: driving the bit lines and sensing the word lines gives the
    transposed matrix. So the shorter side is eliminated with, and two drivers are two senses.
    """
    row, col, source, sense = (ohm * MEGA for ohm in astuple(wires)[:4])
    both = wires.drive == "both"
    if not both and g.shape[0] <= g.shape[1]:
        return _eliminated(g, row, row + source, col, col + sense, both_ends=False)
    turned = g[::-1, ::-1].T
    found = _eliminated(turned, col, col + sense, row, row + source, both_ends=both)
    return np.ascontiguousarray(found[::-1, ::-1].T)


def _eliminated(
    g: Floats, along: float, first: float, down: float, last: float, *, both_ends: bool
) -> Floats:
    """T [L, R] for g [R, L], by eliminating bit lines from the last to the first.

    Resistances in megohm: a segment `along` a word line, the `first` one up to the driver, a
    segment `down` a bit line, the `last` one down to 0 V; with `both_ends` also up to 0 V.
    """
    rows, lines = g.shape
    chain = _Chains.of(g, down, last, both_ends=both_ends)
    ahead = np.zeros((rows, rows))  # what a column sees on its right: a conductance matrix
    found, spare = np.empty((2, lines, rows))  # the rows of T found so far, for the column's volts
    for l in reversed(range(lines)):
        seen, found[l] = chain.reduced(l)
        seen += ahead
        resistance = along if l else first
        if not resistance:
            ahead = seen  # the same voltage on both sides
            continue
        passed, ahead = _through(seen, resistance)
        np.matmul(found[l:], passed, out=spare[l:])
        found, spare = spare, found
    return found


def _through(seen: Floats, resistance: float) -> tuple[Floats, Floats]:
    """What a conductance matrix `seen` [R, R] becomes behind a resistance in each line.

    Gives P, the share of the voltages that arrives, and the matrix that is seen from before:
    `P = (1 + r M)^-1` and `M P`. Each is solved for where it is small and follows from the other
    where it isn't, so neither is a difference of nearly equal numbers.
    """
    rows = len(seen)
    drops = resistance * seen
    loaded = drops.copy()
    loaded.flat[:: rows + 1] += 1
    if drops.max() < 1:
        before = np.linalg.solve(loaded, seen).astype(np.float64, copy=False)
        passed = before * -resistance
        passed.flat[:: rows + 1] += 1
    else:
        passed = np.linalg.inv(loaded).astype(np.float64, copy=False)
        before = passed / -resistance
        before.flat[:: rows + 1] += 1 / resistance
    return passed, before


@dataclass(frozen=True)
class _Chains:
    """Bit lines as chains of resistors, with the word lines at given voltages.

    A column's cells g and wire make a tridiagonal matrix. Its inverse is
    `A[i, j] = exp(min(high[i] - low[j], high[j] - low[i]))`, in sums and products of positive
    numbers only, so every entry has all its digits. `rest` [R, L] is what each node sees beside its
    own cell. `last` in megohm.
    """

    g: Floats
    rest: Floats
    high: Floats
    low: Floats
    last: float
    both_ends: bool

    @staticmethod
    def of(g: Floats, down: float, last: float, *, both_ends: bool) -> "_Chains":
        # Without resistance at the end there is none down the line either: it is at 0 V.
        end = 1 / last if last else 0.0
        above = _seen(g, down, end if both_ends else 0.0)
        below = _seen(g[::-1], down, end)[::-1]
        falls = np.log1p(down * (above + g)[:-1])
        low = np.zeros_like(g)
        np.cumsum(-falls, axis=0, out=low[1:])
        rest = above + below
        high = low - np.log(rest + g) if last else low
        return _Chains(g, rest, high, low, last, both_ends)

    def reduced(self, l: int) -> tuple[Floats, Floats]:
        """What column l is to the word lines [R, R], and its current for their voltages [R]."""
        g = self.g[:, l]
        if not self.last:
            return np.diag(g), g
        high, low = self.high[:, l], self.low[:, l]
        inverse = high - low[:, None]
        np.minimum(inverse, inverse.T.copy(), out=inverse)
        np.exp(inverse, out=inverse)  # volts at node i for a current into node j
        ends = inverse[-1] + inverse[0] if self.both_ends else inverse[-1]
        current = ends * g / self.last
        seen = inverse
        seen *= -g
        seen *= g[:, None]
        rest = self.rest[:, l]
        seen.flat[:: len(g) + 1] = g * (rest / (rest + g))
        return seen, current


def _seen(g: Floats, down: float, end: float) -> Floats:
    """The conductance that each node [R, L] sees above its cell; `end` at the first."""
    seen = np.empty_like(g)
    seen[0] = end
    for r in range(1, len(g)):
        reached = seen[r - 1] + g[r - 1]
        seen[r] = reached / (1 + down * reached)
    return seen
