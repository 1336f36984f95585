"""A compiled program run in plain numpy: each operation as `docs/ir.md` and the numerics say it."""

import itertools
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from reference import crossbar_matmul, transposed
from xdsl.dialects.func import ReturnOp

from xbarc.ir.dialect import (
    DequantizeOp,
    DigitalOp,
    GatherOp,
    MvmOp,
    QuantizeOp,
    ScatterOp,
    shape_of,
    weights_of,
)
from xbarc.ir.interface import main_function, names_in


@dataclass
class Vectors:
    """Codes or sums [V, K], and whether codes are signed, of how many bits."""

    values: np.ndarray
    bits: int = 0
    signed: bool = False


def run(program, feeds, counts, mvm=None):
    """The outputs by name; `counts` gets each layer's conversions and saturated ones.

    `mvm(op, stream, program, counts)` does the products, those of ideal devices if it is None.
    """
    function = main_function(program.module)
    block = function.body.block
    names = names_in(function.arg_attrs)
    values = {a: feeds[n] for a, n in zip(block.args, names, strict=True)}
    outputs = ()
    for op in block.ops:
        taken = [values[v] for v in op.operands]
        if isinstance(op, ReturnOp):
            outputs = taken
        elif isinstance(op, DigitalOp):
            session = ort.InferenceSession(
                program.digital[op.file.data], providers=["CPUExecutionProvider"]
            )
            inputs = [i.name for i in session.get_inputs()]
            given = session.run(None, dict(zip(inputs, taken, strict=True)))
            values.update(zip(op.results, given, strict=True))
        else:
            step = {
                QuantizeOp: _quantize,
                GatherOp: _gather,
                MvmOp: mvm or _mvm,
                ScatterOp: _scatter,
                DequantizeOp: _dequantize,
            }[type(op)]
            values[op.results[0]] = step(op, taken[0], program, counts)
    return dict(zip(names_in(function.res_attrs), outputs, strict=True))


def _codes(element):
    return element.width.data, element.signedness.data.name == "SIGNED"


def _quantize(op, x, program, counts):
    bits, signed = _codes(op.result.type.element_type)
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    scaled = np.rint(x.astype(np.float64) / op.scale.value.data) + op.zero_point.value.data
    return np.clip(scaled, -top if signed else 0, top).astype(np.int64)


def _places(window, size):
    """The index tuples of each window position, a list of (inside?, index) a kernel position."""
    kernel, strides, pads, dilations = window.lists()
    positions = window.output_size(size)
    for at in itertools.product(*map(range, positions)):
        place = []
        for tap in itertools.product(*map(range, kernel)):
            index = tuple(
                p * s + t * d - b
                for p, s, t, d, b in zip(at, strides, tap, dilations, pads, strict=False)
            )
            inside = all(0 <= i < n for i, n in zip(index, size, strict=True))
            place.append((inside, index))
        yield place


def _gather(op, x, program, counts):
    bits, signed = _codes(op.result.type.element)
    if op.axis is not None:
        return Vectors(
            np.moveaxis(x, op.axis.value.data, -1).reshape(-1, x.shape[op.axis.value.data]),
            bits,
            signed,
        )
    if op.flat is not None:
        x = x.reshape(*x.shape[:2], -1)
    apart = op.spreads()
    wide = np.zeros(
        (*x.shape[:2], *((s - 1) * a + 1 for s, a in zip(x.shape[2:], apart, strict=True))),
        np.int64,
    )
    wide[(..., *(slice(None, None, a) for a in apart))] = x
    fill = op.fill.value.data
    vectors = []
    for item in wide:
        for place in _places(op.window, wide.shape[2:]):
            taps = [
                item[(slice(None), *i)] if inside else np.full(len(item), fill)
                for inside, i in place
            ]
            vectors.append(np.stack(taps, axis=1).ravel())
    return Vectors(np.array(vectors), bits, signed)


