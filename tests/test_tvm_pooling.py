"""Pools that Relay text can call, against TVM's definition and torch."""

import numpy as np
import pytest
from relay_operators import check, positive, real, t, whole
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


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
