"""Squeeze-and-excitation: found in every exporter's form, packed, pooled, its scale moved."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import reference, text_model
from reference import make_target
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.cost.time import Rates, demand
from xbarc.frontends.onnx.importer import load
from xbarc.graph.analysis.squeeze_excitation import find_blocks
from xbarc.graph.run import Session, random_inputs, same_function
from xbarc.hw.sharing import share
from xbarc.ir import parse_module, print_module
from xbarc.ir.analysis.stages import homes, stages_of
from xbarc.ir.dialect import MvmOp, copies_of, ranges_of
from xbarc.passes.squeeze_excitation import SqueezeExcite
from xbarc.report import report_page
from xbarc.report.inspect import inspect
from xbarc.support.errors import UsageError, XbarcError

# One cell a polarity, two columns a weight: 128 rows x 64 weights a crossbar.
PAPERS = make_target(
    array={"rows": 128, "cols": 128, "cell_bits": 7}, inputs={"dac_bits": 8}, adc={"bits": 8}
)
EXACT = ("adc.mode=lossless", "weights.bits=16", "inputs.bits=16")

# What exporters write, by its inside: from x [N, 8, 6, 5] to y, which is x scaled.
FORMS = {
    "torch, convolutions": """<float[2,8,1,1] a, float[2] b, float[8,2,1,1] c, float[8] d> {
        p = GlobalAveragePool(x)  f = Conv(p, a, b)  r = Relu(f)  e = Conv(r, c, d)
        s = Sigmoid(e)  y = Mul(x, s) }""",
    "torch, linear without bias": """<float[8,2] a, float[2,8] c, int64[2] v = {-1, 8},
        int64[4] u = {-1, 8, 1, 1}, int64[4] o = {1, 8, 6, 5}> {
        p = GlobalAveragePool(x)  q = Reshape(p, v)  f = MatMul(q, a)  r = Relu(f)
        e = MatMul(r, c)  g = Sigmoid(e)  s = Reshape(g, u)  y = Mul(x, s) }""",
    "torch, mean and gemm": """<float[2,8] a, float[2] b, float[8,2] c, float[8] d,
        int64[2] ax = {2, 3}, int64[2] un = {2, 3}> {
        p = ReduceMean<keepdims=0>(x, ax)  f = Gemm<transB=1>(p, a, b)  h = Sigmoid(f)
        r = Mul(f, h)  e = Gemm<transB=1>(r, c, d)  g = Sigmoid(e)  s = Unsqueeze(g, un)
        y = Mul(x, s) }""",
    "torch, hard gate and map second": """<float[2,8,1,1] a, float[2] b, float[8,2,1,1] c,
        float[8] d> {
        p = AveragePool<kernel_shape=[6,5]>(x)  f = Conv(p, a, b)  r = HardSwish(f)
        e = Conv(r, c, d)  s = HardSigmoid<alpha=0.16666667, beta=0.5>(e)  y = Mul(s, x) }""",
    "gate written out": """<float[2,8,1,1] a, float[2] b, float[8,2,1,1] c, float[8] d,
        float three = {3}, float zero = {0}, float six = {6}> {
        p = GlobalAveragePool(x)  f = Conv(p, a, b)  r = Relu(f)  e = Conv(r, c, d)
        k = Add(e, three)  l = Clip(k, zero, six)  s = Div(l, six)  y = Mul(x, s) }""",
    "hard swish and gate written out": """<float[2,8,1,1] a, float[2] b, float[8,2,1,1] c,
        float[8] d, float three = {3}, float zero = {0}, float six = {6},
        float sixth = {0.16666667}> {
        p = GlobalAveragePool(x)  f = Conv(p, a, b)
        m = Add(f, three)  n = Clip(m, zero, six)  o = Mul(f, n)  r = Mul(o, sixth)
        e = Conv(r, c, d)  k = Add(e, three)  t = Relu(k)  l = Min(t, six)  s = Mul(l, sixth)
        y = Mul(x, s) }""",
    "keras": """<float[8,2] a, float[2] b, float[2,8] c, float[8] d, int64[2] ax = {1, 2},
        int64[4] v = {-1, 1, 1, 8}> {
        h = Transpose<perm=[0,2,3,1]>(x)  p = ReduceMean<keepdims=0>(h, ax)
        q = Reshape(p, v)  f0 = MatMul(q, a)  f = Add(f0, b)  r = Relu(f)
        e0 = MatMul(r, c)  e = Add(e0, d)  s = Sigmoid(e)  z = Mul(h, s)
        y = Transpose<perm=[0,3,1,2]>(z) }""",
    "keras, pool before the transpose": """<float[2,8,1,1] a, float[1,2,1,1] b, float[8,2,1,1] c,
        float[8] d> {
        h = Transpose<perm=[0,2,3,1]>(x)  t = Transpose<perm=[0,3,1,2]>(h)
        p = GlobalAveragePool(t)  f0 = Conv(p, a)  f = Add(f0, b)  r = Relu(f)
        e = Conv(r, c, d)  s = HardSigmoid(e)  y = Mul(t, s) }""",
    "paddle": """<float[2,8,1,1] a, float[2] b0, int64[4] v = {1, 2, 1, 1}, float[8,2,1,1] c,
        float[8] d0, int64[4] w = {1, 8, 1, 1}> {
        p = GlobalAveragePool(x)  f0 = Conv(p, a)  b = Reshape(b0, v)  f = Add(f0, b)
        r = Relu(f)  e0 = Conv(r, c)  d = Reshape(d0, w)  e = Add(e0, d)
        s = HardSigmoid<alpha=0.2, beta=0.5>(e)  y = Mul(x, s) }""",
    "half precision gate": """<float[2,8,1,1] a, float[8,2,1,1] c> {
        p = GlobalAveragePool(x)  f = Conv(p, a)  r = Relu(f)  e = Conv(r, c)
        h = Cast<to=10>(e)  g = Sigmoid(h)  s = Cast<to=1>(g)  y = Mul(x, s) }""",
    "quantised": """<float[2,8,1,1] a, float[8,2,1,1] c, float q = {0.02}, uint8 z = {0},
        float k = {0.004}> {
        xq = QuantizeLinear(x, q, z)  xd = DequantizeLinear(xq, q, z)
        p = GlobalAveragePool(xd)  pq = QuantizeLinear(p, q, z)  pd = DequantizeLinear(pq, q, z)
        f = Conv(pd, a)  r = Relu(f)  e = Conv(r, c)  s = Sigmoid(e)
        sq = QuantizeLinear(s, k, z)  sd = DequantizeLinear(sq, k, z)  y = Mul(xd, sd) }""",
}
HEAD = "g (float[N,8,6,5] x) => (float[N,8,6,5] y) "


def of(body):
    """The model of a form."""
    return text_model(HEAD + body.replace("\n", " "))


def inputs(seed=0, items=3):
    x = np.random.default_rng(seed).random((items, 8, 6, 5)).astype(np.float32)
    return {"x": x}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_every_form_is_found_and_packed_and_computes_the_same(body):
    model, feeds = of(body), inputs()
    plain = xbarc.compile(model, PAPERS, calibration=feeds)
    packed = xbarc.compile(model, PAPERS, calibration=feeds, passes="squeeze-excitation")
    (block,) = inspect(plain)["blocks"]
    assert (block["channels"], block["squeezed"], block["tiles"]) == (8, 2, 2)
    assert block["crossbars"] == 2 and inspect(packed)["blocks"][0]["crossbars"] == 1
    assert packed.report["totals"]["crossbars"] == plain.report["totals"]["crossbars"] - 1
    assert packed.report["totals"]["memristors"] == plain.report["totals"]["memristors"]
    assert packed.run(feeds)["y"].tobytes() == plain.run(feeds)["y"].tobytes()
    assert packed.report["coverage"]["digital_reasons"] == {}
    exact = xbarc.compile(model, "mca128", calibration=feeds, overrides=EXACT)
    np.testing.assert_allclose(exact.run(feeds)["y"], reference(model, feeds)["y"], atol=5e-3)


def test_a_block_says_what_it_is_made_of():
    model = of(FORMS["gate written out"])
    (found,) = find_blocks(load(model).graph)
    assert (found.activation, found.gate) == (("Relu",), ("Add", "Clip", "Div"))
    (block,) = inspect(xbarc.compile(model, PAPERS))["blocks"]
    assert block == {
        "kind": "squeeze-excitation",
        "layers": ["Conv", "Conv_1"],
        "channels": 8,
        "squeezed": 2,
        "pool": {"name": "GlobalAveragePool", "on": "digital"},
        "activation": "Relu",
        "gate": "Clip, Div",  # fold-batchnorm takes the Add into the bias
        "scale": {"name": "Mul", "on": "digital", "behind": None},
        "tiles": 2,
        "crossbars": 2,
    }


TORCH = FORMS["torch, convolutions"]
NEAR_MISSES = {
    "largest instead of average": ("GlobalAveragePool(x)", "GlobalMaxPool(x)"),
    "half of the map": ("GlobalAveragePool(x)", "AveragePool<kernel_shape=[6,4]>(x)"),
    "no activation": ("r = Relu(f)  e = Conv(r", "r = Identity(f)  e = Conv(r"),
    "no gate": ("s = Sigmoid(e)", "s = Identity(e)"),
    "a gate that goes negative": ("s = Sigmoid(e)", "s = Tanh(e)"),
    "a gate without a limit": ("s = Sigmoid(e)", "s = Relu(e)"),
    "a gate that falls": ("s = Sigmoid(e)", "n = Neg(e)  s = Sigmoid(n)"),
    "a gate over channels": ("s = Sigmoid(e)", "s = Softmax<axis=1>(e)"),
    "another map": ("y = Mul(x, s)", "w = Relu(x)  y = Mul(w, s)"),
    "a depthwise layer of another map": (
        "y = Mul(x, s)",
        "w = Relu(x)  z = Conv<group=8>(w, c2)  y = Mul(z, s)",
    ),
    "a gate to a half": ("s = Sigmoid(e)", "h = Sigmoid(e)  s = Mul(h, half)"),
    "added": ("y = Mul(x, s)", "y = Add(x, s)"),
    "three layers": ("r = Relu(f)", "f2 = Conv(f, m)  r = Relu(f2)"),
    "groups": ("e = Conv(r, c, d)", "e = Conv<group=2>(r, c2, d)"),
    "an activation of two values": (
        "r = Relu(f)",
        "p2 = Slice(p, zero, two, one)  r0 = Relu(f)  r = Add(r0, p2)",
    ),
}


@pytest.mark.parametrize(("there", "instead"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_what_is_nearly_one_is_none(there, instead):
    body = TORCH.replace(there, instead)
    assert body != TORCH
    more = "float[2,2,1,1] m, float[8,1,1,1] c2, "
    more += "float half = {0.5}, int64[1] zero = {0}, int64[1] two = {2}, int64[1] one = {1}"
    model = load(of(body.replace("<", f"<{more}, ", 1)))
    assert find_blocks(model.graph) == []
    assert len(find_blocks(load(of(TORCH)).graph)) == 1


# --- packing --------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
)
def test_no_two_tiles_share_a_cell(hosts, guests):
    found = share(hosts, guests, (9, 9))
    if found is None:
        return
    for number, (rows, columns) in enumerate(hosts):
        mine = [guest for guest, at in zip(guests, found, strict=True) if at == number]
        assert rows * columns + sum(r * c for r, c in mine) <= 81
        for r, c in mine:
            assert rows + r <= 9 or columns + c <= 9


def test_places_below_and_beside():
    assert share([(6, 2)], [(3, 9)], (9, 9)) == [0]  # below
    assert share([(9, 2)], [(9, 7)], (9, 9)) == [0]  # beside
    assert share([(6, 2)], [(3, 9), (6, 7)], (9, 9)) == [0, 0]  # both
    assert share([(6, 2)], [(3, 9), (6, 7), (1, 1)], (9, 9)) is None  # full
    assert share([(6, 2)], [(4, 8)], (9, 9)) is None
    assert share([(9, 9), (6, 2)], [(3, 9)], (9, 9)) == [1]


def se(channels, ratio, size=4):
    """A block of so many channels."""
    small = channels // ratio
    return text_model(
        f"""g (float[N,{channels},{size},{size}] x) => (float[N,{channels},{size},{size}] y)
        <float[{small},{channels},1,1] a, float[{channels},{small},1,1] c> {{
        p = GlobalAveragePool(x)  f = Conv(p, a)  r = Relu(f)  e = Conv(r, c)
        s = Sigmoid(e)  y = Mul(x, s) }}"""
    )


@pytest.mark.parametrize(
    ("channels", "ratio", "packed"),
    [(16, 4, 1), (64, 4, 1), (64, 16, 1), (96, 4, 1), (104, 4, 3), (256, 16, 6), (512, 16, 12)],
)
def test_tiles_are_those_of_the_formula_and_fewer_when_packed(channels, ratio, packed):
    n, squeezed = 128, channels // ratio
    formula = -(-channels // n) * -(-2 * squeezed // n) + -(-squeezed // n) * -(-2 * channels // n)
    program = xbarc.compile(se(channels, ratio), PAPERS)
    assert program.report["totals"]["crossbars"] == formula
    together = xbarc.compile(se(channels, ratio), PAPERS, passes="squeeze-excitation")
    assert together.report["totals"]["crossbars"] == min(packed, formula)
    alone, shared = program.report["layers"], together.report["layers"]
    for key in ("tiles", "cycles", "macs", "adc_conversions", "memristors"):
        assert [row[key] for row in alone] == [row[key] for row in shared]
    assert together.report["totals"]["latency_us"] == program.report["totals"]["latency_us"]


@pytest.mark.parametrize(
    "where", [("arrays", "columns"), ("columns", "arrays"), ("arrays", "arrays")]
)
def test_slices_on_arrays_of_their_own_are_packed_alike(where):
    slices, polarity = where
    target = make_target(
        array={"rows": 64, "cols": 64, "cell_bits": 2, "slices_in": slices, "polarity_in": polarity}
    )
    plain = xbarc.compile(se(32, 4), target)
    packed = xbarc.compile(se(32, 4), target, passes="squeeze-excitation")
    crossbars = [p.report["totals"]["crossbars"] for p in (plain, packed)]
    each = target.array.crossbars_per_tile(8)
    assert crossbars[1] == crossbars[0] - sum(
        len(op.tiles()) * each for op in packed.module.walk() if isinstance(op, MvmOp) and op.beside
    )
    x = np.random.default_rng(0).random((2, 32, 4, 4)).astype(np.float32)
    assert plain.run(x)["y"].tobytes() == packed.run(x)["y"].tobytes()


def test_packing_can_be_left_out_and_layers_named():
    model = se(16, 4)
    assert (
        xbarc.compile(model, PAPERS, passes="squeeze-excitation{pack=false}").report["totals"][
            "crossbars"
        ]
        == 2
    )
    named = xbarc.compile(model, PAPERS, passes='squeeze-excitation{layers="Conv_1"}')
    assert named.report["totals"]["crossbars"] == 1
    with pytest.raises(UsageError, match="no layer 'Conv_2'"):
        xbarc.compile(model, PAPERS, passes="squeeze-excitation{layers=Conv_2}")
    with pytest.raises(UsageError, match="squeeze-and-excitation layer"):
        xbarc.compile(model, PAPERS, passes="im2col,share-crossbars{layers=Conv_2}")


def test_tile_passes_keep_the_two_together(tmp_path):
    model, passes = se(16, 4), "squeeze-excitation,replicate{budget=3},place,schedule"
    program = xbarc.compile(model, PAPERS, passes=passes)
    host, guest = (op for op in program.module.walk() if isinstance(op, MvmOp))
    assert guest.host is host and guest.crossbars() == 0
    assert copies_of(guest) == copies_of(host)
    assert ranges_of(guest) == ranges_of(host) != []
    stages = stages_of(program.module)
    assert [stages[b].op for b in homes(stages).values()] == [host, host]
    program.save(tmp_path / "m.xbar")
    assert "squeeze" in print_module(program.module)
    assert report_page(program, tmp_path / "m.xbar")
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "m.xbar"), "--json"])
    assert json.loads(shown.stdout)["blocks"][0]["crossbars"] == 1
    plan = CliRunner().invoke(app, ["inspect", str(tmp_path / "m.xbar"), "--floorplan", "--json"])
    assert [layer["crossbars"] for layer in json.loads(plan.stdout)["layers"]] == [copies_of(host)]
    table = CliRunner().invoke(app, ["inspect", str(tmp_path / "m.xbar")])
    assert "Conv + Conv_1" in table.stdout and "16-4-16" in table.stdout
    again = xbarc.load(tmp_path / "m.xbar")
    x = np.random.default_rng(0).random((2, 16, 4, 4)).astype(np.float32)
    plain = xbarc.compile(model, PAPERS)
    assert again.run(x)["y"].tobytes() == plain.run(x)["y"].tobytes()


# --- pool and scale -------------------------------------------------------------------------------


def test_the_pool_stands_on_crossbars_where_asked():
    model, feeds = of(TORCH), inputs()
    found = load(model)
    SqueezeExcite(pool="crossbar").apply(found, None)
    assert same_function(load(model), found, random_inputs(load(model), 2)) < 1e-6
    program = xbarc.compile(
        model,
        "mca128",
        calibration=feeds,
        overrides=EXACT,
        passes="squeeze-excitation{pool=crossbar}",
    )
    (block,) = inspect(program)["blocks"]
    assert block["pool"] == {"name": "GlobalAveragePool", "on": "crossbar"}
    assert [row["name"] for row in program.report["layers"]] == [
        "GlobalAveragePool",
        "Conv",
        "Conv_1",
    ]
    np.testing.assert_allclose(program.run(feeds)["y"], reference(model, feeds)["y"], atol=5e-3)
    assert program.report["pass_figures"]["squeeze-excitation"] == {
        "blocks": 1,
        "pooled": 1,
        "folded": 0,
    }


DEPTHWISE = "Conv<group=8, pads=[1,1,1,1]>(z, k, l)"


def behind(reader):
    """The block whose scaled map z is read so; `n` moves."""
    more = (
        "<float[8,1,3,3] k, float[8] l, float[8,8,1,1] m, int64[2] hw = {2, 3}, int64[1] i0 = {0}, "
    )
    body = TORCH.replace("<", more, 1).replace("y = Mul(x, s)", f"z = Mul(x, s)  y = {reader}")
    moving = "n0 = ReduceMax<keepdims=0>(x, hw)  n = ReduceMax<keepdims=0>(n0, i0)  z ="
    return of(body.replace("z =", moving) if ", n)" in reader else body)


@pytest.mark.parametrize("reader", [DEPTHWISE, "Conv<group=8, pads=[1,1,1,1]>(z, k)"])
def test_the_scale_moves_behind_a_depthwise_layer(reader):
    model, feeds = behind(reader), inputs()
    moved = load(model)
    assert SqueezeExcite().apply(moved, None)
    assert same_function(load(model), moved, random_inputs(load(model), 2)) < 1e-6
    conv = next(n for n in moved.graph if n.op_type == "Conv" and n.inputs[1].name == "k")
    assert conv.inputs[0].name == "x"
    program = xbarc.compile(
        model, "mca128", calibration=feeds, overrides=EXACT, passes="squeeze-excitation"
    )
    (block,) = inspect(program)["blocks"]
    assert block["scale"]["behind"] == "Conv_2"
    np.testing.assert_allclose(program.run(feeds)["y"], reference(model, feeds)["y"], atol=5e-3)


@pytest.mark.parametrize(
    "reader",
    ["Conv(z, m)", "Conv<group=8, pads=[1,1,1,1]>(z, k, n)", f"Relu(z)  w = {DEPTHWISE}"],
    ids=["a column sees several channels", "a bias that moves", "two read it"],
)
def test_otherwise_the_map_is_scaled(reader):
    found = load(behind(reader))
    assert not SqueezeExcite().apply(found, None)
    (block,) = find_blocks(found.graph)
    assert block.folded is None


def test_the_function_is_the_same_whatever_the_options():
    for body in FORMS.values():
        if "QuantizeLinear" in body:
            continue
        model = load(of(body))
        found = load(of(body))
        SqueezeExcite(pool="crossbar").apply(found, None)
        feeds = random_inputs(model, 2)
        want, have = Session(model).run(feeds)["y"], Session(found).run(feeds)["y"]
        np.testing.assert_allclose(have, want, atol=1e-5)


# --- the text -------------------------------------------------------------------------------------

MODULE = """\
builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 7 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @se1 : 48x12xi8 for "Conv"
  xbar.weights @se2 : 12x48xi8 for "Conv"
  xbar.weights @fc : 48x64xi8 for "Conv"
  xbar.squeeze_excitation @se1, @se2 pool "pool" activation "Relu" gate "Add, Clip, Div" scale "mul" behind "dw"
  func.func @main(%0: tensor<?x48xui8>, %1: tensor<?x12xui8>) {
    %2 = xbar.gather %0 axis 1 : tensor<?x48xui8> -> !xbar.stream<1 x 48 x ui8>
    %3 = xbar.mvm %2, @se1 by "im2col" grid [128, 64] : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 12 x si32>
    %4 = xbar.gather %1 axis 1 : tensor<?x12xui8> -> !xbar.stream<1 x 12 x ui8>
    %5 = xbar.mvm %4, @se2 by "im2col" grid [128, 64] beside @se1 : !xbar.stream<1 x 12 x ui8> -> !xbar.stream<1 x 48 x si32>
    %6 = xbar.mvm %2, @fc by "im2col" grid [128, 64] : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 64 x si32>
    func.return
  }
}
"""  # noqa: E501

REFUSED = [
    ("beside @se1", "beside @fc", "@fc is no earlier mvm to stand beside"),
    ("beside @se1", "beside @nothing", "is no earlier mvm to stand beside"),
    ("[128, 64] beside @se1", "[128, 64] beside @se1 copies 2", "it stands 2 times"),
    (
        "[128, 64] : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 64",
        "[128, 64] beside @se2 : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 64",
        "itself stands beside another",
    ),
    (
        "[128, 64] : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 64",
        "[128, 64] beside @se1 : !xbar.stream<1 x 48 x ui8> -> !xbar.stream<1 x 64",
        "another mvm stands beside",
    ),
    ("<128 x 128", "<59 x 100", "don't fit on what"),
    ("squeeze_excitation @se1, @se2", "squeeze_excitation @se1, @fc", "don't squeeze channels"),
    (
        "squeeze_excitation @se1, @se2",
        "squeeze_excitation @se1, @main",
        "doesn't name an xbar.weights",
    ),
    ('pool "pool"', "pool 3", "3 : i64 should be of base attribute string"),
]


def test_the_text_is_its_own_normal_form():
    assert print_module(parse_module(MODULE)) == MODULE


@pytest.mark.parametrize(("there", "instead", "said"), REFUSED)
def test_the_verifier_refuses(there, instead, said):
    text = MODULE.replace(there, instead)
    assert text != MODULE
    with pytest.raises(XbarcError) as error:
        parse_module(text, "m.mlir")
    assert said in str(error.value)


def test_they_stand_in_one_place():
    mesh = "#xbar.mesh<1 chips of 4 nodes of 2 cores of 2 crossbars, 2 wide, bands of 1>"
    text = MODULE.replace("polarity in columns>}", f"polarity in columns>, xbar.mesh = {mesh}}}")
    text = text.replace(
        '@se1 by "im2col" grid [128, 64]', '@se1 by "im2col" grid [128, 64] at [[0, 0, 1, 1]]', 1
    )
    placed = text.replace("beside @se1", "beside @se1 at [[0, 0, 1, 1]]")
    assert print_module(parse_module(placed)) == placed
    for where in ("", " at [[0, 0, 0, 1]]"):
        with pytest.raises(XbarcError, match="it stands elsewhere than @se1"):
            parse_module(text.replace("beside @se1", "beside @se1" + where))


def test_a_stream_of_images_waits_for_both():
    intervals = []
    for passes in ("", "squeeze-excitation"):
        stages = stages_of(xbarc.compile(se(16, 4), PAPERS, passes=passes).module)
        asked = demand(stages, PAPERS, [{} for _ in stages], Rates())
        assert asked.bottleneck.resource == "crossbar"
        intervals.append(asked.interval_ns)
    # The pooled values are signed: two passes, then one for the second product.
    assert intervals[1] == pytest.approx(1.5 * intervals[0])
