"""What an array computes is an engine's business: the seam between it and the interpreter.

The interpreter walks the tile IR and moves streams. At each `xbar.mvm` it hands blocks of codes to
what an `Engine` has programmed. Merging tiles, sharing one matrix among the places of an unrolled
kernel, leaving out cells that are off: these are decisions of an engine. `xbarc.simulator.exact` is
the engine of ideal devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp, WindowAttr
from xbarc.support.data import Array


@dataclass(frozen=True)
class Conversions:
    """What converters did.

    `count` conversions, of which `saturated` were clipped; `lossless`: none can lose anything,
    whatever the inputs, which the programmed levels prove.
    """

    count: int
    saturated: int
    lossless: bool


class Programmed(Protocol):
    """A weight matrix on crossbars, ready to be multiplied.

    `shape` (K, N); `integer`: results are integers, else float64; `bound`: no result is larger in
    magnitude, whatever the inputs.
    """

    shape: tuple[int, int]
    integer: bool
    bound: int

    def multiply(self, x: Array, out: npt.NDArray[Any], first: int = 0) -> None:
        """Fill out [N, v] with what the crossbars give for the codes x [K, v].

        `first` is the number of the first vector, counted over all inputs of a run: input i has the
        vectors `i * n` to `(i + 1) * n`, n being the stream's count. So results depend on a
        vector's number (which replica serves it, which noise it meets), and on nothing else: not on
        batches, blocks or threads. Several threads may call at once.
        """

    @property
    def conversions(self) -> Conversions:
        """What the converters did so far."""

    @property
    def per_output(self) -> "PerOutput | None":
        """For the unrolled kernel of a patch: the same results from a vector an output."""


@dataclass(frozen=True)
class PerOutput:
    """The form that an engine prefers to patches: one vector per output.

    `window` over the same tensor gives these vectors; `matrix` takes them.
    """

    window: WindowAttr
    matrix: Programmed


class Engine(Protocol):
    """Programs the arrays of a program."""

    def program(
        self, op: MvmOp, arrays: Mapping[str, Array], target: Target, seed: int
    ) -> Programmed:
        """The arrays of one mvm; `seed` is that of all that is random in them.

        Raises `XbarcError` where they can't be programmed.
        """
