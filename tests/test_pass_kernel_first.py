"""kernel-first: the same integers as a direct convolution, and work that falls with the zeros."""

import re
from math import ceil, prod

import numpy as np
import onnx
import pytest
from chains import layer_program, listed
from hypothesis import given, settings
from hypothesis import strategies as st
from models import reference, snr_db, text_model
from reference import convolved, make_target, transposed
from shared import SHARED, needs_shared

import xbarc
from xbarc.ir import print_module
from xbarc.report import report_page
from xbarc.report.inspect import inspect

CKF = [
    "array.cell_bits=7",
    "inputs.dac_bits=8",
    "adc.mode=lossless",
    # 22 bits, which no converter has.
    "adc.price=as-configured",
]
"""One cell a polarity, two columns a weight, an input in one activation."""


def random_kernel(rng, shape):
    """Integer weights, half of them pruned, one kernel offset altogether."""
    w = rng.integers(-127, 128, shape)
    w[rng.random(shape) < 0.5] = 0
    kernel = shape[2:]
    if prod(kernel) > 1:
        w[(slice(None), slice(None), *(int(rng.integers(k)) for k in kernel))] = 0
    return w


@st.composite
def geometries(draw):
    """Kernel, strides, pads, dilations, channels of a group, filters of a group, groups, size."""
    rank = draw(st.integers(1, 3))
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, strides, dilations = draw(each), draw(each), draw(each)
    pads = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    channels, filters, groups = (draw(st.integers(1, 5)) for _ in range(3))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    extra = draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank))
    size = [
        max(1, r + e - b - a)
        for r, e, b, a in zip(reach, extra, pads[:rank], pads[rank:], strict=True)
    ]
    return kernel, strides, pads, dilations, channels, filters, groups, size


TARGETS = st.builds(
    lambda rows, cols, encoding: make_target(
        array={"rows": rows, "cols": cols, "encoding": encoding}, adc={"mode": "lossless"}
    ),
    st.sampled_from([2, 7, 16, 128]),
    st.sampled_from([8, 24, 128]),
    st.sampled_from(["differential", "offset"]),
)


