"""sub-image: crossbars of 3D, 2D and 1D kernels as published, and what doesn't fit.

(What it computes: test_patches.py.)
"""

from dataclasses import replace

import numpy as np
import pytest
from convolutions import Conv, counted, mapped, same, valid

from xbarc.cost.events import count_events
from xbarc.hw.target import load_target
from xbarc.ir.analysis.visits import visits
from xbarc.ir.dialect import MvmOp, copies_of
from xbarc.support.errors import UsageError, XbarcError

RESNET20 = [
    (1, same(32, 3, 3, 16)),
    (6, same(32, 3, 16, 16)),
    (1, same(16, 3, 16, 32)),
    (5, same(16, 3, 32, 32)),
    (1, same(8, 3, 32, 64)),
    (5, same(8, 3, 64, 64)),
]
"""ResNet-20's 3x3 layers, each taken at stride 1, and how many of each there are."""

STRIDED = [
    (1, replace(same(32, 3, 16, 32), strides=(2, 2))),
    (1, replace(same(16, 3, 32, 64), strides=(2, 2))),
]
"""Those of them that aren't at stride 1 in truth."""


def two_columns_a_weight(size):
    """Square crossbars, a cell a polarity, 8-bit inputs in one step: how the paper counts."""
    return load_target(f"mca{size}", ["array.cell_bits=7", "inputs.dac_bits=8"])


def crossbars(size, layers, options=""):
    """Crossbars of each layer, as the event counter counts them."""
    events = counted(two_columns_a_weight(size), layers, f"sub-image{{{options}}}")
    return [layer.crossbars for layer in events]


def depthwise(layer):
    """The 2D half of a layer that is split in 2D + 1D kernels."""
    return replace(layer, filters=layer.channels, groups=layer.channels)


def pointwise(layer):
    """The 1D half."""
    return Conv(layer.output(), (1, 1), layer.channels, layer.filters)


def the_mvm(module):
    (found,) = (op for op in module.walk() if isinstance(op, MvmOp))
    return found


def patch_and_window(size, layer, options=""):
    """Outputs of a sub-image and its window, axis by axis."""
    module = mapped(two_columns_a_weight(size), [layer], f"sub-image{{{options}}}")
    mvm = the_mvm(module)
    if mvm.unroll is None:
        return [1] * layer.rank, list(mvm.input.owner.window.lists()[0])
    _, window, patch, *_ = mvm.unroll.lists()
    return patch, window


# --- The published table --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "in_3d", "in_2d", "in_1d"),
    [
        (
            128,
            [768, 4096, 2048, 4096, 2048, 4096],
            [256, 64, 128, 32, 64],
            [256, 128, 128, 64, 64],
        ),
        (256, [432, 2304, 2048, 4096, 2048, 4096], [144, 64, 128, 32, 64], [128, 64, 64, 32, 32]),
    ],
)
def test_resnet20_line_by_line(size, in_3d, in_2d, in_1d):
    layers = [layer for _, layer in RESNET20]
    assert crossbars(size, layers) == in_3d
    assert crossbars(size, [depthwise(layer) for layer in layers[1:]]) == in_2d
    assert crossbars(size, [pointwise(layer) for layer in layers[1:]]) == in_1d


def total(size, layers, options=""):
    counts = crossbars(size, [layer for _, layer in layers], options)
    return sum(n * count for (n, _), count in zip(layers, counts, strict=True))


def halves(layers):
    return [(n, half(layer)) for n, layer in layers for half in (depthwise, pointwise)]


@pytest.mark.parametrize(
    ("size", "in_3d", "replaced", "packed", "less"),
    [(128, 70400, 6048, 6048, "91.4"), (256, 59312, 3696, 3520, "93.8")],
)
def test_resnet20_in_all(size, in_3d, replaced, packed, less):
    network = [RESNET20[0], *halves(RESNET20[1:])]
    assert total(size, RESNET20) == in_3d
    assert total(size, network) == replaced
    # The first layer is kept as it is, packed or not.
    kept = [RESNET20[0]]
    assert total(size, kept) + total(size, halves(RESNET20[1:]), "pack=channels") == packed
    assert f"{100 * (1 - replaced / in_3d):.1f}" == less


def test_half_the_layers_halve_the_crossbars():
    # 19 layers, of which the last half is replaced: ten stay as they are.
    stays = [*RESNET20[:3], (2, RESNET20[3][1])]
    goes = [(3, RESNET20[3][1]), *RESNET20[4:]]
    assert sum(n for n, _ in stays) == 10
    mixed = total(128, stays) + total(128, halves(goes))
    assert round(mixed / 70400, 2) == 0.53


def test_the_true_network_has_strides():
    true = [*RESNET20[:2], STRIDED[0], RESNET20[3], STRIDED[1], RESNET20[5]]
    assert crossbars(128, [layer for _, layer in STRIDED]) == [8192, 8192]
    assert crossbars(256, [layer for _, layer in STRIDED]) == [4608, 8192]
    assert total(128, true) == 82688
    assert total(256, true) == 68016


