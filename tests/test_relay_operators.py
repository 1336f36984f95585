"""Every operator of the table that Relay text can call, against numpy or torch.

Where TVM computes something else than ONNX does, the reference here is TVM's definition, written
out: these cases say so.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from relay_programs import program, run
from torch.nn import functional

from xbarc.frontends.registry import load
from xbarc.frontends.tvm_ops import OPERATORS
from xbarc.support.errors import XbarcError

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return (RNG.random(shape) + 0.5).astype(np.float32)


def whole(low, high, *shape, dtype=np.int32):
    return RNG.integers(low, high, shape).astype(dtype)


def t(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def check(body, expected, inputs, weights=None, tolerance=1e-5):
    """One expression, or more, gives `expected` in the same type and shape."""
    found = run(body, inputs, weights)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        want = want.numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, want)


# --- Convolution ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "torch_attributes", "groups"),
    [
        ("", {}, 1),
        ("strides=[2, 1], padding=[1, 2]", {"stride": (2, 1), "padding": (1, 2)}, 1),
        ("padding=[1, 1, 1, 1], dilation=[2, 2]", {"padding": 1, "dilation": 2}, 1),
        ("padding=1, groups=2, channels=6, kernel_size=[3, 3]", {"padding": 1, "groups": 2}, 2),
        ("groups=4, channels=8", {"groups": 4}, 4),
    ],
)
def test_conv2d(attributes, torch_attributes, groups):
    out = 8 if groups == 4 else 6
    x, w = real(2, 4, 9, 8), real(out, 4 // groups, 3, 3)
    body = f"nn.conv2d(%x, %w, {attributes})" if attributes else "nn.conv2d(%x, %w)"
    expected = functional.conv2d(t(x), t(w), **torch_attributes)
    check(body, expected, {"x": x}, {"w": w}, 1e-4)


def test_padding_of_four_numbers_is_top_left_bottom_right():
    x, w = real(1, 2, 5, 6), real(3, 2, 3, 3)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)))
    body = "nn.conv2d(%x, %w, padding=[1, 0, 2, 3])"
    check(body, functional.conv2d(t(padded), t(w)), {"x": x}, {"w": w}, 1e-4)


@pytest.mark.parametrize("kernel_layout", ["HWIO", "OHWI", "OIHW"])
@pytest.mark.parametrize("out_layout", ["", "NCHW"])
def test_layouts_of_conv2d(kernel_layout, out_layout):
    x, w = real(2, 3, 6, 7), real(4, 3, 3, 2)
    kernel = w.transpose(["OIHW".index(letter) for letter in kernel_layout])
    expected = functional.conv2d(t(x), t(w), stride=2).numpy()
    body = (
        'nn.conv2d(%x, %w, strides=[2, 2], data_layout="NHWC", '
        f'kernel_layout="{kernel_layout}", out_layout="{out_layout}")'
    )
    if not out_layout:
        expected = expected.transpose(0, 2, 3, 1)
    check(body, expected, {"x": x.transpose(0, 2, 3, 1)}, {"w": kernel}, 1e-4)


def test_depthwise_kernel_in_hwoi():
    x, w = real(1, 5, 5, 4), real(3, 3, 4, 1)
    body = 'nn.conv2d(%x, %w, groups=4, data_layout="NHWC", kernel_layout="HWOI")'
    expected = functional.conv2d(
        t(x.transpose(0, 3, 1, 2)), t(w.transpose(2, 3, 0, 1)), groups=4
    ).numpy()
    check(body, expected.transpose(0, 2, 3, 1), {"x": x}, {"w": w}, 1e-4)


@pytest.mark.parametrize("attributes", ["", ", channels=8, kernel_size=[3, 2]"])
def test_depthwise_kernel_of_several_outputs_for_each_channel(attributes):
    x, w = real(1, 4, 5, 6), real(4, 2, 3, 2)
    expected = functional.conv2d(t(x), t(w.reshape(8, 1, 3, 2)), groups=4)
    body = f"nn.conv2d(%x, %w, groups=4{attributes})"
    check(body, expected, {"x": x}, {"w": w}, 1e-4)
    body = body[:-1] + ', data_layout="NHWC", kernel_layout="HWOI")'
    inputs, weights = {"x": x.transpose(0, 2, 3, 1)}, {"w": w.transpose(2, 3, 0, 1)}
    check(body, expected.numpy().transpose(0, 2, 3, 1), inputs, weights, 1e-4)


def test_conv1d_and_conv3d():
    x, w = real(2, 3, 9), real(4, 3, 3)
    expected = functional.conv1d(t(x), t(w), stride=2, padding=1)
    check("nn.conv1d(%x, %w, strides=[2], padding=[1, 1])", expected, {"x": x}, {"w": w}, 1e-4)
    body = 'nn.conv1d(%x, %w, strides=[2], padding=[1, 1], data_layout="NWC", kernel_layout="WIO")'
    inputs, weights = {"x": x.transpose(0, 2, 1)}, {"w": w.transpose(2, 1, 0)}
    check(body, expected.numpy().transpose(0, 2, 1), inputs, weights, 1e-4)
    x, w = real(1, 2, 5, 6, 4), real(3, 2, 2, 3, 2)
    expected = functional.conv3d(t(x), t(w), padding=1)
    check("nn.conv3d(%x, %w, padding=[1, 1, 1])", expected, {"x": x}, {"w": w}, 1e-4)
    body = 'nn.conv3d(%x, %w, padding=[1, 1, 1], data_layout="NDHWC", kernel_layout="DHWIO")'
    inputs, weights = {"x": x.transpose(0, 2, 3, 4, 1)}, {"w": w.transpose(2, 3, 4, 1, 0)}
    check(body, expected.numpy().transpose(0, 2, 3, 4, 1), inputs, weights, 1e-4)


@pytest.mark.parametrize(
    ("attributes", "given"),
    [
        ("", {}),
        (
            "strides=[2, 3], padding=[1, 0], output_padding=[1, 2]",
            {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
        ),
        ("groups=2, dilation=[2, 1]", {"groups": 2, "dilation": (2, 1)}),
    ],
)
def test_conv2d_transpose(attributes, given):
    x, w = real(2, 4, 5, 6), real(4, 3, 3, 3)
    expected = functional.conv_transpose2d(t(x), t(w), **given)
    comma = ", " if attributes else ""
    check(f"nn.conv2d_transpose(%x, %w{comma}{attributes})", expected, {"x": x}, {"w": w}, 1e-4)
    swapped = f'{attributes}{comma}kernel_layout="HWOI", data_layout="NHWC"'
    inputs, weights = {"x": x.transpose(0, 2, 3, 1)}, {"w": w.transpose(2, 3, 1, 0)}
    expected = expected.numpy().transpose(0, 2, 3, 1)
    check(f"nn.conv2d_transpose(%x, %w, {swapped})", expected, inputs, weights, 1e-4)


def test_conv1d_transpose_and_conv3d_transpose():
    x, w = real(2, 4, 5), real(4, 3, 3)
    expected = functional.conv_transpose1d(t(x), t(w), stride=2, padding=1)
    body = "nn.conv1d_transpose(%x, %w, strides=[2], padding=[1])"
    check(body, expected, {"x": x}, {"w": w}, 1e-4)
    x, w = real(1, 2, 3, 4, 3), real(2, 3, 2, 2, 3)
    expected = functional.conv_transpose3d(t(x), t(w), stride=2)
    check("nn.conv3d_transpose(%x, %w, strides=[2, 2, 2])", expected, {"x": x}, {"w": w}, 1e-4)


def test_integer_convolution_has_the_type_asked_for():
    x, w = whole(-9, 9, 1, 2, 4, 4, dtype=np.int8), whole(-9, 9, 3, 2, 3, 3, dtype=np.int8)
    expected = functional.conv2d(t(x).double(), t(w).double()).numpy()
    body = 'nn.conv2d(%x, %w, out_dtype="int32")'
    check(body, expected.astype(np.int32), {"x": x}, {"w": w})


# --- Products ------------------------------------------------------------------------------------


def test_dense():
    x, w = real(4, 5), real(3, 5)
    check("nn.dense(%x, %w, units=None)", x @ w.T, {"x": x}, {"w": w})
    x = real(2, 4, 5)
    check("nn.dense(%x, %w, units=3)", x @ w.T, {"x": x}, {"w": w})
    x, w = whole(-9, 9, 2, 5, dtype=np.int8), whole(-99, 99, 3, 5, dtype=np.int8)
    expected = x.astype(np.int32) @ w.astype(np.int32).T
    check('nn.dense(%x, %w, out_dtype="int32")', expected, {"x": x}, {"w": w})


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_matmul(first, second):
    x, y = real(4, 5), real(5, 3)
    attributes = f"transpose_a={first}, transpose_b={second}"
    given = {"x": x.T.copy() if first else x, "y": y.T.copy() if second else y}
    check(f"nn.matmul(%x, %y, {attributes})", x @ y, given)
    check(f"matmul(%x, %y, {attributes})", x @ y, given)
    x, y = real(2, 4, 5), real(2, 5, 3)
    swap = (0, 2, 1)
    given = {"x": x.transpose(swap) if first else x, "y": y.transpose(swap) if second else y}
    check(f"nn.batch_matmul(%x, %y, {attributes})", x @ y, given)


def test_batch_matmul_of_text_before_tvm_0_8_transposes():
    x, y = real(2, 4, 5), real(2, 3, 5)
    check("nn.batch_matmul(%x, %y)", x @ y.transpose(0, 2, 1), {"x": x, "y": y})


# --- Pools ---------------------------------------------------------------------------------------


def windows(x, kernel, strides, padding, dilation, ceil_mode, count_include_pad, largest):
    """TVM's pooling (topi's pool_impl_nd), element by element: x [N, C, space...]."""
    space = x.ndim - 2
    sizes = x.shape[2:]
    ends = [padding[i + space] + (strides[i] - 1 if ceil_mode else 0) for i in range(space)]
    out = [
        (sizes[i] + padding[i] + ends[i] - (kernel[i] - 1) * dilation[i] - 1) // strides[i] + 1
        for i in range(space)
    ]
    result = np.zeros((*x.shape[:2], *out), x.dtype)
    for place in np.ndindex(*out):
        values, count = [], 0
        for step in np.ndindex(*kernel):
            at = [place[i] * strides[i] - padding[i] + step[i] * dilation[i] for i in range(space)]
            inside = all(0 <= a < s for a, s in zip(at, sizes, strict=True))
            if inside:
                values.append(x[(slice(None), slice(None), *at)])
            padded = all(a < sizes[i] + padding[i + space] for i, a in enumerate(at))
            count += inside or (count_include_pad and padded)
        lowest = np.finfo(x.dtype).min if largest else 0  # where all of a window is padding
        stack = np.array(values or [np.full(x.shape[:2], lowest, x.dtype)])
        result[(slice(None), slice(None), *place)] = (
            stack.max(0) if largest else stack.sum(0) / max(count, 1)
        )
    return result


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "dilation"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
        ((3, 2), (1, 2), (2, 0, 1, 1), (1, 1)),
        ((2, 2), (2, 1), (0, 1, 0, 1), (2, 2)),
        ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1)),
    ],
)
@pytest.mark.parametrize("include", [False, True])
def test_pool2d(kind, ceil_mode, kernel, strides, padding, dilation, include):
    x = real(2, 3, 8, 7)
    body = (
        f"nn.{kind}_pool2d(%x, pool_size={list(kernel)}, strides={list(strides)}, "
        f"padding={list(padding)}, dilation={list(dilation)}, ceil_mode={ceil_mode}"
    )
    body += f", count_include_pad={include})" if kind == "avg" else ")"
    expected = windows(
        x, kernel, strides, padding, dilation, ceil_mode, include, largest=kind == "max"
    )
    check(body, expected, {"x": x})


def test_a_last_window_in_the_padding_stays():
    # ONNX's ceil_mode drops it: 3 rows there, 4 here.
    x = real(1, 1, 5, 5)
    body = "nn.max_pool2d(%x, pool_size=[2, 2], strides=[2, 2], padding=[1, 1], ceil_mode=True)"
    expected = windows(x, (2, 2), (2, 2), (1, 1, 1, 1), (1, 1), True, False, largest=True)
    assert expected.shape == (1, 1, 4, 4)
    check(body, expected, {"x": x})
    x = positive(1, 1, 5, 5)
    body = "nn.avg_pool2d(%x, pool_size=[3, 3], strides=[2, 2], padding=[1, 1], ceil_mode=True)"
    expected = windows(x, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True, False, largest=False)
    check(body, expected, {"x": x})


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pool1d_and_pool3d(kind):
    x = real(2, 3, 9)
    expected = windows(x, (3,), (2,), (1, 1), (1,), False, False, largest=kind == "max")
    body = f"nn.{kind}_pool1d(%x, pool_size=[3], strides=[2], padding=[1]"
    check(body + ")", expected, {"x": x})
    check(body + ', layout="NWC")', expected.transpose(0, 2, 1), {"x": x.transpose(0, 2, 1).copy()})
    x = real(1, 2, 4, 5, 6)
    expected = windows(x, (2, 2, 2), (2, 2, 2), (0,) * 6, (1, 1, 1), False, False, kind == "max")
    body = f"nn.{kind}_pool3d(%x, pool_size=[2, 2, 2], strides=[2, 2, 2])"
    check(body, expected, {"x": x})


def test_integer_max_pool():
    x = whole(-90, 90, 1, 2, 4, 4)
    expected = x.reshape(1, 2, 2, 2, 2, 2).max((3, 5))
    check("nn.max_pool2d(%x, pool_size=[2, 2], strides=[2, 2])", expected, {"x": x})


def test_global_pools():
    for space, layout in ((1, "NWC"), (2, "NHWC"), (3, "NDHWC")):
        x = real(2, 3, *range(3, 3 + space))
        axes = tuple(range(2, 2 + space))
        check(f"nn.global_max_pool{space}d(%x)", x.max(axes, keepdims=True), {"x": x})
        last = np.moveaxis(x, 1, -1).copy()
        body = f'nn.global_avg_pool{space}d(%x, layout="{layout}")'
        over = tuple(range(1, 1 + space))
        check(body, last.mean(over, keepdims=True), {"x": last})


@pytest.mark.parametrize("sizes", [(1, 1), (4, 2), (3, 5), (7, 6)])
def test_adaptive_pools(sizes):
    x = real(2, 3, 8, 6)
    given = f"output_size={list(sizes)}"
    average = functional.adaptive_avg_pool2d(t(x), sizes)
    check(f"nn.adaptive_avg_pool2d(%x, {given})", average, {"x": x})
    check(
        f"nn.adaptive_max_pool2d(%x, {given})",
        functional.adaptive_max_pool2d(t(x), sizes),
        {"x": x},
    )
    last = x.transpose(0, 2, 3, 1)
    expected = average.numpy().transpose(0, 2, 3, 1)
    check(f'nn.adaptive_avg_pool2d(%x, {given}, layout="NHWC")', expected, {"x": last})


def test_adaptive_pools_of_other_ranks():
    x = real(2, 3, 7)
    expected = functional.adaptive_avg_pool1d(t(x), 3)
    check("nn.adaptive_avg_pool1d(%x, output_size=[3])", expected, {"x": x})
    expected = functional.adaptive_max_pool1d(t(x), 3)
    check("nn.adaptive_max_pool1d(%x, output_size=[3])", expected, {"x": x})
    x = real(1, 2, 5, 4, 6)
    expected = functional.adaptive_avg_pool3d(t(x), (2, 4, 3))
    check("nn.adaptive_avg_pool3d(%x, output_size=[2, 4, 3])", expected, {"x": x})
    expected = functional.adaptive_max_pool3d(t(x), (2, 4, 3))
    check("nn.adaptive_max_pool3d(%x, output_size=[2, 4, 3])", expected, {"x": x})


# --- Normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [1, 3, -1, 2])
def test_batch_norm_along_any_axis(axis):
    x = real(2, 3, 4, 5)
    channels = x.shape[axis]
    weights = {
        "g": real(channels),
        "b": real(channels),
        "m": real(channels),
        "v": positive(channels),
    }
    along = [1, 1, 1, 1]
    along[axis] = channels
    g, b, m, v = (weights[k].reshape(along) for k in "gbmv")
    expected = g * (x - m) / np.sqrt(v + 1e-3) + b
    body = f"%0 = nn.batch_norm(%x, %g, %b, %m, %v, axis={axis}, epsilon=0.001f);\n%0.0"
    check(body, expected, {"x": x}, weights)
    body = f"%0 = nn.batch_norm(%x, %g, %b, %m, %v, axis={axis}, center=False, scale=False);\n%0.0"
    check(body, (x - m) / np.sqrt(v + 1e-5), {"x": x}, weights)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(axis):
    x = real(2, 3, 5)
    size = x.shape[axis]
    weights = {"g": real(size), "b": real(size)}
    along = (1, size, 1) if axis == 1 else (size,)
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    plain = (x - mean) / np.sqrt(var + 1e-5)
    expected = plain * weights["g"].reshape(along) + weights["b"].reshape(along)
    check(f"nn.layer_norm(%x, %g, %b, axis={axis})", expected, {"x": x}, weights)
    body = f"nn.layer_norm(%x, %g, %b, axis={axis}, center=False, scale=False)"
    check(body, plain, {"x": x}, weights)


def test_instance_norm_and_group_norm():
    x = real(2, 6, 4, 5)
    weights = {"g": real(6), "b": real(6)}
    expected = functional.instance_norm(t(x), weight=t(weights["g"]), bias=t(weights["b"]))
    check("nn.instance_norm(%x, %g, %b)", expected, {"x": x}, weights)
    last = x.transpose(0, 2, 3, 1)
    body = "nn.instance_norm(%x, %g, %b, axis=3)"
    check(body, expected.numpy().transpose(0, 2, 3, 1), {"x": last}, weights)
    expected = functional.group_norm(t(x), 3, t(weights["g"]), t(weights["b"]))
    check("nn.group_norm(%x, %g, %b, num_groups=3)", expected, {"x": x}, weights)


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(axis):
    x = real(2, 5, 3)
    power = np.exp(x - x.max(axis, keepdims=True))
    expected = power / power.sum(axis, keepdims=True)
    check(f"nn.softmax(%x, axis={axis})", expected, {"x": x})
    check(f"nn.fast_softmax(%x, axis={axis})", expected, {"x": x})
    check(f"nn.log_softmax(%x, axis={axis})", np.log(expected), {"x": x})


@pytest.mark.parametrize("axis", [1, 3])
def test_lrn(axis):
    x = real(2, 6, 4, 5)
    moved = np.moveaxis(x, axis, 1)
    squares = np.pad(moved**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = sum(squares[:, i : i + moved.shape[1]] for i in range(3))
    expected = np.moveaxis(moved / (1.5 + 0.2 / 3 * total) ** 0.6, 1, axis)
    body = f"nn.lrn(%x, size=3, axis={axis}, bias=1.5f, alpha=0.2f, beta=0.6f)"
    check(body, expected.astype(np.float32), {"x": x})


def test_l2_normalize_and_dropout():
    x = real(2, 5, 3)
    expected = x / np.sqrt(np.maximum((x**2).sum(1, keepdims=True), 2.0))
    check("nn.l2_normalize(%x, eps=2f, axis=[1])", expected, {"x": x})
    check("%0 = nn.dropout(%x, rate=0.3f);\n%1 = %0.0;\nnn.relu(%1)", np.maximum(x, 0), {"x": x})


# --- Elementwise ---------------------------------------------------------------------------------

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


# --- Shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newshape", "expected"),
    [
        ([2, -1], (2, 60)),
        ([0, 0, -1], (2, 3, 20)),
        ([-2], (2, 3, 4, 5)),
        ([6, -2], (6, 3, 4, 5)),
        ([-3, -2], (6, 4, 5)),
        ([0, -3, 0], (2, 12, 5)),
        ([-4, 1, 2, -2], (1, 2, 3, 4, 5)),
        ([0, 0, -4, -1, 2, 5], (2, 3, 2, 2, 5)),
    ],
)
def test_reshape_codes(newshape, expected):
    x = real(2, 3, 4, 5)
    if newshape[0] == 6:
        x = real(6, 3, 4, 5)
    check(f"reshape(%x, newshape={newshape})", x.reshape(expected), {"x": x})


def test_reshapes():
    x, y = real(2, 6), real(3, 4)
    check("reshape_like(%x, %y)", x.reshape(3, 4), {"x": x, "y": y})
    check("nn.batch_flatten(%x)", x.reshape(2, 6), {"x": x.reshape(2, 3, 2)})
    check("flatten(%x)", x.reshape(-1), {"x": x})
    x = real(2, 3, 4)
    check("transpose(%x, axes=[0, 2, 1])", x.transpose(0, 2, 1), {"x": x})
    check("transpose(%x)", x.T, {"x": x})
    check("permute_dims(%x, axes=[-1, 0, 1])", x.transpose(2, 0, 1), {"x": x})
    x = real(2, 3, 4, 5)
    body = 'layout_transform(%x, src_layout="NCHW", dst_layout="NHWC")'
    check(body, x.transpose(0, 2, 3, 1), {"x": x})


def test_squeeze_and_expand_dims():
    x = real(1, 3, 1, 4)
    check("squeeze(%x)", x.squeeze(), {"x": x})
    check("squeeze(%x, axis=[0])", x[0], {"x": x})
    check("squeeze(%x, axis=[-2])", x[:, :, 0], {"x": x})
    check("expand_dims(%x, axis=1)", x[:, None], {"x": x})
    check("expand_dims(%x, axis=1, num_newaxis=2)", x[:, None, None], {"x": x})
    check("expand_dims(%x, axis=-1)", x[..., None], {"x": x})
    check("expand_dims(%x, axis=[0, 2])", np.expand_dims(x, (0, 2)), {"x": x})


def test_broadcasts():
    x = real(3, 1)
    check("broadcast_to(%x, shape=[2, 3, 4])", np.broadcast_to(x, (2, 3, 4)), {"x": x})
    y = real(2, 3, 4)
    check("broadcast_to_like(%x, %y)", np.broadcast_to(x, (2, 3, 4)), {"x": x, "y": y})
    check("tile(%x, reps=[2, 1, 3])", np.tile(x, (2, 1, 3)), {"x": x})
    check("tile(%y, reps=[2])", np.tile(y, 2), {"y": y})
    check("repeat(%y, repeats=2, axis=1)", np.repeat(y, 2, 1), {"y": y})
    check("repeat(%y, repeats=3)", np.repeat(y, 3), {"y": y})


def test_joining():
    x, y = real(2, 3), real(2, 3)
    inputs = {"x": x, "y": y}
    check("%0 = (%x, %y);\nconcatenate(%0, axis=1)", np.concatenate([x, y], 1), inputs)
    check("concatenate((%x, %y))", np.concatenate([x, y]), inputs)
    check("concat((%x, %y), axis=-1)", np.concatenate([x, y], 1), inputs)
    check("stack((%x, %y), axis=1)", np.stack([x, y], 1), inputs)
    check("stack((%x, %y), axis=-1)", np.stack([x, y], -1), inputs)


def test_split():
    x = real(6, 4)
    check("split(%x, indices_or_sections=3)", tuple(np.split(x, 3)), {"x": x})
    body = "split(%x, indices_or_sections=[1, 3], axis=1)"
    check(body, tuple(np.split(x, [1, 3], 1)), {"x": x})


@pytest.mark.parametrize(
    ("attributes", "slices"),
    [
        ("begin=[1, 0], end=[3, 2]", np.s_[1:3, 0:2]),
        ("begin=[-3, 1], end=[-1, 99]", np.s_[-3:-1, 1:99]),
        ("begin=[0, 0], end=[5, 4], strides=[2]", np.s_[0:5:2, 0:4]),
        ("begin=[4, 3], end=[0, -5], strides=[-1, -2]", np.s_[4:0:-1, 3::-2]),
        ("begin=[1], end=[3], strides=[1], axes=[1]", np.s_[:, 1:3]),
        ('begin=[1, 2], end=[2, -1], strides=[9, 9], slice_mode="size"', np.s_[1:3, 2:]),
        ('begin=[-2, 0], end=[2, 3], slice_mode="size"', np.s_[-2:, 0:3]),
    ],
)
def test_strided_slice(attributes, slices):
    x = real(5, 4, 3)
    check(f"strided_slice(%x, {attributes})", x[slices], {"x": x})


def test_slices():
    x, y = real(5, 4), real(3, 2)
    check("slice_like(%x, %y)", x[:3, :2], {"x": x, "y": y})
    check("slice_like(%x, %y, axes=[1])", x[:, :2], {"x": x, "y": y})
    check("reverse(%x, axis=1)", x[:, ::-1], {"x": x})
    check("flip(%x, axis=0)", x[::-1], {"x": x})


def test_take():
    x = real(5, 4)
    i = np.array([[0, 4], [7, -2]], np.int32)
    clipped, wrapped = i.clip(0, 4), i % 5
    for given, fixed in (({"x": x, "i": i}, {}), ({"x": x}, {"i": i})):
        check("take(%x, %i, axis=0)", x[clipped], given, fixed)
        check('take(%x, %i, axis=0, mode="wrap")', x[wrapped], given, fixed)
        check("take(%x, %i)", x.reshape(-1)[i.clip(0, 19)], given, fixed)
    j = whole(0, 4, 3)
    check('take(%x, %i, axis=1, mode="fast")', x[:, j], {"x": x, "i": j})
    check("take(%x, 2, axis=1)", x[:, 2], {"x": x})


def test_gathers():
    x, i = real(3, 4), whole(0, 3, 2, 4, dtype=np.int64)
    check("gather(%x, %i, axis=0)", np.take_along_axis(x, i, 0), {"x": x, "i": i})
    check("gather_elements(%x, %i, axis=0)", np.take_along_axis(x, i, 0), {"x": x, "i": i})
    # Relay's index tuples stand along the first axis.
    i = np.array([[0, 2, 1], [3, 1, 0]], np.int64)
    check("gather_nd(%x, %i)", x[i[0], i[1]], {"x": x, "i": i})


def test_pads():
    x = real(2, 3, 4)
    body = "nn.pad(%x, 1.5f, pad_width=[[0, 0], [1, 2], [0, 3]])"
    widths = ((0, 0), (1, 2), (0, 3))
    check(body, np.pad(x, widths, constant_values=1.5), {"x": x})
    check("nn.pad(%x, 0, pad_width=[[0, 0], [0, 0], [0, 0]])", x, {"x": x})
    for mode in ("edge", "reflect"):
        body = f'nn.pad(%x, 0f, pad_width=[[0, 0], [1, 2], [0, 3]], pad_mode="{mode}")'
        check(body, np.pad(x, widths, mode=mode), {"x": x})
    body = 'nn.mirror_pad(%x, mode="REFLECT", pad_width=[[0, 0], [1, 2], [0, 3]])'
    check(body, np.pad(x, widths, mode="reflect"), {"x": x})


def test_filling():
    x = real(2, 3)
    inputs = {"x": x}
    check('%0 = zeros(shape=[3], dtype="float32");\nadd(%x, %0)', x, inputs)
    check('%0 = ones(shape=[2, 1], dtype="float32");\nadd(%x, %0)', x + 1, inputs)
    check('%0 = full(3f, shape=[3], dtype="float32");\nadd(%x, %0)', x + 3, inputs)
    check("%0 = full_like(%x, 2f);\nadd(%x, %0)", x + 2, inputs)
    check("%0 = zeros_like(%x);\nadd(%x, %0)", x, inputs)
    check("%0 = ones_like(%x);\nadd(%x, %0)", x + 1, inputs)
    body = '%0 = arange(1f, 7f, 2f, dtype="float32");\nadd(%x, %0)'
    check(body, x + np.arange(1, 7, 2, dtype=np.float32), inputs)
    again = "start=meta[relay.Constant][0], stop=meta[relay.Constant][1], step=meta[relay.Call][0]"
    body = body.replace("dtype=", f"{again}, dtype=")
    check(body, x + np.arange(1, 7, 2, dtype=np.float32), inputs)
    i = whole(0, 4, 3)
    eye = np.eye(4, dtype=np.float32)[i]
    check('one_hot(%i, 1f, 0f, depth=4, axis=-1, dtype="float32")', eye, {"i": i})
    check("one_hot(%i, 5f, 1f, depth=4, axis=0)", 4 * eye.T + 1, {"i": i})
    check("shape_of(%x)", np.array([2, 3], np.int32), inputs)


def test_triangles():
    x = real(4, 4)
    check("tril(%x)", np.tril(x), {"x": x})
    check("triu(%x)", np.triu(x), {"x": x})
    check("trilu(%x, 1, upper=False)", np.tril(x, 1), {"x": x})


def test_blocks():
    x = real(1, 8, 2, 3)
    expected = functional.pixel_shuffle(t(x), 2).numpy()
    check('nn.depth_to_space(%x, block_size=2, mode="CRD")', expected, {"x": x})
    check("nn.pixel_shuffle(%x, upscale_factor=2)", expected, {"x": x})
    depth_first = x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 6)
    check("nn.depth_to_space(%x, block_size=2)", depth_first, {"x": x})
    check("nn.space_to_depth(%x, block_size=2)", x, {"x": depth_first})
    last = depth_first.transpose(0, 2, 3, 1)
    body = 'nn.space_to_depth(%x, block_size=2, layout="NHWC")'
    check(body, x.transpose(0, 2, 3, 1), {"x": last})


# --- Reductions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod"])
def test_reductions(name):
    x = real(2, 3, 4)
    function = getattr(np, name)
    check(f"{name}(%x)", function(x), {"x": x})
    check(f"{name}(%x, axis=[1])", function(x, 1), {"x": x})
    check(f"{name}(%x, axis=[0, -1], keepdims=True)", function(x, (0, 2), keepdims=True), {"x": x})
    check(f"{name}(%x, axis=[1], exclude=True)", function(x, (0, 2)), {"x": x})


def test_other_reductions():
    x = real(2, 3, 4)
    check("variance(%x, axis=[1])", x.var(1), {"x": x})
    check(
        "variance(%x, axis=[1], unbiased=True, keepdims=True)",
        x.var(1, ddof=1, keepdims=True),
        {"x": x},
    )
    body = "%0 = mean(%x, axis=[2], keepdims=True);\nvariance(%x, %0, axis=[2])"
    check(body, x.var(2), {"x": x})
    check("std(%x, axis=[0])", x.std(0), {"x": x})
    check("logsumexp(%x, axis=[1])", np.log(np.exp(x).sum(1)), {"x": x})
    c = whole(0, 2, 3, 4).astype(bool)
    check("all(%c, axis=[1])", c.all(1), {"c": c})
    check("any(%c, axis=[1], keepdims=True)", c.any(1, keepdims=True), {"c": c})


def test_places_of_extremes():
    x = np.round(real(3, 4), 0)
    check("argmax(%x, axis=[1])", x.argmax(1).astype(np.int32), {"x": x})
    check("argmin(%x, axis=[0], keepdims=True)", x.argmin(0)[None].astype(np.int32), {"x": x})
    check("argmax(%x)", np.int32(x.argmax()), {"x": x})
    last = 3 - x[:, ::-1].argmax(1)
    check("argmax(%x, axis=[1], select_last_index=True)", last.astype(np.int32), {"x": x})


def test_sorting():
    x = real(3, 5)
    down = np.sort(x, 1)[:, ::-1]
    places = np.argsort(-x, 1).astype(np.int32)
    check("topk(%x, k=2)", (down[:, :2], places[:, :2]), {"x": x})
    check('topk(%x, k=2, ret_type="values", is_ascend=True)', np.sort(x, 1)[:, :2], {"x": x})
    body = 'topk(%x, k=2, axis=0, ret_type="indices", dtype="int64")'
    check(body, np.argsort(-x, 0)[:2], {"x": x})
    check("argsort(%x)", np.argsort(x, 1).astype(np.int32), {"x": x})
    check("argsort(%x, is_ascend=False)", places, {"x": x})
    check("sort(%x, axis=0)", np.sort(x, 0), {"x": x})
    check("cumsum(%x, axis=1)", x.cumsum(1), {"x": x})
    check("cumsum(%x)", x.cumsum(), {"x": x})
    check("cumsum(%x, axis=1, exclusive=True)", x.cumsum(1) - x, {"x": x}, tolerance=1e-4)


# --- Images --------------------------------------------------------------------------------------


def resized(x, size, method, grid, rounding):
    """TVM's resize (topi.image), pixel by pixel: x [N, C, H, W]."""

    def places(n_in, n_out):
        i = np.arange(n_out)
        if grid == "align_corners":
            return (n_in - 1) / (n_out - 1) * i
        if grid == "asymmetric":
            return n_in / n_out * i
        if grid == "tf_half_pixel_for_nn":
            return (i + 0.5) * (n_in / n_out)
        return (i + 0.5) * (n_in / n_out) - 0.5

    def matrix(n_in, n_out):
        at = places(n_in, n_out)
        result = np.zeros((n_out, n_in))
        for row, place in enumerate(at):
            if method == "linear":
                low = math.floor(place)
                for index, weight in ((low, low + 1 - place), (low + 1, place - low)):
                    result[row, min(max(index, 0), n_in - 1)] += weight
                continue
            nearest = {
                "round": math.floor(place + 0.5),
                "floor": math.floor(place + 1e-5),
                "ceil": math.ceil(place - 1e-5),
                "round_prefer_floor": math.ceil(place - 0.5),
                "round_prefer_ceil": math.floor(place + 0.5),
            }[rounding]
            result[row, min(max(nearest, 0), n_in - 1)] = 1
        return result

    rows, columns = matrix(x.shape[2], size[0]), matrix(x.shape[3], size[1])
    return (rows @ x @ columns.T).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 10), (3, 4), (9, 5)])