@settings(max_examples=120, deadline=None)
@given(geometries(), TARGETS, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_a_convolution_gives_the_same_integers(geometry, target, fill, seed):
    kernel, strides, pads, dilations, channels, filters, groups, size = geometry
    rng = np.random.default_rng(seed)
    w = random_kernel(rng, (groups * filters, channels, *kernel))
    x = rng.integers(0, 256, (2, groups * channels, *size)).astype(np.uint8)
    options = {"strides": strides, "pads": pads, "dilations": dilations}
    wanted = convolved(x, w, groups=groups, fill=fill, **options)
    clauses = f"window {listed(kernel)} " + " ".join(f"{k} {listed(v)}" for k, v in options.items())
    q = w.reshape(len(w), -1).T.astype(np.int8)
    shapes = (x.shape[1:], wanted.shape[1:])
    program = layer_program("conv", q, groups, f"{clauses} fill {fill}", *shapes, target)
    np.testing.assert_array_equal(program.run(x)["y"], wanted)


@settings(max_examples=120, deadline=None)
@given(geometries(), TARGETS, st.integers(0, 2**32 - 1))
def test_a_transposed_convolution_gives_the_same_integers(geometry, target, seed):
    kernel, strides, pads, dilations, channels, filters, groups, size = geometry
    rng = np.random.default_rng(seed)
    whole = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(size, strides, dilations, kernel, strict=True)
    ]
    rank = len(kernel)
    # What is cut off leaves one entry at least; a negative end is output padding.
    pads = [min(p, (n - 1) // 2) for p, n in zip(pads, whole * 2, strict=True)]
    if rng.random() < 0.3:
        pads[rank:] = [1 - s for s in strides]
    out = [n - b - e for n, b, e in zip(whole, pads[:rank], pads[rank:], strict=True)]
    w = random_kernel(rng, (groups * channels, filters, *kernel))
    x = rng.integers(0, 256, (2, groups * channels, *size)).astype(np.uint8)
    options = {"strides": strides, "pads": pads, "dilations": dilations}
    wanted = transposed(x, w, out, groups=groups, **options)
    clauses = f"window {listed(kernel)} " + " ".join(f"{k} {listed(v)}" for k, v in options.items())
    # Rows (channel of a group, kernel position), columns (group, filter).
    q = np.moveaxis(w.reshape(groups, channels, filters, -1), 2, 3)
    q = q.reshape(groups, -1, filters).swapaxes(0, 1).reshape(-1, groups * filters)
    shapes = (x.shape[1:], wanted.shape[1:])
    program = layer_program("conv_transpose", q.astype(np.int8), groups, clauses, *shapes, target)
    np.testing.assert_array_equal(program.run(x)["y"], wanted)


def test_a_fully_connected_layer_is_one_offset():
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (200, 30)).astype(np.int8)
    q[:128] = 0
    program = layer_program("dense", q, 1, "axis 1 to 1", (200,), (30,), make_target())
    x = rng.integers(0, 256, (3, 200)).astype(np.uint8)
    np.testing.assert_array_equal(program.run(x)["y"], x.astype(np.int64) @ q)
    assert 'by "kernel-first" gated grid [128, 512]' in print_module(program.module)
    (row,) = xbarc.cost.report(program)["layers"]
    assert (row["tiles"], row["activations"], row["macs"]) == (2, 1, np.count_nonzero(q))


# --- Counts ---------------------------------------------------------------------------------------


def conv_row(w, groups=1, target=None):
    """What the report says of a convolution of w [M, C / groups, k, k] with 6 x 6 results."""
    one_activation = {"array": {"cols": 128, "cell_bits": 7}, "inputs": {"dac_bits": 8}}
    target = target or make_target(**one_activation)
    k, side = w.shape[2], 6
    q = w.reshape(len(w), -1).T.astype(np.int8)
    shape, out = (w.shape[1] * groups, side + k - 1, side + k - 1), (len(w), side, side)
    program = layer_program("conv", q, groups, f"window [{k}, {k}]", shape, out, target)
    return xbarc.cost.report(program)["layers"][0]


@pytest.mark.parametrize(("ci", "co", "k"), [(16, 16, 3), (200, 100, 3), (128, 64, 5), (3, 65, 1)])
def test_tiles_of_the_paper(ci, co, k):
    # Both signs in every column: no bit line is off.
    w = np.where(np.arange(ci) % 2, 1, -1)[:, None, None] * np.ones((co, ci, k, k))
    row = conv_row(w)
    assert row["tiles"] == row["crossbars"] == k * k * ceil(ci / 128) * ceil(2 * co / 128)
    assert row["macs"] == k * k * ci * co * 36
    assert row["memristors"] == 2 * w.size
    assert row["activations"] == 36 * row["tiles"]
    assert row["adc_conversions"] == 36 * k * k * ceil(ci / 128) * 2 * co


def test_pruning_changes_work_and_not_tiles():
    rng = np.random.default_rng(0)
    w = rng.integers(1, 128, (40, 200, 3, 3)) * rng.choice([-1, 1], (40, 200, 3, 3))
    dense = conv_row(w)
    # Rows 128 .. 199 of offset 0: a whole block. Column 5 of offsets 1 and 2. A row of offset 3.
    w[:, 128:, 0, 0] = 0
    w[5, :, 0, 1:] = 0
    w[:, 7, 1, 0] = 0
    w[rng.random(w.shape) < 0.3] = 0
    row = conv_row(w)
    for same in ("tiles", "crossbars", "memristors", "vectors", "cycles", "weights"):
        assert row[same] == dense[same], same
    assert row["macs"] == 36 * np.count_nonzero(w)
    assert row["activations"] == dense["activations"] - 36
    # 40 columns of the block, and in either row block of two offsets one column; two cells each.
    assert dense["adc_conversions"] - row["adc_conversions"] == 36 * 2 * (40 + 4)
    assert dense["row_pulses"] - row["row_pulses"] == 36 * (72 + 1)
    lower = ("adc", "dac", "crossbar", "shift_add", "input_register", "output_register")
    assert all(row["energy_pj"][part] < dense["energy_pj"][part] for part in lower)


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ({}, [1, 2, 1, 0]),
        ({"adc": {"subtract": "analog"}}, [1, 1, 1, 0]),
        ({"array": {"cols": 128, "cell_bits": 2}}, [3, 3, 1, 0]),
        # Weights stand 128 higher, so all but a filter of zeros have a cell in the top slice.
        ({"array": {"cols": 128, "encoding": "offset", "cell_bits": 2}}, [3, 4, 1, 0]),
    ],
)
def test_bit_lines_without_a_level_are_not_converted(target, lines):
    """Filters 0b1100001 and 0, 0b1 and -0b10100, -0b1000000 and 0, 0 and 0, of two channels."""
    w = np.array([[0b1100001, 0], [0b1, -0b10100], [-0b1000000, 0], [0, 0]])[:, :, None, None]
    settings = {"array": {"cols": 128, "cell_bits": 7}, "inputs": {"dac_bits": 8}} | target
    row = conv_row(w, target=make_target(**settings))
    assert row["adc_conversions"] == 36 * sum(lines)


