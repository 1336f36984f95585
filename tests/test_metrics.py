"""How right outputs are: what labels mean, and what each metric counts."""

import math

import numpy as np
import pytest

from xbarc.driver.metrics import METRICS, agreement, guess_metric, metric_named, snr_db
from xbarc.support.errors import UsageError, XbarcError

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
CLASSES = np.array([1, 0, 1, 0])
"""Three of four are right."""
ONE_HOT = np.eye(3)[CLASSES]
MASK = np.array([[[[1, 0], [0, 1]]]])
DRAWN = np.array([[[[0.9, 0.2], [0.8, 0.7]]]])


def measured(output, truth):
    metric = guess_metric(output, truth)
    return metric.name, metric.measure(output, truth)


@pytest.mark.parametrize(
    "truth", [CLASSES, CLASSES[:, None], ONE_HOT, ONE_HOT.astype(int), ONE_HOT.astype(bool)]
)
def test_classes_are_integers_or_one_hot(truth):
    assert measured(SCORES, truth) == ("top1", 0.75)


def test_one_hot_by_pixels():
    truth = np.moveaxis(np.eye(3)[np.array([[[0, 1], [2, 2]]])], -1, 1)
    output = np.moveaxis(np.eye(3)[np.array([[[0, 1], [2, 1]]])], -1, 1)
    assert measured(output, truth) == ("top1", 0.75)


@pytest.mark.parametrize("truth", [MASK, MASK * 255, MASK.astype(float), MASK.astype(bool)])
def test_a_mask_is_thresholded(truth):
    assert measured(DRAWN, truth) == ("mask", 0.75)
    assert METRICS["iou"].measure(DRAWN, truth) == 2 / 3


def test_labels_of_several_on_a_sample_are_a_mask():
    truth = np.array([[1, 1, 0], [1, 0, 0]])
    assert measured(np.array([[0.9, 0.8, 0.1], [0.9, 0.1, 0.6]]), truth) == ("mask", 5 / 6)


def test_classes_by_pixels():
    output = np.moveaxis(np.eye(3)[np.array([[[0, 1], [2, 1]]])], -1, 1)
    truth = np.array([[[0, 1], [2, 2]]])
    assert measured(output, truth) == ("mask", 0.75)
    assert METRICS["iou"].measure(output, truth) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


@pytest.mark.parametrize("truth", [np.array([0.5, 1.5]), np.array([[0.1, 0.9], [0.3, 0.2]])])
def test_real_labels_want_a_metric(truth):
    with pytest.raises(XbarcError, match="say --metric"):
        guess_metric(np.zeros((2, 2)), truth)


def test_top5():
    rng = np.random.default_rng(0)
    scores, classes = rng.standard_normal((50, 20)), rng.integers(0, 20, 50)
    rank = (scores > scores[np.arange(50), classes][:, None]).sum(axis=1)
    assert METRICS["top5"].measure(scores, classes) == (rank < 5).mean()
    with pytest.raises(XbarcError, match="always right"):
        METRICS["top5"].measure(SCORES, CLASSES)


def test_ratios_in_decibels():
    truth = np.array([[0.0, 1.0, 2.0, 4.0]])
    output = truth + np.array([[0.1, -0.1, 0.1, -0.1]])
    assert METRICS["snr"].measure(output, truth) == pytest.approx(10 * math.log10(21 / 0.04))
    assert METRICS["psnr"].measure(output, truth) == pytest.approx(10 * math.log10(16 / 0.01))
    assert METRICS["snr"].measure(truth, truth) == math.inf
    assert snr_db(truth, truth[:, :3]) is None


def test_agreement_is_of_answers():
    other = SCORES[[0, 1, 1, 3]]
    assert agreement(SCORES, other, None) == 0.75
    assert agreement(SCORES, other, METRICS["top1"]) == 0.75
    assert agreement(SCORES, other, METRICS["snr"]) is None
    assert agreement(DRAWN, MASK.astype(float), METRICS["mask"]) == 0.75
    assert agreement(CLASSES, CLASSES[::-1], None) == 0
    assert agreement(DRAWN, DRAWN, None) is None


def test_an_unknown_metric_suggests_one():
    with pytest.raises(UsageError, match="top1"):
        metric_named("top")
