"""Convolutions that Relay text can call, against numpy or torch."""

import numpy as np
import pytest
from relay_operators import check, real, t, whole
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


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
