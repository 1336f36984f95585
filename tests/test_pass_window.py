"""window: the published cycles of im2col, SDK and VW-SDK. (What it computes: test_patches.py.)"""

import pytest
from convolutions import Conv, counted, mapped, valid

from xbarc.hw.target import load_target
from xbarc.ir.dialect import GatherOp, MvmOp
from xbarc.support.errors import UsageError

SCHEMES = ("im2col", "sdk", "vw-sdk")

RESNET18 = [
    valid(112, 7, 3, 64),
    valid(56, 3, 64, 64),
    valid(28, 3, 128, 128),
    valid(14, 3, 256, 256),
    valid(7, 3, 512, 512),
]
VGG13 = [
    valid(224, 3, 3, 64),
    valid(224, 3, 64, 64),
    valid(112, 3, 64, 128),
    valid(112, 3, 128, 128),
    valid(56, 3, 128, 256),
    valid(56, 3, 256, 256),
    valid(28, 3, 256, 512),
    valid(28, 3, 512, 512),
    valid(14, 3, 512, 512),
    valid(14, 3, 512, 512),
]


def one_column_a_weight(size):
    """Square crossbars of so many weights a row: how the published tables count."""
    return load_target(
        "mca128",
        [f"array.rows={size}", f"array.cols={size}", "array.encoding=offset", "array.cell_bits=8"],
    )


def cycles(size, layers, scheme):
    """Activations of each layer, as the event counter counts them."""
    events = counted(one_column_a_weight(size), layers, f"window{{scheme={scheme}}}")
    return [layer.activations for layer in events]


def shapes(size, layers, scheme):
    """The window of each layer as the tables write it, width x height; im2col's is the kernel."""
    module = mapped(one_column_a_weight(size), layers, f"window{{scheme={scheme}}}")
    found = [op.window.lists()[0] for op in module.walk() if isinstance(op, GatherOp)]
    return ["x".join(map(str, reversed(window))) for window in found]


# --- Published cycles -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "size", "totals"),
    [
        (RESNET18, 512, (20041, 7240, 4294)),
        (RESNET18, 256, (25560, 17133, 10287)),
        (RESNET18, 128, (51920, 51920, 36310)),
        (VGG13, 512, (243736, 114697, 77102)),
    ],
)
def test_totals_are_the_published_ones(network, size, totals):
    assert tuple(sum(cycles(size, network, scheme)) for scheme in SCHEMES) == totals


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (
            RESNET18,
            {
                "im2col": [11236, 5832, 2028, 720],
                "sdk": [2809, 1458, 2028, 720],
                "vw-sdk": [1431, 1458, 676, 504],
            },
        ),
        (
            VGG13,
            {
                "im2col": [49284, 98568, 24200, 36300, 8748, 14580],
                "sdk": [12321, 24642, 6050, 36300, 8748, 14580],
                "vw-sdk": [6216, 24642, 6050, 12100, 5832, 10206],
            },
        ),
    ],
)
def test_layers_are_the_published_ones(network, published):
    for scheme, layers in published.items():
        assert cycles(512, network[: len(layers)], scheme) == layers


def test_windows_are_the_published_ones():
    assert shapes(512, RESNET18[:4], "vw-sdk") == ["10x8", "4x4", "4x4", "4x3"]
    assert shapes(512, VGG13[:2], "vw-sdk") == ["10x3", "4x4"]
    assert shapes(512, VGG13[3:6], "vw-sdk") == ["4x4", "4x3", "4x3"]
    assert shapes(512, RESNET18[:2], "sdk") == ["8x8", "4x4"]


def test_im2col_is_the_default_mapping():
    target = load_target("mca128")
    layers = [*RESNET18, Conv((9, 8), (3, 2), 6, 12, groups=3, strides=(2, 1), dilations=(1, 2))]
    ours, default = (counted(target, layers, p) for p in ("window{scheme=im2col}", "im2col"))
    assert ours == default


# --- The formulas, beyond the tables --------------------------------------------------------------


def test_vw_sdk_never_takes_more_cycles():
    target = one_column_a_weight(128)
    layers = [
        Conv((15, 9), (3, 3), 24, 24, groups=24, pads=(1, 1, 1, 1)),
        Conv((16, 16), (3, 3), 8, 16, strides=(2, 2), pads=(1, 1, 1, 1)),
        Conv((16, 16), (1, 1), 40, 16),
        Conv((20,), (5,), 12, 8, dilations=(2,)),
        Conv((6, 7, 8), (2, 3, 2), 4, 6),
    ]
    found = {
        scheme: [
            layer.activations for layer in counted(target, layers, f"window{{scheme={scheme}}}")
        ]
        for scheme in SCHEMES
    }
    for im2col, sdk, vw_sdk in zip(*found.values(), strict=True):
        assert vw_sdk < im2col
        assert sdk <= im2col
    # Depthwise: whole channels on the diagonal, as many as rows and columns allow.
    assert found["vw-sdk"][0] == min(
        -(-15 // i) * -(-9 // j) * -(-24 // min(128 // ((i + 2) * (j + 2)), 128 // (i * j)))
        for i in range(1, 16)
        for j in range(1, 10)
        if (i + 2) * (j + 2) <= 128
    )


def test_a_strided_window_grows_by_the_stride():
    # 4 x 3 outputs of stride 2 see 9 x 7 inputs: 63 rows a channel, 12 columns a filter.
    target = one_column_a_weight(64)
    module = mapped(target, [Conv((17, 15), (3, 3), 1, 5, strides=(2, 2))], "window")
    (mvm,) = (op for op in module.walk() if isinstance(op, MvmOp))
    _, window, patch, *_ = mvm.unroll.lists()
    assert window == [2 * p + 1 for p in patch]
    best = min(
        -(-8 // i) * -(-7 // j) * -(-5 // (64 // (i * j)))
        for i in range(1, 9)
        for j in range(1, 8)
        if (2 * i + 1) * (2 * j + 1) <= 64 and i * j <= 64
    )
    (layer,) = counted(target, [Conv((17, 15), (3, 3), 1, 5, strides=(2, 2))], "window")
    assert layer.activations == best


def test_misnamed_layers_are_refused():
    target = load_target("mca128")
    with pytest.raises(UsageError, match=r"no unmapped convolution 'c1': known: c0"):
        mapped(target, [valid(8, 3, 1, 1)], "window{layers=c1}")
    with pytest.raises(UsageError, match="no unmapped convolution 'c0': known: none"):
        mapped(target, [valid(8, 3, 1, 1)], "im2col,window{layers=c0}")
