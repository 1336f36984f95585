"""Resizing, against TVM's definition."""

import math

import numpy as np
import pytest
from relay_operators import check, real, t
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


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
