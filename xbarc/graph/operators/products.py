"""How many products an operator computes, of the shapes that it reads and gives.

Shapes stand in the operator's order, None for one that is left out or isn't known.
"""

import math
from collections.abc import Callable, Sequence

Shape = Sequence[int]

Products = Callable[[Sequence[Shape | None], Shape | None], int | None]
"""Shapes of inputs and output -> products; None where a shape that counts is missing."""


def matrix(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """Gemm, MatMul and their quantised kin: one product a result and entry of the inner axis."""
    first = _at(inputs, 0)
    return math.prod((*output, *first[-1:])) if first and output is not None else None


def convolution(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """Conv, ConvInteger: one product a result and weight of its channel."""
    return _each_result(_at(inputs, 1), output)


def quantized_convolution(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """QLinearConv: scale and zero point of the input stand before the weights."""
    return _each_result(_at(inputs, 3), output)


def quantized_matrix(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """QGemm: one product a result and entry of the inner axis, which may come first or last."""
    weights = _at(inputs, 3)
    if weights is None or output is None or output[-1] not in weights:
        return None
    return math.prod(output[:-1]) * math.prod(weights)


def attention(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """Queries by keys, and what comes of it by values: [batch, length, heads * size] or by head."""
    queries, keys, values = (_at(inputs, index) for index in range(3))
    if queries is None or keys is None or values is None or output is None:
        return None
    if len(queries) != len(keys) or len(keys) not in (3, 4):
        return None  # packed
    return keys[-2] * (math.prod(queries) + math.prod(output))


def transposed_convolution(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """ConvTranspose: one product an input value and weight of its channel."""
    first, weights = _at(inputs, 0), _at(inputs, 1)
    return None if first is None or weights is None else math.prod((*first, *weights[1:]))


def uncounted(inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """Products that shapes alone don't tell: an Einsum's, a recurrent layer's."""
    return None


def _each_result(weights: Shape | None, output: Shape | None) -> int | None:
    return None if weights is None or output is None else math.prod((*output, *weights[1:]))


def _at(shapes: Sequence[Shape | None], index: int) -> Shape | None:
    return shapes[index] if index < len(shapes) else None
