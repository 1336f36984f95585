"""Reductions over axes, and what picks along one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xbarc.train.operators.operator import Operator

Axes = Tensor | Sequence[int] | None


def axes_of(x: Tensor, axes: Axes) -> tuple[int, ...]:
    """Axes counted from 0; all of x without any."""
    found = axes.reshape(-1).tolist() if isinstance(axes, Tensor) else list(axes or ())
    return tuple(a % x.ndim for a in found) or tuple(range(x.ndim))


def _reduction(of: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Operator:
    """Axes are an input from opset 18 on (ReduceSum: 13), an attribute before."""

    def reduced(
        x: Tensor,
        given: Tensor | None = None,
        *,
        axes: Sequence[int] | None = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        wanted: Axes = axes if given is None else given
        if noop_with_empty_axes and (wanted is None or len(wanted) == 0):
            return of(x[None], (0,), False)
        return of(x, axes_of(x, wanted), bool(keepdims)) if x.ndim else of(x[None], (0,), False)

    return reduced


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _picker(of: Callable[..., Tensor]) -> Operator:
    def picked(
        x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Tensor:
        if not select_last_index:
            return of(x, dim=axis, keepdim=bool(keepdims))
        return x.shape[axis] - 1 - of(x.flip(axis), dim=axis, keepdim=bool(keepdims))

    return picked


def top_k(
    x: Tensor,
    k: Tensor,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002
) -> tuple[Tensor, Tensor]:
    """The k largest (or least) along an axis, and where they are."""
    found = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    count = int(k.reshape(-1)[0])
    return found.values.narrow(axis, 0, count), found.indices.narrow(axis, 0, count)


def cumulative_sum(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Sums of all entries up to each."""
    along = int(axis)
    y = x.flip(along) if reverse else x
    total = y.cumsum(along)
    if exclusive:
        total = total - y
    return total.flip(along) if reverse else total


OPERATORS: dict[str, Operator] = {
    "ArgMax": _picker(torch.argmax),
    "ArgMin": _picker(torch.argmin),
    "CumSum": cumulative_sum,
    "ReduceL1": _reduction(lambda x, d, k: x.abs().sum(dim=d, keepdim=k)),
    "ReduceL2": _reduction(lambda x, d, k: (x * x).sum(dim=d, keepdim=k).sqrt()),
    "ReduceLogSum": _reduction(lambda x, d, k: x.sum(dim=d, keepdim=k).log()),
    "ReduceLogSumExp": _reduction(lambda x, d, k: torch.logsumexp(x, dim=d, keepdim=k)),
    "ReduceMax": _reduction(lambda x, d, k: x.amax(dim=d, keepdim=k)),
    "ReduceMean": _reduction(lambda x, d, k: x.mean(dim=d, keepdim=k)),
    "ReduceMin": _reduction(lambda x, d, k: x.amin(dim=d, keepdim=k)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda x, d, k: x.sum(dim=d, keepdim=k)),
    "ReduceSumSquare": _reduction(lambda x, d, k: (x * x).sum(dim=d, keepdim=k)),
    "TopK": top_k,
}
