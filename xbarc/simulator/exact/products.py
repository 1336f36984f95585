"""Exact integer products, as fast as their numbers allow."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.simulator.byte_products import available, byte_product

Integers = npt.NDArray[Any]

BLOCK_BYTES = 2 << 20
"""Temporary arrays stay in the second-level cache, or thereabouts."""

NARROW_GROUP = 8
"""Groups narrower than this are multiplied by a loop, wider ones by BLAS."""


@dataclass(frozen=True)
class MatmulProduct:
    """An integer product by np.matmul, in a type that holds every partial sum exactly."""

    weights: npt.NDArray[Any]  # [groups, N/groups, Kg]

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        """Fill out [N, v] for x [K, v]."""
        groups, cols, rows = self.weights.shape
        dtype = self.weights.dtype
        vectors = x.shape[1]
        block = max(256, BLOCK_BYTES // (dtype.itemsize * groups * rows))
        lines = np.empty((groups, rows, min(block, vectors)), dtype)
        result = np.empty((groups, cols, min(block, vectors)), dtype)
        for v in range(0, vectors, block):
            if v + block > vectors:
                lines, result = (
                    np.empty_like(lines[..., : vectors - v]),
                    np.empty_like(result[..., : vectors - v]),
                )
            lines.reshape(x.shape[0], -1)[:] = x[:, v : v + block]
            np.matmul(self.weights, lines, out=result)
            out[:, v : v + block] = result.reshape(groups * cols, -1)


@dataclass(frozen=True)
class LoopProduct:
    """An integer product by a plain loop, for narrow groups."""

    weights: Integers  # [Kg, N]
    groups: int

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        """Fill out [N, v] for x [K, v]."""
        from xbarc.simulator.exact import kernels

        kernels.grouped_product(x, self.weights, out, self.groups)


@dataclass(frozen=True)
class ByteProduct:
    """An integer product of bytes by onnxruntime."""

    weights: npt.NDArray[np.int8]  # [N, K]

    def multiply(self, x: Integers, out: npt.NDArray[Any]) -> None:
        """Fill out [N, v] for x [K, v], uint8 or int8."""
        block = max(256, BLOCK_BYTES // len(x))
        for v in range(0, x.shape[1], block):
            codes = np.ascontiguousarray(x[:, v : v + block])
            out[:, v : v + block] = byte_product(self.weights, codes)


def plan_product(
    w: Integers, groups: int, input_bits: int, largest_input: int
) -> MatmulProduct | LoopProduct | ByteProduct:
    """How to multiply by the integers w [Kg, N] exactly, and fast.

    Codes of `input_bits` are stored in a byte if they fit one; none is larger than `largest_input`.
    """
    rows, cols = w.shape
    bytes_only = input_bits <= 8 and w.min(initial=0) >= -128 and w.max(initial=0) <= 127
    if groups == 1 and bytes_only and available(rows):
        return ByteProduct(np.ascontiguousarray(w.T, np.int8))
    bound = largest_input * int(np.abs(w).sum(0).max(initial=0))
    if groups > 1 and cols // groups < NARROW_GROUP and bound < 1 << 31:
        return LoopProduct(np.ascontiguousarray(w, np.int32), groups)
    # Beyond float64, numpy's own integer loop: slow, and all but unreachable.
    dtype = np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64
    per_group = w.reshape(rows, groups, cols // groups).transpose(1, 2, 0)
    return MatmulProduct(np.ascontiguousarray(per_group, dtype))