def test_a_packed_baseline_saves_less():
    layer = same(32, 3, 64, 64)
    packed = crossbars(128, [layer], "patch=fewest pack=channels")
    split = crossbars(128, [depthwise(layer), pointwise(layer)])
    assert (packed, sum(split)) == ([5120], 2048)
    assert 1 - sum(split) / packed[0] == 0.6
    assert crossbars(128, [layer]) == [16 * 64 * 64]


@pytest.mark.parametrize(("size", "count", "rows"), [(128, 16, 1156), (256, 9, 1024)])
def test_mnist_with_one_filter(size, count, rows):
    target = two_columns_a_weight(size)
    module = mapped(target, [valid(28, 3, 1, 1)], "sub-image")
    used = visits(the_mvm(module), {"c0": np.ones((9, 1), np.int8)}, target)
    (layer,) = counted(target, [valid(28, 3, 1, 1)], "sub-image")
    assert (layer.crossbars, layer.cycles) == (count, 1)
    assert used.use.rows.sum() == layer.row_pulses == rows
    assert used.use.columns.sum() == 26 * 26
    assert used.use.macs == used.programmed == 26 * 26 * 9


# --- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "layer", "patch", "window"),
    [
        (128, same(32, 3, 1, 1), [8, 8], [10, 10]),
        (256, same(32, 3, 1, 1), [11, 11], [13, 13]),
        (128, STRIDED[0][1], [5, 5], [11, 11]),
        (256, STRIDED[0][1], [7, 7], [15, 15]),
        (128, same(6, 3, 1, 1), [6, 6], [8, 8]),  # clipped to the output
        (128, Conv((3, 40), (1, 3), 1, 1), [3, 21], [3, 23]),  # 63 outputs, 69 rows
        (128, Conv((40,), (5,), 1, 1, dilations=(3,)), [28], [40]),
        (128, Conv((9, 9, 9), (2, 2, 2), 1, 1), [4, 4, 4], [5, 5, 5]),
        # Of every third input each: what lies between isn't read.
        (128, Conv((40,), (2,), 1, 1, strides=(3,), dilations=(3,)), [13], [14]),
    ],
)
def test_the_largest_square_that_fits(size, layer, patch, window):
    assert patch_and_window(size, layer) == (patch, window)


def test_sizes_can_be_asked_for():
    layer = same(32, 3, 3, 16)
    assert patch_and_window(128, layer, "patch=4,6") == ([4, 6], [6, 8])
    assert patch_and_window(128, layer, "patch=5") == ([5, 5], [7, 7])
    assert patch_and_window(128, same(6, 3, 3, 16), "patch=8,7") == ([6, 6], [8, 8])
    assert crossbars(128, [layer], "patch=4,6") == [8 * 6 * 3 * 16]
    assert patch_and_window(128, same(32, 3, 64, 64), "patch=fewest pack=channels")[0] == [1, 1]


@pytest.mark.parametrize("pack", ["none", "channels"])
def test_fewest_is_the_least_of_all_sizes(pack):
    layers = [
        same(12, 3, 6, 10),
        depthwise(same(12, 3, 6, 6)),
        Conv((9, 7), (3, 3), 4, 8, groups=2),
    ]
    for layer in layers:
        (fewest,) = crossbars(128, [layer], f"patch=fewest pack={pack}")
        fitting = range(1, 9)
        counts = [crossbars(128, [layer], f"patch={o} pack={pack}")[0] for o in fitting]
        assert fewest == min(counts)


def test_depthwise_channels_share_a_diagonal():
    layer = depthwise(same(8, 3, 64, 64))
    assert crossbars(128, [layer], "patch=4") == [4 * 64]
    # min(128 // 36, 128 // 32) channels on one.
    assert crossbars(128, [layer], "patch=4 pack=channels") == [4 * 22]


def test_groups_of_several_channels():
    layer = Conv((16, 16), (3, 3), 8, 12, groups=4, pads=(1, 1, 1, 1))
    # 4 sub-images; each group has 2 channels and 3 filters.
    assert crossbars(128, [layer]) == [4 * 4 * 2 * 3]
    # 4 x 4 outputs: two channels' 72 rows and three filters' 48 of 64 columns: a group a crossbar.
    assert crossbars(128, [layer], "patch=4 pack=channels") == [16 * 4]
    # 2 x 2: 16 rows a channel, 4 columns a filter: all four groups.
    assert crossbars(128, [layer], "patch=2 pack=channels") == [64]
    # 6 x 6: 64 rows and 36 columns: both channels, one filter.
    assert crossbars(128, [layer], "patch=6 pack=channels") == [9 * 4 * 3]


# --- Pointwise kernels ----------------------------------------------------------------------------


def test_pixels_of_a_1x1_convolution():
    # p = min(128 // 16, 128 // (2 * 16)) = 4 pixels, whatever line they are on.
    target = two_columns_a_weight(128)
    module = mapped(target, [Conv((5, 5), (1, 1), 16, 16)], "sub-image")
    mvm = the_mvm(module)
    assert mvm.input.owner.flat is not None
    assert (copies_of(mvm), len(mvm.tiles()), mvm.matrix) == (7, 1, (64, 64))


