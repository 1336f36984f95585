"""One tile on torch: what `xbarc.simulator.analog.tile` does, by tensors on a device.

Sums over rows are products in float64, which holds these integers exactly. What follows is worked
out operation by operation in the analog engine's order, so results are the same to the bit.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarc.simulator.analog.kernels import LANES
from xbarc.simulator.analog.products import EXACT, PART_BITS
from xbarc.simulator.analog.programmed import Drive, draw_of
from xbarc.simulator.analog.tile import AnalogTile, Codes, LinesOfArray
from xbarc.simulator.normals import EACH
from xbarc.simulator.torch.normals import LOW, normals, root

PER_BLOCK = LANES // EACH
"""Counters that give a block's numbers of one read."""


def _tensor(array: npt.ArrayLike, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device, dtype)


@dataclass(frozen=True)
class Driven:
    """What a term's word lines carry at each level: `table` [R, levels], `unit` each; or levels."""

    table: Tensor | None
    squares: Tensor | None
    unit: float
    square_unit: float

    @classmethod
    def of(cls, drive: Drive | None, device: torch.device) -> Self:
        """That of a drive; None: the levels as they are."""
        if drive is None:
            return cls(None, None, 1.0, 1.0)
        table, squares = (_tensor(t, device, torch.float64) for t in (drive.table, drive.squares))
        return cls(table, squares, drive.unit, drive.square_unit)


@dataclass(frozen=True)
class TorchLines:
    """The lines of one array: tensors of `lines`, float64; the rest as the analog engine has it."""

    of: LinesOfArray
    cells: Tensor  # [T, L, R]
    largest: list[int]
    variances: Tensor  # [T', L or L + 1, R]
    driven: list[Driven]
    alone: Tensor
    fixed: Tensor
    weights: Tensor
    columns: Tensor
    curves: Tensor  # [3, L]: gain, offset, bow
    rounds: list[Tensor]
    key: tuple[int, int]

    @classmethod
    def of_array(cls, a: LinesOfArray, device: torch.device) -> Self:
        """Those of an array."""
        lines = a.lines
        real = torch.float64
        cells = np.swapaxes(lines.cells, 1, 2)
        # Lines of one column are added one after the other: which of them is the first, the next.
        place = np.zeros(len(lines.columns), np.int64)
        count: dict[int, int] = {}
        for i, column in enumerate(lines.columns.tolist()):
            place[i] = count.get(column, 0)
            count[column] = int(place[i]) + 1
        rounds = [np.flatnonzero(place == k) for k in range(max(count.values(), default=0))]
        return cls(
            a,
            _tensor(cells, device, real),
            [int(np.abs(c).sum(axis=1, dtype=np.int64).max(initial=0)) for c in cells],
            _tensor(np.swapaxes(lines.variances, 1, 2), device, real),
            [Driven.of(d, device) for d in a.drives],
            _tensor(lines.alone, device, real),
            _tensor(lines.fixed, device, real),
            _tensor(lines.weights, device, real),
            _tensor(lines.columns, device, torch.int64),
            _tensor(np.stack([lines.gain, lines.offset, lines.bow]), device, real),
            [_tensor(r, device, torch.int64) for r in rounds],
            (int(a.noise.key[0]), int(a.noise.key[1])),
        )


def levels_of(codes: Codes, device: torch.device, *, linear: bool) -> Tensor:
    """What word lines carry in each read, for a code by its lowest bits; `linear`: the codes."""
    every = np.arange(1 << codes.bits)
    if codes.signed:
        every = np.where(every >> (codes.bits - 1), every - (1 << codes.bits), every)
    return _tensor(every[None] if linear else codes.levels(every), device, torch.float64)


