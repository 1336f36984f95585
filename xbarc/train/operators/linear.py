"""Matrix products."""

import torch
from torch import Tensor

from xbarc.train.operators.operator import Operator


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """alpha a b + beta c."""
    y = (a.T if transA else a) @ (b.T if transB else b)
    if alpha != 1.0:
        y = alpha * y
    if c is None:
        return y
    return y + (c if beta == 1.0 else beta * c)


def einsum(*operands: Tensor, equation: str) -> Tensor:
    """A sum over named axes."""
    return torch.einsum(equation, *operands)


OPERATORS: dict[str, Operator] = {"Einsum": einsum, "Gemm": gemm, "MatMul": torch.matmul}