@pytest.mark.parametrize(
    ("method", "grid", "rounding"),
    [
        ("linear", "half_pixel", "round"),
        ("linear", "align_corners", "round"),
        ("linear", "asymmetric", "round"),
        ("nearest_neighbor", "asymmetric", "floor"),
        ("nearest_neighbor", "half_pixel", "round_prefer_floor"),
        ("nearest_neighbor", "half_pixel", "round_prefer_ceil"),
        ("nearest_neighbor", "asymmetric", "ceil"),
        ("nearest_neighbor", "align_corners", "round"),
        ("nearest_neighbor", "tf_half_pixel_for_nn", "floor"),
    ],
)
def test_resize2d(size, method, grid, rounding):
    x = real(2, 3, 4, 5)
    body = (
        f'image.resize2d(%x, size={list(size)}, method="{method}", '
        f'coordinate_transformation_mode="{grid}", rounding_method="{rounding}")'
    )
    check(body, resized(x, size, method, grid, rounding), {"x": x})


def test_resize2d_of_other_layouts_and_cubic():
    x = real(2, 4, 5, 3)
    expected = resized(x.transpose(0, 3, 1, 2), (7, 8), "linear", "half_pixel", "")
    body = 'image.resize2d(%x, size=[7, 8], layout="NHWC")'
    check(body, expected.transpose(0, 2, 3, 1), {"x": x})
    x = real(2, 3, 6, 7)
    # torch's cubic has the coefficient -0.75, TVM's default is -0.5.
    expected = functional.interpolate(t(x), size=(9, 12), mode="bicubic")
    body = 'image.resize2d(%x, size=[9, 12], method="cubic", cubic_alpha=-0.75f)'
    check(body, expected, {"x": x}, tolerance=1e-4)


