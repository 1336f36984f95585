"""What training makes smaller: the loss against labels, and the distance to the float network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from xbarc.graph.query import is_op
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.fixed_batch import FixedBatch, in_batches
from xbarc.train.graph import Graph
from xbarc.train.labels import Labels


@dataclass(frozen=True)
class Objective:
    """The loss of a network's outputs.

    `labels` say what the loss against them is (None where there are none): that of classes and of
    what is on or not is computed before a last softmax or sigmoid, numbers are compared with the
    output itself. `distill` is the weight of the distance to the teacher (Hinton et al., 2015:
    divergence of the classes' probabilities at a `temperature`; mean square of other outputs),
    1 - distill that of the labels.
    """

    model: ir.Model
    labels: Labels | None
    distill: float = 0.0
    temperature: float = 2.0

    @property
    def wanted(self) -> list[ir.Value]:
        """What is asked of the graph: the outputs, each before its softmax or sigmoid, if any."""
        return [_scores(v) for v in self.model.graph.outputs]

    @property
    def output(self) -> ir.Value:
        """The output that labels are for: the first."""
        return self.model.graph.outputs[0]

    def __call__(
        self,
        found: Mapping[str, Tensor],
        truth: Tensor | None,
        teacher: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """The loss of a batch: what was `wanted` and the `output`, its labels as they are read."""
        total: Tensor | None = None
        if truth is not None and self.distill < 1:
            total = (1 - self.distill) * self._against_labels(found, truth)
        if teacher is not None and self.distill > 0:
            distance = self.distill * self._to_teacher(found, teacher)
            total = distance if total is None else total + distance
        if total is None:
            raise UsageError("there are no labels, and nothing to distil from: set distill above 0")
        return total

    def _against_labels(self, found: Mapping[str, Tensor], truth: Tensor) -> Tensor:
        assert self.labels is not None
        own, scores = found[self.output.name or ""], found[self.wanted[0].name or ""]
        if self.labels.loss == "cross-entropy":
            return _cross_entropy(scores, truth)
        # Probabilities that no sigmoid at the end made have no scores: they are regressed.
        has_scores = self.wanted[0] is not self.output or not self.labels.probable
        if self.labels.loss == "binary" and has_scores:
            return F.binary_cross_entropy_with_logits(scores, truth)
        return F.mse_loss(own, truth)

    def _to_teacher(self, found: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=next(iter(found.values())).device)
        for output, value in zip(self.model.graph.outputs, self.wanted, strict=True):
            mine, wanted = found[value.name or ""], teacher[value.name or ""]
            if not mine.is_floating_point():
                continue
            softmax = is_op(output.producer(), "Softmax", "LogSoftmax")
            if softmax or (mine.ndim == 2 and mine.shape[1] > 1):
                total = total + self._divergence(mine, wanted, _axis(output, mine))
            else:
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


def _cross_entropy(scores: Tensor, classes: Tensor) -> Tensor:
    """Classes of samples [n], or of pixels [n, ...] with the classes on axis 1."""
    if classes.numel() == len(classes):
        return F.cross_entropy(scores.reshape(len(classes), -1), classes.reshape(-1))
    return F.cross_entropy(scores, classes.reshape(len(scores), *scores.shape[2:]))


class Teacher:
    """The network as it was, in float, or another one: what is distilled from."""

    def __init__(self, model: ir.Model, wanted: list[ir.Value], device: Any) -> None:
        """`wanted` are values of the trained graph; the teacher has those of its outputs' place.

        Raises `XbarcError` where it can't be run by torch, or has other outputs.
        """
        try:
            self._graph = Graph(model).to(device).eval()
        except XbarcError as error:
            raise XbarcError(*(f"the teacher: {cause}" for cause in error.causes)) from None
        self._values = [_scores(v) for v in model.graph.outputs]
        self._names = [v.name or "" for v in wanted]
        if len(self._values) != len(wanted):
            raise XbarcError(
                f"the teacher has {len(self._values)} outputs, the network {len(wanted)}: give one "
                "with the same outputs"
            )
        self._fixed: FixedBatch | None = None

    def check(self, feeds: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Try some samples, of which the trained graph gives `found`.

        Raises `XbarcError` where the inputs have other names or the outputs other shapes.
        """
        for name in self._graph.input_names:
            if name not in feeds:
                raise XbarcError(
                    f"the teacher has an input {name!r}, the network has "
                    f"{', '.join(map(repr, feeds))}: name the teacher's as the network's"
                )
        self._fixed = FixedBatch.of(self._graph, feeds)
        try:
            taught = self(feeds)
        except XbarcError as error:
            raise XbarcError(*(f"the teacher: {cause}" for cause in error.causes)) from None
        for name, value in zip(self._names, self._values, strict=True):
            mine, other = _described(found[name]), _described(taught[name])
            if mine != other:
                raise XbarcError(
                    f"the teacher gives {value.name!r} of {other}, the network one of {mine}: give "
                    "one with the same outputs"
                )

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its scores for a batch, by the trained graph's names."""
        with torch.no_grad():
            found = in_batches(self._fixed, lambda some: self._graph(some, self._values), feeds)
        values = (found[v.name or ""] for v in self._values)
        return dict(zip(self._names, values, strict=True))


def _described(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f"{str(tensor.dtype).removeprefix('torch.')} "
    return f"{kind}{list(tensor.shape)}"
