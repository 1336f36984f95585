"""prune and drop-zeros: what goes, what is left, and what the hardware saves."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import text_model
from reference import crossbar_matmul, make_target
from xdsl.dialects.builtin import UnitAttr

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.analysis.dependencies import analyse
from xbarc.graph.attachments import attach, figures_of
from xbarc.graph.compress.matrices import find_matrices
from xbarc.graph.query import constant
from xbarc.graph.run import Session, random_inputs, same_function
from xbarc.graph.serialize import to_proto
from xbarc.ir import print_module
from xbarc.ir.analysis.compaction import best_layout, fewest_tiles
from xbarc.ir.analysis.coverage import check_numbers
from xbarc.ir.dialect import MvmOp, TileListAttr
from xbarc.passes.prune import Prune
from xbarc.pipeline import load_registry, parse_passes
from xbarc.simulator.exact.matrix import Matrix
from xbarc.simulator.exact.segments import Segment
from xbarc.support.errors import UsageError, XbarcError

SMALL = make_target(array={"rows": 16, "cols": 32, "cell_bits": 7})  # 16 x 16 weights a crossbar
SIMPLE = """g (float[N,3,8,8] x) => (float[N,5] y)
<float[8,3,3,3] w1, float[8] b1, float[12,8,3,3] w2, float[12] b2, float[5,12] w3> {
  c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1) c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
  r2 = Relu(c2) p = GlobalAveragePool(r2) f = Flatten(p) y = Gemm<transB=1>(f, w3) }"""
SEPARABLE = """g (float[N,4,9,9] x) => (float[N,3,5,5] y)
<float[8,4,1,1] w1, float[8,1,5,5] wd, float[8] bd, float[3,8,1,1] w2, float[3] b2> {
  a = Conv(x, w1) d = Conv<group=8>(a, wd, bd) r = Relu(d) y = Conv(r, w2, b2) }"""


def prune(model, target=SMALL, feeds=None, **options):
    """The pruned copy of an imported model, and what the pass reports."""
    model = model.clone()
    options.setdefault("refit", feeds is not None)
    if feeds is not None:
        attach(model, feeds)
    changed = Prune(**options).apply(model, target)
    onnx.checker.check_model(to_proto(model), full_check=True)
    assert changed == bool(figures_of(model))
    return model, figures_of(model).get("prune")


def weights(model, name):
    """The weights of the one layer whose input 1 is called so."""
    return constant(model.graph.initializers[name])


# --- channels -------------------------------------------------------------------------------------


@st.composite
def networks(draw):
    """A random chain of residual, concatenating, depthwise and plain blocks."""
    channels, lines, declared = 3, ["v0 = Relu(x)"], []
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["plain", "residual", "concat", "depthwise", "norm"]))
        new, kernel = draw(st.integers(2, 5)), draw(st.sampled_from([1, 3]))
        pad = kernel // 2
        conv = f"Conv<pads=[{pad},{pad},{pad},{pad}]"
        made = channels if kind == "residual" else new
        declared.append(f"float[{made},{channels},{kernel},{kernel}] w{i}, float[{made}] b{i}")
        lines.append(f"c{i} = {conv}>(v{i}, w{i}, b{i})")
        last, channels = {
            "plain": (f"Relu(c{i})", made),
            "norm": (f"BatchNormalization(c{i}, g{i}, h{i}, m{i}, q{i})", made),
            "residual": (f"Add(c{i}, v{i})", channels),
            "concat": (f"Concat<axis=1>(v{i}, c{i})", channels + made),
            "depthwise": (f"Conv<group={made}, pads=[1,1,1,1]>(c{i}, d{i})", made),
        }[kind]
        if kind == "norm":
            declared += [f"float[{made}] {n}{i}" for n in "ghmq"]
        if kind == "depthwise":
            declared.append(f"float[{made},1,3,3] d{i}")
        lines.append(f"v{i + 1} = {last}")
    declared += [f"float[2,{channels},1,1] wy"]
    lines.append(f"y = Conv(v{len(lines) // 2}, wy)")
    text = f"g (float[N,3,5,5] x) => (float[N,2,5,5] y) <{', '.join(declared)}> {{ "
    text += " ".join(lines) + " }"
    model = text_model(text, seed=draw(st.integers(0, 99)))
    for array in model.graph.initializer:
        if array.name.startswith("q"):  # variances
            value = np.abs(onnx.numpy_helper.to_array(array)) + np.float32(0.5)
            array.CopyFrom(onnx.numpy_helper.from_array(value, array.name))
    return load(model)


def as_masked(model, pruned):
    """The channels of `model` that `pruned` has lost, at zero in every weight of theirs."""
    copy = model.clone()
    dependencies = analyse(copy)
    lost = set()
    for producer in dependencies.producers:
        if len(producer.node.inputs) > 2:  # a channel is known by its bias
            name = producer.node.inputs[2].name
            gone = ~np.isin(weights(copy, name), weights(pruned, name))
            lost.update(dependencies.labels[producer.output][gone].tolist())
    for dim, mask in dependencies.kept(lost).items():
        array = constant(dim.value)
        if array is not None:
            array = array.copy()
            np.moveaxis(array, dim.axis, 0)[~mask] = 0
            dim.value.const_value = ir.Tensor(array, name=dim.value.name)
    return copy


def biases(model):
    """The numbers added to channels by convolutions."""
    names = [n.inputs[2].name for n in model.graph if n.op_type == "Conv" and len(n.inputs) > 2]
    return {value for name in names for value in weights(model, name).tolist()}


@settings(max_examples=25, deadline=None)
@given(model=networks(), sparsity=st.floats(0.05, 0.6))
def test_pruned_is_masked(model, sparsity):
    try:
        pruned, _ = prune(model, sparsity=sparsity)
    except XbarcError:  # a layer would be left with nothing
        return
    # A channel that is constant goes with its value in the next bias, which isn't masking.
    assume(biases(pruned) <= biases(model))
    same_function(as_masked(model, pruned), pruned, random_inputs(model, 2))


def test_the_least_channels_go_and_the_graph_shrinks():
    scale = np.array([1, 5, 1, 5, 5, 1, 1, 5])[:, None, None, None]
    w1 = np.random.default_rng(0).standard_normal((8, 3, 3, 3)) * scale
    model = load(text_model(SIMPLE, w1=w1))
    pruned, report = prune(model, sparsity=0.5, layers=("Conv",))
    np.testing.assert_array_equal(weights(pruned, "w1"), w1.astype(np.float32)[scale.ravel() == 5])
    assert weights(pruned, "w2").shape == (12, 4, 3, 3)
    assert report["removed"] == 4
    assert report["before"] == {
        "weights": 216 + 864 + 60,
        "nonzero_weights": 1140,
        "macs": 64 * (216 + 864) + 60,
        "crossbars": 2 + 5 + 1,
    }
    assert report["after"]["weights"] == 108 + 432 + 60
    assert report["after"]["crossbars"] == 2 + 3 + 1


def test_threshold_takes_what_is_smaller():
    w1 = np.repeat([0.1, 1.0, 0.1, 1, 1, 1, 1, 0.3], 27).reshape(8, 3, 3, 3)
    model = load(text_model(SIMPLE, w1=w1))
    pruned, _ = prune(model, threshold=0.2, layers=("Conv",))
    assert len(weights(pruned, "w1")) == 6
    assert prune(model, threshold=0.01, layers=("Conv",))[1] is None


def test_a_layer_that_matters_more_keeps_more():
    rng = np.random.default_rng(0)
    w1 = rng.standard_normal((8, 3, 3, 3))
    w1[:6] *= 0.01  # six of its eight channels hardly count; w2's are alike
    pruned, _ = prune(load(text_model(SIMPLE, w1=w1)), sparsity=0.3)
    assert len(weights(pruned, "w1")) == 2
    assert len(weights(pruned, "w2")) == 12


def test_criterion_activation_sees_the_inputs():
    """Equal weights; but the second input is a hundred times the first."""
    w1 = np.zeros((8, 3, 3, 3))
    w1[:4, 0], w1[4:, 1] = 1, 1
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    x[:, 0] /= 100
    model = load(text_model(SIMPLE, w1=w1))
    pruned, _ = prune(
        model, feeds={"x": x}, criterion="activation", sparsity=0.5, layers=("Conv",), refit=False
    )
    assert not weights(pruned, "w1")[:, 0].any()


def test_a_channel_that_only_carries_its_bias_goes_into_the_next_bias():
    wd = np.random.default_rng(1).standard_normal((8, 1, 5, 5))
    wd[[2, 5]] = 0
    model = load(text_model(SEPARABLE, wd=wd, bd=np.arange(8) - 2.5))
    for options in ({"threshold": 1e-6}, {"sparsity": 0.25}):
        pruned, report = prune(model, granularity="depthwise-kernel", **options)
        assert report["removed"] == 2
        assert weights(pruned, "w1").shape == (6, 4, 1, 1)
        same_function(model, pruned, random_inputs(model, 2))


def test_zeroing_one_depthwise_kernel_saves_one_crossbar():
    """MSCCNN's unit: outputs to the bit, one crossbar fewer."""
    rng = np.random.default_rng(0)
    # Multiples of 1/8 in float32 add up without rounding, in whatever order.
    w1, wd, w2 = (rng.integers(-4, 5, s) / 8 for s in ((8, 4, 1, 1), (8, 1, 5, 5), (3, 8, 1, 1)))
    wd[3] = 0
    values = {"w1": w1, "wd": wd, "bd": np.zeros(8), "w2": w2, "b2": np.ones(3)}
    model = text_model(SEPARABLE, **values)
    x = rng.integers(-8, 9, (4, 4, 9, 9)).astype(np.float32) / 8
    pruned, _ = prune(load(model), granularity="depthwise-kernel", threshold=1e-6)
    before, after = Session(load(model)).run({"x": x}), Session(pruned).run({"x": x})
    np.testing.assert_array_equal(before["y"], after["y"])

    separate = "depthwise-mapping{layout=separate}"
    asked = f"prune{{granularity=depthwise-kernel threshold=1e-6 refit=false}},{separate}"
    dense = xbarc.compile(model, passes=separate, calibration=x)
    compact = xbarc.compile(model, passes=asked, calibration=x)
    crossbars = [{r["name"]: r["crossbars"] for r in p.cost()["layers"]} for p in (dense, compact)]
    assert crossbars[0]["Conv_1"] == 8
    assert crossbars[1]["Conv_1"] == 7


