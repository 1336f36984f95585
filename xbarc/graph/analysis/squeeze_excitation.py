"""Squeeze-and-excitation: finding its blocks in a graph, in the forms that exporters write.

    p = pool(x)                      # one number a channel
    g = gate(second(act(first(p))))  # C -> C/r -> C, two products with static weights
    y = x * g

(Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.query import attribute, constant, dims, input_at, is_op
from xbarc.graph.weights import weight_shape, weight_side

MOVES = (
    "Cast",
    "DequantizeLinear",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that leave values what they are, or as near as a quantised model has them."""

ELEMENTWISE = (
    "Abs",
    "Add",
    "Celu",
    "Clip",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sub",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
)
"""Of what activations and gates are made, constants of one number aside."""

LARGEST = 16
"""Nodes of an activation or a gate."""

SAMPLES = np.linspace(-30, 30, 241)
"""Where a gate is looked at."""

Order = Mapping[ir.Node, int]
"""Where nodes stand in their graph."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SqueezeExcitation:
    """One block by its nodes: `scale` multiplies `scaled` by `factor`, which the gate gives.

    `activation` and `gate` are operators from the first to the last. `folded` is the depthwise
    convolution that the scale was moved behind, if it was.
    """

    pool: ir.Node
    first: ir.Node
    second: ir.Node
    scale: ir.Node
    scaled: ir.Value
    factor: ir.Value
    activation: tuple[str, ...]
    gate: tuple[str, ...]
    folded: ir.Node | None = None

    @property
    def layers(self) -> tuple[str, str]:
        """The names of the two layers."""
        return self.first.name or "", self.second.name or ""


@dataclass(frozen=True)
class _Product:
    """A product with static weights, rows x columns, of what `source` has by channel."""

    node: ir.Node
    source: ir.Value
    rows: int
    columns: int


@dataclass(frozen=True)
class _Function:
    """A function of one value: where it begins, where it ends, its nodes in order."""

    start: ir.Value
    end: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that compute something."""
        return tuple(n.op_type for n in self.nodes if not is_op(n, *MOVES))


def find_blocks(graph: ir.Graph) -> list[SqueezeExcitation]:
    """The blocks of a graph, in the order of their scales.

    Pools are GlobalAveragePool, ReduceMean and AveragePool over the whole map, or a depthwise
    convolution of equal weights as large as the map. Products are 1x1 convolutions, Gemm and
    MatMul, their bias a constant Add or their own. Between them is any activation; a gate is
    whatever rises from 0 to 1: Sigmoid, HardSigmoid, or one written out. Reshapes, transposes,
    casts and quantisation may stand anywhere.
    """
    order = {node: i for i, node in enumerate(graph)}
    found = []
    for node in graph:
        if not is_op(node, "Mul") or len(node.inputs) != 2:
            continue
        a, b = node.inputs
        if a is None or b is None:
            continue
        block = _match(node, a, b, order) or _match(node, b, a, order)
        if block is not None:
            found.append(block)
    return found


def _match(
    scale: ir.Node, scaled: ir.Value, gated: ir.Value, order: Order
) -> SqueezeExcitation | None:
    gate = _function_at(gated, order)
    second = None if gate is None else _product_at(gate.start)
    if gate is None or second is None or not _is_gate(gate):
        return None
    activation = _function_at(second.source, order)
    first = None if activation is None else _product_at(activation.start)
    if activation is None or first is None or not activation.operators:
        return None
    if (first.rows, first.columns) != (second.columns, second.rows):
        return None
    pool = _behind_moves(first.source).producer()
    pooled = None if pool is None else _pooled(pool, first.rows)
    if pool is None or pooled is None:
        return None
    root, source = _behind_moves(scaled), _behind_moves(pooled)
    folded = None
    if root is not source:
        folded = root.producer()
        if folded is None or not is_depthwise(folded, first.rows):
            return None
        before = folded.inputs[0]
        if before is None or _behind_moves(before) is not source:
            return None
    return SqueezeExcitation(
        pool,
        first.node,
        second.node,
        scale,
        scaled,
        gated,
        activation.operators,
        gate.operators,
        folded,
    )


def is_depthwise(node: ir.Node, channels: int) -> bool:
    """Whether each column of a Conv's weights sees one channel, and each channel one column."""
    weights = weight_side(input_at(node, 1)) if is_op(node, "Conv") else None
    if weights is None or attribute(node, "group", 1) != channels:
        return False
    return weight_shape(weights)[:2] == (channels, 1)


def _behind_moves(value: ir.Value) -> ir.Value:
    """The value that `value` is a rearrangement of."""
    node = value.producer()
    while node is not None and is_op(node, *MOVES) and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _moving_inputs(node: ir.Node) -> list[ir.Value] | None:
    """What an elementwise node computes on; None where a constant isn't one number."""
    moving = []
    for value in node.inputs:
        array = constant(value)
        if value is not None and array is None:
            moving.append(value)
        elif array is not None and array.size != 1 and not is_op(node, "PRelu"):
            return None
    return moving


