"""What a run's activations do with the input codes: how many are clipped, what range is used.

Data that are scaled unlike those of the calibration show here: 0 .. 255 where the network was
calibrated on 0 .. 1 clips nearly every code, the other way round uses hardly one.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.ir import Operation, SSAValue

from xbarc.ir.dialect import DequantizeOp, QuantizeOp, element_of, weights_of
from xbarc.support.data import Array


@dataclass(frozen=True)
class CodeUse:
    """Of all `activations` the share `clipped`, beyond the largest or the least code.

    `low` and `high`: what the activations reach; `least` and `largest` what codes stand for.
    """

    activations: int
    clipped: float
    low: float
    high: float
    least: float
    largest: float

    @property
    def used(self) -> float:
        """The part of the codes' range that the activations reach, from 0 to 1."""
        reach = min(self.high, self.largest) - max(self.low, self.least)
        return max(0.0, reach) / (self.largest - self.least)


class CodeCounter:
    """Counts what quantising clips, for the operations that it is asked for.

    `first` only: those before any layer, which see the data of the user. Threads may count at once.
    """

    def __init__(self, *, first: bool) -> None:
        self._first, self._lock = first, threading.Lock()
        self._ops: list[QuantizeOp] = []
        self._counts: dict[int, tuple[int, int, float, float]] = {}

    def watch(self, op: QuantizeOp) -> Callable[[Array], None] | None:
        """What is to be shown each array that `op` quantises; None where it isn't counted."""
        if op.recodes or (self._first and _behind_a_layer(op.input)):
            return None  # codes lose nothing where they only lose their sign
        index = len(self._ops)
        self._ops.append(op)
        least, largest = code_range(op)

        def count(x: Array) -> None:
            if not x.size:
                return
            low, high = float(x.min()), float(x.max())
            clipped = 0
            if low < least or high > largest:
                clipped = int(np.count_nonzero((x < least) | (x > largest)))
            with self._lock:
                was = self._counts.get(index, (0, 0, np.inf, -np.inf))
                self._counts[index] = (
                    was[0] + x.size,
                    was[1] + clipped,
                    min(was[2], low),
                    max(was[3], high),
                )

        return count

    def uses(self) -> dict[str, CodeUse]:
        """By layer. One whose codes several layers share is there under each name."""
        found = {}
        for index, (size, clipped, low, high) in sorted(self._counts.items()):
            op = self._ops[index]
            least, largest = code_range(op)
            # Half a step beyond the last code still rounds to it.
            use = CodeUse(size, clipped / size, low, high, least, largest)
            found.update(dict.fromkeys(_layers_of(op.result), use))
        return found


def code_range(op: QuantizeOp) -> tuple[float, float]:
    """The activations beyond which codes are clipped: half a step outside the last codes."""
    element, scale = element_of(op.result), float(op.scale.value.data)
    bits, signed = element.width.data, element.signedness.data.name == "SIGNED"
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    low = -high if signed else 0
    zero = op.zero_point.value.data
    return (low - zero - 0.5) * scale, (high - zero + 0.5) * scale


def _behind_a_layer(value: SSAValue) -> bool:
    """Whether a layer's results have a part in the value."""
    seen: set[Operation] = set()
    waiting = [value]
    while waiting:
        op = waiting.pop().owner
        if isinstance(op, DequantizeOp):
            return True
        if isinstance(op, Operation) and op not in seen:
            seen.add(op)
            waiting.extend(op.operands)
    return False


def _layers_of(codes: SSAValue) -> Iterator[str]:
    """The layers that read these codes: through gathers and other moves, up to their weights."""
    seen: set[Operation] = set()
    waiting = [codes]
    names: dict[str, None] = {}
    while waiting:
        for use in waiting.pop().uses:
            op = use.operation
            if op in seen:
                continue
            seen.add(op)
            if isinstance(op, DequantizeOp):
                names[weights_of(op).symbol] = None
            else:
                waiting.extend(op.results)
    yield from names
