"""depthwise: exact at full rank, the least error below it, and how the rank is chosen."""

from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from shared import SHARED, needs_shared

from xbarc.frontends.onnx.importer import load
from xbarc.graph.attachments import attach
from xbarc.graph.query import attribute, constant
from xbarc.graph.run import Session, random_inputs, relative_error
from xbarc.passes.depthwise import Depthwise
from xbarc.pipeline import load_registry, parse_passes
from xbarc.support.errors import UsageError, XbarcError

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

CONV = """g (float[N,5,9,8] x) => (float[N,6,H,W] y) <float[6,5,3,3] w, float[6] b> {
  y = Conv<pads=[1,1,1,1]>(x, w, b)
}"""


def moved(text_or_model, *, samples=6, data=True, **options):
    """How far the outputs move on the calibration data, and the model."""
    source = text_model(text_or_model) if isinstance(text_or_model, str) else text_or_model
    model = load(source)
    feeds = random_inputs(model, samples, seed=1)
    before = Session(model).run(feeds)
    if data:
        attach(model, feeds)
    Depthwise(**options).apply(model, None)
    return relative_error(before, Session(model).run(feeds)), model


def ranks(model):
    """The rank of each layer that was split, by the layer's name."""
    return {
        node.name.removesuffix(".depthwise"): node.inputs[1].shape[0] // attribute(node, "group")
        for node in model.graph
        if node.name.endswith(".depthwise")
    }


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    channels=st.integers(1, 4),
    outputs=st.integers(1, 5),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pads=st.sampled_from(['auto_pad="SAME_UPPER"', 'auto_pad="SAME_LOWER"', "uneven", ""]),
    bias=st.sampled_from(["", ", b"]),
)
def test_full_rank_keeps_the_function(kernel, channels, outputs, stride, dilation, pads, bias):
    if np.prod(kernel) == 1:
        kernel = [2, *kernel[1:]]
    rank = len(kernel)
    if dilation > 1 and pads.startswith("auto"):
        pads = ""  # onnxruntime's own shapes contradict ONNX's there
    padding = f"pads={[0] * rank + [1] * rank}" if pads == "uneven" else pads
    options = [f"strides={[stride] * rank}", f"dilations={[dilation] * rank}"]
    options += [padding] if padding else []
    dims = ",".join(map(str, kernel))
    error, model = moved(
        f"g (float[N,{channels},{','.join(['9'] * rank)}] x) => "
        f"(float[N,{outputs},{','.join('HWD'[:rank])}] y) "
        f"<float[{outputs},{channels},{dims}] w, float[{outputs}] b> "
        f"{{ y = Conv<{', '.join(options)}>(x, w{bias}) }}",
        data=False,
        rank=min(int(np.prod(kernel)), outputs),
        layers=("Conv",),
    )
    assert error < 1e-5
    assert [node.op_type for node in model.graph] == ["Conv", "Conv"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_the_shapes_of_the_split():
    _, model = moved(CONV, rank=2)
    first, second = model.graph
    assert (first.name, second.name) == ("Conv.depthwise", "Conv.pointwise")
    assert attribute(first, "group") == 5
    assert first.inputs[1].shape == [10, 1, 3, 3]
    assert len(first.inputs) == 2
    assert second.inputs[1].shape == [6, 10, 1, 1]
    assert second.inputs[2].shape == [6]


def test_weights_are_never_written_into():
    source = text_model(CONV)
    model = load(source)
    attach(model, random_inputs(model, 4))
    arrays = [constant(v) for v in model.graph.initializers.values()]
    copies = [a.copy() for a in arrays]
    Depthwise().apply(model, None)
    assert all(np.array_equal(a, c) for a, c in zip(arrays, copies, strict=True))


def test_a_rank_more_is_never_worse():
    errors = [moved(CONV, rank=rank)[0] for rank in range(1, 7)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1
    assert errors[-1] < 1e-5


def test_a_separable_convolution_is_found():
    """Rank 1 in every channel: nothing is lost, with data or without."""
    rng = np.random.default_rng(0)
    w = np.einsum("oc,ckl->ockl", rng.standard_normal((6, 5)), rng.standard_normal((5, 3, 3)))
    source = text_model(CONV, w=w)
    assert moved(source, data=False, refit=False)[0] < 1e-5
    assert moved(source)[0] < 1e-3


@pytest.mark.parametrize("stride", [1, 2])
def test_the_fit_beats_the_weights_alone(stride):
    rng = np.random.default_rng(1)
    # Smooth images: neighbouring pixels say the same, so a kernel's shape matters little.
    x = np.cumsum(np.cumsum(rng.standard_normal((8, 5, 12, 12)), axis=2), axis=3)
    text = CONV.replace("9,8", "12,12").replace("<pads", f"<strides=[{stride},{stride}], pads")
    errors = []
    for refit in (True, False):
        model = load(text_model(text))
        feeds = {"x": x.astype(np.float32)}
        before = Session(model).run(feeds)
        attach(model, feeds)
        Depthwise(refit=refit).apply(model, None)
        errors.append(relative_error(before, Session(model).run(feeds)))
    assert errors[0] < 0.6 * errors[1]


def test_a_later_layer_makes_up_for_an_earlier_one():
    """The second fit sees what the first left, and aims at what the network gave before."""
    text = """g (float[N,5,9,9] x) => (float[N,4,H,W] y)
    <float[6,5,3,3] w, float[6] b, float[4,6,3,3] v> { c = Conv(x, w, b) y = Conv(c, v) }"""
    both, _ = moved(text, samples=16)
    alone = []
    for layer in ("Conv", "Conv_1"):
        error, _ = moved(text, samples=16, layers=(layer,))
        alone.append(error)
    assert both < 1
    assert both**2 < alone[0] ** 2 + alone[1] ** 2 + 0.05


def test_stems_groups_and_1x1_are_kept():
    text = """g (float[N,3,9,9] x) => (float[N,4,H,W] y)
    <float[8,3,3,3] a, float[8,4,3,3] b, float[8,8,1,1] c, float[4,8,2,2] d> {
      p = Conv(x, a) q = Conv<group=2>(p, b) r = Conv(q, c) y = Conv(r, d) }"""
    _, model = moved(text)
    assert ranks(model) == {"Conv_3": 1}
    assert ranks(moved(text, layers=("Conv",))[1]) == {"Conv": 1}


TWO = """g (float[N,8,9,9] x) => (float[N,8,H,W] y) <float[8,8,3,3] w, float[8,8,3,3] v>
{ c = Conv(x, w) y = Conv(c, v) }"""


def two(seed=0):
    """The first convolution is separable, the second anything."""
    rng = np.random.default_rng(seed)
    w = np.einsum("oc,ckl->ockl", rng.standard_normal((8, 8)), rng.standard_normal((8, 3, 3)))
    return text_model(TWO, w=w / 8)


def test_by_energy():
    assert ranks(moved(two(), energy=0.9)[1])["Conv"] == 1
    assert ranks(moved(two(), energy=0.6)[1])["Conv_1"] > 1


def test_by_error():
    error, model = moved(two(), samples=16, error=0.5)
    found = ranks(model)
    assert found["Conv"] == 1
    assert 1 < found["Conv_1"] < 8
    assert error <= 0.5
    # A layer that would cost as much as before is kept as it is.
    assert "Conv_1" not in ranks(moved(two(), error=0.001)[1])


def test_the_least_budget_is_said():
    with pytest.raises(UsageError, match="less than rank 1 takes: ") as caught:
        moved(two(), budget=0.1)
    least = float(str(caught.value).rpartition(" ")[2])
    assert ranks(moved(two(), budget=least)[1]) == {"Conv": 1, "Conv_1": 1}
    with pytest.raises(UsageError, match="less than rank 1"):
        moved(two(), budget=least - 0.001)


def test_by_the_error_of_the_weights_alone():
    """Without a refit: what a rank leaves of the singular values, over all channels."""
    _, whole = moved(two(), data=False, refit=False, layers=("Conv",))
    (w,) = (
        constant(node.inputs[1]).astype(np.float64) for node in whole.graph if node.name == "Conv_1"
    )
    energy = (np.linalg.svd(w.swapaxes(0, 1).reshape(8, 8, 9), compute_uv=False) ** 2).sum(axis=0)
    missed = np.sqrt(1 - energy.cumsum() / energy.sum())
    for rank in (2, 3, 4):
        error = (missed[rank - 1] + missed[rank - 2]) / 2
        assert ranks(moved(two(), data=False, refit=False, error=error)[1])["Conv_1"] == rank


def test_by_budget():
    whole = 2 * 8 * 8 * 9
    for budget in (0.25, 0.4, 0.6):
        _, model = moved(two(), budget=budget)
        found = ranks(model)
        spent = sum(8 * (9 + 8) * r for r in found.values())
        assert spent + (2 - len(found)) * whole / 2 <= budget * whole
        assert found["Conv"] == 1
    assert ranks(moved(two(), budget=0.6)[1]).get("Conv_1", 9) >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is at least 1, not 0"),
        ({"rank": 1, "energy": 0.5}, "rank and energy each choose the rank"),
        ({"energy": 1.5}, "energy is above 0 and at most 1, not 1.5"),
        ({"budget": 0.0}, "budget is above 0"),
    ],
)
def test_options_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Depthwise(**options)


