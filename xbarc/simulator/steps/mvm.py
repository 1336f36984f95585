"""`xbar.mvm`: the vectors of a stream meet programmed arrays."""

import threading
from typing import cast

from xbarc.ir.dialect import MvmOp, StreamType, weights_of
from xbarc.simulator.step import Batch, Observer, Preparation, Step, StepKind
from xbarc.simulator.streams import Product, Stream, product
from xbarc.support.data import Array


def prepare(op: MvmOp, at: Preparation) -> Step:
    """Program the arrays; the products are drawn by the scatter."""
    target = at.target.for_layer(weights_of(op).symbol)
    matrix = at.engine.program(op, at.weights, target, at.seed)
    at.programmed.setdefault(weights_of(op).symbol, []).append(matrix)
    per_input = cast(StreamType, op.input.type).vectors.data
    observe = at.observe
    if observe is None:
        return lambda batch, stream: [product(stream, matrix, batch.first * per_input)]
    watching = threading.Lock()

    def step(batch: Batch, stream: Stream) -> list[Product]:
        first = batch.first * per_input
        return [Product(watched(stream, op, first, observe, watching), matrix, first)]

    return step


def watched(
    stream: Stream, op: MvmOp, first: int, observe: Observer, watching: threading.Lock
) -> Stream:
    """A stream whose blocks an observer is shown, one at a time; `first`: of its first vector."""

    def block(start: int, stop: int) -> Array:
        codes = stream.block(start, stop)
        with watching:
            observe(op, codes, first + start)
        return codes

    return Stream(stream.count, block)


STEP = StepKind(MvmOp.name, prepare)
