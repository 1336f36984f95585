"""What training makes smaller: the loss against labels, and the distance to the float network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.graph.query import is_op
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.graph import Graph

Loss = Literal["auto", "cross-entropy", "binary", "mse"]


@dataclass(frozen=True)
class Objective:
    """The loss of a network's outputs.

    `loss`: against labels. "auto": integers are classes of a sample or of a pixel (cross-entropy),
    or a mask for an output of one channel (binary); real numbers are regressed (mse). `distill` is
    the weight of the distance to the teacher (Hinton et al., 2015: divergence of the classes'
    probabilities at a `temperature`; mean square of other outputs), 1 - distill that of the labels.
    """

    model: ir.Model
    loss: Loss = "auto"
    distill: float = 0.0
    temperature: float = 2.0

    @property
    def wanted(self) -> list[ir.Value]:
        """What is asked of the graph: the outputs, each before its softmax or sigmoid, if any."""
        return [_scores(v) for v in self.model.graph.outputs]

    def __call__(
        self,
        found: Mapping[str, Tensor],
        labels: Tensor | None,
        teacher: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """The loss of a batch. Raises `XbarcError` where labels don't fit the outputs."""
        scores = self.wanted[0]
        total: Tensor | None = None
        if labels is not None and self.distill < 1:
            total = (1 - self.distill) * self._against_labels(found[scores.name or ""], labels)
        if teacher is not None and self.distill > 0:
            distance = self.distill * self._to_teacher(found, teacher)
            total = distance if total is None else total + distance
        if total is None:
            raise UsageError("there are no labels, and nothing to distil from: set distill above 0")
        return total

    def _against_labels(self, scores: Tensor, labels: Tensor) -> Tensor:
        kind = self.loss
        if kind in ("auto", "cross-entropy") and _one_hot(scores, labels):
            labels, kind = labels.argmax(dim=1), "cross-entropy"
        if kind == "auto":
            whole = not labels.is_floating_point()
            classes = labels.ndim == 1 or (scores.ndim > 2 and scores.shape[1] > 1)
            kind = "mse" if not whole else "cross-entropy" if classes else "binary"
        try:
            if kind == "cross-entropy":
                return _cross_entropy(scores, labels)
            if kind == "binary":
                truth = (labels != 0).to(scores.dtype).reshape(scores.shape)
                if is_op(self.model.graph.outputs[0].producer(), "Sigmoid"):
                    return F.binary_cross_entropy_with_logits(scores, truth)
                if bool((scores.detach() >= 0).all() & (scores.detach() <= 1).all()):
                    return F.mse_loss(scores, truth)  # probabilities that no sigmoid made
                return F.binary_cross_entropy_with_logits(scores, truth)
            return F.mse_loss(scores, labels.to(scores.dtype).reshape(scores.shape))
        except (RuntimeError, IndexError) as error:
            raise XbarcError(
                f"labels {list(labels.shape)} don't fit an output {list(scores.shape)} "
                f"for the loss {kind!r}: {' '.join(str(error).split())}"
            ) from None

    def _to_teacher(self, found: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=next(iter(found.values())).device)
        for output, value in zip(self.model.graph.outputs, self.wanted, strict=True):
            mine, wanted = found[value.name or ""], teacher[value.name or ""]
            softmax = is_op(output.producer(), "Softmax", "LogSoftmax")
            if softmax or (mine.ndim == 2 and mine.shape[1] > 1):
                total = total + self._divergence(mine, wanted, _axis(output, mine))
            elif mine.is_floating_point():
                total = total + F.mse_loss(mine, wanted) / wanted.square().mean().clamp(min=1e-12)
        return total

    def _divergence(self, mine: Tensor, wanted: Tensor, axis: int) -> Tensor:
        t = self.temperature
        p, log_q = torch.softmax(wanted / t, axis), torch.log_softmax(mine / t, axis)
        each = (p * (torch.log(p.clamp(min=1e-12)) - log_q)).sum(dim=axis)
        return each.mean() * t * t


def _scores(value: ir.Value) -> ir.Value:
    """What an output is before its last softmax or sigmoid."""
    node = value.producer()
    if is_op(node, "Softmax", "LogSoftmax", "Sigmoid") and node is not None:
        source = node.inputs[0]
        if source is not None and source.producer() is not None:
            return source
    return value


def _axis(output: ir.Value, scores: Tensor) -> int:
    node = output.producer()
    if node is not None and is_op(node, "Softmax", "LogSoftmax"):
        given = node.attributes.get("axis")
        return -1 if given is None else int(given.value)
    return 1 if scores.ndim > 1 else 0


def _one_hot(scores: Tensor, labels: Tensor) -> bool:
    """Whether along axis 1 one entry is 1 and all others are 0."""
    if labels.shape != scores.shape or labels.ndim < 2 or labels.shape[1] < 2:
        return False
    ones = labels == 1
    return bool((ones | (labels == 0)).all() and (ones.sum(dim=1) == 1).all())


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Classes of samples [n], or of pixels [n, ...] with the classes on axis 1."""
    if labels.ndim == 1 or labels.numel() == len(labels):
        flat = scores.reshape(len(labels), -1)
        _check(labels, flat.shape[1])
        return F.cross_entropy(flat, labels.reshape(-1).long())
    _check(labels, scores.shape[1])
    return F.cross_entropy(scores, labels.long().reshape(len(scores), *scores.shape[2:]))


def _check(labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < classes:
        raise XbarcError(
            f"labels reach from {low} to {high}, the output has classes 0 to {classes - 1}"
        )


class Teacher:
    """The network as it was, in float: what is distilled from."""

    def __init__(self, model: ir.Model, wanted: list[ir.Value], device: Any) -> None:
        """`wanted` are values of the trained graph; the teacher has those of its outputs' place."""
        self._graph = Graph(model).to(device).eval()
        self._values = [_scores(v) for v in model.graph.outputs]
        self._names = [v.name or "" for v in wanted]

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its scores for a batch, by the trained graph's names."""
        with torch.no_grad():
            found = self._graph(feeds, self._values)
        values = (found[v.name or ""] for v in self._values)
        return dict(zip(self._names, values, strict=True))
