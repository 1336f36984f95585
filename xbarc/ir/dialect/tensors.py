"""Tensors in the IR: their types, and what verifiers ask of them."""

import math
from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.types import StreamType, is_code_type


def tensor(shape: Sequence[int], element: Attribute) -> TensorType[Attribute]:
    """A tensor type; -1 is a dimension that varies with the batch."""
    return TensorType(element, [DYNAMIC_INDEX if s < 0 else s for s in shape])


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor value, -1 where it varies with the batch."""
    shape = cast(TensorType[Attribute], value.type).get_shape()
    return tuple(-1 if s == DYNAMIC_INDEX else s for s in shape)


def element_of(value: SSAValue) -> IntegerType:
    """The element type of a stream or a tensor of codes."""
    if isinstance(value.type, StreamType):
        return value.type.element
    return cast(IntegerType, cast(TensorType[Attribute], value.type).element_type)


def need_codes(value: SSAValue, what: str) -> None:
    """Refuse a value that is no tensor of codes. Raises `VerifyException`."""
    if not isinstance(value.type, TensorType) or not is_code_type(value.type.element_type):
        raise VerifyException(f"{what} is a tensor of si<n> or ui<n>, not {value.type}")


def need_vectors(stream: StreamType, others: Sequence[int]) -> None:
    """The vectors of a stream against the axes of its tensor that aren't vectors' own.

    An axis of unknown size varies with the batch; it holds at least one item for a batch of one,
    so the count is a multiple of what is known.
    """
    known = math.prod(s for s in others if s >= 0)
    exact = all(s >= 0 for s in others)
    if stream.vectors.data % max(known, 1) or (exact and stream.vectors.data != known):
        raise VerifyException(
            f"{stream.vectors.data} vectors don't fit the tensor, whose other axes hold {known}"
        )


def need_axis(shape: Sequence[int], axis: int, length: int) -> None:
    """Refuse an axis that isn't there or of another length. Raises `VerifyException`."""
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} isn't one of the tensor's {len(shape)}")
    if shape[axis] != length:
        raise VerifyException(f"axis {axis} has {shape[axis]} entries, not {length}")
