"""One physical array, programmed: the conductances that effects leave, in fixed point."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import Target
from xbarc.simulator.arrays import Cell, PhysicalArray
from xbarc.simulator.draws import Draw
from xbarc.simulator.effect import Effect, Floats

Integers = npt.NDArray[Any]

STEPS = 1 << 22
"""Steps of an array's largest conductance, and of the largest that a word line carries."""


@dataclass(frozen=True)
class Drive:
    """What word lines carry: `table` [R, levels] integers, `unit` level steps each.

    `squares` are the same of its squares, `square_unit` each, for the variance of read noise.
    """

    table: Integers
    unit: float
    squares: Integers
    square_unit: float

    def carried(self, levels: Integers) -> tuple[Integers, float]:
        """What word lines carry at levels [R, n]: integers, and what one is.

        At a level below 0 that is what they carry at its magnitude, negated.
        """
        found = self.table[np.arange(len(levels))[:, None], np.abs(levels.astype(np.int32))]
        return np.asarray(np.where(levels < 0, -found, found)), self.unit

    def squared(self, levels: Integers) -> tuple[Integers, float]:
        """The same of its squares."""
        found = self.squares[np.arange(len(levels))[:, None], np.abs(levels.astype(np.int32))]
        return np.asarray(found), self.square_unit


@dataclass(frozen=True)
class ProgrammedArray:
    """A physical array once programmed and aged: `cells` [R, L] integers, `unit` level steps each.

    `variances` [R, L], integers of `variance_unit` each, are of each cell's noise in a read, in
    level steps; None without. `pulses` [R, L] wrote each cell. `drive` is None where word lines
    carry the codes as they are, or all of them a multiple of these, which is in the units.
    `converted`: its lines that have a converter, in the order of the array's. If there is a
    reference line, it is the last one, and its current is taken from the lines that are alone.
    """

    physical: PhysicalArray
    cells: Integers
    unit: float
    variances: Integers | None
    variance_unit: float
    pulses: Integers
    drive: Drive | None
    converted: PhysicalArray


def cell_of(effects: Sequence[Effect], target: Target) -> Cell:
    """What a cell's levels conduct, with these effects."""
    cell = Cell.of(target)
    for effect in effects:
        cell = effect.cell(cell, target.device)
    return cell


def draw_of(effect: str, array: PhysicalArray, seed: int, pulse: int = 0) -> Draw:
    """The random numbers of an effect in an array."""
    a = array
    return Draw(seed, effect, a.layer, a.replica, a.tile, a.crossbar, pulse)


def programmed(array: PhysicalArray, effects: Sequence[Effect], seed: int) -> ProgrammedArray:
    """Program an array; `effects` act in the order given."""
    array = with_reference(array)
    written, pulses = _written(array, effects, seed)
    aged = _aged(written, array, effects, seed)
    g = _effective(aged, array, effects)
    scale = math.prod(effect.scale(written, aged) for effect in effects)
    drive, driven = _drive(array, effects, seed)
    step = array.cell.step_us / driven
    largest = float(np.abs(g).max(initial=0.0)) or step
    cells = np.rint(g / largest * STEPS).astype(np.int32)
    spreads = [spread for e in effects if (spread := e.read(g, array)) is not None]
    variance = (scale / step) ** 2 * np.sum([spread**2 for spread in spreads], axis=0)
    variances, variance_unit = None, 0.0
    if spreads:
        variances, variance_unit = _fixed_point(np.asarray(variance))
    return ProgrammedArray(
        physical=array,
        cells=cells,
        unit=scale * largest / STEPS / step,
        variances=variances,
        variance_unit=variance_unit,
        pulses=pulses,
        drive=drive,
        converted=_with_converters(array),
    )


def ideal(array: PhysicalArray) -> ProgrammedArray:
    """An array of ideal cells, which are their levels exactly."""
    levels = array.levels.astype(np.int32)
    pulses = np.ones(levels.shape, np.int64)
    return ProgrammedArray(array, levels, 1.0, None, 0.0, pulses, None, _with_converters(array))


def _with_converters(array: PhysicalArray) -> PhysicalArray:
    """The lines of an array that have a converter."""
    digital = array.target.adc.subtract == "digital"
    return array.lines(array.polarity >= 0 if digital else array.polarity == 0)


def _fixed_point(values: Floats) -> tuple[Integers, float]:
    """Values as int32, and what one of these is: the largest is `STEPS` of them."""
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    return np.rint(values / largest * STEPS).astype(np.int32), largest / STEPS


def with_reference(array: PhysicalArray) -> PhysicalArray:
    """The array, with a reference line where its cells need one."""
    return array.with_reference() if array.cell.low_us and array.alone.any() else array


def conductances(array: PhysicalArray, effects: Sequence[Effect], seed: int) -> Floats:
    """The cells in uS [R, L] once programmed and aged, as seen through the wires."""
    written, _ = _written(array, effects, seed)
    return _effective(_aged(written, array, effects, seed), array, effects)


def _written(array: PhysicalArray, effects: Sequence[Effect], seed: int) -> tuple[Floats, Integers]:
    """What pulses leave of the wanted conductances, and how many each cell took."""
    g = _pulse(array, effects, seed, 0)
    pulses = np.ones(g.shape, np.int64)
    for count in itertools.count(1):
        asked = [a for e in effects if (a := e.again(g, array, count)) is not None]
        again = np.any(asked, axis=0) if asked else np.zeros(g.shape, bool)
        if not again.any():
            break
        g = np.where(again, _pulse(array, effects, seed, count), g)
        pulses += again
    return g, pulses


def _pulse(array: PhysicalArray, effects: Sequence[Effect], seed: int, pulse: int) -> Floats:
    g = array.wanted()
    for effect in effects:
        g = effect.program(g, array, draw_of(effect.name, array, seed, pulse))
    return g


def _aged(g: Floats, array: PhysicalArray, effects: Sequence[Effect], seed: int) -> Floats:
    for effect in effects:
        g = effect.age(g, array, draw_of(effect.name, array, seed))
    return g


def _effective(g: Floats, array: PhysicalArray, effects: Sequence[Effect]) -> Floats:
    for effect in effects:
        g = effect.effective(g, array)
    return g


def _drive(
    array: PhysicalArray, effects: Sequence[Effect], seed: int
) -> tuple[Drive | None, float]:
    """What word lines carry instead of codes, if that is anything else than a multiple of them.

    The second result is that multiple, else 1.
    """
    codes = np.arange(1 << array.target.inputs.dac_bits, dtype=np.float64)[None]
    levels = codes
    for effect in effects:
        levels = effect.drive(levels, array, draw_of(effect.name, array, seed))
    multiple = float(levels[0, 1])
    if multiple > 0 and np.array_equal(levels, np.broadcast_to(multiple * codes, levels.shape)):
        return None, multiple
    table, unit = _fixed_point(levels)
    squares, square_unit = _fixed_point(levels**2)
    shape = len(array.levels), codes.size
    return Drive(
        np.broadcast_to(table, shape), unit, np.broadcast_to(squares, shape), square_unit
    ), 1.0
