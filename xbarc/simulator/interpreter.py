"""Running a compiled program: the tile IR, operation by operation, on arrays.

Every core takes a batch of its own, or, where there is only one batch, blocks of its vectors. The
kernels themselves are single-threaded: nothing waits at a barrier, and no result depends on the
number of threads.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Operation, SSAValue

from xbarc.artifact import CompiledProgram
from xbarc.ir.dialect import DequantizeOp, DigitalOp, LayerOp, QuantizeOp, shape_of, weights_of
from xbarc.ir.interface import COUPLED, main_function, names_in, numpy_dtype
from xbarc.simulator.code_use import CodeCounter
from xbarc.simulator.engine import Engine
from xbarc.simulator.exact.engine import ExactEngine
from xbarc.simulator.live import live_bytes
from xbarc.simulator.step import Batch, Observer, Preparation, Step, step_kinds
from xbarc.support.data import Array, Feeds, InputSpec, batches, sample_count, unknown_inputs
from xbarc.support.errors import XbarcError
from xbarc.support.threads import one_blas_thread, thread_count

BATCH_BYTES = 1 << 26
"""What the largest tensor of a batch may take, where no batch size is asked for."""

RUN_BYTES = 1 << 30
"""What the largest tensors of all batches under way may take together then."""

BATCH = 16
"""The largest batch then: more gains nothing, and leaves cores idle at the end."""

Progress = Callable[[int], None]

Layers = Callable[[int, Feeds, Mapping[str, Array]], None]
"""Is shown a batch: the number of its first input, its inputs, each layer's real outputs.

