"""Running a graph in onnxruntime: the reference that every rewrite is held to."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from xbarc.graph.crashes import watched
from xbarc.graph.query import constant, describe_dims, is_static
from xbarc.graph.serialize import with_external_weights
from xbarc.support.bounds import VERBOSE, guarded, more
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError, nearest
from xbarc.support.threads import thread_count

ORT_FAILURES: tuple[type[Exception], ...] = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.ModelLoaded,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    # onnxruntime's Python side raises these for what it finds itself
    RuntimeError,
    TypeError,
    ValueError,
)
"""onnxruntime's exceptions have no base class of their own."""

WARNINGS = 2
FATAL_ONLY = 4

NUMPY_KINDS = "biufc"
"""Types that numpy itself has; bfloat16 and the like come from ml_dtypes as kind V."""


def one_line(error: BaseException | str) -> str:
    """An error's text on one line, without what libraries decorate it with."""
    text = " ".join(str(error).split())
    return text.removeprefix("[ONNXRuntimeError] : ")[:400]


def said(error: BaseException) -> str:
    """What onnxruntime said, on one line; of memory that was refused, how to give more."""
    text = one_line(error)
    refused = "bad_alloc" in text or "allocate memory" in text or "bad allocation" in text
    return f"it takes too much memory{more()} ({text[:150]})" if refused else text


def session_options(threads: int) -> ort.SessionOptions:
    """Options of a session that says nothing, and gives the same results everywhere.

    What goes wrong is an exception; its log, in colours, is for `xbarc --verbose`.
    """
    options = ort.SessionOptions()
    options.log_severity_level = WARNINGS if os.environ.get(VERBOSE) else FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Processors without VNNI add products of u8 x s8 in 16 bits, which saturate. So what stands
    # between QuantizeLinear and DequantizeLinear isn't fused to integers: it stays in float.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