def test_resize1d_and_resize3d():
    x = real(2, 3, 5)
    expected = functional.interpolate(t(x), size=8, mode="linear")
    check("image.resize1d(%x, size=[8])", expected, {"x": x})
    x = real(1, 2, 3, 4, 5)
    expected = functional.interpolate(t(x), size=(5, 6, 7), mode="trilinear")
    check("image.resize3d(%x, size=[5, 6, 7])", expected, {"x": x})


def test_upsampling():
    x = real(1, 2, 3, 4)
    expected = x.repeat(2, 2).repeat(3, 3)
    check("nn.upsampling(%x, scale_h=2f, scale_w=3f)", expected, {"x": x})
    # Not the half-pixel grid that frameworks take by default.
    expected = resized(x, (6, 8), "linear", "asymmetric", "")
    body = 'nn.upsampling(%x, scale_h=2f, scale_w=2f, method="bilinear")'
    check(body, expected, {"x": x})
    expected = resized(x, (6, 8), "linear", "align_corners", "")
    check(body[:-1] + ", align_corners=True)", expected, {"x": x})
    last = x.transpose(0, 2, 3, 1)
    body = 'nn.upsampling(%x, scale_h=2f, scale_w=2f, layout="NHWC")'
    check(body, last.repeat(2, 1).repeat(2, 2), {"x": last})
    x = real(1, 2, 2, 3, 4)
    body = (
        "nn.upsampling3d(%x, scale_d=2f, scale_h=2f, scale_w=2f, "
        'coordinate_transformation_mode="asymmetric")'
    )
    check(body, x.repeat(2, 2).repeat(2, 3).repeat(2, 4), {"x": x})


