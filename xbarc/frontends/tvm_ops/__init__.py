"""TVM's operators as ONNX: one table for Relax and Relay.

A front end walks its program and, at each call, turns its own nodes to one neutral form:

    b = Builder(OPERATORS)
    x = b.input("x", onnx_dtype("float32"), ("N", 3, 32, 32))       # a symbol leaves a size open
    w = b.constant(array, "conv1_weight")
    y = b.call("nn.conv2d", [x, w], {"strides": (2, 2), "padding": (1, 1)}, label="conv1")
    model = b.model([y], ["output"], "main")                        # after b.check("model.relay")

- The name is the operator's, without the dialect's prefix (`relax.nn.conv2d` is `nn.conv2d`).
- Arguments are `ir.Value`s, Python tuples of them (a tuple in TVM), or plain Python values where
  Relax passes a shape, an axis or a number: ints, floats, strings, tuples of ints or of symbols'
  names, None. A scalar constant may be given either way: `b.static` reads both.
- Attributes are plain Python values by TVM's names: ints, floats, bools, strings, tuples, None.
- The result is an `ir.Value`, a tuple of them, or `FAILED`, which may be passed on as an argument:
  what couldn't be imported is noted, and `b.check` raises one error that names all of it.

An operator is a function `f(b, *arguments, **attributes)`: its signature is the specification of
what it takes, its defaults are TVM's, and an attribute that it doesn't name is refused. Positional
parameters may be given by name as well, so that what Relay holds in an attribute and Relax in an
argument is one parameter. Where both call one operator by two names or order its arguments in two
ways, the table has two entries. It raises `Unsupported` for what it can't do; the name is added.
A call's shapes and types follow from onnx's inference of each node as it is written (`Builder.op`),
so `b.dims(value)`, `b.rank(value)`, `b.dtype(value)` answer at once.

Each family is a file with a dict of its operators at its end. Layouts are the business of `layouts`
alone.
"""

from xbarc.frontends.tvm_ops import (
    convolution,
    elementwise,
    fill,
    image,
    linear,
    normalization,
    pooling,
    quantized,
    reduce,
    select,
    shape,
)
from xbarc.frontends.tvm_ops.builder import (
    FAILED,
    Builder,
    Dim,
    Failed,
    Operator,
    Unsupported,
    onnx_dtype,
)

OPERATORS: dict[str, Operator] = {
    **convolution.OPERATORS,
    **elementwise.OPERATORS,
    **fill.OPERATORS,
    **image.OPERATORS,
    **linear.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantized.OPERATORS,
    **reduce.OPERATORS,
    **select.OPERATORS,
    **shape.OPERATORS,
}

__all__ = [
    "FAILED",
    "OPERATORS",
    "Builder",
    "Dim",
    "Failed",
    "Operator",
    "Unsupported",
    "onnx_dtype",
]