def _function_at(end: ir.Value, order: Order) -> _Function | None:
    """The function of one value that ends here; None where it is one of several."""
    nodes: dict[ir.Node, None] = {}
    starts: dict[ir.Value, None] = {}
    waiting = [end]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None or node in nodes:
            if node is None:
                starts[value] = None
            continue
        if is_op(node, *MOVES) and node.inputs[0] is not None:
            nodes[node] = None
            waiting.append(node.inputs[0])
            continue
        moving = _moving_inputs(node) if is_op(node, *ELEMENTWISE) else None
        if moving:
            nodes[node] = None
            waiting += moving
        else:
            starts[value] = None
        if len(nodes) > LARGEST or len(starts) > 1:
            return None
    if len(starts) != 1:
        return None
    return _Function(next(iter(starts)), end, tuple(sorted(nodes, key=order.__getitem__)))


def _product_at(end: ir.Value) -> _Product | None:
    """The layer that gives `end`, with the constant that is added behind it."""
    node = end.producer()
    if node is not None and is_op(node, "Add"):
        moving = [v for v in node.inputs if v is not None and constant(v) is None]
        if len(moving) != 1:
            return None
        node = _behind_moves(moving[0]).producer()
    if node is None or not is_op(node, "Conv", "Gemm", "MatMul") or node.inputs[0] is None:
        return None
    weights = weight_side(node.inputs[1])
    if weights is None:
        return None
    shape = weight_shape(weights)
    if is_op(node, "Conv"):
        plain = set(shape[2:]) == {1} and set(attribute(node, "strides", ())) <= {1}
        if attribute(node, "group", 1) != 1 or not plain or any(attribute(node, "pads", ())):
            return None
        return _Product(node, node.inputs[0], shape[1], shape[0])
    if len(shape) != 2 or attribute(node, "transA", 0):
        return None
    rows, columns = shape[::-1] if attribute(node, "transB", 0) else shape
    return _Product(node, node.inputs[0], rows, columns)


# --- Pools --------------------------------------------------------------------------------------


def _pooled(node: ir.Node, channels: int) -> ir.Value | None:
    """The map [N, C, ...] or [N, ..., C] of which `node` gives one average a channel."""
    source = node.inputs[0] if node.inputs else None
    shape = dims(source)
    if source is None or shape is None or len(shape) < 3:
        return None
    if is_op(node, "ReduceMean"):
        given = constant(input_at(node, 1))
        axes = attribute(node, "axes", ()) if given is None else given.reshape(-1).tolist()
        left = set(range(len(shape))) - {a % len(shape) for a in axes}
        whole = len(left) == 2 and 0 in left and shape[max(left)] == channels
        return source if whole else None
    if shape[1] != channels:
        return None
    if is_op(node, "GlobalAveragePool"):
        return source
    kernel, pads = attribute(node, "kernel_shape", ()), attribute(node, "pads", ())
    if tuple(kernel) != shape[2:] or any(pads):
        return None
    if is_op(node, "AveragePool"):
        return source
    weights = constant(input_at(node, 1))
    equal = weights is not None and weights.size and bool((weights == weights.flat[0]).all())
    return source if equal and is_depthwise(node, channels) else None


# --- Gates --------------------------------------------------------------------------------------


def _clip(node: ir.Node, x: Floats) -> Floats:
    bounds = [
        attribute(node, name) if constant(input_at(node, i)) is None else constant(node.inputs[i])
        for i, name in ((1, "min"), (2, "max"))
    ]
    low, high = (None if b is None else float(np.reshape(b, ())) for b in bounds)
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)


COMPUTE: dict[str, Callable[..., Floats]] = {
    "Add": lambda node, a, b: a + b,
    "Clip": lambda node, x, *bounds: _clip(node, x),
    "Div": lambda node, a, b: a / b,
    "Exp": lambda node, x: np.exp(x),
    "HardSigmoid": lambda node, x: np.clip(
        attribute(node, "alpha", 0.2) * x + attribute(node, "beta", 0.5), 0, 1
    ),
    "Max": lambda node, *values: np.maximum.reduce(values),
    "Min": lambda node, *values: np.minimum.reduce(values),
    "Mul": lambda node, a, b: a * b,
    "Neg": lambda node, x: -x,
    "Reciprocal": lambda node, x: 1 / x,
    "Relu": lambda node, x: np.maximum(x, 0),
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "Sub": lambda node, a, b: a - b,
    "Tanh": lambda node, x: np.tanh(x),
}
"""The operators that a gate may be written out in."""


def _is_gate(function: _Function) -> bool:
    """Whether it rises from 0 to 1, by its values at `SAMPLES`."""
    known: dict[ir.Value, Any] = {function.start: SAMPLES}
    for node in function.nodes:
        if is_op(node, *MOVES) and node.inputs[0] in known:
            known[node.outputs[0]] = known[node.inputs[0]]
            continue
        compute = COMPUTE.get(node.op_type)
        if compute is None:
            return False
        values = [known[v] if v in known else _number(v) for v in node.inputs if v]
        arrays = [np.broadcast_to(v, SAMPLES.shape) for v in values if v is not None]
        if len(arrays) < len(values):
            return False
        with np.errstate(all="ignore"):
            known[node.outputs[0]] = compute(node, *arrays)
    y = known.get(function.end)
    if y is None or not function.operators or not np.isfinite(y).all():
        return False
    rises = bool((np.diff(y) >= -1e-6).all()) and y[0] <= 0.01 and y[-1] >= 0.99
    return bool(rises and y.min() >= -1e-6 and y.max() <= 1 + 1e-6)


def _number(value: ir.Value) -> Floats | None:
    array = constant(value)
    return None if array is None else np.asarray(array, np.float64).reshape(-1)[:1]