def test_options_refused_as_text():
    with pytest.raises(UsageError, match="pass 'depthwise': rank is at least 1, not 0"):
        parse_passes("depthwise{rank=0}", load_registry())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("conv",)}, "no layer 'conv': did you mean 'Conv'"),
        ({"rank": 7}, "rank 7 is out of range: 'Conv' has ranks 1 to 6"),
        ({"budget": 0.1}, "budget 0.1 is less than rank 1 takes"),
    ],
)
def test_layers_refused(options, message):
    with pytest.raises(UsageError, match=message):
        moved(CONV, **options)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [("Conv_1", "it is of 2 groups"), ("Conv_2", "its kernel is 1 x 1"), ("Conv_3", "depthwise")],
)
def test_why_a_layer_cant_be_split(layer, reason):
    text = """g (float[N,8,9,9] x) => (float[N,8,H,W] y)
    <float[8,8,3,3] a, float[8,4,3,3] b, float[8,8,1,1] c, float[8,1,2,2] d> {
      p = Conv(x, a) q = Conv<group=2>(p, b) r = Conv(q, c) y = Conv<group=8>(r, d) }"""
    with pytest.raises(UsageError, match=f"layer '{layer}' can't be taken: .*{reason}"):
        moved(text, layers=(layer,))


def test_without_data():
    with pytest.raises(XbarcError, match="give --calibration"):
        moved(CONV, data=False)


