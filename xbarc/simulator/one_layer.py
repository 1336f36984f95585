"""Devices that are wrong in one layer alone: how much that layer minds them.

The engine of `xbarc run --trials N --by-layer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, weights_of
from xbarc.simulator.engine import Engine, Programmed
from xbarc.simulator.exact.engine import ExactEngine
from xbarc.support.data import Array


@dataclass(frozen=True)
class OneLayerEngine:
    """The arrays of `layer` (its weights' symbol) on the engine `real`, all others exact."""

    layer: str
    real: Engine

    def program(
        self, op: MvmOp, arrays: Mapping[str, Array], target: Target, seed: int
    ) -> Programmed:
        """The arrays of one mvm. Raises as the engine that programs them."""
        engine: Engine = self.real if weights_of(op).symbol == self.layer else ExactEngine()
        return engine.program(op, arrays, target, seed)