Threads may call it at once.
"""


@dataclass(frozen=True)
class AdcStatistics:
    """What the converters of a layer did in a run.

    `saturated`: share of the conversions that were clipped. `lossless`: no conversion can lose
    anything, whatever the inputs, which the programmed levels prove.
    """

    conversions: int
    saturated: float
    lossless: bool


class Simulator:
    """A program made ready to run: matrices on crossbars, digital sessions."""

    def __init__(
        self,
        program: CompiledProgram,
        *,
        ideal: bool = False,
        observe: Observer | None = None,
        codes: CodeCounter | None = None,
        engine: Engine | None = None,
        seed: int = 0,
    ):
        """Prepare `program`; `ideal` replaces its converters by lossless ones.

        `observe` is shown each block of codes [K, v] that an mvm meets, one at a time, and the
        number of its first vector. `codes` counts what quantising clips. `engine` computes the
        arrays, the exact one unless another is given; `seed` is that of all that is random in them.

        Raises `XbarcError` where a layer isn't mapped, or onnxruntime refuses a digital part.
        """
        target = program.target
        if ideal:
            lossless = target.adc.model_copy(update={"mode": "lossless"})
            target = target.model_copy(update={"adc": lossless})
        self._at = Preparation(program, target, engine or ExactEngine(), seed, observe, codes)
        self._function = main_function(program.module)
        block = self._function.body.block
        self.inputs = input_specs(program)
        self.outputs = names_in(self._function.res_attrs)
        self._steps = _steps(block.ops, self._at)
        self._last_use = _last_uses(block.ops)
        self._result = cast(ReturnOp, block.last_op)

    def run(
        self,
        feeds: Feeds,
        *,
        batch: int | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
        layers: Layers | None = None,
    ) -> dict[str, Array]:
        """The outputs by name, axis 0 joined over the batches.

        `threads`: one a core without it (`xbarc.support.threads`). `progress` is told of the
        samples done after each batch, `layers` shown what each layer gives for it. Raises
        `XbarcError` where the arrays don't fit the inputs.
        """
        unknown_inputs(self.inputs, list(feeds))
        for spec in self.inputs:
            if spec.name not in feeds:
                raise XbarcError(f"no data for input {spec.name!r}")
        workers = thread_count(threads)
        parts = list(batches(self.inputs, feeds, self._batch(feeds, batch, workers)))
        if not parts:
            raise XbarcError("there is no sample to run")
        known = self._bytes_of(parts[0]) * min(workers, len(parts))
        firsts = np.cumsum([0, *(self._inputs_of(part) for part in parts)]).tolist()
        results: list[Sequence[Any]] = []
        pool = ThreadPoolExecutor(workers)
        try:
            with one_blas_thread():
                if len(parts) > 1:
                    outcomes = pool.map(
                        lambda part, first: self._run_batch(part, Batch(map, first, known), layers),
                        parts,
                        firsts,
                    )
                else:
                    outcomes = iter(
                        [self._run_batch(parts[0], Batch(pool.map, size=known), layers)]
                    )
                for part, outcome in zip(parts, outcomes, strict=True):
                    results.append(outcome)
                    if progress is not None:
                        progress(sample_count(self.inputs, part))
        finally:
            # After a fault or an interrupt, what hasn't begun never does.
            pool.shutdown(cancel_futures=True)
        kinds = [v.type for v in self._result.operands]
        sizes = [sample_count(self.inputs, part) for part in parts]
        batched = any(s.batched for s in self.inputs)
        return {
            name: join([r[i] for r in results], kinds[i], sizes, batched=batched)
            for i, name in enumerate(self.outputs)
        }

    def _inputs_of(self, part: Feeds) -> int:
        """Inputs in a batch, as vectors are numbered: a fixed batch of the model counts as one."""
        return sample_count(self.inputs, part) if any(s.batched for s in self.inputs) else 1

    def _bytes_of(self, part: Feeds) -> int:
        """Bytes that the values of a batch take, by their shapes."""
        arguments = self._function.body.block.args
        ops = (op for op, _ in self._steps)
        return live_bytes(ops, arguments, self._last_use, sample_count(self.inputs, part))

    def _batch(self, feeds: Feeds, asked: int | None, workers: int) -> int:
        """Samples at once. Raises `XbarcError` where they mustn't be parted and `asked` does."""
        samples = sample_count(self.inputs, feeds)
        if COUPLED not in self._function.attributes:
            return asked or self.default_batch(samples, workers)
        if asked is not None and asked < samples:
            raise XbarcError(
                f"the samples of a batch influence each other in this model: a batch of {asked} of "
                f"{samples} samples would change the result; leave --batch out"
            )
        return max(1, samples)

    def default_batch(self, samples: int, workers: int) -> int:
        """Samples at once, so that every worker has some and memory stays within bounds."""
        largest = 1
        for op in self._function.walk():
            for value in op.results:
                if isinstance(value.type, TensorType) and value.type.has_static_shape() is False:
                    sizes = [s for s in shape_of(value) if s > 0]
                    largest = max(largest, math.prod(sizes))
        memory = min(BATCH_BYTES, RUN_BYTES // workers) // (4 * largest)
        share = -(-samples // workers)
        return max(1, min(BATCH, memory, share))

    def alone(self, layer: str) -> Callable[[Array], Array] | None:
        """A layer by itself: from real activations to real results.

        None where its codes aren't quantised from one value (a quantised model's own, say), or
        there is no such layer. What it converts counts in `statistics`.
        """
        ops = [op for op, _ in self._steps]
        ends = [op for op in ops if isinstance(op, DequantizeOp) and weights_of(op).symbol == layer]
        if len(ends) != 1 or (chain := _chain(ends[0])) is None:
            return None
        steps = [(op, step) for op, step in self._steps if op in chain]
        (source,) = {op.input for op in chain if isinstance(op, QuantizeOp)}

        def run(x: Array) -> Array:
            values: dict[SSAValue, Any] = {source: x}
            for op, step in steps:
                results = step(Batch(map), *[values[v] for v in op.operands])
                values.update(zip(op.results, results, strict=True))
            result: Array = values[ends[0].result]
            return result

        return run

    def statistics(self) -> dict[str, AdcStatistics]:
        """What each layer's converters did so far."""
        result = {}
        for name, matrices in self._at.programmed.items():
            found = [matrix.conversions for matrix in matrices]
            count = sum(c.count for c in found)
            saturated = sum(c.saturated for c in found)
            result[name] = AdcStatistics(
                count, saturated / count if count else 0.0, all(c.lossless for c in found)
            )
        return result

    def pulses(self) -> dict[str, tuple[int, int]]:
        """Cells of each layer's arrays, and pulses that wrote them, where the engine counts them.

        Ideal devices take none.
        """
        counted = {
            name: [matrix.pulses for matrix in matrices if hasattr(matrix, "pulses")]
            for name, matrices in self._at.programmed.items()
        }
        return {
            name: (sum(p.cells for p in found), sum(p.total for p in found))
            for name, found in counted.items()
            if found
        }

    def _run_batch(self, inputs: Feeds, batch: Batch, layers: Layers | None) -> list[Any]:
        """The outputs for one batch."""
        shown: dict[str, Array] = {}
        arguments = self._function.body.block.args
        values: dict[SSAValue, Any] = {
            a: inputs[spec.name] for a, spec in zip(arguments, self.inputs, strict=True)
        }
        for index, (op, step) in enumerate(self._steps):
            results = step(batch, *[values[v] for v in op.operands])
            if layers is not None and isinstance(op, DequantizeOp):
                shown[weights_of(op).symbol] = results[0]
            values.update(zip(op.results, results, strict=True))
            for value in self._last_use.get(index, ()):
                del values[value]
        if layers is not None:
            layers(batch.first, inputs, shown)
        return [values[v] for v in self._result.operands]


def input_specs(program: CompiledProgram) -> list[InputSpec]:
    """The inputs of a program. Raises `XbarcError` where one is no plain tensor."""
    function = main_function(program.module)
    named = zip(names_in(function.arg_attrs), function.body.block.args, strict=True)
    return [_spec(name, argument.type) for name, argument in named]


def _steps(ops: Iterable[Operation], at: Preparation) -> list[tuple[Operation, Step]]:
    """What to do at each operation, in order."""
    kinds = step_kinds()
    steps: list[tuple[Operation, Step]] = []
    for op in ops:
        if isinstance(op, ReturnOp):
            continue
        if isinstance(op, LayerOp):
            raise XbarcError(f"layer {weights_of(op).symbol!r} isn't mapped: run a mapping pass")
        if op.name not in kinds:
            raise XbarcError(f"the simulator doesn't know {op.name}")
        steps.append((op, kinds[op.name].prepare(op, at)))
    return steps


def _chain(end: DequantizeOp) -> set[Operation] | None:
    """The operations from where one value is quantised to `end`; None where something else is."""
    chain: set[Operation] = set()
    waiting: list[SSAValue] = [end.result]
    sources = set()
    while waiting:
        op = waiting.pop().owner
        if not isinstance(op, Operation) or isinstance(op, DigitalOp):
            return None
        if op in chain:
            continue
        chain.add(op)
        if isinstance(op, QuantizeOp):
            sources.add(op.input)
        else:
            waiting.extend(op.operands)
    return chain if len(sources) == 1 else None


def _spec(name: str, kind: Attribute) -> InputSpec:
    if not isinstance(kind, TensorType):
        raise XbarcError(f"input {name!r} is no plain tensor")
    dims = tuple(None if s == DYNAMIC_INDEX else s for s in kind.get_shape())
    return InputSpec(name, dims, numpy_dtype(kind.element_type))


def _last_uses(ops: Iterable[Operation]) -> dict[int, list[SSAValue]]:
    """The values that nobody needs after the operation of that index."""
    last: dict[SSAValue, int] = {}
    for index, op in enumerate(ops):
        for value in (*op.operands, *op.results):
            last[value] = math.inf if isinstance(op, ReturnOp) else index  # type: ignore[assignment]
    result: dict[int, list[SSAValue]] = {}
    for value, index in last.items():
        result.setdefault(index, []).append(value)
    return result


def join(parts: Sequence[Any], kind: Attribute, sizes: Sequence[int], *, batched: bool) -> Any:
    """One output of several batches: side by side along the axis that varies with the batch.

    Where the model takes any batch (`batched`), an output of which no axis varies is the same for
    all; where its batch is fixed, axis 0 counts the samples. Of strings the IR knows no shape: they
    are the batches' own where axis 0 is as long as the batch, `sizes` samples.
    """
    if len(parts) == 1:
        return parts[0]
    if not isinstance(kind, TensorType):
        own = all(np.shape(part)[:1] == (n,) for part, n in zip(parts, sizes, strict=True))
        return np.concatenate(parts) if own else parts[0]
    varying = [i for i, size in enumerate(kind.get_shape()) if size == DYNAMIC_INDEX]
    if varying:
        return np.concatenate(parts, axis=varying[0])
    if batched:
        return parts[0]
    return np.concatenate(parts) if kind.get_num_dims() else np.stack(parts)
