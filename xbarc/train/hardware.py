"""What the crossbars of one layer give for its codes: the simulator's own steps and engines.

A layer's part of the tile IR lies between its codes and its dequantisation: gathers, products,
scatters. They are run as `xbarc run` runs them. So every mapping, converter and effect is in it,
and results are the simulator's to the bit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Operation, SSAValue

from xbarc.artifact import CompiledProgram
from xbarc.hw.target import Target
from xbarc.ir.dialect import DequantizeOp, MvmOp, shape_of, weights_of
from xbarc.simulator.analog.engine import AnalogMatrix, Effective
from xbarc.simulator.engine import Engine, Programmed
from xbarc.simulator.step import Batch, Preparation, Step, step_kinds
from xbarc.support.data import Array
from xbarc.support.threads import one_blas_thread, thread_count

STREAMS = ("xbar.gather", "xbar.mvm", "xbar.scatter")
"""The operations between the codes of a layer and its sums."""


@dataclass
class Arrays:
    """The crossbars of one layer, programmed: run them, or ask what they are."""

    codes: SSAValue
    sums: SSAValue
    steps: list[tuple[Operation, Step]]
    matrices: list[Programmed]

    @property
    def lossless(self) -> bool:
        """Whether all is the plain integer product, whatever the inputs."""
        return all(m.conversions.lossless for m in self.matrices)

    def run(self, codes: Array, first: int = 0) -> Array:
        """The sums of a batch of codes; `first` is the number of its first input.

        Of a model with a fixed batch there may be several batches, numbered one by one.
        """
        fixed = shape_of(self.codes)[:1]
        size = fixed[0] if fixed and fixed[0] > 0 else len(codes)
        if size == len(codes) or len(codes) % size:
            return self._run(codes, first)
        starts = range(0, len(codes), size)
        return np.concatenate([self._run(codes[i : i + size], first + i // size) for i in starts])

    def _run(self, codes: Array, first: int) -> Array:
        values: dict[SSAValue, Any] = {self.codes: codes}
        with ThreadPoolExecutor(thread_count()) as pool, one_blas_thread():
            batch = Batch(pool.map, first)
            for op, step in self.steps:
                results = step(batch, *[values[v] for v in op.operands])
                values.update(zip(op.results, results, strict=True))
        found: Array = values[self.sums]
        return found

    def effective(self) -> Effective | None:
        """The matrix that the arrays amount to, where all that follows is linear; else None."""
        if len(self.matrices) != 1 or not isinstance(self.matrices[0], AnalogMatrix):
            return None
        return self.matrices[0].effective()


@dataclass
class Hardware:
    """A layer of a mapped program, whose arrays can be programmed with other weights.

    `engine` programs them.
    """

    program: CompiledProgram
    symbol: str
    engine: Engine
    ops: list[Operation] = field(init=False)
    codes: SSAValue = field(init=False)
    sums: SSAValue = field(init=False)

    def __post_init__(self) -> None:
        real = _dequantized(self.program, self.symbol)
        self.sums = real.input
        self.ops, self.codes = _between(real.input)

    @property
    def mvms(self) -> list[MvmOp]:
        """Its products."""
        return [op for op in self.ops if isinstance(op, MvmOp)]

    @property
    def weight_bits(self) -> int:
        """Of its integer weights."""
        return weights_of(self.mvms[0]).weight_bits

    @property
    def unrolled(self) -> bool:
        """Whether one weight stands in several places."""
        return any(op.unroll is not None for op in self.mvms)

    def programmed(
        self,
        q: npt.NDArray[np.integer],
        seed: int,
        engine: Engine | None = None,
        *,
        linear: bool = False,
    ) -> Arrays:
        """Program the arrays with weights q [K, N]; `seed` is that of all that is random.

        `engine` stands in for the layer's own. `linear`: behind converters that lose nothing.
        """
        program = replace(self.program, weights={**self.program.weights, self.symbol: q})
        target = _lossless(program.target) if linear else program.target
        at = Preparation(program, target, engine or self.engine, seed)
        kinds = step_kinds()
        steps = [(op, kinds[op.name].prepare(op, at)) for op in self.ops]
        return Arrays(self.codes, self.sums, steps, at.programmed[self.symbol])


def _lossless(target: Target) -> Target:
    adc = target.adc.model_copy(update={"mode": "lossless"})
    return target.model_copy(update={"adc": adc})


def _dequantized(program: CompiledProgram, symbol: str) -> DequantizeOp:
    return next(
        op
        for op in program.module.walk()
        if isinstance(op, DequantizeOp) and weights_of(op).symbol == symbol
    )


def _between(sums: SSAValue) -> tuple[list[Operation], SSAValue]:
    """The operations that lead to a layer's sums, in order, and the codes that they begin with."""
    found: list[Operation] = []

    def back(value: SSAValue) -> Iterator[SSAValue]:
        op = value.owner
        if not isinstance(op, Operation) or op.name not in STREAMS:
            yield value
            return
        for operand in op.operands:
            yield from back(operand)
        if op not in found:
            found.append(op)

    codes = dict.fromkeys(back(sums))
    (only,) = codes
    return found, only