class Session:
    """A model made ready to run.

    Weights are handed over as arrays, outside the protobuf, so a model may be larger than 2 GB.
    onnxruntime takes one copy of them; a memory-mapped weight isn't copied before that.
    """

    def __init__(
        self,
        model: ir.Model,
        outputs: Sequence[str] | None = None,
        *,
        threads: int | None = None,
        optimize: bool = True,
    ) -> None:
        """Prepare `model` to give `outputs`: names of any values (default: the graph's outputs).

        Raises:
            XbarcError: a name isn't a value of the graph, or onnxruntime refuses the model.
        """
        graph = model.graph
        values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
        wanted = [str(value.name) for value in graph.outputs] if outputs is None else list(outputs)
        for name in wanted:
            if name not in values:
                raise XbarcError(f"the graph has no value {name!r}; {nearest(name, values)}")
        self.outputs = tuple(wanted)
        self.inputs = {
            str(value.name): value for value in graph.inputs if not value.is_initializer()
        }
        self._given = {
            name: constant(values[name]) for name in wanted if values[name].producer() is None
        }
        self._computed = list(dict.fromkeys(name for name in wanted if name not in self._given))
        self._session: ort.InferenceSession | None = None
        self._untried: tuple[ir.Model, onnx.ModelProto] | None = None
        self._size = _bytes(model)
        if self._computed:
            proto, weights = _with_weights(model, self._computed)
            with guarded(self._size), watched(model, proto, {}):
                self._session = _session(proto, weights, thread_count(threads), optimize)
            self._untried = model, proto

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name for these inputs by name.

        Raises:
            XbarcError: an input is missing, unknown, or of the wrong type or shape; a node fails.
        """
        for name in feeds:
            if name not in self.inputs:
                raise XbarcError(f"the model has no input {name!r}; {nearest(name, self.inputs)}")
        for name, value in self.inputs.items():
            if name not in feeds:
                shape = describe_dims(value.shape)
                raise XbarcError(f"no data for the model's input {name!r} of shape {shape}")
        given = {name: feeds[name] if a is None else a for name, a in self._given.items()}
        computed: dict[str, Array] = {}
        if self._session is not None:
            try:
                with guarded(self._size + sum(a.nbytes for a in feeds.values())):
                    results = self._tried(self._session, feeds)
            except ORT_FAILURES as error:
                raise XbarcError(f"onnxruntime can't run the model: {said(error)}") from error
            computed = dict(zip(self._computed, results, strict=True))
        return {name: given[name] if name in given else computed[name] for name in self.outputs}

    def _tried(self, session: ort.InferenceSession, feeds: Mapping[str, Array]) -> list[Array]:
        """What the session gives; its first run is watched, since onnxruntime may crash in it."""
        if self._untried is None:
            return list(session.run(self._computed, dict(feeds)))
        model, proto = self._untried
        with watched(model, proto, feeds):
            results = session.run(self._computed, dict(feeds))
        self._untried = None
        return list(results)


def _with_weights(
    model: ir.Model, outputs: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    try:
        return with_external_weights(model, outputs)
    except ORT_FAILURES as error:  # onnx_ir's SerdeError is a RuntimeError
        raise XbarcError(f"onnxruntime can't take the model: {one_line(error)}") from error


def _session(
    proto: onnx.ModelProto,
    weights: Mapping[str, ir.TensorProtocol],
    threads: int,
    optimize: bool,
) -> ort.InferenceSession:
    options = session_options(threads)
    # Planning memory for later runs takes n x n steps in what is alive; there are few later runs.
    options.enable_mem_pattern = False
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        held = {name: _ort_value(tensor) for name, tensor in weights.items()}
        options.add_external_initializers(list(held), list(held.values()))
        return open_session(proto.SerializeToString(), options)
    except ORT_FAILURES as error:
        raise XbarcError(f"onnxruntime can't take the model: {said(error)}") from error


def open_session(
    content: bytes, options: ort.SessionOptions, size: int = 0
) -> ort.InferenceSession:
    """A session of a model with so many bytes of weights. Raises `ORT_FAILURES`, `XbarcError`."""
    with guarded(size):
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _bytes(model: ir.Model) -> int:
    """What its weights take."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _ort_value(tensor: ir.TensorProtocol) -> ort.OrtValue:
    array = tensor.numpy()
    if array.dtype.kind in NUMPY_KINDS:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.ascontiguousarray(array).view(np.uint8 if array.itemsize == 1 else np.uint16),
        tensor.dtype.value,
    )


def runtime_shapes(
    proto: onnx.ModelProto, names: Sequence[str]
) -> dict[str, tuple[ir.DataType, list[int | str | None]]]:
    """Types and shapes that onnxruntime infers, also through its own (`com.microsoft`) operators.

    Empty where it can't take the model; a value that isn't a tensor is left out.
    """
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = open_session(asked.SerializeToString(), options, 0)
    except ORT_FAILURES:
        return {}
    except XbarcError:  # no memory for it
        return {}
    tensors = [output for output in session.get_outputs() if output.type.startswith("tensor(")]
    return {
        output.name: (
            ir.DataType[output.type.removeprefix("tensor(").removesuffix(")").upper()],
            list(output.shape),
        )
        for output in tensors
    }


MOST_GENERATED = 1 << 28
"""Values of an input that are generated, at most: 1 GB in single precision."""