@pytest.mark.parametrize("granularity", ["channel", "weight", "row", "kernel"])
def test_refitting_helps(granularity):
    rng = np.random.default_rng(0)
    model = load(text_model(SIMPLE))
    # Inputs that hang together, so that what is left can take over.
    mix = rng.standard_normal((3, 3))
    x = np.einsum("ij,njhw->nihw", mix, rng.standard_normal((64, 3, 8, 8))).astype(np.float32)
    _, report = prune(model, feeds={"x": x}, granularity=granularity, sparsity=0.4)
    assert report["deviation"]["refitted"] < 0.7 * report["deviation"]["pruned"]


def test_refitting_keeps_zeros_and_shares_no_array():
    model = load(text_model(SIMPLE))
    copies = {n: constant(v).copy() for n, v in model.graph.initializers.items()}
    feeds = random_inputs(model, 16)
    pruned, report = prune(model, feeds=feeds, granularity="weight", sparsity=0.5)
    assert report["after"]["nonzero_weights"] == 570
    for name, copy in copies.items():
        np.testing.assert_array_equal(weights(model, name), copy)
    assert np.count_nonzero(weights(pruned, "w2")) < 864


# --- rows, columns, crossbars ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granularity", "sparsity", "before", "after"),
    [
        ("row", 0.5, (64, 48), 2 * 3),
        ("column", 0.5, (64, 48), 4 * 2),
        ("crossbar", 0.5, (64, 48), 6),
        ("crossbar", 0.25, (60, 40), 9),
    ],
)
def test_crossbars_fall_and_results_stay(granularity, sparsity, before, after):
    """The compacted program gives what the masked dense one gives, to the last bit."""
    k, n = before
    text = (
        f"g (float[N,{k}] x) => (float[N,3] y) <float[{k},{n}] w, float[{n}] b, float[{n},3] v>"
        "{ h = Gemm(x, w, b) r = Relu(h) y = MatMul(r, v) }"
    )
    model = text_model(text)
    x = np.random.default_rng(1).standard_normal((8, k)).astype(np.float32)
    asked = f"prune{{granularity={granularity} sparsity={sparsity} layers=Gemm refit=false}}"
    program = xbarc.compile(model, SMALL, passes=asked, calibration=x)
    (layer, _) = program.cost()["layers"]
    assert -(-k // 16) * -(-n // 16) == 12
    assert layer["crossbars"] == after
    assert layer["macs"] < k * n
    assert (
        program.cost()["pass_figures"]["prune"]["after"]["crossbars"]
        == (program.cost()["totals"]["crossbars"])
    )
    masked, _ = prune(
        load(model), granularity=granularity, sparsity=sparsity, layers=("Gemm",), refit=False
    )
    lossless = SMALL.model_copy(update={"adc": SMALL.adc.model_copy(update={"mode": "lossless"})})
    dense = xbarc.compile(masked, lossless, calibration=x)
    compact = xbarc.compile(masked, lossless, passes="im2col,drop-zeros", calibration=x)
    assert dense.cost()["layers"][0]["crossbars"] == 12
    assert compact.cost()["layers"][0]["crossbars"] == after
    np.testing.assert_array_equal(dense.run(x)["y"], compact.run(x)["y"])


def test_a_compacted_program_reads_back(tmp_path):
    w = np.random.default_rng(0).standard_normal((40, 20))
    w[5:25] = 0
    model = text_model(
        "g (float[N,40] x) => (float[N,20] y) <float[40,20] w> { y = MatMul(x, w) }", w=w
    )
    x = np.random.default_rng(1).standard_normal((4, 40)).astype(np.float32)
    program = xbarc.compile(model, SMALL, passes="im2col,drop-zeros", calibration=x)
    (mvm,) = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    assert mvm.standing == (20, 20)
    program.save(tmp_path / "p.xbar")
    again = xbarc.load(tmp_path / "p.xbar")
    np.testing.assert_array_equal(program.run(x)["y"], again.run(x)["y"])
    assert program.cost()["layers"][0]["adc_conversions"] > 0


def test_tiles_that_leave_a_weight_out_are_refused():
    model = text_model("g (float[N,40] x) => (float[N,20] y) <float[40,20] w> { y = MatMul(x, w) }")
    program = xbarc.compile(model, SMALL, passes="im2col", calibration=np.ones((2, 40), np.float32))
    (mvm,) = [op for op in program.module.walk() if isinstance(op, MvmOp)]
    check_numbers(program.module, program.weights)
    mvm.properties["sparse"] = UnitAttr()
    mvm.tiling = TileListAttr.of(mvm.tiles()[:-1])
    program.module.verify()
    with pytest.raises(XbarcError, match=r"@MatMul: weight \(32, 16\) stands on no tile"):
        check_numbers(program.module, program.weights)


def test_compact_wants_a_layer_that_is_there():
    model = text_model("g (float[N,4] x) => (float[N,2] y) <float[4,2] w> { y = MatMul(x, w) }")
    with pytest.raises(UsageError, match="no mapped layer 'MatMl': did you mean 'MatMul'"):
        xbarc.compile(
            model,
            SMALL,
            passes="im2col,drop-zeros{layers=MatMl}",
            calibration=np.ones((2, 4), np.float32),
        )


def test_drop_zeros_runs_on_mapped_layers_and_before_they_stand():
    w = np.random.default_rng(0).standard_normal((40, 20))
    w[5:25] = 0
    model = text_model(
        "g (float[N,40] x) => (float[N,20] y) <float[40,20] w> { y = MatMul(x, w) }", w=w
    )
    x = np.random.default_rng(1).standard_normal((4, 40)).astype(np.float32)

    def rows(passes):
        program = xbarc.compile(model, SMALL, passes=passes, calibration=x)
        return [op.standing[0] for op in program.module.walk() if isinstance(op, MvmOp)]

    assert rows("im2col") == [40]
    # Without a mapping pass the default maps first.
    assert rows("drop-zeros") == rows("im2col,drop-zeros") == rows("drop-zeros,place") == [20]
    for late in ("place,drop-zeros", "schedule,drop-zeros"):
        with pytest.raises(UsageError, match="put it before replicate, place and schedule"):
            rows(late)


@pytest.mark.parametrize("empty", ["rows", "columns"])
def test_what_has_nothing_more_to_drop_may_stand_already(empty):
    w = np.random.default_rng(0).standard_normal((40, 40))
    w[(slice(5, 25),) if empty == "rows" else (slice(None), slice(5, 25))] = 0
    text = "g (float[N,40] x) => (float[N,40] y) <float[40,40] w> { y = MatMul(x, w) }"
    x = np.ones((2, 40), np.float32)
    once, twice = (
        xbarc.compile(text_model(text, w=w), SMALL, passes=passes, calibration=x)
        for passes in ("drop-zeros,place", "drop-zeros,place,drop-zeros")
    )
    (mvm,) = (op for op in once.module.walk() if isinstance(op, MvmOp))
    assert (mvm.rows is None, mvm.columns is None) == (empty == "columns", empty == "rows")
    assert print_module(once.module) == print_module(twice.module)


def test_groups_of_zeros_take_no_crossbar():
    wd = np.random.default_rng(1).standard_normal((8, 1, 5, 5))
    wd[[0, 3, 4]] = 0
    model = text_model(SEPARABLE, wd=wd)
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 9)).astype(np.float32)
    target = make_target(
        array={"rows": 64, "cols": 32, "cell_bits": 7}, adc={"mode": "lossless"}
    )  # two channels a crossbar
    dense = xbarc.compile(model, target, calibration=x)
    compact = xbarc.compile(model, target, passes="im2col,drop-zeros", calibration=x)
    counts = [p.cost()["layers"][1]["crossbars"] for p in (dense, compact)]
    assert counts == [4, 3]
    np.testing.assert_array_equal(dense.run(x)["y"], compact.run(x)["y"])


