"""deconv: transposed convolutions, three ways, against onnxruntime and plain numpy."""

import itertools
from dataclasses import dataclass

import numpy as np
import onnx.numpy_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import reference, snr_db, text_model
from reference import crossbar_matmul, make_target, transposed

import xbarc
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.analysis.stages import stages_of
from xbarc.ir.dialect import (
    MvmOp,
    QuantizeOp,
    ScatterOp,
    WeightsOp,
    WindowAttr,
    copies_of,
    ranges_of,
    span_of,
    weights_of,
)
from xbarc.report import report_page
from xbarc.report.inspect import inspect
from xbarc.simulator.activity import ActivityCounter
from xbarc.simulator.exact.segments import Segment
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import UsageError
from xbarc.support.rows import same_rows

SCHEMES = ("scatter", "phases", "zero-insert")
LOSSLESS = ("adc.mode=lossless",)
EXACT = (*LOSSLESS, "weights.bits=16", "inputs.bits=16")


@dataclass(frozen=True)
class Deconv:
    """One ConvTranspose as ONNX text, and the shapes of its input and weights."""

    text: str
    shape: tuple
    weights: tuple
    groups: int
    bias: bool


@st.composite
def layers(draw):
    """Any ConvTranspose that onnxruntime computes."""
    rank = draw(st.integers(1, 3))
    axes = {"min_size": rank, "max_size": rank}
    small = {1: 7, 2: 5, 3: 3}[rank]
    spatial = draw(st.lists(st.integers(1, small), **axes))
    kernel = draw(st.lists(st.integers(1, min(small, 4)), **axes))
    strides = draw(st.lists(st.integers(1, 3), **axes))
    dilations = draw(st.lists(st.integers(1, 2), **axes))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    extra = [draw(st.integers(0, s - 1)) for s in strides]
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(spatial, strides, kernel, dilations, strict=True)
    ]
    chosen = {"strides": strides, "dilations": dilations, "group": groups, "output_padding": extra}
    how = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape"]))
    if how == "pads":
        chosen["pads"] = [draw(st.integers(0, (f - 1) // 2)) for f in full * 2]
    elif how == "output_shape":
        largest = zip(full, extra, strict=True)
        chosen[how] = [draw(st.integers(max(1, f - 3), f + e)) for f, e in largest]
        chosen["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
    else:
        chosen["auto_pad"] = how
    attributes = ", ".join(
        f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"
        for key, value in chosen.items()
    )
    bias = draw(st.booleans())
    batch = draw(st.sampled_from(["N", "1", "2"]))
    text = f"""g (float[{batch},{channels},{_list(spatial)}] x)
      => (float[{batch},{groups * filters},{_list("ABC"[:rank])}] y)
      <float[{channels},{filters},{_list(kernel)}] w, float[{groups * filters}] b>
      {{ y = ConvTranspose<{attributes}>(x, w{", b" * bias}) }}"""
    items = 3 if batch == "N" else int(batch)
    shape, weights = (items, channels, *spatial), (channels, filters, *kernel)
    return Deconv(text, shape, weights, groups, bias)


def _list(values):
    return ",".join(map(str, values))


def compiled(model, x, scheme, overrides=EXACT, target="mca128"):
    """The program of one scheme, calibrated on `x`."""
    return xbarc.compile(
        model,
        target,
        calibration={"x": x},
        passes=f"deconv{{scheme={scheme}}}",
        overrides=overrides,
    )


def the(program, kind):
    """The one operation of that kind."""
    (found,) = (op for op in program.module.walk() if isinstance(op, kind))
    return found


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(0, 99))
def test_every_scheme_computes_what_onnxruntime_does(layer, seed):
    model = text_model(layer.text, seed=seed)
    x = np.random.default_rng(seed).standard_normal(layer.shape).astype(np.float32)
    want = reference(model, {"x": x})["y"]
    for scheme in SCHEMES:
        found = compiled(model, x, scheme).run({"x": x})["y"]
        assert found.shape == want.shape
        np.testing.assert_allclose(found, want, atol=1e-3 * max(1, np.abs(want).max()))


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(0, 99))
def test_every_scheme_gives_the_integers_of_plain_numpy(layer, seed):
    # Scales of exactly 1: codes 0 .. 255, weights of which +-127 is in each column.
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 256, layer.shape), rng.integers(-127, 128, layer.weights)
    x.flat[0] = 255
    w[(slice(None, None, layer.weights[0] // layer.groups), ..., *(0,) * len(layer.shape[2:]))] = (
        127
    )
    model = text_model(layer.text, w=w, b=np.zeros(layer.groups * layer.weights[1]))
    x = x.astype(np.float32)
    programs = [compiled(model, x, scheme, LOSSLESS) for scheme in SCHEMES]
    window, result = the(programs[0], ScatterOp).window, reference(model, {"x": x})["y"]
    _, strides, pads, dilations = window.lists()
    placing = {"strides": strides, "pads": pads, "dilations": dilations, "groups": layer.groups}
    want = transposed(x, w, result.shape[2:], **placing)
    np.testing.assert_array_equal(result, want)
    for program in programs:
        np.testing.assert_array_equal(program.run({"x": x})["y"], want)


# --- counts ---------------------------------------------------------------------------------------

UP = """g (float[N,64,16,16] x) => (float[N,32,32,32] y) <float[64,32,2,2] w>
    { y = ConvTranspose<strides=[2,2]>(x, w) }"""
PAPERS = make_target(
    array={"rows": 128, "cols": 128, "cell_bits": 7}, inputs={"dac_bits": 8}, adc={"bits": 8}
)


@pytest.mark.parametrize(
    ("scheme", "macs", "tiles", "cycles"),
    [
        ("scatter", 2_097_152, 4, 256),
        ("phases", 2_097_152, 2, 256),
        ("zero-insert", 8_388_608, 2, 1024),
    ],
)
def test_a_kernel_first_transposed_convolution_multiplies_no_zeros(scheme, macs, tiles, cycles):
    x = np.random.default_rng(0).random((1, 64, 16, 16)).astype(np.float32)
    program = compiled(text_model(UP), x, scheme, (), PAPERS)
    (row,) = program.report["layers"]
    assert (row["macs"], row["tiles"], row["cycles"]) == (macs, tiles, cycles)
    assert row["crossbars"] == tiles
    assert row["mapping"] == f"deconv-{scheme}" and row["op"] == "ConvTranspose"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_groups_share_crossbars(scheme):
    text = """g (float[N,24,5,5] x) => (float[N,24,H,W] y) <float[24,1,3,3] w>
        { y = ConvTranspose<group=24, strides=[2,2]>(x, w) }"""
    x = np.random.default_rng(0).random((1, 24, 5, 5)).astype(np.float32)
    program = compiled(text_model(text), x, scheme, (), PAPERS)
    tiles = {"scatter": 9, "phases": 2, "zero-insert": 2}
    assert len(the(program, MvmOp).tiles()) == tiles[scheme]


def test_by_default_no_zero_is_inserted():
    program = xbarc.compile(text_model(UP), "mca128")
    assert the(program, MvmOp).by.data == "deconv-scatter"


def test_layers_are_chosen_by_name():
    model = text_model(
        """g (float[N,4,5,5] x) => (float[N,2,H,W] y) <float[4,3,2,2] v, float[3,2,2,2] w>
        { a = ConvTranspose<strides=[2,2]>(x, v)  y = ConvTranspose<strides=[2,2]>(a, w) }"""
    )
    model.graph.node[0].name, model.graph.node[1].name = "up1", "up2"
    program = xbarc.compile(model, "mca128", passes="deconv{scheme=phases layers=up2}")
    assert [row["mapping"] for row in program.report["layers"]] == [
        "deconv-scatter",
        "deconv-phases",
    ]
    with pytest.raises(UsageError, match="no unmapped transposed convolution 'up3'.*up"):
        xbarc.compile(model, "mca128", passes="deconv{layers=up3}")
    with pytest.raises(UsageError, match="scheme"):
        xbarc.compile(model, "mca128", passes="deconv{scheme=sideways}")


# --- models as they come --------------------------------------------------------------------------

QDQ = """g (float[N,4,5,4] x) => (float[N,6,H,W] y)
  <float xs, uint8 xz, int8[4,3,3,2] q, float[3] qs, int8[3] qz, float[6] b> {
    c = QuantizeLinear(x, xs, xz)  r = DequantizeLinear(c, xs, xz)
    w = DequantizeLinear<axis=1>(q, qs, qz)
    y = ConvTranspose<group=2, strides=[2,3], pads=[1,0,1,1], output_padding=[1,0]>(r, w, b) }"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("codes", "zero"), [("uint8", 0), ("uint8", 131), ("int8", -128), ("int8", 5)]
)
@pytest.mark.parametrize("weight_zero", [[0, 0, 0], [3, -7, 0]])
def test_a_quantised_model_keeps_its_weights_and_its_codes(scheme, codes, zero, weight_zero):
    text = QDQ.replace("uint8", codes)
    model = text_model(text, xs=0.013, xz=zero, qs=[0.01, 0.02, 0.5], qz=weight_zero, seed=2)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 4)).astype(np.float32)
    program = compiled(model, x, scheme, ("adc.mode=lossless", "inputs.bits=16"))
    want = reference(model, {"x": x})["y"]
    np.testing.assert_allclose(program.run({"x": x})["y"], want, atol=1e-3 * np.abs(want).max())
    # Its codes enter as they are; signed ones lose their sign.
    scales = [op.scale.value.data for op in program.module.walk() if isinstance(op, QuantizeOp)]
    assert scales == ([1.0] if codes == "int8" else [])
    assert program.report["layers"][0]["zero_point"] == (zero + 128 if codes == "int8" else zero)
    weights = the(program, WeightsOp)
    stored = program.weights[weights.symbol]
    assert stored.shape == (2 * 6, 6)
    given_ = next(i for i in model.graph.initializer if i.name == "q")
    q = onnx.numpy_helper.to_array(given_).astype(int) - np.reshape(weight_zero, (1, 3, 1, 1))
    assert stored[0, 0] == q[0, 0, 0, 0] and stored[11, 5] == q[3, 2, 2, 1]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_real_types_are_cast(scheme, dtype):
    text = f"""g ({dtype}[N,3,4,4] x) => ({dtype}[N,2,H,W] y) <{dtype}[3,2,3,3] w, {dtype}[2] b>
        {{ y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w, b) }}"""
    model = text_model(text)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    x = x.astype({"float16": np.float16, "double": np.float64}[dtype])
    program = compiled(model, x, scheme)
    found = program.run({"x": x})["y"]
    single = text_model(text.replace(dtype, "float"))
    want = reference(single, {"x": x.astype(np.float32)})["y"]
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, want, atol=5e-3)
    assert program.report["coverage"]["crossbar_operators"] == 1


def test_a_bias_that_moves_is_added_digitally():
    model = text_model(
        """g (float[N,3,4,4] x, float[2] c) => (float[N,2,H,W] y) <float[3,2,3,3] w>
        { b = Neg(c)  y = ConvTranspose<strides=[2,2]>(x, w, b) }"""
    )
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 4, 4), "c": (2,)}
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=EXACT)
    np.testing.assert_allclose(program.run(feeds)["y"], reference(model, feeds)["y"], atol=1e-3)
    assert program.report["coverage"]["crossbar_operators"] == 1


def test_weights_that_move_stay_digital_and_it_says_so():
    model = text_model(
        """g (float[2,3,4,4] x, float[3,2,2,2] w) => (float[2,2,8,8] y)
        { y = ConvTranspose<strides=[2,2]>(x, w) }"""
    )
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 4, 4), "w": (3, 2, 2, 2)}
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    program = xbarc.compile(model, "mca128", calibration=feeds)
    np.testing.assert_allclose(program.run(feeds)["y"], reference(model, feeds)["y"], atol=1e-5)
    (reason,) = program.report["coverage"]["digital_reasons"].values()
    assert reason == "ConvTranspose: its weights change at run time"


def test_its_share_of_the_multiplications_is_known():
    model = text_model(
        """g (float[N,3,4,4] x, float[3,2,3,3] v) => (float[N,2,H,W] y) <float[3,2,3,3] w>
        { a = ConvTranspose<strides=[2,2]>(x, w)  b = ConvTranspose<strides=[2,2]>(x, v)
          y = Add(a, b) }"""
    )
    assert xbarc.compile(model, "mca128").report["coverage"]["mac_share"] == 0.5


def test_sizes_follow_the_operator_where_inference_adds_the_output_padding():
    model = text_model(
        """g (float[N,2,3,4] x) => (float[N,1,A,B] y)
        <float[2,2,3,3] v, float[2,2,3,2] w, float[1,2,1,1] k>
        { a = ConvTranspose<strides=[2,2], output_padding=[1,1], auto_pad="SAME_UPPER">(x, v)
          c = ConvTranspose<strides=[2,3], output_padding=[1,2], auto_pad="SAME_LOWER">(a, w)
          r = Relu(c)  y = Conv(r, k) }"""
    )
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 4)).astype(np.float32)
    want = reference(model, {"x": x})["y"]
    assert want.shape == (2, 1, 12, 24)
    for scheme in SCHEMES:
        found = compiled(model, x, scheme).run({"x": x})["y"]
        np.testing.assert_allclose(found, want, atol=1e-3)


# --- the rest of the compiler ---------------------------------------------------------------------

WHOLE = """g (float[N,3,6,5] x) => (float[N,2,H,W] y)
    <float[4,3,3,3] a, float[4,3,3,2] w, float[3] b, float[2,3,1,1] k> {
    c = Conv<pads=[1,1,1,1]>(x, a)  r = Relu(c)
    u = ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,0]>(r, w, b)
    s = Relu(u)  y = Conv(s, k) }"""
TINY = {"rows": 8, "cols": 32, "cell_bits": 2}


def whole(scheme, target, passes="", seed=0):
    """A network with one transposed convolution, and inputs."""
    x = np.random.default_rng(seed).random((3, 3, 6, 5)).astype(np.float32)
    text = f"deconv{{scheme={scheme}}}" + passes
    return xbarc.compile(text_model(WHOLE), target, calibration=x, passes=text), x


def plain_scatter(sums, window, shape):
    """Vectors [v, (channel, window position)] added where the windows stand."""
    kernel, strides, pads, dilations = window.lists()
    rank = window.rank
    positions = list(itertools.product(*map(range, window.output_size(shape[2:]))))
    entries = sums.reshape(-1, len(positions), shape[1], *kernel)
    out = np.zeros((len(entries), *shape[1:]), sums.dtype)
    for number, place in enumerate(positions):
        for tap in itertools.product(*map(range, kernel)):
            at = [
                p * s + t * d - a
                for p, s, t, d, a in zip(place, strides, tap, dilations, pads[:rank], strict=True)
            ]
            if all(0 <= a < size for a, size in zip(at, shape[2:], strict=True)):
                out[(slice(None), slice(None), *at)] += entries[
                    (slice(None), number, slice(None), *tap)
                ]
    return out


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize(
    "adc",
    [
        {"mode": "saturate", "bits": 2},
        {"mode": "full-scale", "bits": 5},
        {"mode": "calibrated", "bits": 3},
    ],
    ids=lambda adc: adc["mode"],
)
def test_converters_see_the_sums_of_each_tile(scheme, encoding, adc):
    target = make_target(array={**TINY, "encoding": encoding}, adc=adc)
    text = """g (float[N,4,3,3] x) => (float[N,4,H,W] y) <float[4,2,3,3] w>
        { y = ConvTranspose<group=2, strides=[2,2], pads=[1,1,0,0]>(x, w) }"""
    rng = np.random.default_rng(5)
    x, w = (
        rng.integers(0, 256, (2, 4, 3, 3)).astype(np.float32),
        rng.integers(-99, 99, (4, 2, 3, 3)),
    )
    x.flat[0], w[::2, :, 0, 0] = 255, 127
    program = compiled(text_model(text, w=w), x, scheme, (), target)
    op, codes = the(program, MvmOp), []
    simulator = Simulator(program, observe=lambda _, block, __: codes.append(block.copy()))
    found = simulator.run({"x": x}, batch=2)["y"]
    placed = coverage_of(op, program.weights)
    k, n = op.matrix
    rows = np.arange(k) if placed.rows is None else placed.rows
    columns = np.arange(n) if placed.columns is None else placed.columns
    q = placed.dense(program.weights[weights_of(op).symbol], (0, k, 0, n))
    parts = [Segment(*tile) for tile in placed.tiles[:, [0, 1, 2, 3]].tolist()]
    vectors = np.concatenate(codes, axis=1).T[:, rows]
    sums = np.empty((len(vectors), n))
    sums[:, columns] = crossbar_matmul(vectors, q, parts, target, 8, 8, False, op.adc_range)
    scatter = the(program, ScatterOp)
    window = scatter.window or WindowAttr.of([1, 1])
    want = plain_scatter(sums, window, (2, 4, *found.shape[2:]))
    np.testing.assert_allclose(found, want, atol=1e-6 * np.abs(want).max())
    assert (found != reference(text_model(text, w=w), {"x": x})["y"]).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_calibrated_converters_come_near(scheme):
    target = make_target(array=TINY, adc={"mode": "calibrated", "bits": 10})
    program, x = whole(scheme, target)
    assert the_deconv(program).adc_range is not None
    want = reference(text_model(WHOLE), {"x": x})["y"]
    assert snr_db(want, program.run({"x": x})["y"]) > 25


def the_deconv(program):
    found = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    return next(op for op in found if op.by.data.startswith("deconv"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stages_wait_for_the_rows_that_they_need(scheme):
    program, _ = whole(scheme, make_target(array=TINY))
    digital = {"digital/0.onnx": [{0: same_rows(6)}], "digital/1.onnx": [{0: same_rows(13)}]}
    _, _, up, after, _ = stages_of(program.module, digital)
    assert up.name == "ConvTranspose" and up.flows[0].rows == 6
    # Row y = 2 m + i - 1 is finished by the last m that reaches it, or that of its pair of rows.
    last = [(y + 1) // 2 for y in range(13)]
    if scheme == "phases":
        last = [(min(y | 1, 12) + 1) // 2 for y in range(13)]
    found = up.flows[0].needs[after.flows[0].needs - 1]
    assert found.tolist() == [min(m + 1, 6) for m in last]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tile_passes_report_and_statistics_take_it(scheme, tmp_path):
    target = make_target(array=TINY, adc={"mode": "saturate", "bits": 7})
    program, x = whole(scheme, target)
    placed, _ = whole(scheme, target, ",replicate{budget=200},place,schedule")
    assert placed.run({"x": x})["y"].tobytes() == program.run({"x": x})["y"].tobytes()
    op = the_deconv(placed)
    assert copies_of(op) > 1 and ranges_of(op) and span_of(op, "time") is not None
    cheap, dear = program.report["totals"], placed.report["totals"]
    assert dear["latency_us"] < cheap["latency_us"] and dear["crossbars"] > cheap["crossbars"]
    described = inspect(placed)["layers"][1]
    tiles = len(op.tiles())
    assert (described["mapping"], described["tiles"]) == (f"deconv-{scheme}", tiles)
    counter = ActivityCounter(program)
    Simulator(program, observe=counter.observe).run({"x": x})
    seen = counter.statistics()[described["name"]]
    vectors = {"scatter": 6 * 5, "phases": 7 * 5, "zero-insert": 13 * 13}
    assert seen["vectors"] == 3 * vectors[scheme]
    assert 0 < seen["needed_conversions"] <= seen["conversions"]
    placed.save(tmp_path / "m.xbar")
    assert f"deconv-{scheme}" in str(report_page(placed, tmp_path / "m.xbar"))


@pytest.mark.parametrize("granularity", ["weight", "kernel", "row", "column"])
def test_pruned_layers_give_the_same_by_every_scheme(granularity):
    x = np.random.default_rng(0).random((2, 3, 6, 5)).astype(np.float32)
    found = []
    for scheme in SCHEMES:
        passes = f"prune{{granularity={granularity} sparsity=0.6 refit=false}},"
        passes += f"deconv{{scheme={scheme}}},drop-zeros"
        target = make_target(array=TINY, adc={"mode": "lossless", "bits": 8})
        program = xbarc.compile(text_model(WHOLE), target, calibration=x, passes=passes)
        row = next(r for r in program.report["layers"] if r["op"] == "ConvTranspose")
        assert row["nonzero_weights"] < row["weights"]
        found.append(program.run({"x": x})["y"].tobytes())
    assert found[0] == found[1] == found[2]
