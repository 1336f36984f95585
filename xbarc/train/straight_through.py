"""Straight-through gradients: what is computed is one thing, what is differentiated another."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, surrogate: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def replaced(surrogate: Tensor, value: Tensor) -> Tensor:
    """`value`, to the bit, with the gradient of `surrogate`; both of one shape."""
    apply: Any = _Replaced.apply
    found: Tensor = apply(surrogate, value.detach())
    return found


def rounded(x: Tensor) -> Tensor:
    """x rounded half to even; the gradient passes as if it weren't."""
    return replaced(x, x.detach().round())


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """x, to the bit, its gradient times `factor`."""
    return x.detach() + (x - x.detach()) * factor
