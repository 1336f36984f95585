"""What labels mean to `xbarc tune`: which loss they are for, and which answers are right."""

import numpy as np
import pytest
from models import reference, text_model

import xbarc
from xbarc.graph.serialize import to_proto
from xbarc.support.errors import XbarcError


def network(end, columns=1):
    """A network of 8 inputs, two layers, and an end of its own behind the scores `c`."""
    return text_model(
        f"""g (float[N,8] x) => (float[N,{columns}] y)
            <float[8,16] w1, float[16] b1, float[16,{columns}] w2, float[{columns}] b2> {{
            h = Gemm(x, w1, b1)
            r = Relu(h)
            c = Gemm(r, w2, b2)
            {end}
        }}"""
    )


NUMBERS = network("y = Identity(c)")
LOGISTIC = network("y = Sigmoid(c)")
CLASSES = network("y = Identity(c)", 3)

X = np.random.default_rng(0).standard_normal((90, 8)).astype(np.float32)
SIGN = X[:, 0] > 0
CLASS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def tuned(model, labels, **options):
    return xbarc.tune(model, X, labels, "mca64", **{"plain": True, "epochs": 1, **options})


def losses(found):
    return [(record.loss, record.validation_loss) for record in found.history]


@pytest.mark.parametrize("end", ["y = Sigmoid(c)", "y = Softmax(c)"])
def test_numbers_are_compared_with_the_output_itself_not_with_what_its_activation_takes(end):
    model = network(end, 3)
    shares = np.random.default_rng(1).dirichlet(np.ones(3), len(X)).astype(np.float32)
    found = tuned(model, shares, validation=(X, shares), epochs=8, rate=0.03)
    before, after = (
        ((reference(m, {"x": X})["y"] - shares) ** 2).mean() for m in (model, to_proto(found.model))
    )
    assert before == pytest.approx(found.history[0].validation_loss, rel=1e-4)
    assert after == pytest.approx(found.best.validation_loss, rel=1e-4)
    assert after < 0.8 * before


@pytest.mark.parametrize("model", [LOGISTIC, NUMBERS], ids=["sigmoid", "linear"])
@pytest.mark.parametrize("labels", [SIGN * 1, SIGN[:, None].astype(np.uint8), SIGN[:, None]])
def test_whole_labels_of_an_output_of_one_channel_are_binary(model, labels):
    found = tuned(model, labels, validation=(X, labels), epochs=6, rate=0.05, batch=30)
    output = reference(to_proto(found.model), {"x": X})["y"][:, 0]
    right = (output > (0.5 if model is LOGISTIC else 0)) == SIGN
    assert right.mean() == pytest.approx(found.best.validation_accuracy)
    assert right.mean() > 0.85
    named = tuned(model, labels, validation=(X, labels), epochs=6, rate=0.05, batch=30,
                  loss="binary")  # fmt: skip
    assert losses(named) == losses(found)


def test_real_zeros_and_ones_are_binary_where_that_is_said():
    labels = SIGN.astype(np.float32)[:, None]
    assert tuned(LOGISTIC, labels, loss="binary").best.validation_accuracy is not None
    assert tuned(LOGISTIC, labels).best.validation_accuracy is None  # numbers, regressed


@pytest.mark.parametrize("batch", [2, 16, 64])
def test_numbers_have_no_accuracy_whatever_the_batch(batch):
    labels = X[:72, :1] * 2
    found = xbarc.tune(NUMBERS, X[:72], labels, "mca64", plain=True, epochs=1, batch=batch)
    assert [record.accuracy for record in found.history] == [None, None]
    assert [record.validation_accuracy for record in found.history] == [None, None]


def test_a_batch_doesnt_say_what_labels_mean():
    """Shares of which the first few samples happen to be one-hot."""
    labels = np.full((90, 3), 1 / 3, np.float32)
    labels[:8] = np.eye(3)[CLASS[:8]]
    found = tuned(CLASSES, labels, batch=1, validation_share=0.0)
    assert found.history[1].accuracy is None


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int8])
def test_classes_are_integers_of_any_type(dtype):
    assert losses(tuned(CLASSES, CLASS.astype(dtype))) == losses(tuned(CLASSES, CLASS))


def test_classes_may_be_one_hot_or_whole_floats():
    same = losses(tuned(CLASSES, CLASS))
    assert losses(tuned(CLASSES, np.eye(3)[CLASS])) == same
    assert losses(tuned(CLASSES, CLASS.astype(float), loss="cross-entropy")) == same


def test_validation_labels_may_be_written_otherwise():
    mixed = tuned(CLASSES, np.eye(3)[CLASS], validation=(X, CLASS))
    assert losses(mixed) == losses(tuned(CLASSES, CLASS, validation=(X, CLASS)))


@pytest.mark.parametrize(
    ("model", "labels", "options", "words"),
    [
        (CLASSES, CLASS + 0.5, {"loss": "cross-entropy"}, "fractions.*--loss mse"),
        (LOGISTIC, SIGN + 0.5, {"loss": "binary"}, "fractions.*--loss mse"),
        (
            CLASSES,
            CLASS.astype(float),
            {},
            r"float64\[n\] .*output, \[n, 3\].*--loss cross-entropy",
        ),
        (CLASSES, CLASS + 5, {}, "from 5 to 7, the output has classes 0 to 2"),
        (CLASSES, CLASS - 1, {}, "from -1 to 1, the output has classes 0 to 2"),
        (LOGISTIC, CLASS, {}, "from 0 to 2.*--loss mse"),
        (LOGISTIC, SIGN * 2 - 1, {"loss": "binary"}, "-1.*0 and 1"),
        (LOGISTIC, SIGN.astype(int), {"loss": "cross-entropy"}, "one channel.*--loss binary"),
        (CLASSES, np.zeros((90, 3, 2)), {}, "don't fit"),
        (CLASSES, np.zeros((90, 2), int), {}, "don't fit"),
        (CLASSES, np.zeros((90, 3), int), {"loss": "cross-entropy"}, "one-hot"),
    ],
)
def test_labels_that_dont_fit_are_refused_before_training(model, labels, options, words):
    def watch(*step):
        raise AssertionError("training has begun")

    with pytest.raises(XbarcError, match=words) as caught:
        tuned(model, labels, watch=watch, **options)
    assert "\n" not in str(caught.value)
