"""kernel-2d1d: which layers are replaced, what that does to the function, and the budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from shared import SHARED, needs_shared

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.attachments import attach, figures_of
from xbarc.graph.query import attribute
from xbarc.graph.run import Session, random_inputs, relative_error
from xbarc.hw.target import load_target
from xbarc.passes.depthwise import Depthwise
from xbarc.passes.kernel_2d1d import Kernel2d1d, fewest
from xbarc.pipeline import load_registry, parse_passes
from xbarc.support.errors import UsageError, XbarcError

# Stages of 12 x 12 (s0 is the network's first, p is 1x1), 6 x 6 and, further up again, 12 x 12.
NET = """g (float[N,3,12,12] x) => (float[N,8,12,12] y)
<float[8,3,3,3] w0, float[8,8,3,3] w1, float[8,8,3,3] w2, float[8,8,1,1] wp, float[8,8,3,3] w3,
 float[8,8,3,3] w4, float[8] b4, float[8,1,2,2] wu, float[8,8,3,3] w5> {
  [s0] a = Conv<pads=[1,1,1,1]>(x, w0)
  [s1] b = Conv<pads=[1,1,1,1]>(a, w1)
  [s2] c = Conv<pads=[1,1,1,1]>(b, w2)
  [p] d = Conv(c, wp)
  [s3] e = Conv<pads=[1,1,1,1], strides=[2,2]>(d, w3)
  [s4] f = Conv<pads=[1,1,1,1]>(e, w4, b4)
  [up] u = ConvTranspose<group=8, strides=[2,2]>(f, wu)
  [s5] y = Conv<pads=[1,1,1,1]>(u, w5)
}"""
TWO_COLUMNS = ("array.cell_bits=7", "inputs.dac_bits=8")


def prepared(source=NET, samples=12, *, data=True, **values):
    """A model with calibration data, and those."""
    model = load(text_model(source, **values) if isinstance(source, str) else source)
    feeds = random_inputs(model, samples, seed=1)
    if data:
        attach(model, feeds)
    return model, feeds


def replaced(model):
    """The layers that were replaced, in order."""
    return [
        (node.name or "").removesuffix(".depthwise")
        for node in model.graph
        if (node.name or "").endswith(".depthwise")
    ]


def run(target=None, **options):
    model, feeds = prepared()
    before = Session(model).run(feeds)
    modified = Kernel2d1d(**options).apply(model, target)
    return model, modified, relative_error(before, Session(model).run(feeds))


# --- Which layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"ratio": 0.0}, []),
        ({"ratio": 0.2}, ["s5"]),
        ({"ratio": 0.5}, ["s3", "s4", "s5"]),
        ({"ratio": 0.8}, ["s2", "s3", "s4", "s5"]),
        ({"ratio": 1.0}, ["s1", "s2", "s3", "s4", "s5"]),
        ({"layers": ("s4", "s1")}, ["s1", "s4"]),
        ({"layers": ("s0",)}, ["s0"]),
        ({"stage": (1,)}, ["s1", "s2"]),
        ({"stage": (2,)}, ["s3", "s4"]),
        ({"stage": (3, 1)}, ["s1", "s2", "s5"]),
    ],
)
def test_which_layers_are_replaced(options, layers):
    model, modified, moved = run(refit=False, **options)
    assert replaced(model) == layers
    assert modified == bool(layers)
    assert (moved > 0) == bool(layers)
    assert figures_of(model)["kernel-2d1d"]["replaced"] == layers
    assert figures_of(model)["kernel-2d1d"]["of"] == 5


def test_the_shapes_of_what_comes_in_place():
    model, _, _ = run(layers=("s3", "s4"))
    nodes = {node.name: node for node in model.graph}
    kernels, points = nodes["s3.depthwise"], nodes["s3.pointwise"]
    assert attribute(kernels, "group") == 8
    assert list(attribute(kernels, "strides")) == [2, 2]
    assert kernels.inputs[1].shape == [8, 1, 3, 3]
    assert points.inputs[1].shape == [8, 8, 1, 1]
    assert attribute(points, "strides") is None
    assert figures_of(model)["kernel-2d1d"]["weights"] == {
        "before": 2 * 8 * 8 * 9,
        "after": 2 * 8 * (9 + 8),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing chooses the layers: give one of ratio, layers, stage, crossbars"),
        ({"ratio": 0.5, "stage": (1,)}, "ratio and stage each choose the layers"),
        ({"ratio": 0.0, "crossbars": 9}, "ratio and crossbars each choose the layers"),
        ({"ratio": 1.5}, "ratio is a share from 0 to 1, not 1.5"),
        ({"crossbars": 0}, "crossbars is a budget of 1 at least, not 0"),
    ],
)
def test_options_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Kernel2d1d(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("s6",)}, "no layer 's6'"),
        ({"layers": ("p",)}, "layer 'p' can't be taken: its kernel is 1 x 1"),
        ({"stage": (4,)}, "no stage 4: the network's convolutions have 3"),
        ({"stage": (0,)}, "no stage 0"),
        ({"crossbars": 9}, "give --target"),
    ],
)
def test_layers_refused(options, message):
    with pytest.raises(UsageError, match=message):
        run(**options)


def test_a_fit_needs_data():
    model, _ = prepared(data=False)
    with pytest.raises(XbarcError, match="give --calibration"):
        Kernel2d1d(ratio=1.0).apply(model, None)
    assert Kernel2d1d(ratio=1.0, refit=False).apply(model, None)


# --- The function ---------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    channels=st.integers(1, 5),
    outputs=st.integers(1, 6),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    kernel=st.sampled_from([(3, 3), (1, 3), (5, 2)]),
)
def test_a_separable_convolution_loses_nothing(channels, outputs, stride, dilation, kernel):
    rng = np.random.default_rng(channels)
    k0, k1 = kernel
    points = rng.standard_normal((outputs, channels))
    w = np.einsum("oc,ckl->ockl", points, rng.standard_normal((channels, k0, k1)))
    text = f"""g (float[N,{channels},11,12] x) => (float[N,{outputs},H,W] y)
    <float[{outputs},{channels},{k0},{k1}] w, float[{outputs}] b>
    {{ [c] y = Conv<strides=[{stride},{stride}], dilations=[{dilation},{dilation}]>(x, w, b) }}"""
    model, feeds = prepared(text, w=w)
    before = Session(model).run(feeds)
    Kernel2d1d(layers=("c",), refit=False).apply(model, None)
    assert relative_error(before, Session(model).run(feeds)) < 1e-5


def correlated():
    """Channels that see nearly the same, so that one's kernel can stand in for another's."""
    rng = np.random.default_rng(3)
    text = """g (float[N,8,10,10] x) => (float[N,8,H,W] y) <float[8,8,3,3] w>
    { [c] y = Conv<pads=[1,1,1,1]>(x, w) }"""
    mixed = np.einsum("cd,ndhw->nchw", rng.standard_normal((8, 3)), rng.random((16, 3, 10, 10)))
    return load(text_model(text)), {"x": (mixed + 0.1 * rng.random(mixed.shape)).astype("f4")}


def test_fitting_kernels_to_each_other_beats_one_after_the_other():
    """Against `depthwise{rank=1}`: 1x1 weights fitted to kernels found channel by channel."""
    errors = []
    for graph_pass in (
        Kernel2d1d(layers=("c",)),
        Depthwise(rank=1),
        Kernel2d1d(layers=("c",), refit=False),
    ):
        model, feeds = correlated()
        before = Session(model).run(feeds)
        attach(model, feeds)
        graph_pass.apply(model, None)
        errors.append(relative_error(before, Session(model).run(feeds)))
    assert errors[0] < 0.8 * errors[1]
    assert errors[1] < errors[2]


def test_a_compilation_reports_the_deviation():
    program = xbarc.compile(text_model(NET), "mca128", passes="kernel-2d1d{ratio=0.4}")
    assert 0 < program.report["deviation"]["kernel-2d1d"] < 1
    assert program.report["pass_figures"]["kernel-2d1d"]["replaced"] == ["s4", "s5"]
    names = [la["name"] for la in program.report["layers"]]
    assert {"s4.depthwise", "s4.pointwise"} <= set(names)
    assert "s4" not in names


# --- The budget -----------------------------------------------------------------------------------


def budgeted(crossbars, mapping="sub-image"):
    """The network within a budget: figures of the pass, and the whole network compiled."""
    text = f'kernel-2d1d{{crossbars={crossbars} mapping="{mapping}"}},{mapping}'
    program = xbarc.compile(text_model(NET), load_target("mca128", TWO_COLUMNS), passes=text)
    return program.report["pass_figures"]["kernel-2d1d"], program.report["totals"]["crossbars"]


@pytest.mark.parametrize("mapping", ["sub-image", "sub-image{pack=channels}", "window"])
def test_the_count_is_the_program_s(mapping):
    """With a budget that asks for nothing, and with one that asks for as much as there is."""
    roomy, whole = budgeted(10**6, mapping)
    assert roomy["replaced"] == []
    assert roomy["crossbars"] == {"before": whole, "after": whole, "budget": 10**6}
    saved = {n: la["crossbars_saved"] for n, la in roomy["layers"].items()}
    least = whole - sum(n for n in saved.values() if n > 0)
    if least == whole:
        return
    tight, count = budgeted(least, mapping)
    assert tight["crossbars"] == {"before": whole, "after": least, "budget": least}
    assert count == least
    assert set(tight["replaced"]) == {n for n, c in saved.items() if c > 0}


def test_a_budget_takes_the_least_deviation_for_a_crossbar():
    roomy, whole = budgeted(10**6)
    tight, count = budgeted(whole - 1)
    layers = tight["layers"]
    best = min(layers, key=lambda n: layers[n]["deviation"] / layers[n]["crossbars_saved"])
    assert tight["replaced"] == [best]
    assert count == whole - roomy["layers"][best]["crossbars_saved"]


def test_a_budget_replaces_no_layer_too_many():
    _, whole = budgeted(10**6)
    for budget in (whole * 2 // 3, whole // 2, whole // 3):
        found, count = budgeted(budget)
        assert count == found["crossbars"]["after"] <= budget
        for name in found["replaced"]:
            assert count + found["layers"][name]["crossbars_saved"] > budget


@pytest.mark.parametrize(
    ("excess", "chosen"),
    [
        (0, []),
        (-5, []),
        (10, ["a"]),
        (11, ["b"]),  # a comes first, but b alone is enough
        (105, ["a", "b"]),
        (111, ["b", "c"]),
        (150, ["b", "c"]),
        (151, ["a", "b", "c"]),
        (160, ["a", "b", "c"]),
    ],
)
def test_the_fewest_that_are_enough(excess, chosen):
    saved = {"a": 10, "b": 100, "c": 50}
    moved = {"a": 0.01, "b": 0.2, "c": 0.5}  # for a crossbar: 0.001, 0.002, 0.01
    assert sorted(fewest(saved, moved, excess)) == chosen


def test_layers_that_save_nothing_arent_replaced():
    """Few channels of a small kernel: packed depthwise takes a crossbar more than im2col did."""
    text = """g (float[N,3,6,6] x) => (float[N,4,H,W] y)
    <float[4,3,3,3] a, float[4,4,3,3] b, float[4,4,3,3] c>
    { [c0] p = Conv(x, a) [c1] q = Conv<pads=[1,1,1,1]>(p, b) [c2] y = Conv(q, c) }"""
    model, _ = prepared(text)
    with pytest.raises(UsageError, match="takes 3, and 3 with every layer replaced that saves any"):
        Kernel2d1d(crossbars=2).apply(model, load_target("mca128"))


def test_a_model_of_fixed_batch():
    model, feeds = prepared(NET.replace("float[N,3", "float[4,3").replace("float[N,8", "float[4,8"))
    attach(model, {"x": np.concatenate([feeds["x"]] * 2)})
    whole = load_target("mca128", TWO_COLUMNS)
    Kernel2d1d(crossbars=10**6, mapping="sub-image").apply(model, whole)
    count = figures_of(model)["kernel-2d1d"]["crossbars"]["before"]
    Kernel2d1d(crossbars=count - 1, mapping="sub-image").apply(model, whole)
    assert len(replaced(model)) == 1


def test_a_budget_out_of_reach():
    with pytest.raises(
        UsageError, match=r"crossbars=2 can't be met: mapped by sub-image, .* takes"
    ):
        budgeted(2)


def test_the_mapping_of_a_budget_is_a_mapping():
    with pytest.raises(UsageError, match="mapping: 'prune' is no mapping pass"):
        xbarc.compile(text_model(NET), "mca128", passes="kernel-2d1d{crossbars=9 mapping=prune}")


def test_options_as_text():
    for text in ("kernel-2d1d{ratio=0.5}", "kernel-2d1d{stage=1,3}", "kernel-2d1d{crossbars=90}"):
        (made,) = parse_passes(text, load_registry())
        assert [*parse_passes(str(made), load_registry())] == [made]


# --- The paper's network --------------------------------------------------------------------------


@needs_shared
def test_resnet_20():
    """Oh, An, Min, Micromachines 14(2):309, 2023: 18 layers in stages of 6, the first kept."""
    model = load(SHARED / "models" / "resnet20_cifar10.onnx")
    convolutions = [
        n.name for n in model.graph if n.op_type == "Conv" and n.inputs[1].shape[2] == 3
    ]
    assert len(convolutions) == 19
    for options, layers in (
        ({"ratio": 1.0}, convolutions[1:]),
        ({"ratio": 0.5}, convolutions[10:]),
        ({"stage": (1,)}, convolutions[1:7]),
        ({"stage": (3,)}, convolutions[13:]),
    ):
        one = model.clone()
        Kernel2d1d(refit=False, **options).apply(one, None)
        assert replaced(one) == layers
