"""Quantised operators that Relay text can call, against TVM's definitions."""

import math

import numpy as np
import pytest
from relay_operators import check, real, t, whole
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


def up(x):
    """TVM's UPWARD."""
    return np.floor(np.asarray(x, np.float64) + 0.5)


def away(x):
    """TVM's TONEAREST, and what qnn.quantize does."""
    return np.sign(x) * np.floor(np.abs(np.asarray(x, np.float64)) + 0.5)


def int8(x):
    return np.clip(x, -128, 127).astype(np.int8)


def test_quantize_takes_halves_away_from_zero():
    # QuantizeLinear takes the even: [-2, -2, 0, 0, 2, 2].
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300, -300], np.float32)
    expected = int8(away(x) + 3)
    check('qnn.quantize(%x, 1f, 3, out_dtype="int8")', expected, {"x": x})
    x = 10 * real(2, 3)
    s = np.array([0.5, 0.25, 2], np.float32)
    z = np.array([1, -2, 0], np.int32)
    body = 'qnn.quantize(%x, %s, %z, axis=1, out_dtype="int8")'
    check(body, int8(away(x / s) + z), {"x": x}, {"s": s, "z": z})
    expected = np.clip(away(x / np.float32(0.1)) + 128, 0, 255).astype(np.uint8)
    check('qnn.quantize(%x, 0.1f, 128, out_dtype="uint8")', expected, {"x": x})


def test_dequantize():
    x = whole(-128, 128, 2, 3, dtype=np.int8)
    expected = ((x.astype(np.int32) - 5) * np.float32(0.2)).astype(np.float32)
    check("qnn.dequantize(%x, 0.2f, 5)", expected, {"x": x})
    s = np.array([0.5, 0.25, 2], np.float32)
    z = np.array([1, -2, 0], np.int32)
    expected = ((x.astype(np.int32) - z) * s).astype(np.float32)
    check(
        "qnn.dequantize(%x, %s, %z, axis=1)",
        expected,
        {"x": x},
        {"s": s, "z": z},
    )
    x = whole(-9999, 9999, 2, 3)
    expected = ((x - 5) * np.float32(0.2)).astype(np.float32)
    check("qnn.dequantize(%x, 0.2f, 5)", expected, {"x": x})


@pytest.mark.parametrize(("rounding", "function"), [("UPWARD", up), ("TONEAREST", away)])
def test_requantize_rounds_as_tvm_does(rounding, function):
    # Half of the odd numbers' products end in .5.
    x = np.arange(-41, 41, dtype=np.int32)
    body = f'qnn.requantize(%x, 0.5f, 1, 1f, -2, rounding="{rounding}", out_dtype="int8")'
    check(body, int8(function((x - 1) * 0.5) - 2), {"x": x})


def test_requantize_by_channel_and_to_int32():
    x = whole(-900, 900, 4, 3)
    s = np.array([0.5, 0.25, 0.03], np.float32)
    factor = s.astype(np.float64) / 0.75
    body = 'qnn.requantize(%x, %s, 0, 0.75f, 7, axis=1, out_dtype="int8")'
    check(body, int8(up(x * factor) + 7), {"x": x}, {"s": s})
    x = whole(-(1 << 29), 1 << 29, 50)
    factor = float(np.float32(0.3)) / float(np.float32(0.7))
    body = 'qnn.requantize(%x, 0.3f, 0, 0.7f, 0, out_dtype="int32")'
    check(body, up(x * factor).astype(np.int32), {"x": x})


def conv_int(x, w, zx, zw, **settings):
    left, right = t(x.astype(np.float64) - zx), t(w.astype(np.float64) - zw)
    return functional.conv2d(left, right, **settings).numpy()


def test_qnn_conv2d():
    x = whole(0, 256, 2, 3, 6, 6, dtype=np.uint8)
    w = whole(-128, 128, 4, 3, 3, 3, dtype=np.int8)
    expected = conv_int(x, w, 7, 0, padding=1).astype(np.int32)
    body = (
        "qnn.conv2d(%x, %w, 7, 0, 0.1f, 0.2f, padding=[1, 1, 1, 1], channels=4, "
        'kernel_size=[3, 3], out_dtype="int32")'
    )
    check(body, expected, {"x": x}, {"w": w})
    z = np.array([1, -3, 0, 9], np.int32)
    expected = conv_int(x, w, 7, z.reshape(4, 1, 1, 1)).astype(np.int32)
    check("qnn.conv2d(%x, %w, 7, %z, 0.1f, 0.2f)", expected, {"x": x}, {"w": w, "z": z})
    inputs = {"x": x.transpose(0, 2, 3, 1).copy()}
    weights = {"w": w.transpose(2, 3, 1, 0).copy(), "z": z}
    body = 'qnn.conv2d(%x, %w, 7, %z, 0.1f, 0.2f, data_layout="NHWC", kernel_layout="HWIO")'
    check(body, expected.transpose(0, 2, 3, 1), inputs, weights)