@dataclass(frozen=True)
class TorchTile:
    """A tile: `rows` of the matrix, `columns` of the result; `base` [C] is what lo adds up to.

    `levels` [J, codes]: what word lines carry for a code, by its lowest bits. `squares` [codes]:
    how it counts in a variance, where reads collapse into one.
    """

    tile: AnalogTile
    rows: Tensor
    columns: Tensor
    levels: Tensor
    reads: list[float]
    squares: Tensor | None
    arrays: list[TorchLines]
    base: Tensor

    @classmethod
    def of(cls, tile: AnalogTile, matrix_rows: int, device: torch.device) -> Self:
        """A tile that the analog engine has programmed."""
        codes, linear, adc = tile.codes, tile.squares is not None, tile.converter
        base = np.zeros(len(tile.columns)) if adc is None else adc.lo * tile.weight_sums()
        return cls(
            tile,
            _tensor(np.arange(matrix_rows)[tile.rows], device, torch.int64),
            _tensor(tile.columns, device, torch.int64),
            levels_of(codes, device, linear=linear),
            [1.0] if linear else [float(w) for w in codes.weights],
            None if tile.squares is None else _tensor(tile.squares, device, torch.float64),
            [TorchLines.of_array(a, device) for a in tile.arrays],
            _tensor(base, device, torch.float64),
        )

    @property
    def sums_a_vector(self) -> int:
        """Numbers of the largest tensor for one vector."""
        lines = max((len(a.weights) for a in self.arrays), default=1)
        return len(self.reads) * max(lines, len(self.rows))

    def multiply(self, index: Tensor, codes: Tensor, numbers: Tensor, out: Tensor) -> Tensor:
        """Add what the tile gives to out [N, v]; how many sums were clipped.

        `codes` [K, v] float64, and `index`, their lowest bits, of the vectors `numbers` [v].
        """
        index, codes = index[self.rows], codes[self.rows]
        count = len(codes[0])
        found = torch.zeros(len(self.columns), count, dtype=torch.float64, device=codes.device)
        clipped = torch.zeros((), dtype=torch.int64, device=codes.device)
        for array in self.arrays:
            clipped = clipped + self._add(array, index, numbers, found)
        adc = self.tile.converter
        result = found * (1.0 if adc is None else adc.step) + self.base[:, None]
        if self.tile.codes.offset:
            result = result - self.tile.codes.offset * codes.sum(dim=0)
        else:
            result = result - 0.0
        out[self.columns] += result
        return clipped

    def _add(self, a: TorchLines, index: Tensor, numbers: Tensor, out: Tensor) -> Tensor:
        """Add what an array gives to out [C, v]; how many sums were clipped."""
        levels = self.levels[:, index].transpose(0, 1).reshape(len(index), -1)  # [R, J v]
        sums = self._sums(a, levels)
        if a.of.noise.on:
            sums = self._noisy(a, sums, self._variance(a, levels, index), numbers)
        for effect in a.of.bends:
            draw = draw_of(effect.name, a.of.array, self.tile.seed)
            bent = effect.convert(sums.cpu().numpy(), a.of.array, draw)
            sums = torch.from_numpy(np.ascontiguousarray(bent)).to(sums.device)
        return self._converted(a, sums, out)

    def _sums(self, a: TorchLines, levels: Tensor) -> Tensor:
        """Sums [L, J v] in level steps."""
        total: Tensor | None = None
        units = a.of.lines.units.tolist()
        for cells, largest, unit, driven in zip(a.cells, a.largest, units, a.driven, strict=True):
            x = levels
            if driven.table is not None:
                found = _looked_up(driven.table, levels)
                x = torch.where(levels < 0, -found, found)
            found = _product(cells, largest, x) * (unit * driven.unit)
            total = found if total is None else total + found
        assert total is not None
        return total

    def _variance(self, a: TorchLines, levels: Tensor, index: Tensor) -> Tensor | None:
        """The variances [L, J v] (one line more for a reference line); None without read noise."""
        total: Tensor | None = None
        units = a.of.lines.variance_units.tolist()
        for cells, unit, driven in zip(a.variances, units, a.driven, strict=False):
            if driven.squares is not None:
                x = _looked_up(driven.squares, levels)
            else:
                x = levels**2 if self.squares is None else self.squares[index]
            largest = int(cells.abs().sum(dim=1).max()) if len(cells) else 0
            found = _product(cells, largest, x) * (unit * driven.square_unit)
            total = found if total is None else total + found
        return total

    def _noisy(
        self, a: TorchLines, sums: Tensor, variance: Tensor | None, numbers: Tensor
    ) -> Tensor:
        lines, reads = len(a.weights), sums.shape[1] // len(numbers)
        counters = _Counters(numbers, reads)
        spread = a.fixed[:, None] if variance is None else variance[:lines] + a.fixed[:, None]
        noise = root(spread.to(torch.float32)) * counters.lines(lines, a.key)
        shared: Tensor | None = None
        if a.of.noise.reference:
            assert variance is not None
            z = counters.reference(lines, a.key)
            shared = (z * root(variance[lines].to(torch.float32))).to(torch.float64)
        if shared is None:
            return sums + noise.to(torch.float64)
        less = a.alone[:, None] * shared
        # In the order of the kernels: by tables the lines' own noise comes first.
        first, second = (noise.to(torch.float64), -less)
        if not a.of.by_table:
            first, second = second, first
        return (sums + first) + second

    def _converted(self, a: TorchLines, sums: Tensor, out: Tensor) -> Tensor:
        adc, rounds = a.of.array.adc, self.tile.converter is not None
        top, step = float(adc.top), adc.step
        if a.of.bent:
            gain, offset, bow = a.curves[:, :, None]
            u = (sums - adc.lo) / step
            p = (u / top).clamp(0.0, 1.0)
            u = u * (1.0 + gain) + offset + bow * 4.0 * p * (1.0 - p)
            sums = adc.lo + u * step
        clipped = torch.zeros((), dtype=torch.int64, device=sums.device)
        if rounds:
            t = (sums - adc.lo) / step
            clipped = ((t < -0.5) | (t >= top + 0.5)).sum()
            sums = t.clamp(0.0, top).round()
        vectors = out.shape[1]
        acc = torch.zeros(len(sums), vectors, dtype=torch.float64, device=sums.device)
        for j, weight in enumerate(self.reads):
            acc = acc + weight * sums[:, j * vectors : (j + 1) * vectors]
        for lines in a.rounds:
            out[a.columns[lines]] += a.weights[lines, None] * acc[lines]
        return clipped


