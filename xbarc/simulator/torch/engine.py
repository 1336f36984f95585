"""The engine on torch, on any of its devices.

Arrays are programmed by the analog engine; torch multiplies them, converts and adds. Results are
those of the other engines to the bit: sums are exact integers, and noise comes from the same
counters. Without effects cells hold their levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp
from xbarc.simulator.analog.engine import AnalogEngine, AnalogMatrix
from xbarc.simulator.analog.programmed import ProgrammedArray, ideal
from xbarc.simulator.arrays import PhysicalArray
from xbarc.simulator.effect import Effect, in_order
from xbarc.simulator.torch.tile import TorchTile
from xbarc.support.data import Array
from xbarc.support.errors import UsageError

BLOCK_BYTES = {"cpu": 1 << 23}
LARGE_BLOCK_BYTES = 1 << 28
"""What the sums of a block of vectors may take, on the CPU and elsewhere."""


def torch_device(name: str) -> torch.device:
    """The device. Raises `UsageError` where torch has none of that name here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        line = str(error).splitlines()[0]
        raise UsageError(f"torch has no device {name!r} here: {line}") from None
    return device


@dataclass(frozen=True)
class TorchEngine(AnalogEngine):
    """Physical arrays with these effects, on a device of torch (`cpu`, `cuda`, `cuda:1`)."""

    device: str = "cpu"

    def program(
        self, op: MvmOp, arrays: Mapping[str, Array], target: Target, seed: int = 0
    ) -> "TorchMatrix":
        """Program every crossbar of every replica of an mvm.

        Raises `UsageError` where torch has no such device.
        """
        return TorchMatrix(
            in_order(self.effects), op, arrays, target, seed, torch_device(self.device)
        )


class TorchMatrix(AnalogMatrix):
    """The arrays of one mvm on a device."""

    def __init__(
        self,
        effects: tuple[Effect, ...],
        op: MvmOp,
        arrays: Mapping[str, Array],
        target: Target,
        seed: int,
        device: torch.device,
    ):
        super().__init__(effects, op, arrays, target, seed)
        self._device = device
        rows = self.shape[0]
        self._tiles = [[TorchTile.of(t, rows, device) for t in tiles] for tiles in self.replicas]

    def array(self, physical: PhysicalArray) -> ProgrammedArray:
        """An array, programmed: of ideal cells where there are no effects."""
        return super().array(physical) if self._effects else ideal(physical)

    def multiply(self, x: Array, out: npt.NDArray[Any], first: int = 0) -> None:
        """Fill out [N, v] with what the crossbars give for the codes x [K, v]."""
        most = max((t.sums_a_vector for tiles in self._tiles for t in tiles), default=1)
        room = BLOCK_BYTES.get(self._device.type, LARGE_BLOCK_BYTES)
        block = max(1, room // (8 * most))
        for start in range(0, x.shape[1], block):
            codes = torch.from_numpy(np.ascontiguousarray(x[:, start : start + block]))
            numbers = first + start + np.arange(codes.shape[1])
            found = self._multiplied(codes.to(self._device), numbers)
            out[:, start : start + block] = found.cpu().numpy()

    def _multiplied(self, codes: Tensor, numbers: npt.NDArray[np.int64]) -> Tensor:
        """float64 [N, v] of codes [K, v] of the vectors `numbers`."""
        wide = codes.to(torch.int64)
        index, real = wide & ((1 << self.codes.bits) - 1), wide.to(torch.float64)
        out = torch.zeros(self.shape[1], len(numbers), dtype=torch.float64, device=self._device)
        replica = numbers % self.per_input % len(self._tiles)
        for which, tiles in enumerate(self._tiles):
            mine = np.flatnonzero(replica == which)
            if not mine.size:
                continue
            whole = len(mine) == len(numbers)
            chosen = torch.from_numpy(mine).to(self._device)
            some, bits = (real, index) if whole else (real[:, chosen], index[:, chosen])
            counted = torch.from_numpy(numbers[mine]).to(self._device)
            found = torch.zeros(self.shape[1], len(mine), dtype=torch.float64, device=self._device)
            for tile in tiles:
                clipped = tile.multiply(bits, some, counted, found)
                self.count(tile.tile.lines * len(self.codes.weights) * len(mine), int(clipped))
            out[:, chosen] = found
        return out
