"""Running a compiled program: the tile IR, operation by operation, on arrays.

Every core takes a batch of its own, or, where there is only one batch, blocks of its vectors. The
kernels themselves are single-threaded: nothing waits at a barrier, and no result depends on the
number of threads.

Streams aren't materialised: a scatter draws blocks of vectors through its mvm and gather, so that
memory is bounded by the batch, never by the whole im2col matrix.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, TensorType
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Operation, SSAValue

from xbarc.artifact import CompiledProgram
from xbarc.graph.run import default_threads
from xbarc.hw.quantization import InputScale, quantize
from xbarc.hw.target import Target
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.analysis.patches import each_output
from xbarc.ir.dialect import (
    DequantizeOp,
    DigitalOp,
    GatherOp,
    LayerOp,
    MvmOp,
    QuantizeOp,
    ScatterOp,
    StreamType,
    Tiles,
    WindowAttr,
    element_of,
    shape_of,
    spatial_size,
    weights_of,
)
from xbarc.ir.interface import COUPLED, main_function, names_in, numpy_dtype
from xbarc.simulator import gather
from xbarc.simulator.digital import digital_unit
from xbarc.simulator.exact.matrix import Matrix, Segment
from xbarc.simulator.exact.unrolled import Unrolled, programmed_matrix
from xbarc.support.data import Array, Feeds, InputSpec, batches, sample_count, unknown_inputs
from xbarc.support.errors import XbarcError

BLOCK = 1 << 21
"""Codes gathered at a time: a block stays in the second-level cache, or near."""

BATCH_BYTES = 1 << 26
"""What the largest tensor of a batch may take, where no batch size is asked for."""

BATCH = 16
"""The largest batch then: more gains nothing, and leaves cores idle at the end."""

Progress = Callable[[int], None]
Each = Callable[..., Iterator[Any]]
"""`map`, or a thread pool's."""
Observer = Callable[[MvmOp, Array], None]


class _OneBlasThread:
    """While any run is under way BLAS has one thread, for the workers share the cores already.

    That number belongs to the whole process: the first run in sets it, the last one out restores
    it, whatever order they end in.
    """

    lock = threading.Lock()
    runs = 0
    limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self.lock:
            if _OneBlasThread.runs == 0:
                _OneBlasThread.limits = threadpool_limits(limits=1, user_api="blas")
            _OneBlasThread.runs += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            _OneBlasThread.runs -= 1
            if _OneBlasThread.runs == 0 and _OneBlasThread.limits is not None:
                _OneBlasThread.limits.restore_original_limits()


@dataclass(frozen=True)
class AdcStatistics:
    """What the converters of a layer did in a run.

    `saturated`: share of the conversions that were clipped. `lossless`: no conversion can lose
    anything, whatever the inputs, which the programmed levels prove.
    """

    conversions: int
    saturated: float
    lossless: bool


@dataclass(frozen=True)
class _Stream:
    """Vectors not gathered yet: `block(start, stop)` gives [K, stop - start].

    `windows`: a stream of other windows over the same tensor. `outputs`: what gives the same
    results as patches of outputs do, one vector an output.
    """

    count: int
    block: Callable[[int, int], Array]
    matrix: Matrix | Unrolled | None = None
    windows: "Callable[[WindowAttr], _Stream] | None" = None
    outputs: "_Stream | None" = None


