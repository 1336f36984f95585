"""Resize, axis by axis: what each result takes of each entry is a matrix."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from xbarc.train.operators.operator import Operator, Unsupported
from xbarc.train.operators.shape import ints

Place = Callable[[np.ndarray, float, int, int], np.ndarray]

_PLACES: dict[str, Place] = {
    "half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, s, n, m: n / 2 * (1 - m / (s * n)) + (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5 if m > 1 else 0.0 * i,
    "align_corners": lambda i, s, n, m: i * (n - 1) / (m - 1) if m > 1 else 0.0 * i,
    "asymmetric": lambda i, s, n, m: i / s,
}
"""Where result i of m stands among n entries, at scale s."""

_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """x larger or smaller along its axes: nearest, linear or cubic."""
    if antialias or keep_aspect_ratio_policy != "stretch":
        raise Unsupported("antialias, or a kept aspect ratio")
    if coordinate_transformation_mode not in _PLACES:
        raise Unsupported(f"coordinate_transformation_mode {coordinate_transformation_mode!r}")
    along = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
    given = scales.reshape(-1).tolist() if scales is not None and scales.numel() else None
    wanted = None if given is not None else ints(sizes)
    for i, axis in enumerate(along):
        n = x.shape[axis]
        m = math.floor(n * given[i]) if given is not None else wanted[i]  # type: ignore[index]
        scale = given[i] if given is not None else m / n
        if m == n and scale == 1:
            continue
        at = _PLACES[coordinate_transformation_mode](np.arange(m), scale, n, m)
        if mode == "nearest":
            entry = np.clip(_NEAREST[nearest_mode](at), 0, n - 1).astype(np.int64)
            x = x.index_select(axis, torch.from_numpy(entry).to(x.device))
            continue
        taps = _linear(at) if mode == "linear" else _cubic(at, cubic_coeff_a)
        matrix = _matrix(taps, n, exclude_outside=bool(exclude_outside))
        shares = torch.from_numpy(matrix).to(x.device, x.dtype)
        x = torch.movedim(torch.movedim(x, axis, -1) @ shares.T, -1, axis)
    return x


Taps = list[tuple[np.ndarray, np.ndarray]]


def _linear(at: np.ndarray) -> Taps:
    low = np.floor(at)
    return [(low, 1 - (at - low)), (low + 1, at - low)]


def _cubic(at: np.ndarray, a: float) -> Taps:
    """Keys' kernel over four entries."""
    low = np.floor(at)
    taps: Taps = []
    for offset in (-1, 0, 1, 2):
        t = np.abs(at - low - offset)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        taps.append((low + offset, np.where(t <= 1, near, far)))
    return taps


def _matrix(taps: Taps, n: int, *, exclude_outside: bool) -> np.ndarray:
    """[m, n]; what lies outside is the entry at the edge, or isn't there."""
    rows = np.arange(len(taps[0][0]))
    found = np.zeros((len(rows), n))
    for entry, share in taps:
        inside = (entry >= 0) & (entry < n)
        counted = np.where(inside, share, 0) if exclude_outside else share
        np.add.at(found, (rows, np.clip(entry, 0, n - 1).astype(np.int64)), counted)
    return found / found.sum(axis=1, keepdims=True) if exclude_outside else found


OPERATORS: dict[str, Operator] = {"Resize": resize}
