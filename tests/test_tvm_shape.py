"""Operators that move entries, against numpy."""

import numpy as np
import pytest
from relay_operators import check, real, t, whole
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


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