def test_an_offset_of_zeros_stands_nowhere():
    w = np.ones((20, 30, 3, 3))
    w[:, :, 1, 1] = w[:, :, 2, 0] = 0
    row = conv_row(w)
    assert (row["tiles"], row["memristors"]) == (7, 2 * 20 * 30 * 7)
    assert row["macs"] == 36 * 20 * 30 * 7
    # A layer of zeros keeps one sub-array, which does nothing.
    row = conv_row(np.zeros((20, 30, 3, 3)))
    assert (row["tiles"], row["activations"], row["macs"]) == (1, 0, 0)
    assert (row["adc_conversions"], row["row_pulses"]) == (0, 0)


@pytest.mark.parametrize(
    ("shape", "groups", "tiles"),
    [
        ((32, 1, 3, 3), 32, 9),  # depthwise: 32 rows and 64 columns of an offset
        ((128, 1, 3, 3), 128, 9 * 2),  # 64 channels a crossbar, by the columns
        ((12, 50, 3, 3), 3, 9 * 2),  # two blocks of 50 x 4 on 128 rows
        ((300, 10, 3, 3), 2, 9 * 2 * 3),  # blocks of 10 x 150 in grids of their own
    ],
)
def test_groups_stand_block_by_block(shape, groups, tiles):
    row = conv_row(np.ones(shape), groups=groups)
    assert row["tiles"] == tiles
    assert row["macs"] == prod(shape) * 36
    assert row["memristors"] == 2 * prod(shape)


def test_the_transposed_convolution_of_the_paper():
    rng = np.random.default_rng(0)
    w = rng.uniform(0.1, 1, (64, 32, 2, 2)) * rng.choice([-1, 1], (64, 32, 2, 2))
    model = text_model(
        """g (float[N,64,16,16] x) => (float[N,32,32,32] y) <float[64,32,2,2] w> {
          y = ConvTranspose<strides=[2,2]>(x, w)
        }""",
        w=w,
    )
    first, zeros = (
        xbarc.compile(model, "mca128", passes=passes, overrides=CKF)
        for passes in ("kernel-first", "deconv{scheme=zero-insert}")
    )
    row, baseline = first.report["layers"][0], zeros.report["layers"][0]
    assert (row["macs"], baseline["macs"]) == (2_097_152, 8_388_608)
    assert (row["tiles"], row["vectors"], row["activations"]) == (4, 256, 4 * 256)
    assert (baseline["tiles"], baseline["vectors"]) == (2, 1024)
    assert baseline["activations"] == 2 * 1024
    x = np.random.default_rng(1).random((2, 64, 16, 16), np.float32)
    np.testing.assert_array_equal(first.run(x)["y"], zeros.run(x)["y"])


# --- Networks -------------------------------------------------------------------------------------

UNET = """g (float[N,1,32,32] x) => (float[N,2,32,32] y)
<float[16,1,3,3] w1, float[16] b1, float[16,16,3,3] w2, float[32,16,3,3] w3, float[32,32,3,3] w4,
 float[32,16,2,2] up, float[16] bu, float[16,32,3,3] w5, float[2,16,1,1] w6, float[2] b6> {
  c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<pads=[1,1,1,1]>(r1, w2)
  r2 = Relu(c2)
  p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r2)
  c3 = Conv<pads=[1,1,1,1]>(p, w3)
  r3 = Relu(c3)
  c4 = Conv<pads=[1,1,1,1]>(r3, w4)
  r4 = Relu(c4)
  u = ConvTranspose<strides=[2,2]>(r4, up, bu)
  j = Concat<axis=1>(u, r2)
  c5 = Conv<pads=[1,1,1,1]>(j, w5)
  r5 = Relu(c5)
  y = Conv(r5, w6, b6)
}"""


