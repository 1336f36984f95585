"""How right outputs are: `--metric`, or what the labels themselves say.

    top1, top5   the class of a sample is the largest entry of axis 1; labels are integer classes
                 [n], or one-hot
    mask         share of right pixels; labels are a mask, or integer classes a pixel
    iou          intersection over union of masks; the mean over classes where there are several
    psnr, snr    of real outputs, in dB; labels are what the outputs should be

Shares are from 0 to 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError, nearest

TOP = 5


@dataclass(frozen=True)
class Metric:
    """`measure` takes (output, labels), and raises `XbarcError` where they don't fit.

    `key` is that of its figure in documents: `accuracy` of a share, else one with its unit.
    """

    name: str
    key: str
    measure: Callable[[Array, Array], float]

    @property
    def is_share(self) -> bool:
        """Whether its figure is from 0 to 1."""
        return self.key == "accuracy"


def metric_named(name: str) -> Metric:
    """The metric. Raises `UsageError` that suggests the nearest."""
    if name not in METRICS:
        raise UsageError(f"--metric {name}: {nearest(name, METRICS)}")
    return METRICS[name]


def guess_metric(output: Array, truth: Array) -> Metric:
    """What labels without `--metric` mean. Raises `XbarcError` where that could be several."""
    if truth.ndim == 1 or truth.size == len(truth):
        if truth.dtype.kind not in "iub":
            raise _unclear(truth)
        return METRICS["top1"]
    if truth.shape == output.shape:
        if _one_hot(truth):
            return METRICS["top1"]
        if truth.dtype.kind in "iub" or _binary(truth):
            return METRICS["mask"]
        raise _unclear(truth)
    if truth.dtype.kind in "iub" or _binary(truth):
        return METRICS["mask"]
    raise _unclear(truth)


def _unclear(truth: Array) -> XbarcError:
    return XbarcError(
        f"labels {truth.dtype}{list(truth.shape)} may mean several things: say --metric "
        f"{', '.join(METRICS)}"
    )


def agreement(output: Array, reference: Array, metric: Metric | None) -> float | None:
    """Share of the answers of `output` that are those of `reference`; None where there are none.

    An answer is a class a sample, or a pixel's under a mask's metric. Without a metric, an output
    [n, classes] has classes, and integers are answers themselves.
    """
    if output.shape != reference.shape or not output.size:
        return None
    if output.dtype.kind in "iubU":
        return float((output == reference).mean())
    if metric is None:
        classes = output.ndim == 2 and output.shape[1] > 1
        return _same_class(output, reference) if classes else None
    if not metric.is_share:
        return None
    if metric.name in ("mask", "iou") and (output.ndim < 2 or output.shape[1] == 1):
        return float((_on(output) == _on(reference)).mean())
    return _same_class(output, reference)


def _same_class(output: Array, reference: Array) -> float:
    samples = len(output)
    if output.ndim > 2 and output.size > samples * output.shape[1]:
        return float((output.argmax(axis=1) == reference.argmax(axis=1)).mean())
    flat = output.reshape(samples, -1), reference.reshape(samples, -1)
    return float((flat[0].argmax(axis=1) == flat[1].argmax(axis=1)).mean())


def snr_db(wanted: Array, got: Array) -> float | None:
    """Power of `wanted` over that of what `got` misses it by; None where they can't be compared.

    Infinite where they are alike.
    """
    if wanted.shape != got.shape or wanted.dtype.kind not in "iubf" or not wanted.size:
        return None
    wide = wanted.astype(np.float64)
    return decibels(float((wide**2).sum()), float(((wide - got) ** 2).sum()))


def decibels(power: float, error: float) -> float:
    """`power` over `error` in dB; infinite where there is no error."""
    if error == 0:
        return math.inf
    return 10 * math.log10(power / error) if power > 0 else -math.inf


def top1(output: Array, truth: Array) -> float:
    """Share of samples whose largest entry is the label's; of pixels where labels have them."""
    scores, classes = _scores(output, truth)
    return float((scores.argmax(axis=1) == classes).mean())


def top5(output: Array, truth: Array) -> float:
    """Share of samples whose label is among the five largest entries."""
    scores, classes = _scores(output, truth)
    if scores.shape[1] <= TOP:
        raise XbarcError(f"top5 of {scores.shape[1]} classes is always right: use --metric top1")
    best = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
    return float((best == classes[:, None]).any(axis=1).mean())