@pytest.mark.parametrize(
    ("empty", "rows", "width", "tiles"),
    [
        ([], 6, 4, 2),  # two groups of four in a tile
        ([0, 1, 3], 6, 4, 1),
        ([0, 1, 2, 3], 6, 4, 2),  # no weight at all: as the dense layer
        ([], 2, 4, 8),  # a group in two tiles of rows
        ([3], 2, 1, 12),  # three groups, in two of rows and two of columns
        ([], 6, 0, 0),  # no weight fits
    ],
)
def test_the_fewest_tiles_of_groups(empty, rows, width, tiles):
    nonzero = np.ones((3, 8), bool)
    for group in empty:
        nonzero[:, 2 * group : 2 * group + 2] = False
    assert fewest_tiles(nonzero, 4, rows, width) == tiles


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_a_layout_holds_every_weight_once(data, seed):
    rng = np.random.default_rng(seed)
    k, n = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 30))
    rows, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    mask = rng.random((k, n)) < data.draw(st.sampled_from([0.02, 0.2, 0.9]))
    mask[rng.random(k) < 0.3] = False
    mask[:, rng.random(n) < 0.3] = False
    layout = best_layout(mask, rows, width)
    held = np.zeros((k, n), int)
    own_rows = np.arange(k) if layout.rows is None else layout.rows
    own_columns = np.arange(n) if layout.columns is None else layout.columns
    for r0, r1, c0, c1 in layout.tiles.tolist():
        assert r1 - r0 <= rows and c1 - c0 <= width
        held[np.ix_(own_rows[r0:r1], own_columns[c0:c1])] += 1
    assert held.max() <= 1
    assert (held[mask] == 1).all()
    assert len(layout.tiles) <= -(-k // rows) * -(-n // width)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["lossless", "saturate", "full-scale", "calibrated"]),
    encoding=st.sampled_from(["differential", "offset"]),
    groups=st.sampled_from([1, 1, 2]),
    seed=st.integers(0, 1000),
)
def test_matrix_of_selected_rows_against_the_reference(mode, encoding, groups, seed):
    """Each tile with rows and columns of its own, in every ADC mode, to the last bit."""
    rng = np.random.default_rng(seed)
    target = make_target(
        array={"rows": 16, "cols": 512, "cell_bits": 2, "encoding": encoding},
        adc={"mode": mode, "bits": 4},
    )
    kg, n = 20, 12
    q = rng.integers(-127, 128, (kg, n)).astype(np.int8)
    k = groups * kg
    rows, columns, segments, standing = [], [], [], np.zeros((k, n), bool)
    for _ in range(4):
        own = rng.permutation(k)[:9]
        some = rng.permutation(n)[:5]
        if standing[np.ix_(own, some)].any():
            continue
        standing[np.ix_(own, some)] = True
        segments.append(Segment(len(rows), len(rows) + 9, len(columns), len(columns) + 5))
        rows += own.tolist()
        columns += some.tolist()
    block = np.arange(k)[:, None] // kg == np.arange(n) // (n // groups)
    dense = np.where(block & standing, np.tile(q, (groups, 1)), 0)
    q = (dense.reshape(groups, kg, n)).sum(0).astype(np.int8)
    x = rng.integers(0, 256, (k, 7)).astype(np.uint8)
    options = {"weight_bits": 8, "input_bits": 8, "input_signed": False, "adc_range": (0.0, 60.0)}
    rows, columns = np.array(rows), np.array(columns)
    matrix = Matrix(q, segments, target, groups=groups, rows=rows, columns=columns, **options)
    expected = np.zeros((7, n))
    for s in segments:
        own, some = rows[s.row_begin : s.row_end], columns[s.col_begin : s.col_end]
        part = Segment(0, 9, 0, 5)
        expected[:, some] += crossbar_matmul(
            x.T[:, own], dense[np.ix_(own, some)], [part], target, **options
        )
    out = np.empty((n, 7), np.int64 if matrix.integer else np.float64)
    matrix.multiply(x, out)
    np.testing.assert_allclose(out, expected.T, rtol=1e-12, atol=1e-9)
    if matrix.integer:
        np.testing.assert_array_equal(out, expected.T)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("sparsity=1.5", "pass 'prune': sparsity is a share from 0 to 1, not 1.5"),
        ("sparsity=-0.1", "pass 'prune': sparsity is a share from 0 to 1, not -0.1"),
        ("threshold=-1.0", "pass 'prune': threshold is a size from 0 up, not -1"),
        ("sparsity=0.5 threshold=0.1", "pass 'prune': give sparsity or threshold, not both"),
        ("granularity=chanel", "option 'granularity' expects weight | kernel | channel"),
    ],
)
def test_impossible_options(options, line):
    with pytest.raises(UsageError, match=line.replace("|", r"\|")):
        parse_passes(f"prune{{{options}}}", load_registry())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"layers": ("Cnv",)}, "no layer 'Cnv': did you mean 'Conv'"),
        ({"layers": ("Gemm",)}, "layer 'Gemm' can't be taken: its channels stay: it is the output"),
        (
            {"layers": ("Gemm",), "granularity": "kernel"},
            "layer 'Gemm' can't be taken: kernel: it has no window",
        ),
        (
            {"layers": ("Conv",), "granularity": "depthwise-kernel"},
            "layer 'Conv' can't be taken: depthwise-kernel: it isn't a depthwise convolution",
        ),
        (
            {"sparsity": 1.0},
            r"sparsity=1 would leave layer 'Conv.* of the \d+ channels of all layers",
        ),
        ({"threshold": 100.0}, "threshold=100 would leave layer 'Conv"),
        ({"sparsity": 1.0, "granularity": "row"}, "sparsity=1 would leave a layer such as 'Gemm'"),
        (
            {"threshold": 9.0, "granularity": "weight"},
            "threshold=9 would leave layer 'Conv' with nothing",
        ),
        ({"granularity": "crossbar"}, "granularity=crossbar asks for the hardware"),
    ],
)
def test_refusals(options, line):
    target = None if options.get("granularity") == "crossbar" else SMALL
    with pytest.raises(XbarcError, match=line) as caught:
        prune(load(text_model(SIMPLE)), target, **options)
    assert "\n" not in str(caught.value)