def test_a_quantised_layer_to_the_last_bit():
    x = whole(-128, 128, 2, 3, 6, 6, dtype=np.int8)
    w = whole(-128, 128, 4, 3, 3, 3, dtype=np.int8)
    b = whole(-999, 999, 4)
    s = np.array([0.002, 0.001, 0.0005, 0.0041], np.float32)
    body = """
      %0 = qnn.conv2d(%x, %w, -5, 0, 0.1f, 0.02f, padding=[1, 1, 1, 1], out_dtype="int32");
      %1 = nn.bias_add(%0, %b);
      %2 = qnn.requantize(%1, %s, 0, 0.17f, 4, axis=1, out_dtype="int8");
      clip(%2, a_min=4f, a_max=127f)
    """
    total = conv_int(x, w, -5, 0, padding=1) + b.reshape(4, 1, 1)
    factor = (s.astype(np.float64) / float(np.float32(0.17))).reshape(4, 1, 1)
    expected = int8(up(total * factor) + 4).clip(4, 127)
    check(body, expected, {"x": x}, {"w": w, "b": b, "s": s})


def test_other_quantised_products():
    x, w = whole(-128, 128, 3, 5, dtype=np.int8), whole(-128, 128, 4, 5, dtype=np.int8)
    expected = (x.astype(np.int32) - 2) @ (w.astype(np.int32) - 1).T
    body = 'qnn.dense(%x, %w, 2, 1, 0.1f, 0.2f, units=4, out_dtype="int32")'
    check(body, expected, {"x": x}, {"w": w})
    x, y = whole(-128, 128, 2, 3, 5, dtype=np.int8), whole(-128, 128, 2, 4, 5, dtype=np.int8)
    expected = (x.astype(np.int32) - 2) @ (y.astype(np.int32) - 1).transpose(0, 2, 1)
    check("qnn.batch_matmul(%x, %y, 2, 1, 0.1f, 0.2f)", expected, {"x": x, "y": y})
    x, w = whole(-128, 128, 1, 2, 4, 4, dtype=np.int8), whole(-128, 128, 2, 3, 2, 2, dtype=np.int8)
    left = t(x.astype(np.float64) - 2)
    expected = functional.conv_transpose2d(left, t(w.astype(np.float64)), stride=2).numpy()
    body = "qnn.conv2d_transpose(%x, %w, 2, 0, 0.1f, 0.2f, strides=[2, 2])"
    check(body, expected.astype(np.int32), {"x": x}, {"w": w})


def test_quantised_sums():
    x, y = whole(-128, 128, 40, dtype=np.int8), whole(-128, 128, 40, dtype=np.int8)
    left = up((x.astype(np.int32) - 3) * (0.5 / 1.0))
    right = up((y.astype(np.int32) + 1) * (0.25 / 1.0))
    arguments = "%x, %y, 0.5f, 3, 0.25f, -1, 1f, 7"
    check(f"qnn.add({arguments})", int8(left + right + 7), {"x": x, "y": y})
    check(f"qnn.subtract({arguments})", int8(left - right + 7), {"x": x, "y": y})
    product = (x.astype(np.int32) - 3) * (y.astype(np.int32) + 1)
    check(f"qnn.mul({arguments})", int8(up(product * 0.125) + 7), {"x": x, "y": y})


def test_quantised_concatenation():
    x, y = whole(-128, 128, 2, 3, dtype=np.int8), whole(-128, 128, 2, 3, dtype=np.int8)
    body = "qnn.concatenate((%x, %y), (0.5f, 0.25f), (3, -1), 0.5f, 3, axis=1)"
    other = int8(up((y.astype(np.int32) + 1) * 0.5) + 3)
    check(body, np.concatenate([x, other], 1), {"x": x, "y": y})


QUANTISED_UNARY = {
    "abs": np.abs,
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "log": np.log,
}


@pytest.mark.parametrize("name", QUANTISED_UNARY)
def test_quantised_unary(name):
    low = 5 if name in ("sqrt", "rsqrt", "log") else -60
    x = whole(low, 60, 30, dtype=np.int8)
    real_ = (x.astype(np.float64) - 2) * float(np.float32(0.0625))
    expected = int8(away(QUANTISED_UNARY[name](real_) / float(np.float32(0.02))) - 4)
    check(f"qnn.{name}(%x, 0.0625f, 2, 0.02f, -4)", expected, {"x": x})


def test_quantised_leaky_relu_softmax_and_pool():
    x = whole(-128, 128, 60, dtype=np.int8)
    y = up((x.astype(np.int32) - 2) * 0.5) + 4
    low = up(0.1 * y) + up(0.9 * 4)
    expected = int8(np.where(x < 2, low, y))
    check("qnn.leaky_relu(%x, 0.5f, 2, 1f, 4, alpha=0.1f)", expected, {"x": x})
    x = whole(-128, 128, 3, 6, dtype=np.int8)
    power = np.exp((x.astype(np.float64) - 2) * float(np.float32(0.05)))
    expected = int8(away(power / power.sum(1, keepdims=True) * 256) - 128)
    check("qnn.softmax(%x, 0.05f, 2, 0.00390625f, -128)", expected, {"x": x})
    x = whole(-128, 128, 1, 2, 4, 4, dtype=np.int8)
    mean = np.trunc(x.reshape(1, 2, 2, 2, 2, 2).astype(np.int32).sum((3, 5)) / 4)
    expected = int8(up((mean - 2) * 0.5) + 1)
    body = "qnn.avg_pool2d(%x, 0.5f, 2, 1f, 1, pool_size=[2, 2], strides=[2, 2])"
    check(body, expected, {"x": x})
