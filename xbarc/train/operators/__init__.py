"""ONNX operators as functions of torch tensors: one table.

An operator is a function; its signature is what the table takes of ONNX: inputs by place,
attributes by name with ONNX's defaults. A node with an attribute that the function doesn't name is
refused, not misread. The importer brings models to opset 18 or above; where an operator had an
attribute for what is an input today, the function takes either.
"""

from xbarc.train.operators import (
    elementwise,
    linear,
    normalization,
    reduce,
    resize,
    shape,
    window,
)
from xbarc.train.operators.operator import Operator, Unsupported

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **linear.OPERATORS,
    **normalization.OPERATORS,
    **reduce.OPERATORS,
    **resize.OPERATORS,
    **shape.OPERATORS,
    **window.OPERATORS,
}

__all__ = ["OPERATORS", "Operator", "Unsupported"]