def test_rows_of_a_block_diagonal_matrix_are_refused():
    with pytest.raises(UsageError, match="block-diagonal, of 8 groups"):
        prune(load(text_model(SEPARABLE)), granularity="row", layers=("Conv_1",))


def test_refitting_wants_data():
    with pytest.raises(XbarcError, match="give --calibration"):
        prune(load(text_model(SIMPLE)), refit=True)


def test_nothing_to_prune_changes_nothing():
    model = load(text_model(SIMPLE))
    assert prune(model, sparsity=0.0)[1] is None
    assert prune(model, granularity="depthwise-kernel")[1] is None


# --- transposed convolutions ----------------------------------------------------------------------

UNET = """g (float[N,2,6,6] x) => (float[N,1,12,12] y)
<float[6,2,3,3] w1, float[6] b1, float[6,4,3,3] wu, float[4] bu, float[1,4,1,1] w2> {
  c = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(c)
  u = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(r, wu, bu)
  s = Relu(u) y = Conv(s, w2) }"""


def transposed(groups=2, opset=18):
    """One ConvTranspose of two groups with every attribute."""
    return load(
        text_model(
            f"""g (float[N,4,5,6] x) => (float[N,6,H,W] y)
            <float[4,{6 // groups},3,2] w, float[6] b> {{
            y = ConvTranspose<group={groups}, strides=[2,3], pads=[1,0,2,1], dilations=[1,2],
                              output_padding=[1,2]>(x, w, b) }}""",
            opset=opset,
        )
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_the_matrix_of_a_transposed_convolution_meets_windows_of_its_spread_input(groups):
    model = transposed(groups)
    layer = find_matrices(model.graph)[0][model.graph[0].name]
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)}
    y = Session(model).run(feeds)["y"]
    x, wanted = layer.sample(feeds["x"], y, 50)
    k = len(layer.matrix)
    found = np.concatenate(
        [
            layer.matrix[:, 6 // groups * g : 6 // groups * (g + 1)].T @ x[g * k : (g + 1) * k]
            for g in range(groups)
        ]
    )
    bias = constant(model.graph.initializers["b"])
    np.testing.assert_allclose(found + bias[:, None], wanted, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolutions_weights_come_back_as_they_were(groups):
    model = transposed(groups)
    before = constant(model.graph.initializers["w"]).copy()
    layer = find_matrices(model.graph)[0][model.graph[0].name]
    layer.replace(layer.matrix.copy())
    np.testing.assert_array_equal(constant(model.graph.initializers["w"]), before)


def test_every_layer_of_a_network_that_upsamples_loses_weights():
    model = load(text_model(UNET))
    pruned, figures = prune(model, granularity="weight", sparsity=0.562)
    arrays = {name: constant(pruned.graph.initializers[name]) for name in ("w1", "wu", "w2")}
    assert all((a == 0).any() for a in arrays.values())
    zeros = sum(int((a == 0).sum()) for a in arrays.values())
    size = sum(a.size for a in arrays.values())
    assert zeros == round(0.562 * size) == figures["removed"]
    left = {name: int((a != 0).sum()) for name, a in arrays.items()}
    assert figures["after"]["macs"] == 36 * left["w1"] + 36 * left["wu"] + 144 * left["w2"]
    # The smallest weights of each layer went.
    w, kept = constant(model.graph.initializers["wu"]), arrays["wu"] != 0
    assert np.abs(w[~kept]).max() <= np.abs(w[kept]).min()
    np.testing.assert_array_equal(w[kept], arrays["wu"][kept])


@pytest.mark.parametrize("granularity", ["weight", "kernel", "row", "column"])
@pytest.mark.parametrize("criterion", ["l1", "activation"])
def test_refitting_a_transposed_convolution_makes_up_for_what_went(granularity, criterion):
    model = load(text_model(UNET))
    rng = np.random.default_rng(3)
    feeds = {"x": rng.standard_normal((24, 2, 6, 6)).astype(np.float32)}
    layer = next(n for n in model.graph if n.op_type == "ConvTranspose").name
    pruned, figures = prune(
        model, feeds=feeds, granularity=granularity, criterion=criterion, layers=(layer,)
    )
    assert figures["deviation"]["refitted"] <= figures["deviation"]["pruned"]
    w = constant(pruned.graph.initializers["wu"])
    assert (w == 0).sum() >= w.size // 3


def test_crossbars_of_a_transposed_convolution_are_counted_as_sub_arrays():
    _, figures = prune(load(text_model(UNET)), granularity="weight", sparsity=0.1)
    # One for the 18 x 6 (two blocks of rows: 16 + 2), nine offsets of 6 x 4, one for 4 x 1.
    assert figures["before"]["crossbars"] == 2 + 9 + 1
    model = load(text_model(UNET))
    layer = next(n for n in model.graph if n.op_type == "ConvTranspose").name
    with pytest.raises(UsageError, match="sub-array a kernel position"):
        prune(model, granularity="crossbar", layers=(layer,))


def test_a_constant_channel_goes_into_no_transposed_convolutions_bias():
    # Not every output of it meets the whole kernel: no one number would be right.
    text = """g (float[N,2,6,6] x) => (float[N,3,13,13] y)
    <float[4,2,1,1] w1, float[4] b1, float[4,3,3,3] wu, float[3] bu> {
      c = Conv(x, w1, b1) r = Relu(c) y = ConvTranspose<strides=[2,2]>(r, wu, bu) }"""
    rng = np.random.default_rng(1)
    w1 = rng.standard_normal((4, 2, 1, 1))
    w1[2] = 0
    model = load(text_model(text, w1=w1, b1=[0.1, 0.2, 5, 0.3]))
    layer = next(n for n in model.graph if n.op_type == "Conv").name
    pruned, figures = prune(model, granularity="channel", sparsity=0.25, layers=(layer,))
    assert figures["removed"] == 1 and weights(pruned, "w1").shape == (3, 2, 1, 1)
    assert 5 not in weights(pruned, "b1")
    np.testing.assert_array_equal(weights(pruned, "bu"), weights(model, "bu"))
