"""Relay programs of integers: whole parts of roots and means, and sums that crossbars come near."""

import itertools
import math

import numpy as np
import pytest
from relay_programs import program, run

from xbarc import compile as compile_model


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_the_root_of_an_integer_is_its_whole_part(dtype):
    x = np.array([[0, 1, 3, 4, 24, 25, 26, 100]], dtype)
    (found,) = run("sqrt(%x)", {"x": x})
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found[0], [math.isqrt(int(n)) for n in x[0]])


def mean(window):
    """As integers divide in TVM: towards zero."""
    total = sum(window)
    return int(math.copysign(abs(total) // len(window), total)) if window else 0


def pooled(x, size, stride, pad, *, include, ceil):
    """Means of windows, in plain Python."""
    height, width = x.shape[2:]
    rounded = math.ceil if ceil else math.floor
    steps = [rounded((n + 2 * pad - size) / stride) + 1 for n in (height, width)]
    result = np.zeros((*x.shape[:2], *steps), x.dtype)
    for n, c, i, j in itertools.product(*map(range, result.shape)):
        places = itertools.product(
            range(i * stride - pad, i * stride - pad + size),
            range(j * stride - pad, j * stride - pad + size),
        )
        window = []
        for row, column in places:
            if 0 <= row < height and 0 <= column < width:
                window.append(int(x[n, c, row, column]))
            elif include and row < height + pad and column < width + pad:
                window.append(0)
        result[n, c, i, j] = mean(window)
    return result


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
def test_the_mean_of_integers_is_its_whole_part(pad, include, ceil):
    x = np.random.default_rng(0).integers(-1000, 1000, (2, 3, 6, 7)).astype(np.int32)
    body = (
        f"nn.avg_pool2d(%x, pool_size=[3, 3], strides=[2, 2], padding=[{pad}, {pad}], "
        f"count_include_pad={include}, ceil_mode={ceil})"
    )
    (found,) = run(body, {"x": x})
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, pooled(x, 3, 2, pad, include=include, ceil=ceil))


@pytest.mark.parametrize("body", ["nn.global_avg_pool2d(%x)", "nn.adaptive_avg_pool2d(%x, [1, 1])"])
def test_the_mean_of_a_channel_of_integers(body):
    x = np.random.default_rng(0).integers(-(2**20), 2**20, (2, 3, 6, 7)).astype(np.int32)
    (found,) = run(body.replace("[1, 1]", "output_size=[1, 1]"), {"x": x})
    wanted = [[mean(channel.ravel().tolist()) for channel in sample] for sample in x]
    np.testing.assert_array_equal(found.reshape(2, 3), wanted)


def test_the_largest_of_a_channel_of_integers():
    x = np.random.default_rng(0).integers(-(2**30), 2**30, (2, 3, 6, 7)).astype(np.int32)
    (found,) = run("nn.global_max_pool2d(%x)", {"x": x})
    np.testing.assert_array_equal(found.reshape(2, 3), x.max((2, 3)))


DATA = np.array([[[[2, 3], [7, 5]], [[1, 3], [3, 9]]]], np.int32)
WEIGHT = np.array([[[[2]], [[1]]], [[[5]], [[8]]]], np.int32)


def test_calyx_conv2d_new_padding():
    """Calyx's test of that name, by hand.

    Two cells of padding around 2 x 2 make 6 x 6, which a kernel of one cell at a stride of 2 meets
    at 0, 2 and 4: only the middle lies on data, at [0, 0]. It gives 2 x 2 + 1 x 1 = 5 and
    5 x 2 + 8 x 1 = 18. Calyx says so too. Crossbars gave 17: their 8-bit codes make 17.97 of 18,
    and the cast to int32 cut that off.
    """
    wanted = np.zeros((1, 2, 3, 3), np.int32)
    wanted[0, :, 1, 1] = 5, 18
    body = "nn.conv2d(%data, %weight, padding=[2, 2, 2, 2], kernel_size=[1, 1], strides=[2, 2])"
    (found,) = run(body, {"data": DATA}, {"weight": WEIGHT})
    np.testing.assert_array_equal(found, wanted)
    text = program(body, {"data": DATA, "weight": WEIGHT})
    built = compile_model(text, params={"weight": WEIGHT}, calibration=DATA)
    assert built.report["coverage"]["crossbar_operators"] == 1
    np.testing.assert_array_equal(built.run(DATA)["output"], wanted)
