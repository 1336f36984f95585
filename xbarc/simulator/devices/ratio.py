"""`ratio`: a finite on/off ratio."""

import math
from dataclasses import dataclass
from typing import ClassVar

from xbarc.hw.target import Device
from xbarc.simulator.arrays import Cell
from xbarc.simulator.effect import Effect
from xbarc.simulator.spread import not_negative
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Ratio(Effect):
    """Cells of level 0 conduct: g = g_off + level (g_on - g_off) / (2^cell_bits - 1).

    `g_on`, `g_off` in uS; the target's `device.g_on_us` and `device.g_off_us` where they aren't
    given. Without this effect level 0 conducts nothing and a level step is the same.

    The current of g_off reaches the converters. With differential cells the other polarity takes it
    away, after the converter or before it (`adc.subtract`). Lines without another polarity (offset
    encoding, or one that is gated) have the current of a reference line subtracted before the
    converter. Each array has one, whose cells are all at level 0 and have errors like any other.
    """

    name: ClassVar[str] = "ratio"
    order: ClassVar[int] = 5

    g_on: float | None = None
    g_off: float | None = None

    def __post_init__(self) -> None:
        if self.g_on is not None and not (math.isfinite(self.g_on) and self.g_on > 0):
            raise UsageError(f"g_on = {self.g_on}: give a number above 0")
        if self.g_off is not None:
            not_negative("g_off", self.g_off)

    def cell(self, cell: Cell, device: Device) -> Cell:
        """A cell that conducts g_off at level 0. Raises `UsageError` where g_on isn't above it."""
        on = device.g_on_us if self.g_on is None else self.g_on
        off = device.g_off_us if self.g_off is None else self.g_off
        if on <= off:
            raise UsageError(f"ratio: g_on = {on:g} uS must be above g_off = {off:g} uS")
        return Cell(off, on, cell.top)
