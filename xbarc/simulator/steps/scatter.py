"""`xbar.scatter`: results back to a tensor, which draws them block by block."""

import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import cast

import numpy as np

from xbarc.ir.dialect import ScatterOp, StreamType, WindowAttr, shape_of, spatial_size
from xbarc.simulator import windows
from xbarc.simulator.step import BLOCK, Batch, Preparation, Step, StepKind, around, blocks
from xbarc.simulator.streams import Product, geometry
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


def prepare(op: ScatterOp, at: Preparation) -> Step:
    """Results along an axis, or added where windows stand on the result."""
    if op.window is not None:
        return _windows(op, op.window)
    assert op.axis is not None
    axis, declared = op.axis.value.data, shape_of(op.result)
    return lambda batch, product: [_along(batch, product, axis, declared)]


def _along(batch: Batch, product: Product, axis: int, declared: Sequence[int]) -> Array:
    """Results along an axis of a tensor of the `declared` shape."""
    shape = _resolve(declared, axis, product.count)
    outer, columns, inner = around(shape, axis)
    dtype = product.sum_dtype()
    out = np.empty((outer, columns, inner), dtype=dtype)

    def draw(block: tuple[int, int, int, int]) -> None:
        o0, o1, i0, i1 = block
        start = o0 * inner + i0
        sums = product.sums(start, start + (o1 - o0) * (i1 - i0), dtype)
        out[o0:o1, :, i0:i1] = sums.reshape(columns, o1 - o0, i1 - i0).swapaxes(0, 1)

    drawn = batch.each(draw, blocks(outer, inner, _block_size(product)))
    deque(drawn, maxlen=0)
    return out.reshape(shape)


def _windows(op: ScatterOp, window: WindowAttr) -> Step:
    """Sums added where windows stand on the result."""
    if window.rank > 3:
        raise XbarcError(f"a window over {window.rank} axes: the simulator knows up to 3")
    shape, length = shape_of(op.result), cast(StreamType, op.input.type).length.data
    spatial = spatial_size(shape, flat=op.flat is not None)
    place = geometry(window, spatial)
    per_input, together = int(place[-1].prod()), _together(window)

    def step(batch: Batch, product: Product) -> list[Array]:
        if product.per_output is not None:
            return [_along(batch, product.per_output, 1, shape)]
        dtype = product.sum_dtype(together)
        items = product.count // per_input
        out = np.zeros((items, shape[1], *[1] * (3 - window.rank), *spatial), dtype)
        adding = threading.Lock()

        def draw(block: tuple[int, int, int, int]) -> None:
            o0, o1, i0, i1 = block
            start = o0 * per_input + i0
            sums = product.sums(start, start + (o1 - o0) * (i1 - i0), dtype)
            assert len(sums) == length
            # Windows of one block may reach into those of another.
            with adding:
                windows.scatter_windows(sums, *place, start, out)

        # Sums that aren't integers depend on their order.
        each = map if together > 1 and not product.matrix.integer else batch.each
        deque(each(draw, blocks(items, per_input, _block_size(product))), maxlen=0)
        return [out.reshape(items, *shape[1:])]

    return step


def _together(window: WindowAttr) -> int:
    """How many windows may add to one entry."""
    kernel, strides, _, dilations = window.lists()
    return math.prod(
        min(k, -(-((k - 1) * d + 1) // s))
        for k, s, d in zip(kernel, strides, dilations, strict=True)
    )


def _block_size(product: Product) -> int:
    """Vectors of a block."""
    return max(64, BLOCK // product.matrix.shape[0])


def _resolve(declared: Sequence[int], axis: int, vectors: int) -> list[int]:
    """The shape of the result, its unknown axis found from the number of vectors."""
    known = math.prod(s for i, s in enumerate(declared) if s >= 0 and i != axis)
    return [vectors // known if s < 0 else s for s in declared]


STEP = StepKind(ScatterOp.name, prepare)
