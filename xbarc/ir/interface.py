"""Where the IR meets arrays: element types as numpy's, and the model's names of its values."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerType,
    ModuleOp,
    Signedness,
    StringAttr,
    f16,
    f32,
    f64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from xbarc.support.errors import XbarcError

NAME = "xbar.name"
"""The argument or result attribute that holds the model's own name of an input or output."""

COUPLED = "xbar.coupled"
"""The function attribute that says: the samples of a batch influence each other."""

ELEMENTS: Mapping[np.dtype[np.generic], Attribute] = {
    np.dtype(np.float32): f32,
    np.dtype(np.float16): f16,
    np.dtype(np.float64): f64,
    np.dtype(np.bool_): IntegerType(1),
    **{
        np.dtype(f"{sign}int{bits}"): IntegerType(bits, signedness)
        for sign, signedness in (("", Signedness.SIGNED), ("u", Signedness.UNSIGNED))
        for bits in (8, 16, 32, 64)
    },
}
"""Element types that cross between the digital unit and the rest; others stay inside it."""


def numpy_dtype(element: Attribute) -> np.dtype[np.generic]:
    """The numpy type of an element type of `ELEMENTS`."""
    return next(dtype for dtype, known in ELEMENTS.items() if known == element)


def element_type(dtype: npt.DTypeLike) -> Attribute | None:
    """The element type of a numpy type, or None."""
    return ELEMENTS.get(np.dtype(dtype))


def name_attributes(names: Iterable[str]) -> ArrayAttr[DictionaryAttr]:
    """The attributes that give arguments or results the model's names."""
    return ArrayAttr([DictionaryAttr({NAME: StringAttr(name)}) for name in names])


def names_in(attributes: ArrayAttr[DictionaryAttr] | None) -> list[str]:
    """The inverse of `name_attributes`. Raises `XbarcError` where one has no name."""
    names = []
    for entry in attributes or ():
        name = entry.data.get(NAME)
        if not isinstance(name, StringAttr):
            raise XbarcError(f"an argument or result of @main has no {NAME}")
        names.append(name.data)
    return names


def main_function(module: ModuleOp) -> FuncOp:
    """The function of a program. Raises `XbarcError` where there is none."""
    for op in module.body.block.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise XbarcError("the module has no function @main")
