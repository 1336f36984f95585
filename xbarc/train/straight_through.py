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


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, lowest: float, largest: float) -> Tensor:
        ctx.save_for_backward(real)
        ctx.limits = lowest - 0.5, largest + 0.5  # what rounds to the last code is in the range
        return real.round().clamp_(lowest, largest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (real,) = ctx.saved_tensors
        inside: Any = torch.ops.aten.hardtanh_backward
        return inside(grads[0], real, *ctx.limits), None, None


def clipped(real: Tensor, lowest: float, largest: float) -> Tensor:
    """Codes: rounded half to even and clipped. The gradient passes within the range only."""
    apply: Any = _Clipped.apply
    found: Tensor = apply(real, lowest, largest)
    return found


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """x, to the bit, its gradient times `factor`."""
    return x.detach() + (x - x.detach()) * factor
