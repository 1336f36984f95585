"""How much the values of a run take that are alive at once."""

import math
from collections.abc import Iterable, Mapping, Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Operation, SSAValue

from xbarc.ir.dialect import shape_of

VALUE_BYTES = 8
"""The widest element: an int64 sum or a float64."""


def live_bytes(
    ops: Iterable[Operation],
    arguments: Sequence[SSAValue],
    last_use: Mapping[int, Sequence[SSAValue]],
    samples: int,
) -> int:
    """Most bytes that the values of a batch of `samples` take together, by their shapes.

    `last_use` names the values that go after the operation of that index. What an operation takes
    for itself isn't counted.
    """
    alive = most = sum(_bytes(value, samples) for value in arguments)
    for index, op in enumerate(ops):
        alive += sum(_bytes(value, samples) for value in op.results)
        most = max(most, alive)
        alive -= sum(_bytes(value, samples) for value in last_use.get(index, ()))
    return most


def _bytes(value: SSAValue, samples: int) -> int:
    if not isinstance(value.type, TensorType):
        return 0  # strings, of which the IR knows no shape
    return VALUE_BYTES * math.prod(samples if size < 0 else size for size in shape_of(value))
