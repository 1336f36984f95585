"""Elementwise operators and activations, with numpy's broadcasting."""

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype

FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")

UNARY = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "bitwise_not": "BitwiseNot",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "fast_erf": "Erf",
    "fast_exp": "Exp",
    "fast_tanh": "Tanh",
    "floor": "Floor",
    "isinf": "IsInf",
    "isnan": "IsNaN",
    "log": "Log",
    "logical_not": "Not",
    "negative": "Neg",
    "nn.mish": "Mish",
    "nn.relu": "Relu",
    "nn.softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "tan": "Tan",
    "tanh": "Tanh",
}

BINARY = {
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
    "divide": "Div",
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "maximum": "Max",
    "minimum": "Min",
    "multiply": "Mul",
    "power": "Pow",
    "subtract": "Sub",
}


def _unary(op_type: str) -> Operator:
    def unary(b: Builder, x: ir.Value) -> ir.Value:
        return b.op(op_type, x)

    return unary


def _binary(op_type: str) -> Operator:
    def binary(b: Builder, x: Any, y: Any) -> ir.Value:
        return b.op(op_type, *matched(b, x, y))

    return binary


def matched(b: Builder, x: Any, y: Any) -> tuple[ir.Value, ir.Value]:
    """Both as values; a plain number takes the other's element type."""
    if not isinstance(x, ir.Value):
        if not isinstance(y, ir.Value):
            raise Unsupported("needs a tensor")
        return b.like(x, y), y
    return x, y if isinstance(y, ir.Value) else b.like(y, x)


def is_float(b: Builder, x: ir.Value) -> bool:
    """Whether the elements are floats."""
    return b.dtype(x).name in FLOATS


# --- Rounding and division -----------------------------------------------------------------------


def round_(b: Builder, x: ir.Value) -> ir.Value:
    """To the nearest integer, halves away from zero (C's `round`); ONNX's Round takes the even."""
    if not is_float(b, x):
        return x
    whole = trunc(b, x)
    rest = b.op("Abs", b.op("Sub", x, whole, part="rest"), part="abs")
    step = b.op("Where", _at_least_half(b, rest, x), b.op("Sign", x, part="sign"), b.like(0, x))
    return b.op("Add", whole, step)


def _at_least_half(b: Builder, rest: ir.Value, x: ir.Value) -> ir.Value:
    return b.op("GreaterOrEqual", rest, b.like(0.5, x), part="half")


def trunc(b: Builder, x: ir.Value) -> ir.Value:
    """Towards zero."""
    if not is_float(b, x):
        return x
    magnitude = b.op("Floor", b.op("Abs", x, part="abs"), part="floor")
    return b.op("Mul", b.op("Sign", x, part="sign"), magnitude)


def floor_divide(b: Builder, x: Any, y: Any) -> ir.Value:
    """The quotient, rounded down; ONNX's Div truncates integers."""
    x, y = matched(b, x, y)
    if is_float(b, x):
        return b.op("Floor", b.op("Div", x, y, part="quotient"))
    rest = b.op("Mod", x, y, part="rest")  # takes the divisor's sign
    return b.op("Div", b.op("Sub", x, rest, part="whole"), y)


def mod(b: Builder, x: Any, y: Any) -> ir.Value:
    """The rest of a truncated division: the dividend's sign."""
    return b.op("Mod", *matched(b, x, y), fmod=1)


def floor_mod(b: Builder, x: Any, y: Any) -> ir.Value:
    """The rest of `floor_divide`: the divisor's sign."""
    x, y = matched(b, x, y)
    if not is_float(b, x):
        return b.op("Mod", x, y)
    whole = b.op("Floor", b.op("Div", x, y, part="quotient"), part="floor")
    return b.op("Sub", x, b.op("Mul", whole, y, part="whole"))


def not_equal(b: Builder, x: Any, y: Any) -> ir.Value:
    """Where the two differ."""
    return b.op("Not", b.op("Equal", *matched(b, x, y), part="equal"))


def rsqrt(b: Builder, x: ir.Value) -> ir.Value:
    """1 / sqrt(x)."""
    return b.op("Reciprocal", b.op("Sqrt", x, part="sqrt"))


