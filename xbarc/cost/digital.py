"""What the digital units do, counted from a program's digital ONNX files.

An operator's entry in `xbarc.graph.operators` says what it costs: an activation one operation a
value, pooling one a value that enters a window, elementwise one a value and operand, products one a
multiply-accumulate of a digital matrix product or convolution; everything else is `other`: values
of a softmax, a normalisation, a resize. What only moves or relabels data (Reshape, Concat,
Transpose, Cast, ...) costs no operation. This counting is a model.
"""

from collections import Counter
from collections.abc import Sequence

import onnx

from xbarc.graph.operators import Operator, Operators, load_operators
from xbarc.graph.operators.costs import CLASSES, Call
from xbarc.graph.serialize import parse

Shape = tuple[int, ...]


def count_operations(
    content: bytes,
    inputs: Sequence[Shape | None],
    outputs: Sequence[Shape | None] = (),
    operators: Operators | None = None,
) -> dict[str, int]:
    """The operations of one digital file by class, for the given shapes of its in- and outputs.

    None is a value without a shape. The body of an `If` or `Loop` counts as one operation a value
    of its result. `operators`: the table, where the caller has it already.
    """
    known = load_operators() if operators is None else operators
    model = parse(content, "a digital part")
    shapes = _shapes(model, inputs, outputs)
    counts: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
    for node in model.graph.node:
        read = [shapes.get(name) if name else None for name in node.input]
        given = shapes.get(node.output[0]) if node.output else None
        kind, count = _count(known.of(node), Call(node, read, given))
        counts[kind] += count
    return dict(counts)


def _shapes(
    model: onnx.ModelProto, inputs: Sequence[Shape | None], outputs: Sequence[Shape | None]
) -> dict[str, Shape]:
    """The shape of each value that has one, by onnx's inference from the inputs."""
    graph = model.graph
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    heads = [v for v in graph.input if v.name not in known]
    for value, shape in zip(heads, inputs, strict=False):
        if shape is not None and value.type.HasField("tensor_type"):
            known[value.name] = shape
            value.type.tensor_type.ClearField("shape")
            for size in shape:
                value.type.tensor_type.shape.dim.add().dim_value = size
    ends = {v.name: s for v, s in zip(graph.output, outputs, strict=False) if s is not None}
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = model
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        if all(d.HasField("dim_value") for d in kind.shape.dim):
            known[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return {**ends, **known}


def _count(operator: Operator, call: Call) -> tuple[str, int]:
    """The class and number of one node's operations."""
    products = operator.products and operator.products(call.inputs, call.output)
    if products is not None:
        return "products", products
    return operator.cost.kind, operator.cost.operations(call)


__all__ = ["CLASSES", "count_operations"]