class Simulator:
    """A program made ready to run: matrices on crossbars, digital sessions."""

    def __init__(
        self, program: CompiledProgram, *, ideal: bool = False, observe: Observer | None = None
    ):
        """Prepare `program`; `ideal` replaces its converters by lossless ones.

        `observe` is shown each block of codes [K, v] that an mvm meets, one at a time.

        Raises `XbarcError` where a layer isn't mapped, or onnxruntime refuses a digital part.
        """
        target = program.target
        if ideal:
            target = target.model_copy(
                update={"adc": target.adc.model_copy(update={"mode": "lossless"})}
            )
        self.target = target
        self._observe = observe
        self._watching = threading.Lock()
        self._weights = program.weights
        self._function = main_function(program.module)
        block = self._function.body.block
        self.inputs = [
            _spec(name, a.type)
            for name, a in zip(names_in(self._function.arg_attrs), block.args, strict=True)
        ]
        self.outputs = names_in(self._function.res_attrs)
        self._steps: list[tuple[Operation, Callable[..., Sequence[Any]]]] = []
        self._matrices: dict[str, list[Matrix | Unrolled]] = {}
        for op in block.ops:
            if not isinstance(op, ReturnOp):
                self._steps.append((op, self._prepare(op, program)))
        self._last_use = _last_uses(block.ops)
        self._result = cast(ReturnOp, block.last_op)

    def run(
        self, feeds: Feeds, *, batch: int | None = None, progress: Progress | None = None
    ) -> dict[str, Array]:
        """The outputs by name, axis 0 joined over the batches.

        `progress` is told of the samples done after each batch. Raises `XbarcError` where the
        arrays don't fit the inputs.
        """
        unknown_inputs(self.inputs, list(feeds))
        for spec in self.inputs:
            if spec.name not in feeds:
                raise XbarcError(f"no data for input {spec.name!r}")
        parts = list(batches(self.inputs, feeds, self._batch(feeds, batch)))
        if not parts:
            raise XbarcError("there is no sample to run")
        results: list[Sequence[Any]] = []
        pool = ThreadPoolExecutor(default_threads())
        try:
            with _OneBlasThread():
                if len(parts) > 1:
                    outcomes = pool.map(lambda part: self._run_batch(part, map), parts)
                else:
                    outcomes = iter([self._run_batch(parts[0], pool.map)])
                for part, outcome in zip(parts, outcomes, strict=True):
                    results.append(outcome)
                    if progress is not None:
                        progress(sample_count(self.inputs, part))
        finally:
            # After a fault or an interrupt, what hasn't begun never does.
            pool.shutdown(cancel_futures=True)
        kinds = [v.type for v in self._result.operands]
        batched = any(s.batched for s in self.inputs)
        return {
            name: _join([r[i] for r in results], kinds[i], batched=batched)
            for i, name in enumerate(self.outputs)
        }

    def _batch(self, feeds: Feeds, asked: int | None) -> int:
        """Samples at once. Raises `XbarcError` where they mustn't be parted and `asked` does."""
        samples = sample_count(self.inputs, feeds)
        if COUPLED not in self._function.attributes:
            return asked or self.default_batch()
        if asked is not None and asked < samples:
            raise XbarcError(
                f"the samples of a batch influence each other in this model: a batch of {asked} of "
                f"{samples} samples would change the result; leave --batch out"
            )
        return max(1, samples)

    def default_batch(self) -> int:
        """Samples at once, so that the largest tensor stays within `BATCH_BYTES`."""
        largest = 1
        for op in self._function.walk():
            for value in op.results:
                if isinstance(value.type, TensorType) and value.type.has_static_shape() is False:
                    sizes = [s for s in shape_of(value) if s > 0]
                    largest = max(largest, math.prod(sizes))
        return max(1, min(BATCH, BATCH_BYTES // (4 * largest)))

    def statistics(self) -> dict[str, AdcStatistics]:
        """What each layer's converters did so far."""
        result = {}
        for name, matrices in self._matrices.items():
            conversions = sum(m.conversions for m in matrices)
            saturated = sum(m.saturated for m in matrices)
            result[name] = AdcStatistics(
                conversions,
                saturated / conversions if conversions else 0.0,
                all(m.lossless for m in matrices),
            )
        return result

    def _run_batch(self, inputs: Feeds, each: Each) -> list[Any]:
        """The outputs for one batch; `each` runs a function over independent blocks."""
        arguments = self._function.body.block.args
        values: dict[SSAValue, Any] = {
            a: inputs[spec.name] for a, spec in zip(arguments, self.inputs, strict=True)
        }
        for index, (op, step) in enumerate(self._steps):
            results = step(each, *[values[v] for v in op.operands])
            values.update(zip(op.results, results, strict=True))
            for value in self._last_use.get(index, ()):
                del values[value]
        return [values[v] for v in self._result.operands]

    def _prepare(self, op: Operation, program: CompiledProgram) -> Callable[..., Sequence[Any]]:
        """A function from the operands' values to the results'."""
        if isinstance(op, QuantizeOp):
            element = element_of(op.result)
            scale = InputScale(op.scale.value.data, element.width.data, _signed(element))
            return lambda each, x: [quantize(x, scale)]
        if isinstance(op, GatherOp):
            return _gather(op)
        if isinstance(op, MvmOp):
            return self._mvm(op)
        if isinstance(op, ScatterOp):
            return _scatter(op)
        if isinstance(op, DequantizeOp):
            return self._dequantize(op)
        if isinstance(op, DigitalOp):
            unit = digital_unit(program.digital[op.file.data], op.file.data)
            return lambda each, *values: unit(*values)
        if isinstance(op, LayerOp):
            raise XbarcError(f"layer {weights_of(op).symbol!r} isn't mapped: run a mapping pass")
        raise XbarcError(f"the simulator doesn't know {op.name}")

    def _mvm(self, op: MvmOp) -> Callable[..., Sequence[Any]]:
        matrix = matrix_of(op, self._weights, self.target)
        self._matrices.setdefault(weights_of(op).symbol, []).append(matrix)
        observe = self._observe
        if observe is None:
            shared = matrix.shared if isinstance(matrix, Unrolled) else None
            window = each_output(op) if shared is not None else None

            def pass_on(each: Each, stream: _Stream) -> list[_Stream]:
                outputs = None
                if window is not None and stream.windows is not None:
                    outputs = replace(stream.windows(window), matrix=shared)
                return [replace(stream, matrix=matrix, outputs=outputs)]

            return pass_on

        def step(each: Each, stream: _Stream) -> list[_Stream]:
            def block(start: int, stop: int) -> Array:
                codes = stream.block(start, stop)
                with self._watching:
                    observe(op, codes)
                return codes

            return [_Stream(stream.count, block, matrix)]

        return step

    def _dequantize(self, op: DequantizeOp) -> Callable[..., Sequence[Any]]:
        weights = weights_of(op)
        columns = weights.matrix[1]
        scale = self._weights[f"{weights.symbol}.scale"].astype(np.float64) * op.scale.value.data
        bias = np.zeros(columns)
        if weights.bias.value.data:
            bias = self._weights[f"{weights.symbol}.bias"].astype(np.float64)
        shift = np.zeros(columns)
        if zero := op.zero_point.value.data:
            shift = zero * self._weights[weights.symbol].sum(axis=0, dtype=np.int64).astype(float)
        axis = op.axis.value.data

        def step(each: Each, sums: Array) -> list[Array]:
            out = np.empty(sums.shape, dtype=np.float32)
            view = _around(sums.shape, axis)
            gather.dequantize(sums.reshape(view), shift, scale, bias, out.reshape(view))
            return [out]

        return step


def matrix_of(op: MvmOp, arrays: Mapping[str, Array], target: Target) -> Matrix | Unrolled:
    """The programmed matrix of an mvm."""
    weights = weights_of(op)
    codes = cast(StreamType, op.input.type).element
    placed = coverage_of(op, arrays)
    return programmed_matrix(
        arrays[weights.symbol],
        placed,
        segments(placed.tiles),
        target,
        weight_bits=weights.weight_bits,
        input_bits=codes.width.data,
        input_signed=_signed(codes),
        adc_range=op.adc_range,
    )


def segments(tiles: Tiles) -> list[Segment]:
    """Tiles that share their rows and whose columns follow each other, as one.

    Columns don't influence each other, so which crossbar a column stands on changes no result.
    """
    order = np.lexsort((tiles[:, 2], tiles[:, 1], tiles[:, 0]))
    merged: list[Segment] = []
    for r0, r1, c0, c1 in tiles[order].tolist():
        last = merged[-1] if merged else None
        if last and (last.row_begin, last.row_end, last.col_end) == (r0, r1, c0):
            merged[-1] = Segment(r0, r1, last.col_begin, c1)
        else:
            merged.append(Segment(r0, r1, c0, c1))
    return merged


def _signed(element: IntegerType) -> bool:
    return element.signedness.data.name == "SIGNED"


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


def _join(parts: Sequence[Any], kind: Attribute, *, batched: bool) -> Any:
    """One output of several batches: side by side along the axis that varies with the batch.

    Where the model takes any batch (`batched`), an output of which no axis varies is the same for
    all; where its batch is fixed, axis 0 counts the samples.
    """
    if len(parts) == 1 or not isinstance(kind, TensorType):
        return parts[0]
    varying = [i for i, size in enumerate(kind.get_shape()) if size == DYNAMIC_INDEX]
    if varying:
        return np.concatenate(parts, axis=varying[0])
    if batched:
        return parts[0]
    return np.concatenate(parts) if kind.get_num_dims() else np.stack(parts)


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """`shape` as (what is before the axis, the axis, what is behind it)."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _gather(op: GatherOp) -> Callable[..., Sequence[Any]]:
    if op.axis is not None:
        axis = op.axis.value.data

        def along(each: Each, x: Array) -> list[_Stream]:
            rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
            return [_Stream(rows.shape[1], lambda i, j: np.ascontiguousarray(rows[:, i:j]))]

        return along
    window = op.window
    assert window is not None
    if window.rank > 3:
        raise XbarcError(f"a window over {window.rank} axes: the simulator knows up to 3")
    fill, apart, flat = op.fill.value.data, op.spreads(), op.flat is not None

    def windows(each: Each, x: Array) -> list[_Stream]:
        seen = spread(x.reshape(*x.shape[:2], -1) if flat else x, apart)
        return [_windows(seen, window, fill)]

    return windows


def _windows(x: Array, window: WindowAttr, fill: int) -> _Stream:
    """A vector a window position on `x` [N, C, spatial...], contiguous."""
    missing = 3 - window.rank
    kernel, strides, pads, dilations = window.lists()
    geometry = [
        np.array([1] * missing + kernel),
        np.array([1] * missing + strides),
        np.array([0] * missing + pads[: window.rank]),
        np.array([1] * missing + dilations),
        np.array([1] * missing + window.output_size(x.shape[2:])),
    ]
    tensor = x.reshape(*x.shape[:2], *[1] * missing, *x.shape[2:])

    def block(start: int, stop: int) -> Array:
        out = np.empty((x.shape[1] * window.size, stop - start), dtype=x.dtype)
        gather.gather_windows(tensor, *geometry, x.dtype.type(fill), start, out)
        return out

    return _Stream(
        len(x) * int(geometry[-1].prod()), block, windows=lambda other: _windows(x, other, fill)
    )


def spread(x: Array, apart: Sequence[int]) -> Array:
    """`x` [N, C, spatial...], contiguous, its entries `apart` by that many with zeros between."""
    if all(step == 1 for step in apart):
        return np.ascontiguousarray(x)
    sizes = [(s - 1) * step + 1 for s, step in zip(x.shape[2:], apart, strict=True)]
    wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
    places: list[Any] = [slice(None, None, step) for step in apart]
    wide[(..., *places)] = x
    return wide


def _scatter(op: ScatterOp) -> Callable[..., Sequence[Any]]:
    return _scatter_windows(op) if op.window is not None else _scatter_axis(op)


def _scatter_axis(op: ScatterOp) -> Callable[..., Sequence[Any]]:
    assert op.axis is not None
    axis, declared = op.axis.value.data, shape_of(op.result)
    return lambda each, stream: [_along(each, stream, axis, declared)]


def _along(each: Each, stream: _Stream, axis: int, declared: Sequence[int]) -> Array:
    """Results along an axis of a tensor of the `declared` shape."""
    matrix = stream.matrix
    assert matrix is not None
    shape = _resolve(declared, axis, stream.count)
    outer, columns, inner = _around(shape, axis)
    dtype = _sum_dtype(matrix)
    out = np.empty((outer, columns, inner), dtype=dtype)

    def draw(block: tuple[int, int, int, int]) -> None:
        o0, o1, i0, i1 = block
        vectors = (o1 - o0) * (i1 - i0)
        start = o0 * inner + i0
        sums = np.empty((columns, vectors), dtype=dtype)
        matrix.multiply(stream.block(start, start + vectors), sums)
        out[o0:o1, :, i0:i1] = sums.reshape(columns, o1 - o0, i1 - i0).swapaxes(0, 1)

    deque(each(draw, _blocks(outer, inner, max(64, BLOCK // matrix.shape[0]))), maxlen=0)
    return out.reshape(shape)


def _scatter_windows(op: ScatterOp) -> Callable[..., Sequence[Any]]:
    """Sums added where windows stand on the result."""
    window = op.window
    assert window is not None
    shape, length = shape_of(op.result), cast(StreamType, op.input.type).length.data
    kernel, strides, pads, dilations = window.lists()
    spatial = spatial_size(shape, flat=op.flat is not None)
    missing = 3 - window.rank
    if missing < 0:
        raise XbarcError(f"a window over {window.rank} axes: the simulator knows up to 3")
    positions = [1] * missing + window.output_size(spatial)
    geometry = [
        np.array([1] * missing + kernel),
        np.array([1] * missing + strides),
        np.array([0] * missing + pads[: window.rank]),
        np.array([1] * missing + dilations),
        np.array(positions),
    ]
    # How many windows may add to one entry.
    together = math.prod(
        min(k, -(-((k - 1) * d + 1) // s))
        for k, s, d in zip(kernel, strides, dilations, strict=True)
    )

    def step(each: Each, stream: _Stream) -> list[Array]:
        if stream.outputs is not None:
            return [_along(each, stream.outputs, 1, shape)]
        matrix = stream.matrix
        assert matrix is not None
        dtype = _sum_dtype(matrix, together)
        per_item = math.prod(positions)
        items = stream.count // per_item
        out = np.zeros((items, shape[1], *[1] * missing, *spatial), dtype)
        adding = threading.Lock()

        def draw(block: tuple[int, int, int, int]) -> None:
            o0, o1, i0, i1 = block
            start, vectors = o0 * per_item + i0, (o1 - o0) * (i1 - i0)
            sums = np.empty((length, vectors), dtype)
            matrix.multiply(stream.block(start, start + vectors), sums)
            # Windows of one block may reach into those of another.
            with adding:
                gather.scatter_windows(sums, *geometry, start, out)

        # Sums that aren't integers depend on their order.
        ordered = map if together > 1 and not matrix.integer else each
        blocks = _blocks(items, per_item, max(64, BLOCK // matrix.shape[0]))
        deque(ordered(draw, blocks), maxlen=0)
        return [out.reshape(items, *shape[1:])]

    return step


def _sum_dtype(matrix: Matrix | Unrolled, together: int = 1) -> npt.DTypeLike:
    """What holds `together` results of a matrix added up."""
    if not matrix.integer:
        return np.float64
    return np.int32 if matrix.bound * together < 1 << 31 else np.int64


def _resolve(declared: Sequence[int], axis: int, vectors: int) -> list[int]:
    """The shape of the result, its unknown axis found from the number of vectors."""
    known = math.prod(s for i, s in enumerate(declared) if s >= 0 and i != axis)
    return [vectors // known if s < 0 else s for s in declared]


def _blocks(outer: int, inner: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Ranges (outer begin and end, inner begin and end) of at most about `size` vectors."""
    if inner > size:
        for o in range(outer):
            for i in range(0, inner, size):
                yield o, o + 1, i, min(i + size, inner)
        return
    step = max(1, size // max(inner, 1))
    for o in range(0, outer, step):
        yield o, min(o + step, outer), 0, inner
