"""What the interpreter does at an operation of the tile IR: one kind of step a file in `steps/`."""

import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xbarc.artifact import CompiledProgram
from xbarc.hw.target import Target
from xbarc.ir.dialect import MvmOp
from xbarc.simulator.code_use import CodeCounter
from xbarc.simulator.engine import Engine, Programmed
from xbarc.support import plugins
from xbarc.support.data import Array
from xbarc.support.plugins import Group

Each = Callable[..., Iterator[Any]]
"""`map`, or a thread pool's."""

Observer = Callable[[MvmOp, Array, int], None]
"""Is shown each block of codes [K, v] that an mvm meets, one at a time, and the number of its first
vector in the run."""

BLOCK = 1 << 21
"""Codes gathered at a time: a block stays in the second-level cache, or near."""


@dataclass(frozen=True)
class Batch:
    """The batch under way: `each` runs a function over independent blocks of it.

    `first` is the number of its first input, counted over the whole run. `size`: bytes that the
    values of all batches under way take, by their shapes; None where nobody knows.
    """

    each: Each
    first: int = 0
    size: int | None = None


Step = Callable[..., Sequence[Any]]
"""From the batch and the operands' values to the results'."""


@dataclass
class Preparation:
    """What steps are made from, and what they leave for the simulator: the `programmed` arrays.

    `target` is the program's, but for what a run asks otherwise (lossless converters); `codes`
    counts what quantising clips.
    """

    program: CompiledProgram
    target: Target
    engine: Engine
    seed: int = 0
    observe: Observer | None = None
    codes: CodeCounter | None = None
    programmed: dict[str, list[Programmed]] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, Array]:
        """The program's arrays."""
        return self.program.weights


class Prepare(Protocol):
    """Makes the step of one operation. Raises `XbarcError` where it can't be run."""

    def __call__(self, op: Any, at: Preparation, /) -> Step:
        """The step of `op`."""


@dataclass(frozen=True)
class StepKind:
    """How the interpreter runs the operations called `operation` (`xbar.gather`)."""

    operation: str
    prepare: Prepare


def _found(module: types.ModuleType) -> dict[str, StepKind]:
    kinds = plugins.instances(module, StepKind)
    return {kind.operation.removeprefix("xbar."): kind for kind in kinds}


STEPS: Group[StepKind] = Group("step", "xbarc.steps", "xbarc.simulator.steps", _found)


def step_kinds() -> dict[str, StepKind]:
    """Every kind of step by the operation that it runs."""
    return {kind.operation: kind for kind in STEPS.registry().all().values()}


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """`shape` as (what is before the axis, the axis, what is behind it)."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def blocks(outer: int, inner: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Ranges (outer begin and end, inner begin and end) of at most about `size` vectors."""
    if inner > size:
        for o in range(outer):
            for i in range(0, inner, size):
                yield o, o + 1, i, min(i + size, inner)
        return
    step = max(1, size // max(inner, 1))
    for o in range(0, outer, step):
        yield o, min(o + step, outer), 0, inner