def test_a_pixel_that_no_crossbar_holds_is_cut():
    assert crossbars(128, [Conv((4, 4), (1, 1), 200, 150)]) == [16 * 2 * 3]
    assert crossbars(256, [Conv((4, 4), (1, 1), 200, 150)]) == [16 * 2]


def test_fewest_pixels_may_split_channels():
    # 130 channels of one pixel take two crossbars; of 32 pixels, four channels a crossbar, 33.
    layer = Conv((8, 8), (1, 1), 130, 2)
    assert crossbars(128, [layer]) == [64 * 2]
    assert crossbars(128, [layer], "patch=fewest") == [
        min(-(-64 // p) * -(-130 // (128 // p)) * -(-2 // (64 // p)) for p in range(1, 65))
    ]


@pytest.mark.parametrize(
    "layer",
    [
        Conv((9, 9), (1, 1), 16, 16, strides=(2, 2)),
        Conv((4, 4), (1, 1), 16, 16, pads=(1, 0, 0, 1)),
    ],
)
def test_pixels_left_out_or_added_stand_in_rectangles(layer):
    module = mapped(two_columns_a_weight(128), [layer], "sub-image")
    mvm = the_mvm(module)
    window, _, _, apart = mvm.input.owner.window.lists()
    patch = mvm.unroll.lists()[2]
    assert window == patch  # no row for a pixel that isn't read
    assert apart == list(layer.strides or (1, 1))
    # 5 x 5 outputs, at most 4 of them a crossbar: 1 x 4, 2 x 2 or 4 x 1.
    assert np.prod(patch) == 4
    assert copies_of(mvm) == min(5 * 2, 3 * 3, 2 * 5)


def test_pixels_that_are_asked_for_have_all_their_channels():
    # 2 x 2 pixels of 16 channels: 64 rows, 64 weight columns.
    assert crossbars(128, [Conv((8, 8), (1, 1), 16, 16)], "patch=2") == [4 * 4]


# --- Refusals -------------------------------------------------------------------------------------


def refusal(layers, passes, size=128):
    with pytest.raises(XbarcError) as caught:
        mapped(two_columns_a_weight(size), layers, passes)
    return str(caught.value)


def test_a_size_that_is_none():
    layers = [valid(8, 3, 1, 1)]
    said = refusal(layers, "sub-image{patch=largest}")
    assert "option 'patch' expects tuple[int, ...] | auto | fewest, got largest" in said


def test_a_kernel_larger_than_a_crossbar():
    layers = [valid(30, 3, 1, 1), valid(30, 12, 1, 1), valid(30, 13, 1, 1)]
    assert refusal(layers, "sub-image").splitlines() == [
        f"pass 'sub-image': 1x1 outputs of 'c{i}' see {k}x{k} inputs of a channel: {k * k} rows "
        "and 1 weight columns, a crossbar has 128 and 64; what fits: im2col, kernel-first, window"
        for i, k in ((1, 12), (2, 13))
    ]
    # One that is mapped already is none of its business.
    mapped(two_columns_a_weight(128), [valid(30, 12, 1, 1)], "im2col,sub-image")


def test_a_size_larger_than_a_crossbar():
    said = refusal([same(32, 3, 3, 16)], "sub-image{patch=9,9}")
    assert said.startswith("pass 'sub-image': 9x9 outputs of 'c0' see 11x11 inputs")
    assert said.endswith("what fits: sub-image{patch=8,8}, im2col, kernel-first, window")
    mapped(two_columns_a_weight(128), [same(32, 3, 3, 16)], "sub-image{patch=8,8}")
    said = refusal([Conv((16, 16), (1, 1), 4, 4)], "sub-image{patch=12}")
    assert said.endswith("what fits: sub-image{patch=auto}, im2col, kernel-first, window")


def test_sizes_that_mean_nothing():
    assert "whose image has 2 axes" in refusal([same(8, 3, 1, 1)], "sub-image{patch=2,2,2}")
    for patch in ("0", "-1,2", "largest", '"2.5"'):
        with pytest.raises(UsageError, match="patch"):
            mapped(two_columns_a_weight(128), [same(8, 3, 1, 1)], f"sub-image{{patch={patch}}}")


def test_an_image_is_one_shot_and_a_batch_as_many():
    target, layer = two_columns_a_weight(128), same(26, 3, 3, 16)
    arrays = {"c0": np.zeros(layer.matrix, np.int8)}
    events = []
    for batch in (None, 2):
        module = mapped(target, [layer], "sub-image", batch=batch)
        assert copies_of(the_mvm(module)) == 16
        events += count_events(module, arrays, target)
    one, two = events
    assert (one.vectors, one.cycles, two.vectors, two.cycles) == (16, 1, 32, 2)
    assert one.crossbars == two.crossbars == 16 * 3 * 16
    assert one.memristors == two.memristors == 26 * 26 * 9 * 3 * 16 * 2
    assert two.macs == 2 * one.macs == 2 * 26 * 26 * 9 * 3 * 16
