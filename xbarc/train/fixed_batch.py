"""Any number of samples through a model that takes a fixed number at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from xbarc.train.graph import Graph

Function = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class FixedBatch:
    """A model takes `size` samples at a time, or, if `several`, any multiple of them too."""

    size: int
    several: bool

    @classmethod
    def of(cls, graph: Graph, feeds: Mapping[str, Tensor]) -> Self | None:
        """That of a graph, tried on some samples; None where it takes any number."""
        size = graph.fixed_batch
        if size is None:
            return None
        whole = cls(size, several=False).rounded(len(next(iter(feeds.values()))))
        several = graph.takes_any_batch({n: _filled(x, whole) for n, x in feeds.items()})
        return None if size == 1 and several else cls(size, several)

    def rounded(self, batch: int) -> int:
        """A batch of at least so many samples that the model can take without filling it up."""
        return -(-batch // self.size) * self.size


def in_batches(
    fixed: FixedBatch | None, function: Function, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The outputs [n, ...] of all samples.

    What is missing in the last batch are copies of the last sample, whose outputs are left out.
    """
    if fixed is None:
        return function(inputs)
    size, count = fixed.size, len(next(iter(inputs.values())))
    whole = fixed.rounded(count)
    full = {n: _filled(x, whole) for n, x in inputs.items()}
    if fixed.several or size == whole:
        found = function(full)
    else:
        parts = [
            function({n: x[i : i + size] for n, x in full.items()}) for i in range(0, whole, size)
        ]
        found = {n: torch.cat([part[n] for part in parts]) for n in parts[0]}
    return {n: y[: len(y) * count // whole] for n, y in found.items()} if whole > count else found


def _filled(x: Tensor, count: int) -> Tensor:
    missing = count - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing > 0 else x
