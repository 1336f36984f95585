"""The analog engine: column sums of the conductances that devices really have.

What programming and ageing leave of an array is rounded to integers, in steps of 2^-22 of the
array's largest conductance, and so are the variances of read noise, and what word lines carry where
DACs or cells aren't linear. So sums over rows are exact integers, and results are the same to the
bit whatever the machine, the threads and the batch. Floating point begins at the converter, and in
the draws. Replica `i mod copies` serves vector i of an input.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, StreamType, copies_of
from xbarc.simulator.analog.lines import converted_lines
from xbarc.simulator.analog.programmed import ProgrammedArray, cell_of, programmed
from xbarc.simulator.analog.tile import AnalogTile, Codes
from xbarc.simulator.arrays import PhysicalArray, Tile, tiles_of
from xbarc.simulator.effect import Effect, in_order
from xbarc.simulator.engine import Conversions
from xbarc.support.data import Array
from xbarc.support.threads import thread_count

RESULTS = 2
"""Raised whenever the same effects and seed give other numbers than before."""


@dataclass(frozen=True)
class AnalogEngine:
    """Physical arrays with these effects; they act in their `order`."""

    effects: tuple[Effect, ...] = ()

    def program(
        self, op: MvmOp, arrays: Mapping[str, Array], target: Target, seed: int = 0
    ) -> "AnalogMatrix":
        """Program every crossbar of every replica of an mvm."""
        return AnalogMatrix(in_order(self.effects), op, arrays, target, seed)


@dataclass(frozen=True)
class Pulses:
    """What programming took: `cells` written by `total` pulses."""

    cells: int
    total: int

    @property
    def mean(self) -> float:
        """Pulses a cell."""
        return self.total / self.cells if self.cells else 0.0


@dataclass(frozen=True)
class Effective:
    """What arrays amount to where all that follows is linear, in level steps.

    A sum is codes times `weights` [K, N]. Its noise has the variance `squares` of the codes (by
    their lowest bits) times `variances` [K, N], and `fixed` [N]; `variances` are None without read
    noise. Noise that columns share, of a reference line, counts in each as if it were its own.
    """

    weights: npt.NDArray[np.float64]
    variances: npt.NDArray[np.float64] | None
    squares: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.float64]


class AnalogMatrix:
    """The physical arrays of one mvm, ready to be multiplied (`xbarc.simulator.engine`)."""

    per_output = None

    def __init__(
        self,
        effects: tuple[Effect, ...],
        op: MvmOp,
        arrays: Mapping[str, Array],
        target: Target,
        seed: int,
    ):
        stream = cast(StreamType, op.input.type)
        self._effects, self._target, self._seed = effects, target, seed
        self.per_input, self._copies = stream.vectors.data, copies_of(op)
        self.codes = Codes.of(op, target)
        self.shape = op.matrix
        self.integer = target.adc.mode == "saturate"
        cell = cell_of(effects, target)
        with ThreadPoolExecutor(thread_count()) as pool:
            made = [
                list(pool.map(self._programmed, tiles_of(op, arrays, target, replica, cell)))
                for replica in range(self._copies)
            ]
        self.replicas = [[tile for tile, _ in tiles] for tiles in made]
        counts = [pulses for tiles in made for _, pulses in tiles]
        self.pulses = Pulses(sum(p.cells for p in counts), sum(p.total for p in counts))
        self.bound = self._largest_result()
        self._done = _Counts()

    @property
    def conversions(self) -> Conversions:
        """What the converters did so far."""
        return Conversions(self._done.conversions, self._done.saturated, lossless=False)

    def effective(self) -> Effective | None:
        """The first replica as one matrix; None where it isn't one: something rounds or bends."""
        tiles = self.replicas[0]
        if not tiles or any(tile.squares is None for tile in tiles):
            return None
        weights, variances = np.zeros(self.shape), np.zeros(self.shape)
        fixed = np.zeros(self.shape[1])
        for tile in tiles:
            tile.add_effective(weights, variances, fixed)
        noisy = bool(variances.any())
        squares = tiles[0].squares
        assert squares is not None
        return Effective(weights, variances if noisy else None, squares, fixed)

    def multiply(self, x: Array, out: npt.NDArray[Any], first: int = 0) -> None:
        """Fill out [N, v] with what the crossbars give for the codes x [K, v]."""
        out.fill(0)
        numbers = first + np.arange(x.shape[1])
        if self._copies == 1:
            self._add(self.replicas[0], x, numbers, out)
            return
        replica = numbers % self.per_input % self._copies
        for which in np.unique(replica).tolist():
            mine = np.flatnonzero(replica == which)
            found = np.zeros((len(out), mine.size), out.dtype)
            self._add(self.replicas[which], x[:, mine], numbers[mine], found)
            out[:, mine] = found

    def _add(
        self, tiles: list[AnalogTile], x: Array, numbers: Array, out: npt.NDArray[Any]
    ) -> None:
        for tile in tiles:
            clipped = tile.multiply(x, numbers, out)
            self.count(tile.lines * len(self.codes.weights) * x.shape[1], clipped)

    def array(self, physical: PhysicalArray) -> ProgrammedArray:
        """An array, programmed."""
        return programmed(physical, self._effects, self._seed)

    def count(self, conversions: int, clipped: int) -> None:
        """Note what converters did; from any thread."""
        self._done.add(conversions, clipped)

    def _programmed(self, tile: Tile) -> tuple[AnalogTile, Pulses]:
        made = [self.array(array) for array in tile.arrays]
        lines = converted_lines(made, self._effects, self._seed, self.codes.slice_weights)
        pulses = Pulses(sum(a.pulses.size for a in made), sum(int(a.pulses.sum()) for a in made))
        return AnalogTile.of(tile, lines, self._effects, self.codes, self._seed), pulses

    def _largest_result(self) -> int:
        """No result is larger: every converter at its end, over all row blocks."""
        codes, target = self.codes, self._target
        reach = int(np.abs(codes.weights).sum() * np.abs(codes.slice_weights).sum())
        most = max((len(found) for found in self.replicas), default=0)
        offset = target.array.rows * codes.offset << codes.bits
        return most * (reach * (1 << target.adc.bits) + offset)


@dataclass
class _Counts:
    """Conversions so far, from any thread."""

    conversions: int = 0
    saturated: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, conversions: int, saturated: int) -> None:
        with self.lock:
            self.conversions += conversions
            self.saturated += saturated