def _log(base: float) -> Operator:
    def log(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Mul", b.op("Log", x, part="log"), b.like(1 / math.log(base), x))

    return log


def sqrt(b: Builder, x: ir.Value) -> ir.Value:
    """The square root; of an integer the whole part of it, exact below 2^53."""
    dtype = b.dtype(x)
    if not dtype.is_integer():
        return b.op("Sqrt", x)
    return b.cast(b.op("Sqrt", b.cast(x, ir.DataType.DOUBLE)), dtype)


def square(b: Builder, x: ir.Value) -> ir.Value:
    """x x."""
    return b.op("Mul", x, x)


def isfinite(b: Builder, x: ir.Value) -> ir.Value:
    """Neither infinite nor NaN."""
    odd = b.op("Or", b.op("IsInf", x, part="inf"), b.op("IsNaN", x, part="nan"), part="odd")
    return b.op("Not", odd)


# --- Types and ranges ----------------------------------------------------------------------------


def identity(b: Builder, x: ir.Value, **settings: Any) -> ir.Value:
    """`x`: what only says where or when to compute."""
    return x


def cast(b: Builder, x: ir.Value, dtype: str) -> ir.Value:
    """Another element type; floats to integers by truncation."""
    return b.cast(x, onnx_dtype(dtype))


def cast_like(b: Builder, x: ir.Value, like: ir.Value) -> ir.Value:
    """The element type of `like`."""
    return b.cast(x, b.dtype(like))


def clip(b: Builder, x: ir.Value, a_min: Any, a_max: Any) -> ir.Value:
    """Between two numbers; an infinite one, or one beyond the element type, is no bound."""
    bounds = []
    for number in (a_min, a_max):
        array = b.static(number)
        if array is None or array.size != 1:
            raise Unsupported("needs constant bounds")
        bounds.append(_bound(b, x, float(array.reshape(()))))
    return b.op("Clip", x, *bounds)


def _bound(b: Builder, x: ir.Value, number: float) -> ir.Value | None:
    if math.isinf(number) or math.isnan(number):
        return None
    if is_float(b, x):
        return b.like(number, x)
    limits = np.iinfo(b.dtype(x).numpy())
    return b.like(int(min(max(number, limits.min), limits.max)), x)


def where(b: Builder, condition: ir.Value, x: Any, y: Any) -> ir.Value:
    """`x` where the condition holds, else `y`."""
    return b.op("Where", b.cast(condition, ir.DataType.BOOL), *matched(b, x, y))


# --- Activations ---------------------------------------------------------------------------------


def bias_add(b: Builder, x: ir.Value, bias: ir.Value, *, axis: int = 1) -> ir.Value:
    """A vector added along `axis`."""
    behind = b.rank(x) - 1 - b.axis(x, axis)
    return add(b, x, b.reshape(bias, [-1] + [1] * behind) if behind else bias)


def add(b: Builder, x: Any, y: Any) -> ir.Value:
    """The sum; of a quantised product and a constant bias in the product's own floats."""
    x, y = matched(b, x, y)
    floats, bias = b.whole(x), b.static(y)
    if floats is None or bias is None:
        return b.op("Add", x, y)
    return b.integral(b.op("Add", floats, b.like(bias, floats)), b.dtype(x))


def leaky_relu(b: Builder, x: ir.Value, *, alpha: float = 0.25) -> ir.Value:
    """x where positive, else alpha x."""
    return b.op("LeakyRelu", x, alpha=alpha)


def leakyrelu(b: Builder, x: ir.Value, *, alpha: float = 0.01) -> ir.Value:
    """Relax's `leaky_relu`, with another default."""
    return b.op("LeakyRelu", x, alpha=alpha)


def prelu(b: Builder, x: ir.Value, alpha: ir.Value, *, axis: int = 1) -> ir.Value:
    """`leaky_relu` with a slope for each channel of `axis`, or one for all."""
    behind = b.rank(x) - 1 - b.axis(x, axis)
    if b.dims(alpha) not in ((), (1,)) and behind:
        alpha = b.reshape(alpha, [-1] + [1] * behind)
    return b.op("PRelu", x, alpha)


def gelu(b: Builder, x: ir.Value) -> ir.Value:
    """x times the normal distribution function."""
    return b.op("Gelu", x)


def gelu_tanh(b: Builder, x: ir.Value) -> ir.Value:
    """`gelu` by its approximation with tanh."""
    return b.op("Gelu", x, approximate="tanh")


def silu(b: Builder, x: ir.Value) -> ir.Value:
    """x sigmoid(x)."""
    return b.op("Mul", x, b.op("Sigmoid", x, part="sigmoid"))


def relu6(b: Builder, x: ir.Value) -> ir.Value:
    """Between 0 and 6."""
    return b.op("Clip", x, b.like(0, x), b.like(6, x))


def selu(b: Builder, x: ir.Value) -> ir.Value:
    """The scaled exponential linear unit."""
    return b.op("Selu", x)


OPERATORS: dict[str, Operator] = {
    **{name: _unary(op_type) for name, op_type in UNARY.items()},
    **{name: _binary(op_type) for name, op_type in BINARY.items()},
    "add": add,
    "annotation.stop_fusion": identity,
    "astype": cast,
    "cast": cast,
    "cast_like": cast_like,
    "clip": clip,
    "copy": identity,
    "device_copy": identity,
    "floor_divide": floor_divide,
    "floor_mod": floor_mod,
    "isfinite": isfinite,
    "log10": _log(10),
    "log2": _log(2),
    "mod": mod,
    "nn.bias_add": bias_add,
    "nn.gelu": gelu,
    "nn.gelu_tanh": gelu_tanh,
    "nn.leaky_relu": leaky_relu,
    "nn.leakyrelu": leakyrelu,
    "nn.prelu": prelu,
    "nn.relu6": relu6,
    "nn.selu": selu,
    "nn.silu": silu,
    "not_equal": not_equal,
    "on_device": identity,
    "round": round_,
    "rsqrt": rsqrt,
    "sqrt": sqrt,
    "square": square,
    "trunc": trunc,
    "where": where,
}
