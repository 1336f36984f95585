"""What labels mean: which loss they are for, and which of the network's answers are right.

That is decided once, from all labels and what the network gives: a batch may look otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

Loss = Literal["auto", "cross-entropy", "binary", "mse"]


@dataclass(frozen=True)
class Labels:
    """How labels are read for an output: by the `loss` that they are for, which isn't auto.

    cross-entropy: a class a sample, [n] or [n, 1, ...]; a class a pixel, the output having classes
    in axis 1; or either one-hot, in the shape of the output. binary: 0 or not, one an entry of the
    output. mse: a number an entry. `probable`: the output lies within 0 .. 1, so that an entry is
    on above 0.5, else above 0.
    """

    loss: Loss
    probable: bool

    def read(self, labels: Array, shape: Sequence[int]) -> Tensor:
        """Labels [n, ...] of an output of `shape`: int64 classes [n, ...], else float32 in `shape`.

        Binary ones are 0 and 1. Raises `XbarcError` where labels don't fit.
        """
        if self.loss == "mse":
            if labels.size != math.prod(shape):
                hint = "for classes give integers, or --loss cross-entropy"
                raise self._unfit(labels, shape, hint)
            return torch.from_numpy(labels.astype(np.float32).reshape(shape))
        if labels.dtype.kind == "f" and bool((labels != np.rint(labels)).any()):
            raise XbarcError(
                f"labels are fractions, the loss {self.loss!r} takes whole numbers: give --loss mse"
            )
        read = self._classes if self.loss == "cross-entropy" else self._bits
        return read(labels, shape)

    def _bits(self, labels: Array, shape: Sequence[int]) -> Tensor:
        if labels.size != math.prod(shape):
            raise self._unfit(labels, shape, "give one for each entry of the output")
        if labels.min() < 0:
            raise XbarcError(
                f"labels reach down to {labels.min():g}, the loss 'binary' takes 0 and 1"
            )
        return torch.from_numpy((labels != 0).astype(np.float32).reshape(shape))

    def _classes(self, labels: Array, shape: Sequence[int]) -> Tensor:
        samples, entries = len(labels), math.prod(shape)
        if labels.size == samples and entries == samples:
            hint = "the output has one channel, give --loss binary or mse"
            raise self._unfit(labels, shape, hint)
        if labels.size == samples and not entries % samples:
            classes = entries // samples
        elif _one_hot(labels, shape):
            return torch.from_numpy(labels.argmax(axis=1))
        elif len(shape) > 1 and labels.size * shape[1] == entries:
            classes = shape[1]
        else:
            raise self._unfit(labels, shape, "give an integer a sample or a pixel, or one-hot")
        low, high = int(labels.min()), int(labels.max())
        if not 0 <= low <= high < classes:
            raise XbarcError(
                f"labels reach from {low} to {high}, the output has classes 0 to {classes - 1}: "
                "number the labels as the model does"
            )
        return torch.from_numpy(labels.astype(np.int64))

    def _unfit(self, labels: Array, shape: Sequence[int], hint: str) -> XbarcError:
        given, wanted = (
            ", ".join(["n" if s[0] == len(labels) else str(s[0]), *map(str, s[1:])])
            for s in (labels.shape, shape)
        )
        return XbarcError(
            f"labels {labels.dtype}[{given}] don't fit the first output, [{wanted}], for the loss "
            f"{self.loss!r}: {hint}"
        )

    def right(self, output: Array, truth: Array) -> float | None:
        """The share of right answers in an output, `truth` as `read`; None where they are numbers.

        Entries above the threshold are right where the label is 1; of classes the largest is.
        """
        if self.loss == "mse":
            return None
        if self.loss == "binary":
            return float(((output > (0.5 if self.probable else 0)) == (truth != 0)).mean())
        scores = output.reshape(len(truth), -1) if truth.size == len(truth) else output
        guess = scores.argmax(axis=1)
        return float((guess == truth.reshape(guess.shape)).mean())


def loss_for(labels: Array, shape: Sequence[int]) -> Loss:
    """The loss that "auto" means, of labels for an output of `shape`.

    One-hot ones are classes, other real numbers are regressed; integers are binary where there is
    one for each entry of the output, else classes. Raises `XbarcError` where integers, one for each
    entry, are others than 0 and one more.
    """
    if _one_hot(labels, shape):
        return "cross-entropy"
    if labels.dtype.kind == "f":
        return "mse"
    if labels.size != math.prod(shape):
        return "cross-entropy"
    if len(np.unique(labels[labels != 0])) > 1:
        raise XbarcError(
            f"labels are integers from {labels.min()} to {labels.max()}, one for each entry of the "
            "output: give --loss mse for numbers, or --loss binary for 0 against all others"
        )
    return "binary"


def _one_hot(labels: Array, shape: Sequence[int]) -> bool:
    """Whether along axis 1, of as many entries as the output's, one is 1 and all others are 0."""
    if labels.shape != tuple(shape) or labels.ndim < 2 or labels.shape[1] < 2:
        return False
    ones = labels == 1
    return bool((ones | (labels == 0)).all() and (ones.sum(axis=1) == 1).all())
