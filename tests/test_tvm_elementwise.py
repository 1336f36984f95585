"""Elementwise operators that Relay text can call, against numpy."""

import math

import numpy as np
import pytest
from relay_operators import check, positive, real, t, whole
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


UNARY = {
    "abs": np.abs,
    "acos": lambda x: np.arccos(np.tanh(x)),
    "asin": lambda x: np.arcsin(np.tanh(x)),
    "atanh": lambda x: np.arctanh(np.tanh(x)),
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "ceil": np.ceil,
    "copy": lambda x: x,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": np.vectorize(math.erf, otypes=[np.float32]),
    "exp": np.exp,
    "fast_erf": np.vectorize(math.erf, otypes=[np.float32]),
    "fast_exp": np.exp,
    "fast_tanh": np.tanh,
    "floor": np.floor,
    "negative": np.negative,
    "nn.mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "nn.relu": lambda x: np.maximum(x, 0),
    "nn.relu6": lambda x: np.clip(x, 0, 6),
    "nn.gelu": lambda x: functional.gelu(t(x)).numpy(),
    "nn.gelu_tanh": lambda x: functional.gelu(t(x), approximate="tanh").numpy(),
    "nn.selu": lambda x: functional.selu(t(x)).numpy(),
    "nn.silu": lambda x: x / (1 + np.exp(-x)),
    "nn.softplus": lambda x: np.log1p(np.exp(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
    "annotation.stop_fusion": lambda x: x,
    "device_copy": lambda x: x,
    "on_device": lambda x: x,
}

BOUNDED = ("acos", "asin", "atanh")


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    x = (3 * real(4, 5)).clip(-4, 4)
    body = f"%0 = tanh(%x);\n{name}(%0)" if name in BOUNDED else f"{name}(%x)"
    check(body, UNARY[name](x).astype(np.float32), {"x": x}, tolerance=1e-4)


def test_unary_of_positive_numbers():
    x = positive(3, 4)
    check("sqrt(%x)", np.sqrt(x), {"x": x})
    check("rsqrt(%x)", 1 / np.sqrt(x), {"x": x})
    check("log(%x)", np.log(x), {"x": x})
    check("log2(%x)", np.log2(x), {"x": x})
    check("log10(%x)", np.log10(x), {"x": x})
    check("acosh(cosh(%x))", x, {"x": x}, tolerance=1e-4)


def test_round_takes_halves_away_from_zero():
    # ONNX's Round: [-2, -2, -0, 0, 2, 2].
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, -3.2], np.float32)
    check("round(%x)", np.array([-3, -2, -1, 1, 2, 3, 0, -3], np.float32), {"x": x})
    x = whole(-9, 9, 5)
    check("round(%x)", x, {"x": x})
    check("trunc(%x)", x, {"x": x})


def test_what_is_finite():
    x = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    check("isnan(%x)", np.isnan(x), {"x": x})
    check("isinf(%x)", np.isinf(x), {"x": x})
    check("isfinite(%x)", np.isfinite(x), {"x": x})


BINARY = {
    "add": np.add,
    "divide": np.divide,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "not_equal": np.not_equal,
    "subtract": np.subtract,
    "floor_divide": lambda x, y: np.floor(x / y).astype(x.dtype),
    "floor_mod": lambda x, y: (x - np.floor(x / y) * y).astype(x.dtype),
    "mod": np.fmod,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasts(name):
    x, y = np.round(real(2, 3, 4), 1), np.round(real(3, 1), 1)
    y[y == 0] = 0.5
    x[0, 0, 0] = y[0, 0]
    check(f"{name}(%x, %y)", BINARY[name](x, y), {"x": x, "y": y}, tolerance=1e-4)
    i, j = whole(-9, 9, 4, 3), whole(1, 5, 3) * np.array([1, -1, 1], np.int32)
    expected = BINARY[name](i, j)
    if name == "divide":  # of integers: towards zero
        expected = np.trunc(i / j).astype(np.int32)
    check(f"{name}(%x, %y)", expected, {"x": i, "y": j})
    check(f"{name}(%x, 2f)", BINARY[name](x, np.float32(2)), {"x": x}, tolerance=1e-4)


def test_power_and_logic():
    x, y = positive(3, 4), real(4)
    check("power(%x, %y)", x**y, {"x": x, "y": y})
    p, q = whole(0, 2, 6).astype(bool), whole(0, 2, 6).astype(bool)
    inputs = {"x": p, "y": q}
    check("logical_and(%x, %y)", p & q, inputs)
    check("logical_or(%x, %y)", p | q, inputs)
    check("logical_xor(%x, %y)", p ^ q, inputs)
    check("logical_not(%x)", ~p, {"x": p})
    x, y = whole(0, 99, 5), whole(0, 99, 5)
    check("bitwise_and(%x, %y)", x & y, {"x": x, "y": y})
    check("bitwise_or(%x, %y)", x | y, {"x": x, "y": y})
    check("bitwise_xor(%x, %y)", x ^ y, {"x": x, "y": y})
    check("bitwise_not(%x)", ~x, {"x": x})


def test_cast_truncates():
    x = np.array([-1.7, -0.2, 0.9, 2.5], np.float32)
    check('cast(%x, dtype="int32")', x.astype(np.int32), {"x": x})
    check('astype(%x, dtype="float64")', x.astype(np.float64), {"x": x})
    check('cast(%x, dtype="bool")', x.astype(bool), {"x": x})
    y = whole(0, 2, 3)
    check("cast_like(%x, %y)", x.astype(np.int32), {"x": x, "y": y})


def test_clip():
    x = 5 * real(4, 4)
    check("clip(%x, a_min=-1f, a_max=2f)", x.clip(-1, 2), {"x": x})
    check("clip(%x, a_min=0f, a_max=inff)", np.maximum(x, 0), {"x": x})
    x = whole(-100, 100, 9, dtype=np.int8)
    # A bound beyond the element type is none.
    check("clip(%x, a_min=-5f, a_max=255f)", np.maximum(x, -5), {"x": x})


def test_bias_add():
    x, b = real(2, 3, 4), real(3)
    check("nn.bias_add(%x, %b)", x + b[:, None], {"x": x}, {"b": b})
    b = real(4)
    check("nn.bias_add(%x, %b, axis=-1)", x + b, {"x": x}, {"b": b})


def test_leaky_relu_and_prelu():
    x = real(2, 3, 4)
    check("nn.leaky_relu(%x)", np.where(x > 0, x, 0.25 * x), {"x": x})
    check("nn.leaky_relu(%x, alpha=0.1f)", np.where(x > 0, x, np.float32(0.1) * x), {"x": x})
    check("nn.leakyrelu(%x)", np.where(x > 0, x, np.float32(0.01) * x), {"x": x})
    for axis in (1, 2):
        a = positive(x.shape[axis])
        slope = a[:, None] if axis == 1 else a
        check(f"nn.prelu(%x, %a, axis={axis})", np.where(x > 0, x, slope * x), {"x": x}, {"a": a})


def test_where():
    x, y, c = real(3, 4), real(4), whole(0, 2, 3, 4).astype(bool)
    check("where(%c, %x, %y)", np.where(c, x, y), {"c": c, "x": x, "y": y})
    number = c.astype(np.float32)
    check("where(%c, %x, %y)", np.where(c, x, y), {"c": number, "x": x, "y": y})