def random_inputs(model: ir.Model, batch: int, seed: int = 0) -> dict[str, Array]:
    """Generated data for every input: float standard normal, integers 0 or 1, booleans.

    The axis that the model leaves open is `batch` long.

    Raises:
        XbarcError: more than one dimension is unknown, the type has no numbers (a string), or there
            are more than `MOST_GENERATED`.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        if is_static(value):
            continue
        shape = _concrete(value, batch)
        if math.prod(shape) > MOST_GENERATED:
            raise XbarcError(
                f"input {value.name!r} of shape {list(shape)} has {math.prod(shape)} values, too "
                "many to generate: give data for it, or another shape"
            )
        dtype = value.dtype
        if dtype == ir.DataType.BOOL:
            feeds[str(value.name)] = rng.integers(0, 2, shape, np.uint8).astype(bool)
        elif dtype is not None and dtype.is_integer():
            feeds[str(value.name)] = rng.integers(0, 2, shape, np.uint8).astype(dtype.numpy())
        elif dtype is not None and dtype.is_floating_point():
            found = rng.standard_normal(shape, dtype=np.float32)
            feeds[str(value.name)] = found.astype(dtype.numpy(), copy=False)
        else:
            raise XbarcError(f"input {value.name!r} is of type {dtype}: give data for it")
    return feeds


def _concrete(value: ir.Value, batch: int) -> tuple[int, ...]:
    if value.shape is None:
        raise XbarcError(f"input {value.name!r} has no known rank: give data for it")
    shape = [dim if isinstance(dim, int) else None for dim in value.shape.dims]
    if None in shape:
        shape[shape.index(None)] = batch
    if None in shape:
        raise XbarcError(
            f"input {value.name!r} has unknown dimensions {describe_dims(value.shape)}: "
            "fix them with --input-shape"
        )
    return tuple(int(dim) for dim in shape if dim is not None)


def same_function(
    before: ir.Model,
    after: ir.Model,
    feeds: Mapping[str, Array],
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> float:
    """The largest absolute difference between what both models give for `feeds`.

    Outputs are taken in order, names may differ.

    Raises:
        XbarcError: an output differs by more than `atol + rtol * max|output|`, in shape, in type,
            or in where it is NaN; the line names the worst output.
    """
    old, new = Session(before).run(feeds), Session(after).run(feeds)
    if len(old) != len(new):
        raise XbarcError(f"the function changed: {len(old)} outputs before, {len(new)} after")
    worst = 0.0
    for (name, expected), actual in zip(old.items(), new.values(), strict=True):
        difference = largest_difference(expected, actual)
        if difference is None:
            raise XbarcError(
                f"the function changed: output {name!r} was {expected.dtype}{expected.shape}, "
                f"is {actual.dtype}{actual.shape}"
            )
        allowed = atol + rtol * _largest(expected)
        if not difference <= allowed:
            raise XbarcError(
                f"the function changed: output {name!r} differs by {difference:.3g}, "
                f"more than {allowed:.3g}"
            )
        worst = max(worst, difference)
    return worst


def largest_difference(expected: Array, actual: Array) -> float | None:
    """max|expected - actual|; None where shapes or types differ, infinity where NaNs or infs do."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return None
    if not expected.size or np.array_equal(expected, actual):
        return 0.0
    if expected.dtype.kind not in NUMPY_KINDS or expected.dtype.kind == "c":
        return float("inf")
    wide_expected, wide_actual = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(wide_expected)
    if not np.array_equal(finite, np.isfinite(wide_actual)):
        return float("inf")
    if not np.array_equal(wide_expected[~finite], wide_actual[~finite], equal_nan=True):
        return float("inf")
    difference = np.abs(wide_expected[finite] - wide_actual[finite])
    return float(difference.max(initial=0.0))


def relative_error(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """How far outputs moved: |after - before|_2 / |before|_2, the largest over the outputs.

    Infinite where shapes, or the places of NaN and infinities, differ.
    """
    worst = 0.0
    for name, array in before.items():
        if array.shape != after[name].shape:
            return float("inf")
        if array.dtype.kind not in "biuf":  # strings and the like
            same = np.array_equal(array, after[name])
            worst = max(worst, 0.0 if same else float("inf"))
            continue
        a, b = array.astype(np.float64), after[name].astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        error = float(np.linalg.norm(b[finite] - a[finite]))
        size = float(np.linalg.norm(a[finite]))
        if error > 0:
            worst = max(worst, error / size if size > 0 else float("inf"))
    return worst


def _largest(array: Array) -> float:
    if array.dtype.kind not in "fiub":
        return 0.0
    finite = array[np.isfinite(array)]
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0))
