"""Operators that work on each entry by itself, with numpy's broadcasting."""

import functools
from collections.abc import Callable
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.train.operators.operator import Operator, Unsupported

TYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}
"""torch's types by ONNX's numbers."""


def torch_type(number: int) -> torch.dtype:
    """The type of that ONNX number. Raises `Unsupported` where torch has none."""
    if number not in TYPES:
        raise Unsupported(f"type {onnx.TensorProto.DataType.Name(number).lower()}")
    return TYPES[number]


def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """x in another type."""
    return x.to(torch_type(to))


def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """x in the type of `like`."""
    return x.to(like.dtype)


def clip(
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
    *,
    min: float | None = None,  # noqa: A002 - ONNX's name
    max: float | None = None,  # noqa: A002
) -> Tensor:
    """x within bounds: inputs from opset 11 on, attributes before."""
    bottom, top = (v if n is None else n for v, n in ((low, min), (high, max)))
    if bottom is not None:
        x = torch.maximum(x, torch.as_tensor(bottom, dtype=x.dtype, device=x.device))
    if top is not None:
        x = torch.minimum(x, torch.as_tensor(top, dtype=x.dtype, device=x.device))
    return x


def divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b; of integers what is left when the fraction is cut off."""
    return a / b if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The remainder: with the sign of b, or of a under `fmod`."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def power(a: Tensor, b: Tensor) -> Tensor:
    """a to the power of b, in the type of a."""
    return torch.pow(a, b).to(a.dtype)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Negative entries times `slope`, which broadcasts to x."""
    return torch.where(x < 0, x * slope, x)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """alpha x + beta within 0 .. 1."""
    return (alpha * x + beta).clamp(0, 1)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x times the normal distribution's share below it."""
    return F.gelu(x, approximate=approximate)


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Negative entries times alpha."""
    return F.leaky_relu(x, alpha)


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Negative entries as alpha (e^x - 1)."""
    return torch.where(x < 0, alpha * torch.expm1(x), x)


def selu(x: Tensor, *, alpha: float = 1.67326319, gamma: float = 1.05070102) -> Tensor:
    """gamma times `elu`."""
    return gamma * elu(x, alpha=alpha)


def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Negative entries as alpha (e^(x / alpha) - 1)."""
    return torch.where(x < 0, alpha * torch.expm1(x / alpha), x)


def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Entries of at most alpha as 0."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Entries within +-lambd as 0, others nearer to 0 by bias."""
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero))


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Where x is infinite."""
    none = torch.zeros_like(x, dtype=torch.bool)
    above = torch.isposinf(x) if detect_positive else none
    return above | (torch.isneginf(x) if detect_negative else none)


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where the condition holds, else b."""
    return torch.where(condition, a, b)


def dropout(
    x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None, *, seed: int = 0
) -> Tensor:
    """x: a network is retrained as it is used."""
    return x


def mean(*values: Tensor) -> Tensor:
    """The mean of all inputs."""
    return functools.reduce(torch.add, values) / len(values)


def _many(pair: Callable[[Any, Any], Tensor]) -> Operator:
    return lambda *values: functools.reduce(pair, values)


def _identity(x: Tensor) -> Tensor:
    return x


OPERATORS: dict[str, Operator] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": torch.ceil,
    "Celu": celu,
    "Clip": clip,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Div": divide,
    "Dropout": dropout,
    "Elu": elu,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Gelu": gelu,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
    "Identity": _identity,
    "IsInf": is_inf,
    "IsNaN": torch.isnan,
    "LeakyRelu": leaky_relu,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Max": _many(torch.maximum),
    "Mean": mean,
    "Min": _many(torch.minimum),
    "Mish": F.mish,
    "Mod": mod,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "Softsign": lambda x: x / (1 + x.abs()),
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": _many(torch.add),
    "Swish": swish,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "ThresholdedRelu": thresholded_relu,
    "Where": where,
    "Xor": torch.logical_xor,
}