REAL = [
    "mnist-8",
    "micro_kws_fp32",
    "micro_kws_qdq",
    "mobilenetv1_025_vww96",
    "ppocr_cls_se",
    "resnet20_cifar10",
    "super_resolution",
    "ultraface_slim_320",
    "unet_sed",
]
SHAPES = {"ppocr_cls_se": {"x": [1, 3, 48, 192]}}


def exact(path, shapes=None):
    model = load(path, shapes or {})
    feeds = random_inputs(model, 1, seed=2)
    before = Session(model).run(feeds)
    largest = max(
        (
            int(np.prod(n.inputs[1].shape[2:]))
            for n in model.graph
            if n.op_type == "Conv"
            and n.inputs[1].const_value is not None
            and n.inputs[1].shape[1] > 3
            and attribute(n, "group", 1) == 1
        ),
        default=1,
    )
    layers = [n for n in model.graph if n.op_type == "Conv"]
    try:
        Depthwise(rank=largest).apply(model, None)
    except UsageError as error:  # no layer has that many outputs
        largest = int(str(error).split(" 1 to ")[1].split()[0])
        Depthwise(rank=largest).apply(model, None)
    assert relative_error(before, Session(model).run(feeds)) < 1e-5
    return len([n for n in model.graph if n.op_type == "Conv"]) - len(layers)


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_full_rank_on_real_networks(name):
    exact(SHARED / "models" / f"{name}.onnx", SHAPES.get(name))


@pytest.mark.parametrize("name", ["squeezenet", "resnet50", "inception_v1", "densenet121"])
def test_full_rank_on_the_onnx_packages_networks(name):
    assert exact(LIGHT / f"light_{name}.onnx") > 0
