"""Input that `xbarc tune` can't train on: one line each, before training starts."""

import numpy as np
import pytest
from models import text_model

import xbarc
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.data import Arrays, Pixels


def network(name="x", columns=3, outputs="", more=""):
    return text_model(
        f"""g (float[N,8] {name}) => (float[N,{columns}] y{outputs})
            <float[8,16] w1, float[16] b1, float[16,{columns}] w2, float[{columns}] b2> {{
            h = Gemm({name}, w1, b1)
            r = Relu(h)
            y = Gemm(r, w2, b2)
            {more}
        }}"""
    )


X = np.random.default_rng(0).standard_normal((90, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def refused(words, *arguments, kind=XbarcError, **options):
    """Tune, which ends in one line with these words, before the first step."""

    def watch(*step):
        raise AssertionError("training has begun")

    with pytest.raises(kind, match=words) as caught:
        xbarc.tune(*arguments, "mca64", epochs=1, plain=True, watch=watch, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (network(name="image"), "the teacher .* input 'image', the network has 'x'"),
        (network(columns=5), r"the teacher .* 'y' of \[64, 5\], the network one of \[64, 3\]"),
        (
            network(outputs=", float[N,16] z", more="z = Identity(r)"),
            "the teacher has 2 outputs, the network 1",
        ),
        (
            text_model("g (float[N,7] x) => (float[N,3] y) <float[7,3] w> { y = MatMul(x, w) }"),
            "the teacher: MatMul",
        ),
        (
            text_model(
                """g (float[N,8] x) => (int64[N,3] y) <float[8,3] w> {
                    c = MatMul(x, w)
                    y = Cast<to=7>(c)
                }"""
            ),
            "the teacher .* int64",
        ),
    ],
)
def test_a_teacher_is_like_the_network(teacher, words):
    refused(words, network(), X, None, teacher=teacher)


def test_a_model_without_layers_on_crossbars_has_nothing_to_train():
    model = text_model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }")
    refused("no layer .* crossbars.* nothing to train", model, X, None)


@pytest.mark.parametrize("end", ["y = ArgMax(c)", "a = ArgMax(c) y = Cast<to=1>(a)"])
@pytest.mark.parametrize("labels", [None, Y])
def test_an_output_without_gradient_cant_be_trained(end, labels):
    kind = "float" if "Cast" in end else "int64"
    model = text_model(
        f"g (float[N,8] x) => ({kind}[1,3] y) <float[8,3] w> {{ c = MatMul(x, w) {end} }}"
    )
    refused("output 'y'.*no gradient.*ArgMax", model, X, labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y.astype(str), "labels are <U.*numbers"),
        (np.int64(3), "labels are a single number"),
        (np.where(np.arange(90) == 7, np.nan, 1.0), "labels.*nan.*sample 7"),
        (np.where(np.arange(90) == 7, -np.inf, 1.0), "labels.*-inf.*sample 7"),
    ],
)
def test_labels_are_finite_numbers(labels, words):
    refused(words, network(), X, labels)
    if labels.ndim:
        refused(words, network(), [(X, labels)], None)


def test_inputs_are_finite():
    x = X.copy()
    x[5, 2] = np.nan
    refused("'x'.*nan.*sample 5", network(), {"x": x}, Y)
    refused("'x'.*nan.*sample 5", network(), [(x, Y)], None, calibration=X)
    refused("'x'.*nan.*sample 5", network(), X, Y, validation=(x, Y))


@pytest.mark.parametrize("calibration", [None, X])
def test_an_iterable_begins_anew_and_has_batches(calibration):
    once = ((X[i : i + 30], Y[i : i + 30]) for i in (0, 30, 60))
    refused("only once", network(), once, None, calibration=calibration, kind=UsageError)
    refused("no batch|no samples", network(), [], None, calibration=calibration)
    refused("3 .* 6 labels", network(), [(X[:3], Y[:6])], None, calibration=calibration)


def picture_model(channels=1):
    return text_model(
        f"""g (float[N,{channels},4,4] x) => (float[N,2] y) <float[{16 * channels},2] w> {{
            f = Flatten(x)
            y = MatMul(f, w)
        }}"""
    )


@pytest.mark.parametrize(
    ("picture", "pixels", "words"),
    [
        (np.zeros((2, 4, 4, 1)), Pixels(), r"cat.a.npy has shape \[2, 4, 4, 1\].*\[H, W, C\]"),
        (np.zeros(4), Pixels(), r"cat.a.npy has shape \[4\]"),
        (np.full((4, 4), "a"), Pixels(), "cat.a.npy .*<U1"),
        (np.full((4, 4), np.nan), Pixels(), "'x'.*nan.*sample 0"),
        (np.zeros((4, 4)), Pixels(mean=(1.0, 2.0)), "--pixel-mean.* 2 .*1 channel"),
        (np.zeros((4, 4)), Pixels(std=(1.0, 2.0)), "--pixel-std.* 2 .*1 channel"),
        (np.zeros((4, 4, 3)), Pixels(), "cat.a.npy has 3 channels, the model takes 1"),
    ],
)
def test_pictures_fit_the_model(tmp_path, picture, pixels, words):
    (tmp_path / "cat").mkdir()
    np.save(tmp_path / "cat" / "a.npy", picture)
    refused(words, picture_model(), tmp_path, None, pixels=pixels)


@pytest.mark.parametrize("option", ["scale", "std"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_pixels_are_divided_by_numbers_other_than_0(option, value):
    with pytest.raises(UsageError, match=f"--pixel-{option}"):
        Pixels(**{option: value if option == "scale" else (1.0, value)})


def test_a_share_that_leaves_nothing_names_the_option():
    with pytest.raises(UsageError, match="validation_share = 0.999"):
        Arrays({"x": X}, Y).split(0.999, 0)


FIXED = """g (float[4,8] x) => (float[4,3] y) <float[8,3] w, int64[3] s, int64[2] t> {
    q = Reshape(x, s)
    p = Reshape(q, t)
    y = MatMul(p, w)
}"""


@pytest.mark.parametrize(("given", "batch"), [(3, 64), (87, 10), (88, 1)])
def test_a_fixed_batch_is_filled_up_and_no_sample_is_left_out(given, batch):
    """Of 88 samples 9 are validated on: neither 79 nor 9 are batches of four."""
    fixed = text_model(FIXED, s=[4, 1, 8], t=[4, 8])
    free = text_model(FIXED.replace("[4,", "[N,"), s=[-1, 1, 8], t=[-1, 8])
    options = {"epochs": 1, "optimiser": "sgd", "calibration": X[:88]}
    found, same = (
        xbarc.tune(model, X[:given], Y[:given], "mca64", batch=size, **options).history
        for model, size in ((fixed, batch), (free, -(-batch // 4) * 4))
    )
    for mine, other in zip(found, same, strict=True):
        for name in ("loss", "accuracy", "validation_loss"):
            wanted = getattr(other, name)
            assert getattr(mine, name) == (wanted and pytest.approx(wanted, rel=1e-4))