# --- Quantised -----------------------------------------------------------------------------------


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


# --- Refusals ------------------------------------------------------------------------------------


def refusal(body, **shapes):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(XbarcError) as caught:
        load(program(body, arrays), complete=False)
    return str(caught.value)


def test_all_that_is_unknown_is_named_at_once():
    text = refusal(
        "%0 = vision.nms(%x);\n%1 = nn.relu(%0);\n%2 = foo(%1);\n%3 = foo(%x);\n"
        "%4 = nn.softmax(%x, temperature=2f);\nadd(%3, %4)",
        x=(2, 3),
    )
    lines = text.splitlines()
    assert len(lines) == 3
    assert "vision.nms: no such operator" in lines[0]
    assert "foo: no such operator is known to xbarc (2 times)" in lines[1]
    assert "nn.softmax: attribute 'temperature'" in lines[2]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('nn.conv2d(%x, %w, data_layout="NCHW4c")', "layout 'NCHW4c'"),
        ("nn.conv2d(%x, %w, kernel_size=[5, 5])", "kernel_size (5, 5)"),
        ("nn.conv2d(%x, %w, channels=9)", "channels 9"),
        ("nn.conv2d(%x)", "lacks 'w'"),
        ("nn.conv2d(%x, %w, %w)", "takes 2 arguments at most, not 3"),
        ("nn.softmax(%x, axis=7)", "axis 7 of a value of 4 dimensions"),
        ("reshape(%x, newshape=[7, 7])", "reshape: doesn't fit"),
        ("add(%x, %w)", "add: doesn't fit its arguments"),
        ('cast(%x, dtype="float17")', "element type 'float17'"),
        ("split(%x, indices_or_sections=3, axis=1)", "4 in 3 equal parts"),
        ("clip(%x, a_min=%w, a_max=1f)", "expected"),
        ("transpose(%x, axes=[0, 1])", "axes (0, 1) of 4"),
        ('nn.pad(%x, 0f, pad_width=[[1, 1]], pad_mode="edge")', "pad_width (1, 1)"),
        ("qnn.requantize(%x, %w, 0, 1f, 0)", "needs a constant scale"),
        ("batch_matmul(%x, %w)", "no such operator"),
        ("nn.avg_pool2d(%x, pool_size=[2, 2], padding=[2, 2])", "as wide as the window"),
    ],
)
def test_refusals_say_what_and_where(body, what):
    text = refusal(body, x=(1, 4, 5, 5), w=(2, 4, 3, 3))
    assert len(text.splitlines()) == 1
    assert what in text