def _looked_up(table: Tensor, levels: Tensor) -> Tensor:
    """What a table [R, levels] has for levels [R, n], of one below 0 that of its magnitude."""
    return torch.gather(table, 1, levels.abs().to(torch.int64))


def _product(cells: Tensor, largest: int, levels: Tensor) -> Tensor:
    """Sums [L, n] over rows of integers: exact below 2^53, rounded beyond."""
    if largest * int(levels.abs().max()) < EXACT if levels.numel() else True:
        return cells @ levels
    whole = levels.to(torch.int64)
    high, low = whole >> PART_BITS, whole & ((1 << PART_BITS) - 1)
    found = (cells @ high.to(torch.float64)) * float(1 << PART_BITS)
    return found + cells @ low.to(torch.float64)


@dataclass(frozen=True)
class _Counters:
    """What Philox counts for the reads of some vectors: numbers [v], read by read."""

    numbers: Tensor
    reads: int

    def _at(self, place: Tensor) -> list[Tensor]:
        """Counters of some places [p], for all reads: [p * J * v] each."""
        v, device = len(self.numbers), self.numbers.device
        read = torch.arange(self.reads, device=device)
        shape = len(place), self.reads, v
        parts = (
            (self.numbers & LOW)[None, None],
            (self.numbers >> 32)[None, None],
            place[:, None, None],
            read[None, :, None],
        )
        return [part.expand(shape).reshape(-1) for part in parts]

    def lines(self, count: int, key: tuple[int, int]) -> Tensor:
        """float32 [L, J v]: the normal numbers of lines."""
        blocks = -(-count // LANES)
        place = torch.arange(blocks * PER_BLOCK, device=self.numbers.device)
        found = normals(self._at(place), key).reshape(EACH, blocks, PER_BLOCK, -1)
        return found.permute(1, 0, 2, 3).reshape(blocks * LANES, -1)[:count]

    def reference(self, lines: int, key: tuple[int, int]) -> Tensor:
        """float32 [J v]: those of the reference line."""
        place = torch.tensor([-(-lines // LANES) * PER_BLOCK], device=self.numbers.device)
        return normals(self._at(place), key)[0]