def magnitude_pruned(model, sparsity):
    """A copy with the smallest weights of every layer zero: floor(sparsity * size) of them."""
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    for node in pruned.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        (tensor,) = (t for t in pruned.graph.initializer if t.name == node.input[1])
        w = onnx.numpy_helper.to_array(tensor).copy()
        smallest = np.argsort(np.abs(w), axis=None)[: int(sparsity * w.size)]
        w.reshape(-1)[smallest] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(w, tensor.name))
    return pruned


def check_56_percent(model):
    """Multiplications fall by the zeros kernel first and not by im2col; tiles stay."""
    pruned = magnitude_pruned(model, 0.562)
    before, after = {}, {}
    for passes in ("kernel-first", ""):
        before[passes] = xbarc.compile(model, "mca128", passes=passes, overrides=CKF)
        after[passes] = xbarc.compile(pruned, "mca128", passes=passes, overrides=CKF)
    dense = before[""].report["totals"]
    first, im2col = after["kernel-first"].report["totals"], after[""].report["totals"]
    assert im2col["macs"] == dense["macs"]
    assert first["macs"] / dense["macs"] == pytest.approx(1 - 0.562, abs=2e-3)
    unpruned = before["kernel-first"].report["totals"]
    for same in ("tiles", "crossbars", "memristors", "vectors", "cycles"):
        assert first[same] == unpruned[same], same
    assert first["adc_conversions"] < unpruned["adc_conversions"]
    assert first["energy_uj"]["total"] < unpruned["energy_uj"]["total"]
    assert first["crossbar_power_w"] < unpruned["crossbar_power_w"]
    assert first["peripheral_power_w"] < unpruned["peripheral_power_w"]
    of_im2col = {row["name"]: row for row in after[""].report["layers"]}
    for row in after["kernel-first"].report["layers"]:
        products = row["macs"] * row["weights"]
        assert products == of_im2col[row["name"]]["macs"] * row["nonzero_weights"]
        assert row["nonzero_weights"] <= row["weights"] - int(0.562 * row["weights"])
    return before["kernel-first"], after["kernel-first"]


def test_a_unet_at_56_percent_zeros():
    dense, pruned = check_56_percent(text_model(UNET))
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
    unet = text_model(UNET)
    for program, model in ((dense, unet), (pruned, magnitude_pruned(unet, 0.562))):
        assert snr_db(reference(model, {"x": x})["y"], program.run(x)["y"]) > 22
    (up,) = (r for r in pruned.report["layers"] if r["op"] == "ConvTranspose")
    assert (up["vectors"], up["tiles"]) == (256, 4)
    assert up["macs"] == 256 * up["nonzero_weights"]


@needs_shared
def test_the_speech_unet_at_56_percent_zeros():
    model = onnx.load(SHARED / "models" / "unet_sed.onnx")
    check_56_percent(model)


SMALL = """g (float[N,4,8,8] x) => (float[N,5] y)
<float[8,4,3,3] w, float[8,1,3,3] d, float[8,6,2,2] u, float[6,5] f> {
  a = Conv<pads=[1,1,1,1]>(x, w)
  b = Relu(a)
  c = Conv<group=8>(b, d)
  e = Relu(c)
  t = ConvTranspose<strides=[2,2]>(e, u)
  p = GlobalAveragePool(t)
  l = Flatten(p)
  y = MatMul(l, f)
}"""


@pytest.fixture(scope="module")
def small():
    return magnitude_pruned(text_model(SMALL), 0.5)


@pytest.mark.parametrize(
    "passes", ["place", "replicate{budget=200}", "schedule", "replicate{budget=200},place,schedule"]
)
def test_tile_passes_take_it(small, passes):
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    plain = xbarc.compile(small, "mca128", passes="kernel-first")
    program = xbarc.compile(small, "mca128", passes=f"kernel-first,{passes}")
    np.testing.assert_array_equal(program.run(x)["y"], plain.run(x)["y"])
    assert program.report["totals"]["macs"] == plain.report["totals"]["macs"]
    if "schedule" in passes:
        assert program.report["totals"]["latency_us"] < plain.report["totals"]["latency_us"]
    if "replicate" in passes:
        assert program.report["totals"]["crossbars"] > plain.report["totals"]["crossbars"]