def _scores(output: Array, truth: Array) -> tuple[Array, Array]:
    """Scores [m, classes], and the right class of each, [m]."""
    samples = len(truth)
    if truth.size > samples:
        if truth.shape != output.shape or not _one_hot(truth):
            raise XbarcError(
                f"labels {truth.dtype}{list(truth.shape)} are neither an integer class a sample "
                f"nor one-hot as an output of {list(output.shape)} would have them"
            )
        return _rows(output), _rows(truth).argmax(axis=1)
    if not samples or output.size % samples or output.size == samples:
        raise XbarcError(f"an output of shape {output.shape} doesn't say {samples} classes")
    scores, classes = output.reshape(samples, -1), truth.reshape(samples)
    _check_classes(classes, scores.shape[1])
    return scores, classes


def _rows(array: Array) -> Array:
    """Axis 1 last, and all others one."""
    return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])


def mask(output: Array, truth: Array) -> float:
    """Share of right pixels.

    With classes in axis 1 a pixel's is the largest. With one channel the output is thresholded, at
    0.5 where it lies within 0 .. 1, else at 0, and a mask is true where it isn't 0.
    """
    guess, right = _pixels(output, truth)
    return float((guess == right).mean())


def iou(output: Array, truth: Array) -> float:
    """Intersection over union: of what is on, or the mean over the classes that occur."""
    guess, right = _pixels(output, truth)
    values = [True] if guess.dtype == bool else np.union1d(guess, right).tolist()
    each = []
    for value in values:
        both, either = (guess == value) & (right == value), (guess == value) | (right == value)
        each.append(both.sum() / either.sum() if either.any() else 1.0)
    return float(np.mean(each))


def _pixels(output: Array, truth: Array) -> tuple[Array, Array]:
    """The answer and the right one of each pixel: classes, or true and false."""
    if output.ndim > 1 and output.shape[1] > 1 and output.ndim >= truth.ndim:
        guess = output.argmax(axis=1)
        if guess.size == truth.size:
            _check_classes(truth, output.shape[1])
            return guess, truth.reshape(guess.shape)
    if output.size != truth.size:
        raise XbarcError(f"a mask of shape {truth.shape} doesn't fit an output of {output.shape}")
    return _on(output.reshape(truth.shape)), truth != 0


def _on(output: Array) -> Array:
    probability = bool(output.min() >= 0 and output.max() <= 1)
    return output > (0.5 if probability else 0)


def _check_classes(truth: Array, classes: int) -> None:
    low, high = truth.min(), truth.max()
    if not 0 <= low <= high < classes:
        raise XbarcError(
            f"labels reach from {low} to {high}, the output has classes 0 to {classes - 1}: "
            "number the labels as the model does"
        )


def _one_hot(truth: Array) -> bool:
    """Whether along axis 1 one entry is 1 and all others are 0."""
    if truth.ndim < 2 or truth.shape[1] < 2:
        return False
    ones = truth == 1
    return bool((ones | (truth == 0)).all() and (ones.sum(axis=1) == 1).all())


def _binary(truth: Array) -> bool:
    """Whether there is nothing in it but 0 and one other value."""
    return len(np.unique(truth[truth != 0])) <= 1


def psnr(output: Array, truth: Array) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the range of the labels."""
    _check_alike(output, truth)
    wide = truth.astype(np.float64)
    error = float(((wide - output.reshape(truth.shape)) ** 2).mean())
    return decibels(float(wide.max() - wide.min()) ** 2, error)


def snr(output: Array, truth: Array) -> float:
    """Signal-to-noise ratio in dB."""
    _check_alike(output, truth)
    found = snr_db(truth, output.reshape(truth.shape))
    assert found is not None
    return found


def _check_alike(output: Array, truth: Array) -> None:
    if output.size != truth.size or not truth.size or truth.dtype.kind not in "iubf":
        raise XbarcError(
            f"labels {truth.dtype}{list(truth.shape)} can't be compared with an output of "
            f"{list(output.shape)}"
        )


METRICS: Mapping[str, Metric] = {
    "top1": Metric("top1", "accuracy", top1),
    "top5": Metric("top5", "accuracy", top5),
    "mask": Metric("mask", "accuracy", mask),
    "iou": Metric("iou", "accuracy", iou),
    "psnr": Metric("psnr", "psnr_db", psnr),
    "snr": Metric("snr", "snr_db", snr),
}