def test_every_operator_of_the_table_is_called_here():
    text = Path(__file__).read_text(encoding="utf-8")
    texts = [
        text.replace("{kind}", kind).replace("{space}", n) for kind in ("max", "avg") for n in "123"
    ]
    called = {name for found in texts for name in re.findall(r"(?<![\w.])([a-z][\w.]*)\(", found)}
    listed = {*UNARY, *BINARY, *(f"qnn.{name}" for name in QUANTISED_UNARY)}
    listed |= {"sum", "mean", "max", "min", "prod"}  # test_reductions
    assert sorted(set(OPERATORS) - called - listed) == []


def test_every_operator_of_the_table_is_documented():
    text = (Path(__file__).parents[1] / "docs" / "tvm.md").read_text(encoding="utf-8")
    families = text.partition("| family | operators |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([\w.]+)`", families))
    convolutions = {f"nn.conv{n}d{end}" for n in (1, 2, 3) for end in ("", "_transpose")}
    pools = {name for name in OPERATORS if name.startswith("nn.") and "_pool" in name}
    assert {f"nn.{kind}_pool" for kind in ("max", "avg", "global_max", "adaptive_avg")} <= listed
    shorthand = {name for name in listed if name.endswith("_pool")} | {
        "1d",
        "2d",
        "3d",
        "_transpose",
    }
    assert (listed - shorthand) | convolutions | pools == set(OPERATORS)