ZEROS = """g (float[N,40,4,4] x) => (float[N,200] y)
<float[40,40,3,3] w, float[40,20,2,2] u, float[20,200] f> {
  a = Conv<pads=[1,1,1,1]>(x, w)
  t = ConvTranspose<strides=[2,2]>(a, u)
  p = GlobalAveragePool(t)
  l = Flatten(p)
  y = MatMul(l, f)
}"""


@pytest.mark.parametrize("passes", ["kernel-first", "deconv{scheme=phases},kernel-first"])
def test_drop_zeros_leaves_it_alone(passes):
    """Rows, columns and halves of zeros, which it would take out of an im2col mapping."""
    rng = np.random.default_rng(0)
    w, u, f = (rng.standard_normal(s) for s in ((40, 40, 3, 3), (40, 20, 2, 2), (20, 200)))
    w[:, 20:] = w[20:] = u[20:] = u[:, 10:] = f[10:] = f[:, 100:] = 0
    model = text_model(ZEROS, w=w, u=u, f=f)
    plain = xbarc.compile(model, "mca128", passes=passes)
    dropped = xbarc.compile(model, "mca128", passes=f"{passes},drop-zeros")
    assert print_module(dropped.module) == print_module(plain.module)
    im2col = xbarc.compile(model, "mca128", passes="im2col,deconv,drop-zeros")
    assert print_module(im2col.module).count(" rows ") == 2


def test_inspect_and_report_and_activity(small, tmp_path):
    from xbarc.driver.evaluate import evaluate

    program = xbarc.compile(small, "mca128", passes="kernel-first", overrides=["adc.mode=saturate"])
    looked = {row["name"]: row for row in inspect(program, with_tiles=True)["layers"]}
    for row in program.report["layers"]:
        assert len(looked[row["name"]]["tile_list"]) == row["tiles"]
    program.save(tmp_path / "p.xbar")
    assert "kernel-first" in str(report_page(program, tmp_path / "p.xbar", []))
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4, 8, 8), np.float32))
    seen = evaluate(tmp_path / "p.xbar", tmp_path / "x.npz", activity=True).document["activity"]
    for row in program.report["layers"]:
        counts = seen[row["name"]]
        assert counts["row_pulses"] == 2 * row["row_pulses"]
        assert counts["conversions"] == 2 * row["adc_conversions"]
        assert 0 < counts["needed_conversions"] <= counts["conversions"]


@pytest.mark.parametrize("mode", ["saturate", "full-scale", "calibrated"])
def test_converters_are_close_to_the_float_model(small, mode):
    x = np.random.default_rng(0).standard_normal((8, 4, 8, 8)).astype(np.float32)
    overrides = [f"adc.mode={mode}", "adc.bits=8"]
    program = xbarc.compile(
        small, "mca128", passes="kernel-first", calibration=x, overrides=overrides
    )
    assert (" adc [" in print_module(program.module)) == (mode == "calibrated")
    assert snr_db(reference(small, {"x": x})["y"], program.run(x)["y"]) > 22


@pytest.mark.parametrize("first", ["schedule", "place", "replicate{budget=200}"])
def test_it_does_not_come_too_late(small, first):
    """Before a tile pass all layers get mapped: there would be nothing left for it to map."""
    said = "'kernel-first' can't follow '\\w+', before which all layers are mapped: put it in front"
    with pytest.raises(xbarc.UsageError, match=said):
        xbarc.compile(small, "mca128", passes=f"{first},kernel-first")


def test_layers_names_those_to_map(small):
    names = [row["name"] for row in xbarc.compile(small, "mca128").report["layers"]]
    program = xbarc.compile(small, "mca128", passes=f"kernel-first{{layers={names[1]}}}")
    mapped = {row["name"]: row["mapping"] for row in program.report["layers"]}
    assert [n for n, how in mapped.items() if how == "kernel-first"] == [names[1]]
    with pytest.raises(xbarc.UsageError, match=f"did you mean '{re.escape(names[1])}'"):
        xbarc.compile(small, "mca128", passes=f"kernel-first{{layers={names[1]}x}}")
