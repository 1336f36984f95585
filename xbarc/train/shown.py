"""What a network gives before training: whether it can be trained, and what its labels mean."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError
from xbarc.train.data import Arrays, Data
from xbarc.train.fixed_batch import FixedBatch, in_batches
from xbarc.train.labels import Labels, loss_for
from xbarc.train.network import Network, as_tensors
from xbarc.train.objective import Objective
from xbarc.train.settings import Settings


@dataclass(frozen=True)
class Shown:
    """The first batch of some data, and what the float network gives for it, by value.

    `labels` are all labels of arrays, of an iterable those of its first batch; `shape` is that of
    the first output for as many samples.
    """

    inputs: dict[str, Tensor]
    found: dict[str, Tensor]
    labels: Array | None
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls,
        network: Network,
        objective: Objective,
        data: Data,
        settings: Settings,
        fixed: FixedBatch | None,
    ) -> Self:
        """Run the first batch. Raises `XbarcError` where there is none."""
        first = next(iter(data.batches(settings.batch, None)), None)
        if first is None:
            raise XbarcError("the data gave no batch: an iterable gives at least one, each epoch")
        feeds, labels = first
        inputs = as_tensors(feeds, settings.torch_device)
        values = [*objective.wanted, objective.output]
        found = in_batches(fixed, lambda some: network.plain(some, values), inputs)
        if isinstance(data, Arrays):
            labels = data.labels
        samples = len(next(iter(inputs.values())))
        rows, *rest = found[objective.output.name or ""].shape or (samples,)
        times = samples if labels is None else len(labels)
        return cls(inputs, found, labels, (rows * times // samples, *rest))


def with_labels(
    objective: Objective, shown: Shown, judged: Shown | None, settings: Settings
) -> Objective:
    """The objective, told of the labels of what is trained on, else of what is judged by.

    Raises:
        UsageError: what is judged by has no labels, but what is trained on has.
        XbarcError: labels don't fit the output, or no output can be trained.
    """
    share = settings.distill
    if share is None:
        share = 0.0 if shown.labels is not None else 1.0
    if shown.labels is not None and judged is not None and judged.labels is None:
        raise UsageError("the validation data have no labels: give (data, labels), as to train on")
    _check_gradient(objective, shown.found, labelled=share < 1)
    labelled = [s for s in (shown, judged) if s is not None and s.labels is not None]
    if not labelled:
        return replace(objective, distill=share)
    first = labelled[0]
    assert first.labels is not None
    loss = loss_for(first.labels, first.shape) if settings.loss == "auto" else settings.loss
    output = first.found[objective.output.name or ""]
    labels = Labels(loss, probable=bool((output >= 0).all() & (output <= 1).all()))
    for one in labelled:
        assert one.labels is not None
        labels.read(one.labels, one.shape)
    return replace(objective, labels=labels, distill=share)


def _check_gradient(objective: Objective, found: Mapping[str, Tensor], *, labelled: bool) -> None:
    values = [objective.output] if labelled else objective.wanted
    if any(found[v.name or ""].requires_grad for v in values):
        return
    output = objective.output.name
    kind = str(found[values[0].name or ""].dtype).removeprefix("torch.")
    raise XbarcError(
        f"output {output!r} ({kind}) has no gradient to the weights of crossbars: what picks a "
        "class (ArgMax, TopK) or rounds has none, give the model without it"
    )
