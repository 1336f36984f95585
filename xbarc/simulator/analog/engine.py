"""The analog engine: column sums of the conductances that devices really have.

What programming and ageing leave of an array is rounded to integers, in steps of 2^-22 of the
array's largest conductance, and so is what word lines carry where DACs or cells aren't linear.
So sums over rows are exact integers, and results are the same to the bit whatever the machine, the
threads and the batch. Floating point begins at the converter, and in the draws. Replica
`i mod copies` serves vector i of an input.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from xbarc.hw import encoding
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, StreamType, copies_of, weights_of
from xbarc.simulator.analog.programmed import ProgrammedArray, cell_of, draw_of, programmed
from xbarc.simulator.arrays import PhysicalArray, Tile, tiles_of
from xbarc.simulator.effect import Effect, in_order
from xbarc.simulator.engine import Conversions
from xbarc.support.data import Array
from xbarc.support.threads import thread_count

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[Any]


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
        self._adc_range, self._weight_bits = op.adc_range, weights_of(op).weight_bits
        self._per_input, self._copies = stream.vectors.data, copies_of(op)
        self._input_bits = stream.element.width.data
        self._input_signed = stream.element.signedness.data.name == "SIGNED"
        inputs, array = target.inputs, target.array
        self._input_weights = encoding.input_slice_weights(
            self._input_bits, inputs.dac_bits, self._input_signed, inputs.signed
        )
        self._slice_weights = encoding.slice_weights(
            self._weight_bits, array.cell_bits, array.encoding
        )
        self.shape = op.matrix
        self.integer = target.adc.mode == "saturate"
        cell = cell_of(effects, target)
        with ThreadPoolExecutor(thread_count()) as pool:
            self._replicas = [
                list(pool.map(self._programmed, tiles_of(op, arrays, target, replica, cell)))
                for replica in range(self._copies)
            ]
        self.bound = self._largest_result()
        self._done = _Counts()

    @property
    def conversions(self) -> Conversions:
        """What the converters did so far."""
        return Conversions(self._done.conversions, self._done.saturated, lossless=False)

    @property
    def pulses(self) -> Pulses:
        """What programming all its crossbars took."""
        each = [a.pulses for tiles in self._replicas for _, made in tiles for a in made]
        return Pulses(sum(p.size for p in each), sum(int(p.sum()) for p in each))

    def multiply(self, x: Array, out: npt.NDArray[Any], first: int = 0) -> None:
        """Fill out [N, v] with what the crossbars give for the codes x [K, v]."""
        out.fill(0)
        numbers = first + np.arange(x.shape[1])
        replica = numbers % self._per_input % self._copies
        for which in np.unique(replica).tolist():
            mine = np.flatnonzero(replica == which)
            for tile, made in self._replicas[which]:
                sums = self._tile(tile, made, x[np.ix_(tile.rows, mine)], numbers[mine])
                np.add.at(out, np.ix_(tile.columns, mine), sums.astype(out.dtype))

    def _programmed(self, tile: Tile) -> tuple[Tile, tuple[ProgrammedArray, ...]]:
        return tile, tuple(programmed(a, self._effects, self._seed) for a in tile.arrays)

    def _tile(
        self, tile: Tile, arrays: tuple[ProgrammedArray, ...], x: Array, numbers: Integers
    ) -> npt.NDArray[Any]:
        """What one tile gives for codes x [R, v]: [C, v]."""
        inputs = self._target.inputs
        driven = encoding.input_levels(
            x, self._input_bits, inputs.dac_bits, self._input_signed, inputs.signed
        )  # [J, R, v]
        shape = (*self._slice_weights.shape, len(tile.columns), len(driven), x.shape[1])
        sums, on = np.zeros(shape), np.zeros(shape[:3], bool)
        for a in arrays:
            p = a.physical
            lines = p.polarity >= 0
            at = p.slice[lines], p.polarity[lines], p.column[lines]
            sums[at] = self._sums(a, driven, numbers)
            on[at] = True
        if self._target.adc.subtract == "analog":
            sums, on = sums[:, :1] - sums[:, 1:], on[:, :1]
        for a in arrays:
            c = a.converted
            if not c.column.size:
                continue
            at = c.slice, c.polarity, c.column
            sums[at] = self._at_converters(c, sums[at], numbers)
        return self._converted(tile, sums, on, x)

    def _sums(self, a: ProgrammedArray, driven: Integers, numbers: Integers) -> Floats:
        """Sums [L, J, v] of the bit lines that hold weights, in level steps."""
        steps, unit = driven, 1.0
        if a.drive is not None:
            steps, unit = a.drive.table[np.arange(driven.shape[1])[:, None], driven], a.drive.unit
        sums = _products(a.cells, steps) * (a.unit * unit)
        if a.noise is not None:
            variance = np.einsum("rl,jrv->ljv", a.noise**2, (steps * unit) ** 2)
            sums += np.sqrt(variance) * self._normal("read", a.physical, sums.shape, numbers)
        lines = a.physical.polarity >= 0
        if not lines.all():
            sums[a.physical.alone] -= sums[-1]
        return sums[lines]

    def _at_converters(self, c: PhysicalArray, sums: Floats, numbers: Integers) -> Floats:
        """Sums [L, J, v] as the converters of these lines take them."""
        sigma = np.sqrt(sum(e.conversion(c) ** 2 for e in self._effects))
        if sigma:
            sums = sums + sigma * self._normal("conversion", c, sums.shape, numbers)
        flat = sums.reshape(len(sums), -1)
        for effect in self._effects:
            flat = effect.convert(flat, c, draw_of(effect.name, c, self._seed))
        return flat.reshape(sums.shape)

    def _normal(
        self, of: str, a: PhysicalArray, shape: tuple[int, ...], numbers: Integers
    ) -> Floats:
        """Normal numbers [L, J, v] of the vectors of these numbers."""
        draw = draw_of(of, a, self._seed)
        each = [draw.generator(n).standard_normal(shape[:2]) for n in numbers.tolist()]
        return np.stack(each, axis=-1)

    def _converted(
        self, tile: Tile, sums: Floats, on: npt.NDArray[np.bool_], x: Array
    ) -> npt.NDArray[Any]:
        """Convert sums [S, P, C, J, v], shift and add: [C, v]."""
        weights = self._slice_weights[:, : on.shape[1], None] * on  # [S, P, C]
        offset = 1 << (self._weight_bits - 1) if self._target.array.encoding == "offset" else 0
        totals = offset * x.sum(axis=0, dtype=np.int64)
        adc = tile.converter
        count = int(on.sum()) * sums.shape[3] * sums.shape[4]
        if adc is None:
            self._done.add(count, 0)
            return np.einsum("spcjv,spc,j->cv", sums, weights, self._input_weights) - totals
        codes = adc.codes(sums)
        self._done.add(count, int((adc.clipped(sums) & on[..., None, None]).sum()))
        together = self._shifted(codes, weights)
        whole = weights.sum(axis=(0, 1)) * int(self._input_weights.sum())
        if self.integer:
            return together + int(adc.lo) * whole[:, None] - totals
        return adc.step * together + (adc.lo * whole)[:, None] - totals

    def _shifted(self, codes: Integers, weights: Integers) -> Integers:
        """Codes [S, P, C, J, v], shifted and added: [C, v]."""
        s, p, c, j, v = codes.shape
        shifts = weights.transpose(2, 0, 1)[..., None] * self._input_weights  # [C, S, P, J]
        # Integers in float64, far below 2^53: exact, and BLAS multiplies.
        each = codes.transpose(2, 0, 1, 3, 4).reshape(c, s * p * j, v).astype(np.float64)
        return (shifts.reshape(c, 1, -1).astype(np.float64) @ each)[:, 0].astype(np.int64)

    def _largest_result(self) -> int:
        """No result is larger: every converter at its end, over all row blocks."""
        reach = int(np.abs(self._input_weights).sum() * np.abs(self._slice_weights).sum())
        codes = 1 << self._target.adc.bits
        offset = 1 << (self._weight_bits - 1) << self._input_bits
        most = max((len(found) for found in self._replicas), default=0)
        return most * (reach * codes + self._target.array.rows * offset)


def _products(cells: Integers, steps: Integers) -> Integers:
    """Integer sums over rows [L, J, v] of cells [R, L], of 22 bits, and steps [J, R, v].

    By float64 products, since BLAS does those fast. They are exact: 22 bits of a cell, 14 of a step
    and 16 of the rows stay below 2^53; longer steps are multiplied in two parts.
    """
    j, r, v = steps.shape
    flat = steps.astype(np.int64).transpose(1, 0, 2).reshape(r, j * v)
    lines = cells.T.astype(np.float64)
    if np.abs(flat).max(initial=0) < 1 << 14:
        sums = (lines @ flat.astype(np.float64)).astype(np.int64)
    else:
        high, low = flat >> 11, flat & ((1 << 11) - 1)
        sums = (lines @ high.astype(np.float64)).astype(np.int64) << 11
        sums += (lines @ low.astype(np.float64)).astype(np.int64)
    return sums.reshape(len(lines), j, v)


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