def _matrix(op, q):
    """The whole K x N matrix that the vectors meet, zeros between groups and unrolled copies."""
    weights = weights_of(op)
    if op.unroll is not None:
        taps = op.unroll.taps()  # [window, patch]: which kernel position stands there
        (kg, n), kernel = weights.stored_shape, op.unroll.kernel_size
        wide = np.zeros((kg // kernel, len(taps), n, taps.shape[1]), np.int64)
        for u, p in itertools.product(range(len(taps)), range(taps.shape[1])):
            if taps[u, p] >= 0:
                wide[:, u, :, p] = q.reshape(kg // kernel, kernel, n)[:, taps[u, p]]
        q = wide.reshape(kg // kernel * len(taps), n * taps.shape[1])
    groups = weights.group_count
    dense = np.zeros((groups * len(q), q.shape[1]), np.int64)
    for g in range(groups):
        columns = slice(g * q.shape[1] // groups, (g + 1) * q.shape[1] // groups)
        dense[g * len(q) : (g + 1) * len(q), columns] = q[:, columns]
    return dense


@dataclass
class _Tile:
    row_begin: int
    row_end: int
    col_begin: int
    col_end: int


def _mvm(op, stream, program, counts):
    weights = weights_of(op)
    dense = _matrix(op, program.weights[weights.symbol].astype(np.int64))
    k, n = dense.shape
    rows, columns = np.arange(k), np.arange(n)
    if hasattr(op.tiling, "order"):
        ordered = op.tiling.order(k, n)
        rows, columns = (
            o if o is not None else plain for o, plain in zip(ordered, (rows, columns), strict=True)
        )
    if op.rows is not None:
        rows = program.weights[op.rows.symbol.data]
    if op.columns is not None:
        columns = program.weights[op.columns.symbol.data]
    x, q = stream.values[:, rows], dense[np.ix_(rows, columns)]
    held = np.zeros(dense.shape, bool)
    for r0, r1, c0, c1 in op.tiles().tolist() if op.rows is not None and op.sparse else []:
        # A weight on several tiles stands on the first; its cells on the others are off.
        place = np.ix_(rows[r0:r1], columns[c0:c1])
        q[r0:r1, c0:c1][held[place]] = 0
        held[place] = True
    out = None
    for tile in sorted(op.tiles().tolist()):  # row blocks in order
        seen = {}
        part = crossbar_matmul(
            x,
            q,
            [_Tile(*tile)],
            program.target,
            weights.weight_bits,
            stream.bits,
            stream.signed,
            op.adc_range,
            seen,
            gated=op.gated is not None,
        )
        if out is None:
            out = np.zeros((len(x), n), part.dtype)
        np.add.at(out, (slice(None), columns), part)
        known = counts.setdefault(weights.symbol, {"conversions": 0, "saturated": 0})
        for what, count in seen.items():
            known[what] += count
    return Vectors(out)


def _scatter(op, stream, program, counts):
    shape, sums = list(shape_of(op.result)), stream.values
    if op.axis is not None:
        axis = op.axis.value.data
        rest = [s for i, s in enumerate(shape) if i != axis]
        known = int(np.prod([s for s in rest if s >= 0], dtype=np.int64))
        rest = [len(sums) // known if s < 0 else s for s in rest]
        return np.moveaxis(sums.reshape(*rest, sums.shape[1]), -1, axis)
    spatial = [int(np.prod(shape[2:]))] if op.flat is not None else shape[2:]
    each = int(np.prod(op.window.output_size(spatial)))
    out = np.zeros((len(sums) // each, shape[1], *spatial), sums.dtype)
    # In the order of the kernel: filter and window position, then vectors.
    by_place = sums.reshape(len(out), each, shape[1], -1)
    places = list(_places(op.window, spatial))
    for tap in range(by_place.shape[3]):
        for v, place in enumerate(places):
            inside, index = place[tap]
            if inside:
                out[(slice(None), slice(None), *index)] += by_place[:, v, :, tap]
    return out.reshape(len(out), *shape[1:])


def _dequantize(op, sums, program, counts):
    weights = weights_of(op)
    axis = op.axis.value.data
    view = [-1 if i == axis else 1 for i in range(sums.ndim)]
    q = program.weights[weights.symbol].astype(np.int64)
    shift = op.zero_point.value.data * q.sum(axis=0).reshape(view)
    if op.window is not None:  # what inputs that are all at the zero point give
        kernel, strides, pads, dilations = op.window.lists()
        groups, size = weights.group_count, sums.shape[2:]
        w = q.reshape(-1, *kernel, groups, q.shape[1] // groups)
        w = np.moveaxis(w, (-2, -1), (0, 2)).reshape(-1, q.shape[1] // groups, *kernel)
        x = np.full((1, len(w), *op.window.output_size(size)), op.zero_point.value.data)
        shift = transposed(
            x, w, size, strides=strides, pads=pads, dilations=dilations, groups=groups
        )
    scale = program.weights[f"{weights.symbol}.scale"].astype(np.float64) * op.scale.value.data
    bias = np.zeros(weights.matrix[1])
    if weights.bias.value.data:
        bias = program.weights[f"{weights.symbol}.bias"].astype(np.float64)
    real = (sums - shift.astype(np.float64)) * scale.reshape(view) + bias.reshape(view)
    return real.astype(np.float32)
